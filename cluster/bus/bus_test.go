package bus_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats-server/v2/server/ats"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/troupe-run/troupe/cluster/bus"
	"github.com/troupe-run/troupe/messages"
)

// nats-server's access-time goroutine is shared by the process and waits on a channel made outside
// of any bubble; born inside one it would freeze that bubble's clock.
func TestMain(m *testing.M) {
	ats.Register()
	os.Exit(m.Run())
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// quiet keeps refused publishes, which some tests provoke, off the test's output.
var quiet = nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})

func start(t *testing.T, cfg bus.Config) *bus.Bus {
	t.Helper()
	cfg.Log = discard()
	b, err := bus.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		if err := b.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return b
}

func TestCheckReportsEverything(t *testing.T) {
	t.Parallel()
	err := bus.Config{ListenAddr: "0.0.0.0:4222", Users: []bus.User{{Name: "eve"}}}.Check()
	if err == nil {
		t.Fatal("want errors")
	}
	if joined, ok := err.(interface{ Unwrap() []error }); !ok || len(joined.Unwrap()) != 3 {
		t.Errorf("want three problems, got: %v", err)
	}
}

func TestStreamsSurviveRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for round := range 2 {
		b, err := bus.Start(t.Context(), bus.Config{DataDir: dir, Log: discard()})
		if err != nil {
			t.Fatal(err)
		}
		js, err := jetstream.New(b.Conn())
		if err != nil {
			t.Fatal(err)
		}
		kv, err := js.CreateOrUpdateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "b"})
		if err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			if _, err := kv.Put(t.Context(), "k", []byte("v")); err != nil {
				t.Fatal(err)
			}
		} else if e, err := kv.Get(t.Context(), "k"); err != nil || string(e.Value()) != "v" {
			t.Errorf("got %v, %v", e, err)
		}
		if err := b.Healthy(); err != nil {
			t.Error(err)
		}
		if err := b.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNodePermissions checks each thing a node must not do besides what it must be able to do.
func TestNodePermissions(t *testing.T) {
	t.Parallel()
	b := start(t, bus.Config{})
	control := b.Conn()
	node, err := b.NodeConn("n.1")
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()

	up, err := control.SubscribeSync(messages.NodeUpAll("local"))
	if err != nil {
		t.Fatal(err)
	}
	if err := control.Flush(); err != nil {
		t.Fatal(err)
	}
	own := messages.NodeUp("local", "n.1", "hello")
	foreign := messages.NodeUp("local", "n2", "hello")
	for _, subject := range []string{own, foreign, "$KV.state.x", messages.NodeDown("local", "n2")} {
		if err := node.Publish(subject, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := node.Flush(); err != nil {
		t.Fatal(err)
	}
	if m, err := up.NextMsg(5 * time.Second); err != nil || m.Subject != own {
		t.Fatalf("own report: %v, %v", m, err)
	}
	if n, _, _ := up.Pending(); n != 0 {
		t.Errorf("%d foreign reports came through", n)
	}

	for _, subject := range []string{">", "_INBOX.>", "_CONTROL.>", messages.NodeDown("local", "n2"), "$KV.state.>"} {
		sub, err := node.SubscribeSync(subject)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := sub.NextMsg(5 * time.Second); !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("subscribe %s: got %v, want a permission violation", subject, err)
		}
	}

	// Requests work in both directions.
	serve(t, node, messages.NodeDown("local", "n.1"))
	if m, err := control.Request(messages.NodeDown("local", "n.1"), nil, 5*time.Second); err != nil || string(m.Data) != "pong" {
		t.Errorf("request to the node: %v, %v", m, err)
	}
	serve(t, control, messages.ProxySnapshot("local"))
	if m, err := node.Request(messages.ProxySnapshot("local"), nil, 5*time.Second); err != nil || string(m.Data) != "pong" {
		t.Errorf("request of the node: %v, %v", m, err)
	}
}

func serve(t *testing.T, nc *nats.Conn, subject string) {
	t.Helper()
	if _, err := nc.Subscribe(subject, func(m *nats.Msg) {
		if err := m.Respond([]byte("pong")); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}

func TestObserver(t *testing.T) {
	t.Parallel()
	b := start(t, bus.Config{
		ListenAddr: "127.0.0.1:0",
		Users:      []bus.User{{Name: "eye", Secret: "s3cret", Identity: bus.Identity{Role: bus.RoleObserver, Name: "eye"}}},
	})
	changes, err := b.ConnectChanges()
	if err != nil {
		t.Fatal(err)
	}
	defer changes.Close()
	js, err := jetstream.New(changes)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: messages.ChangeStream, Subjects: []string{messages.ChangePrefix("local") + ">"}, Storage: jetstream.MemoryStorage,
	}); err != nil {
		t.Fatal(err)
	}
	key := messages.KeyOf(messages.Pods, "default", "web")

	eye, err := nats.Connect(b.ClientURL(), nats.Token("s3cret"), nats.CustomInboxPrefix(bus.ObserverInbox("eye")), quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer eye.Close()
	live, err := eye.SubscribeSync(messages.ChangesFilter("local", &messages.Pods, ""))
	if err != nil {
		t.Fatal(err)
	}
	if err := eye.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := b.Conn().Publish(messages.Change("local", key), []byte("real")); err != nil {
		t.Fatal(err)
	}
	if m, err := live.NextMsg(5 * time.Second); err != nil || string(m.Data) != "real" {
		t.Fatalf("live: %v, %v", m, err)
	}

	// What the observer itself publishes reaches nobody.
	state, err := b.Conn().SubscribeSync(">")
	if err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{messages.Change("local", key), messages.StateSubject("state", key)} {
		if err := eye.Publish(subject, []byte("forged")); err != nil {
			t.Fatal(err)
		}
	}
	if err := eye.Flush(); err != nil {
		t.Fatal(err)
	}

	eyeJS, err := jetstream.New(eye)
	if err != nil {
		t.Fatal(err)
	}
	cons, err := eyeJS.CreateConsumer(t.Context(), messages.ChangeStream, jetstream.ConsumerConfig{Durable: "eye", AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		t.Fatal(err)
	}
	msg, err := cons.Next()
	if err != nil || string(msg.Data()) != "real" {
		t.Fatalf("durable: %v, %v", msg, err)
	}
	if err := msg.DoubleAck(t.Context()); err != nil {
		t.Error(err)
	}
	if info, err := cons.Info(t.Context()); err != nil || info.NumPending != 0 {
		t.Errorf("forged changes were stored: %+v, %v", info, err)
	}
	if err := eyeJS.DeleteStream(shortly(t), messages.ChangeStream); err == nil {
		t.Error("an observer deleted the change stream")
	}
	// A consumer that delivers onto a state subject stays inside the observers' account.
	if _, err := eye.Request("$JS.API.CONSUMER.CREATE."+messages.ChangeStream+".evil", []byte(`{"stream_name":"`+messages.ChangeStream+
		`","config":{"name":"evil","deliver_policy":"all","ack_policy":"none","deliver_subject":"$KV.state.x"},"action":"create"}`), 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if m, err := state.NextMsg(100 * time.Millisecond); err == nil {
		t.Errorf("reached the control plane's account: %s", m.Subject)
	}
}

func shortly(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

func TestAnonymousIsRefused(t *testing.T) {
	t.Parallel()
	b := start(t, bus.Config{ListenAddr: "127.0.0.1:0"})
	for _, opt := range []nats.Option{nats.Name("nobody"), nats.UserInfo("control", "guess"), nats.Token("guess")} {
		if nc, err := nats.Connect(b.ClientURL(), opt); err == nil {
			nc.Close()
			t.Error("an unknown client was let in")
		}
	}
}

func TestTakenPortIsAnError(t *testing.T) {
	t.Parallel()
	b := start(t, bus.Config{ListenAddr: "127.0.0.1:0"})
	if second, err := bus.Start(t.Context(), bus.Config{ListenAddr: b.ClientURL()[len("nats://"):], Log: discard()}); err == nil {
		second.Close(t.Context())
		t.Error("want an error for a port that is taken")
	}
}

// TestBubble proves that the whole bus, TTLs included, runs on a virtual clock.
func TestBubble(t *testing.T) {
	for name, dir := range map[string]string{"memory": "", "file": t.TempDir()} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := start(t, bus.Config{DataDir: dir})
				js, err := jetstream.New(b.Conn())
				if err != nil {
					t.Fatal(err)
				}
				storage := jetstream.FileStorage
				if b.InMemory() {
					storage = jetstream.MemoryStorage
				}
				kv, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "b", Storage: storage, LimitMarkerTTL: time.Second})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := kv.Create(t.Context(), "lease", []byte("me"), jetstream.KeyTTL(30*time.Second)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(29 * time.Second)
				if e, err := kv.Get(t.Context(), "lease"); err != nil || string(e.Value()) != "me" {
					t.Fatalf("before expiry: %v, %v", e, err)
				}
				time.Sleep(2 * time.Second)
				if _, err := kv.Get(t.Context(), "lease"); !errors.Is(err, jetstream.ErrKeyNotFound) {
					t.Fatalf("after expiry: %v", err)
				}
			})
		})
	}
}
