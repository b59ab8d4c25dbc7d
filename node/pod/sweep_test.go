package pod

import (
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// cgroups remembers whose cgroups there are.
type cgroups struct {
	mu   sync.Mutex
	pods map[types.UID]bool
}

func (g *cgroups) Ensure(p *corev1.Pod) (string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pods[p.UID] = true
	return "/" + string(p.UID), nil
}

func (g *cgroups) Fit(*corev1.Pod, bool) error { return nil }

func (g *cgroups) Remove(uid types.UID) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.pods, uid)
	return nil
}

func (g *cgroups) Sweep(alive []types.UID) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for uid := range g.pods {
		if !slices.Contains(alive, uid) {
			delete(g.pods, uid)
		}
	}
	return nil
}

func (g *cgroups) add(uid types.UID) {
	g.Ensure(newTestPod(string(uid), func(p *corev1.Pod) { p.UID = uid }))
}

func (g *cgroups) list() (out []types.UID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for uid := range g.pods {
		out = append(out, uid)
	}
	slices.Sort(out)
	return out
}

// TestLeftoversOfACrashGo kills an agent that was taking pods down.
func TestLeftoversOfACrashGo(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.stop()
		b.logs, b.groups = t.TempDir(), &cgroups{pods: map[types.UID]bool{}}
		b.start()
		p := newTestPod("web")
		b.want(p)
		b.synced()

		b.stop() // and what was there of other pods is gone but for these:
		b.groups.add("gone-uid")
		b.vols.up["gone-uid"] = true
		gone := filepath.Join(b.logs, "default_gone_gone-uid")
		if err := os.MkdirAll(filepath.Join(gone, "web"), 0o755); err != nil {
			t.Fatal(err)
		}
		b.start()
		b.want(p)
		if got := b.groups.list(); len(got) != 2 {
			t.Errorf("swept before it was known what is wanted: %v", got)
		}
		b.synced()
		if got := b.groups.list(); !slices.Equal(got, []types.UID{p.UID}) {
			t.Errorf("cgroups of %v, want those of %s", got, p.UID)
		}
		if len(b.vols.up) != 1 || !b.vols.up[p.UID] {
			t.Errorf("volumes of %v", b.vols.up)
		}
		if _, err := os.Stat(gone); err == nil {
			t.Error("logs of a pod that is gone are left")
		}
		if _, err := os.Stat(logDir(b.logs, p)); err != nil {
			t.Errorf("logs of a living pod: %v", err)
		}

		b.groups.add("late-uid") // the runtime ended what it was making for the client before
		pass(firstRelist + time.Second)
		b.groups.add("later-uid")
		pass(2 * time.Minute)
		if got := b.groups.list(); !slices.Equal(got, []types.UID{p.UID}) {
			t.Errorf("cgroups of %v after later sweeps, want those of %s", got, p.UID)
		}
	})
}
