package state_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/troupe-run/troupe/cluster/state"
	"github.com/troupe-run/troupe/messages"
)

// TestNewerFormatIsRefused opens buckets that a later program has written: by its epoch record,
// before anything is touched, and by a single record that it has left.
func TestNewerFormatIsRefused(t *testing.T) {
	t.Parallel()
	for name, subject := range map[string]string{
		"opened by a newer troupe": messages.StateRecord(messages.StateBucket, "epoch"),
		"a newer record":           messages.StateSubject(messages.StateBucket, podKey("new")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := startBus(t, "")
			s := open(t, b, nil)
			commit(t, s, op(t, s, pod("a", ""), 0))
			m := nats.NewMsg(subject)
			m.Header.Set(messages.HeaderFormat, "2")
			m.Data = []byte("unreadable")
			js, err := jetstream.New(b.Conn())
			if err != nil {
				t.Fatal(err)
			}
			put, err := js.PublishMsg(t.Context(), m)
			if err != nil {
				t.Fatal(err)
			}
			_, err = state.Open(t.Context(), state.Config{Bus: b, Resources: []state.Resource{pods}, Log: discard()})
			if !errors.Is(err, messages.ErrInvalid) || !strings.Contains(err.Error(), "newer troupe") || !strings.Contains(err.Error(), "format 2") {
				t.Errorf("opening says %v", err)
			}
			if stream, err := js.Stream(t.Context(), "KV_state"); err != nil {
				t.Error(err)
			} else if last := stream.CachedInfo().State.LastSeq; strings.Contains(name, "opened") && last != put.Sequence {
				t.Errorf("opening has written up to %d after %d", last, put.Sequence)
			}
		})
	}
}

// TestCompression opens a store that was made without compression, and finds it set on both streams.
func TestCompression(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	unpack(t, "testdata/1-uncompressed.tar.gz", dir)
	b := startBus(t, dir)
	open(t, b, goldenConfig)
	changes, err := b.ConnectChanges()
	if err != nil {
		t.Fatal(err)
	}
	defer changes.Close()
	for name, nc := range map[string]*nats.Conn{"KV_state": b.Conn(), messages.ChangeStream: changes} {
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		stream, err := js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if got := stream.CachedInfo().Config.Compression; got != jetstream.S2Compression {
			t.Errorf("%s: %s", name, got)
		}
	}
}
