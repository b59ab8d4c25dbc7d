package state_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/troupe-run/troupe/cluster/bus"
	"github.com/troupe-run/troupe/cluster/state"
	"github.com/troupe-run/troupe/messages"
)

// TestTornTail damages the end of the bucket's newest file after a kill. The store must open with
// all that was acknowledged, or say that it is not all there.
func TestTornTail(t *testing.T) {
	t.Parallel()
	killed, draw := t.TempDir(), random(t)
	acked := crash(t, killed, 0, 100*time.Millisecond)
	cut := func(n int) func([]byte) []byte { return func(b []byte) []byte { return b[:max(0, len(b)-n)] } }
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte {
			b[max(0, len(b)-1-at)] ^= 1 << draw.IntN(8)
			return b
		}
	}
	type damage struct {
		name  string
		do    func([]byte) []byte
		loses bool // certainly, so that opening must fail
	}
	damages := []damage{
		{"nothing", cut(0), false},
		{"one byte cut", cut(1), false},
		{"a record cut", cut(700), false},
		{"all cut", cut(1 << 30), true},
		{"last byte flipped", flip(0), false},
		{"zeros at the end", func(b []byte) []byte { return append(b, make([]byte, 512)...) }, false},
		{"zeros instead of the end", func(b []byte) []byte { clear(b[len(b)-512:]); return b }, false},
		{"garbage at the end", func(b []byte) []byte { return append(b, bytes.Repeat([]byte{0x5a}, 77)...) }, false},
		{"file gone", nil, true},
		{"first byte of a record in the middle flipped", func(b []byte) []byte { b[len(b)/2] ^= 1; return b }, false},
	}
	for range 8 {
		n := 1 + draw.IntN(4000)
		damages = append(damages, damage{fmt.Sprint(n, " cut"), cut(n), false})
		n = draw.IntN(4000)
		damages = append(damages, damage{fmt.Sprint(n, " before the end flipped"), flip(n), false})
	}
	closed := t.TempDir()
	if err := os.CopyFS(closed, os.DirFS(killed)); err != nil {
		t.Fatal(err)
	}
	if err := reopen(t, closed, acked); err != nil {
		t.Fatal(err)
	}
	for _, d := range damages {
		for kind, from := range map[string]string{"killed": killed, "closed": closed} {
			t.Run(kind+", "+d.name, func(t *testing.T) {
				dir := t.TempDir()
				if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
					t.Fatal(err)
				}
				tear(t, dir, d.do)
				err := reopen(t, dir, acked)
				if err != nil && !errors.Is(err, messages.ErrDamaged) {
					t.Errorf("opening says %v", err)
				}
				if err == nil && d.loses {
					t.Error("opened as if nothing had happened")
				}
				t.Log(err)
			})
		}
	}
}

// TestPartOfABatch cuts a batch short that nobody was told of, as a power cut does: what was acknowledged
// before is there, and each of its writes is there or is not.
func TestPartOfABatch(t *testing.T) {
	t.Parallel()
	whole := t.TempDir()
	b := startBus(t, whole)
	s := open(t, b, nil)
	acked := map[string]written{}
	for i := range 5 {
		p := pod(fmt.Sprint("acked", i), "")
		acked[p.Name] = written{i: 1, step: updated, rev: commit(t, s, op(t, s, p, 0))}
	}
	before := size(t, newestBlock(t, whole))
	const batch = 4
	for i := range batch {
		o := op(t, s, pod(fmt.Sprint("unheard", i), ""), 0)
		m := nats.NewMsg(messages.StateSubject(messages.StateBucket, o.Key))
		m.Data = o.Data
		for k, v := range map[string]string{"Nats-Batch-Id": "power", "Nats-Batch-Sequence": fmt.Sprint(i + 1), messages.HeaderFormat: "1", messages.HeaderVerb: messages.VerbCreate} {
			m.Header.Set(k, v)
		}
		if i < batch-1 {
			if err := b.Conn().PublishMsg(m); err != nil {
				t.Fatal(err)
			}
			continue
		}
		m.Header.Set("Nats-Batch-Commit", "1")
		if r, err := b.Conn().RequestMsg(m, 10*time.Second); err != nil || !bytes.Contains(r.Data, []byte(`"count":4`)) {
			t.Fatalf("the batch is not taken: %s, %v", r.Data, err)
		}
	}
	after := size(t, newestBlock(t, whole))
	for left := range int64(batch + 1) {
		for _, ragged := range []int64{0, 9} {
			t.Run(fmt.Sprint(left, " quarters written, ", ragged, " bytes of the next"), func(t *testing.T) {
				dir := t.TempDir()
				if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
					t.Fatal(err)
				}
				// The machine's memory is gone, and with it the folder where the batch was staged.
				batches := filepath.Join(dir, "jetstream/$G/streams/KV_state/batches")
				if err := errors.Join(os.RemoveAll(batches), os.Symlink("/dev/shm/troupe-gone/KV_state", batches)); err != nil {
					t.Fatal(err)
				}
				at := min(before+(after-before)*left/batch+ragged, after)
				if err := os.Truncate(newestBlock(t, dir), at); err != nil {
					t.Fatal(err)
				}
				for range 2 { // what the first start makes of it, the second finds in order
					if err := reopen(t, dir, acked); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
}

// TestDamagedBlock damages a block that the server has filled and compressed. What was in it is lost
// as a whole, and that has to be said.
func TestDamagedBlock(t *testing.T) {
	t.Parallel()
	whole := t.TempDir()
	b := startBus(t, whole)
	s := open(t, b, nil)
	acked := map[string]written{}
	for i := range 20 {
		p := pod(fmt.Sprint("p", i), "")
		p.Annotations = map[string]string{"big": strings.Repeat(fmt.Sprint("text ", i, " "), 100_000)}
		acked[p.Name] = written{i: 1, step: updated, rev: commit(t, s, op(t, s, p, 0))}
	}
	first := filepath.Join("jetstream/$G/streams/KV_state/msgs/1.blk")
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		content, err := os.ReadFile(filepath.Join(whole, first))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.HasPrefix(content, []byte("cmp")) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the first block is not compressed")
		}
	}
	for name, do := range map[string]func([]byte) []byte{
		"nothing":      func(b []byte) []byte { return b },
		"cut":          func(b []byte) []byte { return b[:len(b)-100] },
		"half":         func(b []byte) []byte { return b[:len(b)/2] },
		"flipped":      func(b []byte) []byte { b[len(b)/2] ^= 4; return b },
		"head flipped": func(b []byte) []byte { b[1] ^= 4; return b },
		"empty":        func([]byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, first)
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, do(content), 0o600); err != nil {
				t.Fatal(err)
			}
			err = reopen(t, dir, acked)
			if err != nil && !errors.Is(err, messages.ErrDamaged) || (err == nil) != (name == "nothing") {
				t.Errorf("opening says %v", err)
			}
		})
	}
}

// TestMissingStream takes the whole bucket away and leaves the mark: no new bucket may take its
// place, until somebody says so by removing the mark.
func TestMissingStream(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	acked := crash(t, dir, 0, 0)
	if err := os.RemoveAll(filepath.Join(dir, "jetstream/$G/streams/KV_state")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := reopen(t, dir, acked); !errors.Is(err, messages.ErrDamaged) {
			t.Errorf("opening says %v", err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "state.mark")); err != nil {
		t.Fatal(err)
	}
	if err := reopen(t, dir, nil); err != nil {
		t.Error(err)
	}
}

// tear changes the newest block file of the bucket, or removes it.
func tear(t *testing.T, dir string, change func([]byte) []byte) {
	t.Helper()
	last, err := newestBlock(t, dir), error(nil)
	if change == nil {
		err = os.Remove(last)
	} else {
		var content []byte
		if content, err = os.ReadFile(last); err == nil {
			err = os.WriteFile(last, change(content), 0o600)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

func newestBlock(t *testing.T, dir string) string {
	t.Helper()
	blocks, err := filepath.Glob(filepath.Join(dir, "jetstream/*/streams/KV_state/msgs/*.blk"))
	if err != nil || len(blocks) == 0 {
		t.Fatalf("blocks %v: %v", blocks, err)
	}
	slices.SortFunc(blocks, func(a, b string) int { return cmp.Or(len(a)-len(b), strings.Compare(a, b)) }) // 9.blk is before 10.blk
	return blocks[len(blocks)-1]
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// reopen opens a store and compares it with what was acknowledged.
func reopen(t *testing.T, dir string, acked map[string]written) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	b, err := bus.Start(ctx, bus.Config{DataDir: dir, Log: discard()})
	if err != nil {
		return err
	}
	defer b.Close(ctx)
	s, err := state.Open(ctx, state.Config{Bus: b, Resources: []state.Resource{pods}, Log: discard()})
	if err != nil {
		return err
	}
	defer closeStore(t, s)
	for _, c := range check(s, acked) {
		t.Error(c)
	}
	return nil
}
