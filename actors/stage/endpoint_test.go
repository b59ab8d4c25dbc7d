package stage_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/troupe-run/troupe/actors/stage"
	"github.com/troupe-run/troupe/actors/stage/stagetest"
)

// twoProcesses returns two systems that can only reach each other over NATS.
func twoProcesses(t *testing.T, accept func(protoreflect.FullName) bool) (a, b *stage.System, ea, eb *stage.Endpoint) {
	t.Helper()
	ns, err := server.NewServer(&server.Options{DontListen: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(ns.Shutdown)
	join := func(address string) (*stage.System, *stage.Endpoint) {
		nc, err := nats.Connect("", nats.InProcessServer(ns))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		s := stagetest.New(t)
		e, err := s.Listen(stage.EndpointConfig{Conn: nc, Region: "local", Address: address, Accept: accept})
		if err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		return s, e
	}
	a, ea = join("control-1")
	b, eb = join("node-1")
	return a, b, ea, eb
}

func echo(c actor.Context) {
	if m, ok := c.Message().(*wrapperspb.StringValue); ok {
		c.Respond(wrapperspb.String(m.Value + "!"))
	}
}

func ask(t *testing.T, s *stage.System, to *actor.PID, msg any) (*wrapperspb.StringValue, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	return stage.Ask[*wrapperspb.StringValue](ctx, s, to, msg)
}

func TestAskAcrossProcesses(t *testing.T) {
	a, b, ea, _ := twoProcesses(t, nil)
	mustSpawn(t, b, receive(echo), "echo")
	got, err := ask(t, a, ea.PID("node-1", "troupe/echo"), wrapperspb.String("hi"))
	if err != nil || got.Value != "hi!" {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestAskOfNobodyAcrossProcessesFailsAtOnce(t *testing.T) {
	a, _, ea, _ := twoProcesses(t, nil)
	for name, to := range map[string]*actor.PID{
		"unknown actor":   ea.PID("node-1", "troupe/nobody"),
		"unknown process": ea.PID("node-9", "troupe/echo"),
		"not protobuf":    ea.PID("node-1", "troupe/echo"),
	} {
		t.Run(name, func(t *testing.T) {
			var msg any = wrapperspb.String("hi")
			if name == "not protobuf" {
				msg = struct{}{}
			}
			if _, err := ask(t, a, to, msg); !errors.Is(err, stage.ErrNoActor) {
				t.Errorf("got %v, want ErrNoActor", err)
			}
		})
	}
}

func TestWatchAcrossProcesses(t *testing.T) {
	a, b, ea, _ := twoProcesses(t, nil)
	watched := mustSpawn(t, b, receive(echo), "echo")
	gone := make(chan string, 1)
	mustSpawn(t, a, receive(func(c actor.Context) {
		switch m := c.Message().(type) {
		case *actor.Started:
			c.Watch(ea.PID("node-1", "troupe/echo"))
		case *actor.Terminated:
			gone <- m.Who.Id
		}
	}), "watcher")
	if _, err := ask(t, a, ea.PID("node-1", "troupe/echo"), wrapperspb.String("the watch is in place")); err != nil {
		t.Fatal(err)
	}
	if err := b.Stop(t.Context(), watched); err != nil {
		t.Fatal(err)
	}
	select {
	case id := <-gone:
		if id != "troupe/echo" {
			t.Errorf("terminated %q", id)
		}
	case <-time.After(5 * time.Second):
		t.Error("the watcher was not told")
	}
}

func TestOnlyAcceptedTypesComeIn(t *testing.T) {
	a, b, ea, _ := twoProcesses(t, func(n protoreflect.FullName) bool { return n != "google.protobuf.BytesValue" })
	got := make(chan any, 10)
	mustSpawn(t, b, receive(func(c actor.Context) {
		if m, ok := c.Message().(protoreflect.ProtoMessage); ok {
			if _, started := c.Message().(*actor.Started); !started {
				got <- m
			}
		}
	}), "sink")
	to := ea.PID("node-1", "troupe/sink")
	a.Send(to, wrapperspb.Bytes([]byte("refused")))
	a.Send(to, wrapperspb.String("taken"))
	if m, ok := (<-got).(*wrapperspb.StringValue); !ok || m.Value != "taken" {
		t.Errorf("got %v", m)
	}
}
