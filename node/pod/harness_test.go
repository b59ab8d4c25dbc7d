package pod

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/troupe-run/troupe/actors/stage"
	"github.com/troupe-run/troupe/node/link"
	"github.com/troupe-run/troupe/node/runtime/sim"
)

// control records what a node says.
type control struct {
	mu      sync.Mutex
	begin   time.Time
	reports []link.PodReport
	events  []string
	parts   map[string]string // by reason, the field path of the newest event
	cms     map[string]*corev1.ConfigMap
}

func (c *control) ConfigMap(ns, name string) (*corev1.ConfigMap, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cm, ok := c.cms[ns+"/"+name]
	return cm, ok
}
func (c *control) Secret(string, string) (*corev1.Secret, bool) { return nil, false }
func (c *control) ReportPod(r link.PodReport) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reports = append(c.reports, r)
}
func (c *control) Record(e link.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, fmt.Sprintf("%s %s: %s", time.Since(c.begin).Round(time.Millisecond), e.Reason, e.Message))
	c.parts[e.Reason] = e.FieldPath
}

func (c *control) count(reason string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, e := range c.events {
		if strings.Contains(e, " "+reason+": ") {
			n++
		}
	}
	return n
}

// said returns all reports.
func (c *control) said() []link.PodReport {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.reports)
}

// last returns the newest report.
func (c *control) last(t testing.TB) link.PodReport {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.reports) == 0 {
		t.Fatal("nothing was reported")
	}
	return c.reports[len(c.reports)-1]
}

// images pulls from the simulated runtime as the policy says, without any back-off.
type images struct{ rt *sim.Runtime }

func (i images) Ensure(ctx context.Context, _ *corev1.Pod, c *corev1.Container, _ []*corev1.Secret, sb *cri.PodSandboxConfig) (string, error) {
	spec := &cri.ImageSpec{Image: c.Image}
	if img, err := i.rt.ImageStatus(ctx, spec); err != nil || img != nil {
		return img.GetId(), err
	}
	ref, err := i.rt.PullImage(ctx, spec, nil, sb)
	if err != nil {
		return "", &Trouble{Reason: "ErrImagePull", Message: err.Error(), After: 10 * time.Second}
	}
	return ref, nil
}

// volumes remembers whose volumes are set up.
type volumes struct {
	mu   sync.Mutex
	up   map[types.UID]bool
	fail error
	used map[string]int64
}

func (v *volumes) Setup(_ context.Context, p *corev1.Pod) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.fail != nil {
		return v.fail
	}
	v.up[p.UID] = true
	return nil
}
func (v *volumes) Refresh(context.Context, *corev1.Pod) error { return nil }
func (v *volumes) Usage(context.Context, *corev1.Pod) (map[string]int64, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.used, nil
}
func (v *volumes) Mounts(context.Context, MountRequest) ([]*cri.Mount, error) { return nil, nil }
func (v *volumes) Termination(types.UID, string, uint32) (string, error)      { return "", nil }
func (v *volumes) Teardown(_ context.Context, uid types.UID) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.up, uid)
	return nil
}
func (v *volumes) Sweep(_ context.Context, alive []types.UID) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	for uid := range v.up {
		if !slices.Contains(alive, uid) {
			delete(v.up, uid)
		}
	}
	return nil
}

// bench is one node's pods on a simulated runtime.
type bench struct {
	t     testing.TB
	rt    *sim.Runtime
	ctl   *control
	vols  *volumes
	stage *stage.System
	pods  *Pods

	// Set by tests that look at them, before a start.
	groups   *cgroups
	capacity corev1.ResourceList
	logs     string
	admit    func(*corev1.Pod) (reason, message string)
}

// inBubble runs a test on fake time with a node that the control plane has greeted.
func inBubble(t *testing.T, fn func(t *testing.T, b *bench)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{
			t: t, rt: sim.New(sim.Config{Node: "n1"}),
			ctl:  &control{begin: time.Now(), cms: map[string]*corev1.ConfigMap{}, parts: map[string]string{}},
			vols: &volumes{up: map[types.UID]bool{}},
		}
		b.start()
		defer func() { b.stop() }()
		fn(t, b)
	})
}

// start begins a life of the agent over the same runtime.
func (b *bench) start() {
	b.stage = stage.New(stage.Config{Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	cfg := Config{
		Node: "n1", Stage: b.stage, Runtime: b.rt, Images: images{b.rt}, Volumes: b.vols, Control: b.ctl, Prober: b.rt,
		Facts: func() Facts { return Facts{HostIPs: []string{"192.0.2.1"}, Capacity: b.capacity} }, RuntimeName: "sim", LogRoot: b.logs, Admit: b.admit,
	}
	if b.groups != nil {
		cfg.Cgroups = b.groups
	}
	pods, err := Start(cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	b.pods = pods
}

func (b *bench) stop() {
	if err := b.stage.Shutdown(context.Background()); err != nil {
		b.t.Fatal(err)
	}
	synctest.Wait()
}

func (b *bench) want(p *corev1.Pod) {
	b.pods.Deliver(link.Wanted{Pod: p})
	synctest.Wait()
}

func (b *bench) synced() {
	b.pods.Deliver(link.Synced{Confirmed: true})
	synctest.Wait()
}

// status returns the newest reported status of the only pod.
func (b *bench) status() corev1.PodStatus { return b.ctl.last(b.t).Status }

func newTestPod(name string, edit ...func(*corev1.Pod)) *corev1.Pod {
	grace := int64(30)
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name + "-uid"), Annotations: map[string]string{}},
		Spec: corev1.PodSpec{
			NodeName: "n1", RestartPolicy: corev1.RestartPolicyAlways, TerminationGracePeriodSeconds: &grace,
			Containers: []corev1.Container{{Name: "web", Image: "example/web:v1"}},
		},
	}
	for _, e := range edit {
		e(p)
	}
	return p
}

func annotate(kv ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		for i := 0; i < len(kv); i += 2 {
			p.Annotations[sim.Annotation+kv[i]] = kv[i+1]
		}
	}
}

// deleted returns the pod as the control plane sends it when it is to go.
func deleted(p *corev1.Pod, grace int64) *corev1.Pod {
	out := p.DeepCopy()
	now := metav1.Now()
	out.DeletionTimestamp, out.DeletionGracePeriodSeconds = &now, &grace
	return out
}
