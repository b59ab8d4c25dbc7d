package state_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/troupe-run/troupe/cluster/bus"
	"github.com/troupe-run/troupe/cluster/state"
	"github.com/troupe-run/troupe/messages"
)

func sealing(c *state.Config) {
	c.Resources = append(c.Resources, secrets)
	c.Changes = &state.Changes{}
}

func secretKey(name string) messages.Key { return messages.KeyOf(messages.Secrets, "ns", name) }

// secret makes the operation that writes a secret whose password is hunter2.
func secret(s *state.Store, name string, expect uint64) (state.Op, error) {
	obj := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, StringData: map[string]string{"password": "hunter2"}}
	data, err := s.Encode(messages.Secrets, obj)
	return state.Op{Key: secretKey(name), Expect: expect, Object: obj, Data: data}, err
}

func commitSecret(t *testing.T, s *state.Store, name string, expect uint64) uint64 {
	t.Helper()
	op, err := secret(s, name, expect)
	if err != nil {
		t.Fatal(err)
	}
	return commit(t, s, op)
}

// each visits all messages of a stream; the server undoes its compression.
func each(t *testing.T, nc *nats.Conn, stream string, visit func(*jetstream.RawStreamMsg)) {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	str, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	state := str.CachedInfo().State
	for seq := state.FirstSeq; seq <= state.LastSeq; seq++ {
		m, err := str.GetMsg(t.Context(), seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		visit(m)
	}
}

// noneShows looks for a secret's text in all files of a folder and in all that both streams keep.
func noneShows(t *testing.T, dir string, b *bus.Bus) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil // the server has replaced it
		}
		if bytes.Contains(content, []byte("hunter2")) {
			t.Errorf("%s holds the secret", path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	changes, err := b.ConnectChanges()
	if err != nil {
		t.Fatal(err)
	}
	defer changes.Close()
	for stream, nc := range map[string]*nats.Conn{"KV_state": b.Conn(), messages.ChangeStream: changes} {
		each(t, nc, stream, func(m *jetstream.RawStreamMsg) {
			if bytes.Contains(m.Data, []byte("hunter2")) || strings.Contains(fmt.Sprint(m.Header), "hunter2") {
				t.Errorf("%s shows the secret", m.Subject)
			}
		})
	}
}

// keysOf returns the ids of the keys that the records of a stream are sealed with, and how many each.
func keysOf(t *testing.T, nc *nats.Conn, stream string) map[string]int {
	t.Helper()
	out := map[string]int{}
	each(t, nc, stream, func(m *jetstream.RawStreamMsg) {
		if id := m.Header.Get(messages.HeaderSealed); id != "" {
			out[id]++
		}
	})
	return out
}

// TestRotate seals anew while others write, and looks at what is left of the old key.
func TestRotate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := startBus(t, dir)
	s := open(t, b, sealing)
	first := s.Sealing().Key
	const n = 150
	for i := range n {
		commitSecret(t, s, fmt.Sprint("s", i), 0)
	}
	commit(t, s, op(t, s, pod("open", ""), 0))
	before, _, _ := s.Lookup(secretKey("s7"))
	writing, stop := context.WithCancel(t.Context())
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := 0; writing.Err() == nil; i++ {
			e, _, _ := s.Lookup(secretKey("s1"))
			op, err := secret(s, "s1", e.Rev)
			if err == nil {
				_, err = s.Commit(t.Context(), op) // to its end, so that nothing is under way when it stops
			}
			if err != nil && !errors.Is(err, messages.ErrConflict) && writing.Err() == nil {
				t.Error(err)
			}
		}
	})
	steps := 0
	if err := s.Rotate(t.Context(), func(now state.Sealing) {
		if steps++; now.Key == first {
			t.Error("there is no new key")
		}
	}); err != nil || steps < 2 {
		t.Errorf("%d steps, %v", steps, err)
	}
	stop()
	writer.Wait()
	second := s.Sealing().Key
	if got := keysOf(t, b.Conn(), "KV_state"); len(got) != 1 || got[second] != n {
		t.Errorf("records are sealed with %v, want all %d with %s", got, n, second)
	}
	after, _, _ := s.Lookup(secretKey("s7"))
	if after.Sum != before.Sum || after.Rev <= before.Rev {
		t.Errorf("s7 was %v, is %v", before, after)
	}
	again := open(t, b, sealing)
	if got := len(again.List(messages.Secrets, "")); got != n {
		t.Errorf("%d secrets after reopening", got)
	}
	if now := again.Sealing(); now.Left != 0 || now.Key != second || now.Old[first].Before(time.Now().Add(72*time.Hour)) {
		t.Errorf("after reopening: %+v", now)
	}
	noneShows(t, dir, b)
}

// TestOldKeyGoes lets the time pass that changes and tombstones are kept for.
func TestOldKeyGoes(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := startBus(t, dir)
		s := open(t, b, sealing)
		commitSecret(t, s, "a", 0)
		first := s.Sealing().Key
		if err := s.Rotate(t.Context(), func(state.Sealing) {}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(72 * time.Hour)
		if now := s.Sealing(); len(now.Old) != 1 {
			t.Errorf("after three days: %+v", now)
		}
		time.Sleep(2 * time.Hour)
		if now := s.Sealing(); len(now.Old) != 0 {
			t.Errorf("after a change's time: %+v", now)
		}
		changes, err := b.ConnectChanges()
		if err != nil {
			t.Fatal(err)
		}
		defer changes.Close()
		if got := keysOf(t, changes, messages.ChangeStream); len(got) != 0 {
			t.Errorf("changes sealed with %v are left, the key is gone: %s", got, first)
		}
		if got := names(open(t, b, sealing).List(messages.Secrets, "")); got != "a" {
			t.Errorf("after reopening: %q", got)
		}
	})
}

// rotateDir tells the test binary that it is the child process of TestKilledRotation.
const rotateDir = "TROUPE_TEST_ROTATE_DIR"

const rotatedSecrets = 300

// rotatingWriter changes the key again and again until it is killed.
func rotatingWriter(dir string) error {
	ctx := context.Background()
	b, err := bus.Start(ctx, bus.Config{DataDir: dir, Log: discard()})
	if err != nil {
		return err
	}
	cfg := state.Config{Bus: b, Resources: []state.Resource{pods}, Log: discard()}
	sealing(&cfg)
	s, err := state.Open(ctx, cfg)
	if err != nil {
		return err
	}
	for i := range rotatedSecrets {
		if _, ok := s.Get(secretKey(fmt.Sprint(i))); ok {
			continue
		}
		op, err := secret(s, fmt.Sprint(i), 0)
		if err == nil {
			_, err = s.Commit(ctx, op)
		}
		if err != nil {
			return err
		}
	}
	for {
		fmt.Println("rotating")
		if err := s.Rotate(ctx, func(state.Sealing) {}); err != nil {
			return err
		}
	}
}

// TestKilledRotation kills a process that changes the key, at random moments. Whoever opens the
// bucket then can read everything, and brings the change to its end.
func TestKilledRotation(t *testing.T) {
	t.Parallel()
	dir, draw := t.TempDir(), random(t)
	halfway := 0
	for range 8 {
		child := exec.CommandContext(t.Context(), os.Args[0])
		child.Env = append(os.Environ(), rotateDir+"="+dir)
		child.Stderr = os.Stderr
		pipe, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := bufio.NewReader(pipe).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(draw.IntN(100))*time.Millisecond, func() { _ = child.Process.Kill() })
		_, _ = io.Copy(io.Discard, pipe)
		timer.Stop()
		_ = child.Wait()
		func() {
			b, err := bus.Start(t.Context(), bus.Config{DataDir: dir, Log: discard()})
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close(t.Context())
			cfg := state.Config{Bus: b, Log: discard()}
			sealing(&cfg)
			s, err := state.Open(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer closeStore(t, s)
			now := s.Sealing()
			if now.Left > 0 {
				halfway++
				// It waits for the change that goes on, and makes no other key.
				if err := s.Rotate(t.Context(), func(state.Sealing) {}); err != nil || s.Sealing().Key != now.Key {
					t.Errorf("%+v became %+v, %v", now, s.Sealing(), err)
				}
			}
			if got := len(s.List(messages.Secrets, "")); got != rotatedSecrets {
				t.Errorf("%d secrets", got)
			}
			if got := keysOf(t, b.Conn(), "KV_state"); got[now.Key] != rotatedSecrets {
				t.Errorf("sealed with %v, want all with %s", got, now.Key)
			}
			noneShows(t, dir, b)
		}()
	}
	t.Logf("%d of 8 kills came half-way", halfway)
}
