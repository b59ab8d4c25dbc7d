package bus_test

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/troupe-run/troupe/cluster/auth"
	"github.com/troupe-run/troupe/cluster/bus"
)

// startMembers runs three servers that keep streams together.
func startMembers(t *testing.T) (all [3]*bus.Bus) {
	t.Helper()
	authority, err := auth.Open(auth.Config{})
	if err != nil {
		t.Fatal(err)
	}
	var addrs [3]string
	for i := range addrs {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addrs[i] = l.Addr().String()
		defer l.Close()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range all {
		name := fmt.Sprint("m", i)
		tls, err := authority.MemberTLS(name)
		if err != nil {
			t.Fatal(err)
		}
		all[i] = start(t, bus.Config{DataDir: t.TempDir(), Members: &bus.Members{
			Name: name, ListenAddr: addrs[i], Peers: []string{addrs[(i+1)%3], addrs[(i+2)%3]}, TLS: tls}})
	}
	return all
}

// contents words everything a stream holds.
func contents(t *testing.T, js jetstream.JetStream, name string) (out []string) {
	t.Helper()
	stream, err := js.Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	state := stream.CachedInfo().State
	out = append(out, fmt.Sprintf("%d messages from %d to %d", state.Msgs, state.FirstSeq, state.LastSeq))
	for seq := state.FirstSeq; seq <= state.LastSeq; seq++ {
		if m, err := stream.GetMsg(t.Context(), seq); err == nil {
			out = append(out, fmt.Sprintf("%d %s %s %v %s", m.Sequence, m.Subject, m.Data, m.Header, m.Time.Format(time.RFC3339Nano)))
		}
	}
	return out
}

// TestStreamMovesWithItsSequences copies a stream from a server of its own to three and on to one: its
// messages keep their sequences, holes and all, and a durable consumer goes on where it was.
func TestStreamMovesWithItsSequences(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("five servers")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	const name = "KV_moved"
	from := start(t, bus.Config{DataDir: filepath.Join(t.TempDir(), "from")})
	js, err := jetstream.New(from.Conn())
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: name, Subjects: []string{"$KV.moved.>"}, MaxMsgsPerSubject: 1, Storage: jetstream.FileStorage,
		Compression: jetstream.S2Compression, Discard: jetstream.DiscardNew, AllowDirect: true, AllowRollup: true, DenyDelete: true, AllowMsgTTL: true, AllowAtomicPublish: true, FirstSeq: 100})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 500 {
		if _, err := js.Publish(ctx, fmt.Sprint("$KV.moved.", i%70), fmt.Appendf(nil, "value %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := js.Publish(ctx, "$KV.moved.3", nil, jetstream.WithMsgTTL(time.Hour)); err != nil {
		t.Fatal(err)
	}
	durable, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{Durable: "robot", AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		t.Fatal(err)
	}
	batch, err := durable.Fetch(10)
	if err != nil {
		t.Fatal(err)
	}
	for m := range batch.Messages() {
		if err := m.DoubleAck(ctx); err != nil {
			t.Fatal(err)
		}
	}
	want := contents(t, js, name)

	members := startMembers(t)
	clustered, err := jetstream.New(members[1].Conn())
	if err != nil {
		t.Fatal(err)
	}
	for tick := time.NewTicker(100 * time.Millisecond); ; <-tick.C { // the servers must have found each other
		attempt, cancel := context.WithTimeout(ctx, time.Second)
		_, err := clustered.AccountInfo(attempt)
		cancel()
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	if err := bus.CopyStream(ctx, from.Conn(), members[1].Conn(), name, func(c *server.StreamConfig) { c.Replicas = bus.Replicas }); err != nil {
		t.Fatal(err)
	}
	if err := bus.AwaitCopies(ctx, members[1].Conn(), name, bus.Replicas); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, contents(t, clustered, name)); diff != "" {
		t.Errorf("at the members (-want +got):\n%s", diff)
	}
	if _, err := clustered.Publish(ctx, "$KV.moved.new", []byte("x"), jetstream.WithExpectLastSequence(600)); err != nil {
		t.Errorf("the next write: %v", err)
	}
	want = contents(t, clustered, name)
	goesOn(t, clustered, name)

	to := start(t, bus.Config{DataDir: filepath.Join(t.TempDir(), "to")})
	err = bus.CopyStream(ctx, members[2].Conn(), to.Conn(), name, func(c *server.StreamConfig) { c.Replicas = 1 })
	if err != nil {
		t.Fatal(err)
	}
	alone, err := jetstream.New(to.Conn())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, contents(t, alone, name)); diff != "" {
		t.Errorf("back at one server (-want +got):\n%s", diff)
	}
	goesOn(t, alone, name)
}

// goesOn takes the next message of the durable consumer.
func goesOn(t *testing.T, js jetstream.JetStream, stream string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for tick := time.NewTicker(100 * time.Millisecond); ; <-tick.C { // the servers agree on a leader for it
		durable, err := js.Consumer(ctx, stream, "robot")
		var m jetstream.Msg
		if err == nil {
			m, err = durable.Next(jetstream.FetchMaxWait(time.Second))
		}
		if err == nil {
			meta, err := m.Metadata()
			if err != nil {
				t.Fatal(err)
			}
			if meta.Sequence.Consumer < 11 {
				t.Errorf("the consumer begins anew, with %d", meta.Sequence.Stream)
			}
			if err := m.DoubleAck(ctx); err != nil {
				t.Fatal(err)
			}
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("the consumer does not go on: %v", err)
		}
	}
}
