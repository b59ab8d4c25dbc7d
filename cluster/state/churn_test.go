package state_test

import (
	"context"
	"encoding/base64"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/troupe-run/troupe/cluster/state"
	"github.com/troupe-run/troupe/messages"
)

var days = flag.Int("days", 3, "how many days TestChurnIsFlat simulates; below ten it keeps changes for twelve hours instead of three days")

// TestChurnIsFlat lets days of updates, deletions and creations pass in a bubble, in which the
// server's own timers run, too: for the ages of tombstones and changes, and for the compaction of
// blocks. What is on disk must not grow beyond what the first half of the time has shown.
func TestChurnIsFlat(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a while")
	}
	const (
		live    = 60
		perStep = 8
		step    = 20 * time.Minute
	)
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := startBus(t, dir)
		keep := 72 * time.Hour
		if *days < 10 {
			keep = 12 * time.Hour
		}
		s := open(t, b, func(c *state.Config) { c.Changes = &state.Changes{MaxAge: keep} })
		changes, err := b.ConnectChanges()
		if err != nil {
			t.Fatal(err)
		}
		defer changes.Close()
		born := 0
		create := func() state.Op {
			born++
			p := pod(fmt.Sprint("p", born), "")
			p.Annotations = map[string]string{"text": noise(born)}
			return op(t, s, p, 0)
		}
		var ops []state.Op
		for range live {
			ops = append(ops, create())
		}
		commit(t, s, ops...)
		var sizes []int64
		for i := range int(time.Duration(*days) * 24 * time.Hour / step) {
			ops = nil
			for j, obj := range s.List(messages.Pods, "") {
				if (i+j)%(live/perStep) != 0 {
					continue
				}
				e, _, _ := s.Lookup(podKey(obj.GetName()))
				if j%3 == 0 {
					ops = append(ops, state.Op{Key: podKey(obj.GetName()), Expect: e.Rev}, create())
					continue
				}
				p := pod(obj.GetName(), fmt.Sprint("n", i))
				p.Annotations = map[string]string{"text": noise(i)}
				ops = append(ops, op(t, s, p, e.Rev))
			}
			commit(t, s, ops...)
			time.Sleep(step)
			if (i+1)%int(6*time.Hour/step) == 0 {
				sizes = append(sizes, sizeOf(t, dir))
			}
		}
		half := len(sizes) / 2
		before, after := maximum(sizes[:half]), maximum(sizes[half:])
		t.Logf("on disk every six hours: %d KiB; %d objects were born, revision %d", kibibytes(sizes), born, s.Revision())
		// A block is rewritten or removed as a whole.
		const block = 8 << 20
		if after > before+before/5+block {
			t.Errorf("%d KiB on disk in the first half, %d in the second", before>>10, after>>10)
		}
		// Records are those of live objects, of the last hour's deletions, and the store's own.
		if n := messagesIn(t, b.Conn(), "KV_state"); n > live+3*2*perStep+2 {
			t.Errorf("the bucket has %d records", n)
		}
		oldest := time.Now()
		each(t, changes, messages.ChangeStream, func(m *jetstream.RawStreamMsg) {
			if m.Time.Before(oldest) {
				oldest = m.Time
			}
		})
		if age := time.Since(oldest); age > keep+time.Hour {
			t.Errorf("a change is %s old", age)
		}
	})
}

// noise is 20 KB that no compression makes smaller by much.
func noise(seed int) string {
	draw := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	b := make([]byte, 15_000)
	_, _ = draw.Read(b) // never fails
	return base64.StdEncoding.EncodeToString(b)
}

func messagesIn(t *testing.T, nc *nats.Conn, stream string) int {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(context.WithoutCancel(t.Context()), stream)
	if err != nil {
		t.Fatal(err)
	}
	return int(s.CachedInfo().State.Msgs)
}

func sizeOf(t *testing.T, dir string) (n int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if os.IsNotExist(err) {
			return nil
		}
		if err == nil {
			n += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func maximum(list []int64) (m int64) {
	for _, n := range list {
		m = max(m, n)
	}
	return m
}

func kibibytes(list []int64) []int64 {
	out := make([]int64, len(list))
	for i, n := range list {
		out[i] = n >> 10
	}
	return out
}
