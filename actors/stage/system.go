package stage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/eventstream"
)

// Config of a [System].
type Config struct {
	// Log receives panics and dead letters; nil discards.
	Log *slog.Logger
}

// System is the root of all actors of one process. Its top-level actors are supervised like any
// other: a panic restarts that actor alone.
type System struct {
	actors  *actor.ActorSystem
	workers *workers
	root    *actor.PID
}

// New starts an empty system. One per process is enough; a test may have one each.
func New(cfg Config) *System {
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c := actor.NewConfig()
	c.LoggerFactory = func(*actor.ActorSystem) *slog.Logger { return slog.New(warnOnly{log.Handler()}) }
	s := &System{actors: actor.NewActorSystemWithConfig(c), workers: &workers{}}
	s.actors.Extensions.Register(s.workers)
	s.answerDeadLetters()
	pid, err := s.actors.Root.SpawnNamed(Props(func() actor.Actor { return &guardian{} }), "troupe")
	if err != nil {
		panic(err) // a fresh registry has no such name
	}
	s.root = pid
	return s
}

// answerDeadLetters replaces protoactor's handling, whose throttle starts a sleeping goroutine that
// outlives a test's bubble. Askers and watchers of an actor that is gone hear so at once.
func (s *System) answerDeadLetters() {
	s.actors.EventStream = eventstream.NewEventStream()
	s.actors.EventStream.Subscribe(func(e any) {
		d, ok := e.(*actor.DeadLetterEvent)
		if !ok {
			return
		}
		if d.Sender != nil {
			s.actors.Root.Send(d.Sender, &actor.DeadLetterResponse{})
		}
		if w, ok := d.Message.(*actor.Watch); ok {
			sendSystem(s.actors, w.Watcher, &actor.Terminated{Who: d.PID, Why: actor.TerminatedReason_NotFound})
		}
	})
}

// warnOnly drops protoactor's own chatter (dead letters and recoveries at info).
type warnOnly struct{ slog.Handler }

func (h warnOnly) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && h.Handler.Enabled(ctx, l)
}
func (h warnOnly) WithAttrs(a []slog.Attr) slog.Handler { return warnOnly{h.Handler.WithAttrs(a)} }
func (h warnOnly) WithGroup(g string) slog.Handler      { return warnOnly{h.Handler.WithGroup(g)} }

// Actors gives the underlying system, for the registry and for sending from outside (its Root).
func (s *System) Actors() *actor.ActorSystem { return s.actors }

// Send posts a message from outside the actor world.
func (s *System) Send(to *actor.PID, msg any) { s.actors.Root.Send(to, msg) }

// Spawn starts a top-level actor under the root. It returns an error when the name is taken or
// the system has been shut down.
func (s *System) Spawn(props *actor.Props, name string) (*actor.PID, error) {
	out, err := Ask[spawned](context.Background(), s, s.root, spawn{props, name}) //nolint:forbidigo // answered at once
	if err != nil {
		return nil, fmt.Errorf("spawn %s: %w", name, err)
	}
	return out.pid, out.err
}

// Stop stops an actor with all its children and waits until it is gone or ctx ends.
func (s *System) Stop(ctx context.Context, pid *actor.PID) error {
	w := s.wait()
	defer s.actors.ProcessRegistry.Remove(w.pid)
	sendSystem(s.actors, pid, &actor.Watch{Watcher: w.pid})
	s.actors.Root.Stop(pid)
	select {
	case <-w.answer:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop %s: %w", pid.Id, ctx.Err())
	}
}

// Shutdown stops the top-level actors in the reverse order of their start, each awaited, then the
// root. When ctx ends first, the rest is told to stop without waiting.
func (s *System) Shutdown(ctx context.Context) error {
	defer s.workers.close()
	list, err := Ask[children](ctx, s, s.root, getChildren{})
	if errors.Is(err, ErrNoActor) {
		return nil
	}
	var errs []error
	for i := len(list.pids) - 1; i >= 0; i-- {
		errs = append(errs, s.Stop(ctx, list.pids[i]))
	}
	return errors.Join(append(errs, s.Stop(ctx, s.root))...)
}

// guardian is the parent of all top-level actors; it only spawns.
//
// Accepts: spawn, getChildren (both asked by System).
// Restart: never panics; its children would be stopped with it.
type guardian struct{}

type (
	spawn struct {
		props *actor.Props
		name  string
	}
	spawned struct {
		pid *actor.PID
		err error
	}
	getChildren struct{}
	children    struct{ pids []*actor.PID }
)

func (*guardian) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case spawn:
		pid, err := c.SpawnNamed(m.props, m.name)
		c.Respond(spawned{pid, err})
	case getChildren:
		c.Respond(children{append([]*actor.PID(nil), c.Children()...)})
	}
}
