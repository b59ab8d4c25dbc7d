package feed

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	"github.com/troupe-run/troupe/actors/stage"
	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/proto/proxypb"
)

// How the feed keeps itself honest. The control plane gives a sign of life every five seconds.
const (
	silence     = 15 * time.Second
	recheck     = 10 * time.Minute
	minRetry    = 250 * time.Millisecond
	maxRetry    = 15 * time.Second
	partTimeout = 5 * time.Second
	maxHeld     = 1024
)

// Config of a feed.
type Config struct {
	// Conn is the node's connection; the feed neither opens nor closes it.
	Conn *nats.Conn
	// Region and Node name where this proxy runs.
	Region, Node string
	// Deliver takes each update, in order. It runs in the feed's actor and must not block.
	Deliver func(Update)
	// Log must not be nil.
	Log *slog.Logger
}

// Resend asks the feed to deliver the whole set again, as a reset: a consumer that lost its state
// sends it. Before the first snapshot it does nothing, for that will be a reset anyway.
type Resend struct{}

// CoalesceKey makes many requests one.
func (r Resend) CoalesceKey() any { return r }

// Props returns the feed actor.
func Props(cfg Config) *actor.Props {
	return stage.Props(func() actor.Actor {
		return &feed{cfg: cfg, log: cfg.Log.With("actor", "proxyfeed", "node", cfg.Node)}
	})
}

// feed owns this node's copy of the set.
//
// Accepts: Resend; deltas, the connection's state and its own timers.
// Sends:   Update to Config.Deliver; SnapshotRequest to the control plane.
// Restart: subscribes anew and asks for a snapshot, which consumers get as a reset.
// Mailbox: bounded by the rate of deltas (one per window of the control plane) and NATS' limits.
type feed struct {
	cfg Config
	log *slog.Logger

	have   *set // nil before the first snapshot
	asking bool
	again  bool // a reason to ask came while asking
	tries  int
	retry  *stage.Timer     // set while a failed request waits to be repeated
	held   []*proxypb.Delta // deltas that do not follow what we have yet
	heard  *stage.Timer
	stop   func()
}

type (
	// deltaCame brings a broadcast into the actor.
	deltaCame struct{ delta *proxypb.Delta }
	// reconnected says that broadcasts may have been missed.
	reconnected struct{}
	// silenceDue says that the control plane has not been heard for too long.
	silenceDue struct{}
	// recheckDue asks whether the set is still right, whatever the deltas said.
	recheckDue struct{}
	// retryDue asks again after a request that failed.
	retryDue struct{}
)

func (f *feed) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		f.start(c)
	case *actor.Stopping, *actor.Restarting:
		f.end()
	case deltaCame:
		f.step(c, m.delta)
	case reconnected:
		f.hurry()
		f.ask(c)
	case silenceDue:
		f.ask(c)
	case recheckDue:
		stage.After(c, recheck+rand.N(recheck/4), recheckDue{})
		f.ask(c)
	case retryDue:
		f.hurry()
		f.ask(c)
	case Resend:
		f.resend()
	}
}

// start subscribes before it asks, so that no delta falls between snapshot and subscription.
func (f *feed) start(c actor.Context) {
	self, root := c.Self(), c.ActorSystem().Root
	sub, err := f.cfg.Conn.Subscribe(messages.ProxyDeltas(f.cfg.Region), func(msg *nats.Msg) {
		delta := &proxypb.Delta{}
		if err := proto.Unmarshal(msg.Data, delta); err != nil {
			f.log.Warn("delta cannot be read", "err", err)
			return
		}
		root.Send(self, deltaCame{delta})
	})
	status := f.cfg.Conn.StatusChanged(nats.CONNECTED)
	go func() {
		for range status {
			root.Send(self, reconnected{})
		}
	}()
	f.stop = func() {
		f.cfg.Conn.RemoveStatusListener(status)
		if sub != nil {
			_ = sub.Unsubscribe() // a closed connection has no subscriptions
		}
	}
	if err != nil {
		// Rechecks carry on without broadcasts; the connection itself is somebody else's to mend.
		f.log.Error("subscribe to deltas", "err", err)
	}
	stage.After(c, recheck+rand.N(recheck/4), recheckDue{})
	f.hear(c)
	f.ask(c)
}

func (f *feed) end() {
	if f.stop != nil {
		f.stop()
	}
}

// hear notes a sign of life.
func (f *feed) hear(c actor.Context) {
	f.heard.Stop()
	f.heard = stage.After(c, silence, silenceDue{})
}

// step takes one delta: the next one is applied, a known one ignored, another one is held until a
// snapshot makes sense of it.
func (f *feed) step(c actor.Context, d *proxypb.Delta) {
	f.hear(c)
	f.hurry() // whoever sends deltas answers requests
	switch {
	case f.have != nil && f.have.knows(d):
	case d.Alive:
		f.ask(c)
	case f.have != nil && f.have.follows(d):
		f.cfg.Deliver(f.have.apply(d))
	default:
		if len(f.held) == maxHeld {
			f.held = f.held[1:]
		}
		f.held = append(f.held, d)
		f.ask(c)
	}
}

// ask requests a snapshot, one at a time.
func (f *feed) ask(c actor.Context) {
	if f.asking {
		f.again = true
		return
	}
	f.asking, f.again = true, false
	request := &proxypb.SnapshotRequest{Node: f.cfg.Node}
	if f.have != nil {
		request.Source, request.Sequence = f.have.source, f.have.sequence
	}
	stage.Go(c, nil, 2*time.Minute, func(ctx context.Context) (*set, error) {
		return fetch(ctx, f.cfg.Conn, messages.ProxySnapshot(f.cfg.Region), request)
	}, func(s *set, err error) { f.answered(c, s, err) })
}

// hurry gives up waiting to repeat a failed request, so that the next ask does it at once.
func (f *feed) hurry() {
	if f.retry != nil {
		f.retry.Stop()
		f.retry, f.asking = nil, false
	}
}

// answered takes a snapshot; nil without an error means that ours is the newest.
func (f *feed) answered(c actor.Context, s *set, err error) {
	if err != nil {
		delay := min(minRetry<<min(f.tries, 10), maxRetry)
		f.tries++
		if f.tries == 3 || f.tries%40 == 0 { // a control plane that starts needs a moment
			f.log.Warn("no snapshot from the control plane", "err", err, "tries", f.tries)
		}
		f.retry = stage.After(c, delay+rand.N(delay/2), retryDue{})
		return
	}
	f.asking, f.tries = false, 0
	f.hear(c)
	if s != nil && !f.older(s) {
		f.have = s
		f.cfg.Deliver(s.all())
	}
	f.catchUp(c)
}

// older says that deltas have led further than a snapshot already.
func (f *feed) older(s *set) bool {
	return f.have != nil && f.have.source == s.source && s.sequence < f.have.sequence
}

// catchUp applies what was held; what still does not fit is a reason to ask once more.
func (f *feed) catchUp(c actor.Context) {
	gap := false
	for _, d := range f.held {
		switch {
		case f.have.follows(d):
			f.cfg.Deliver(f.have.apply(d))
		case !f.have.knows(d) && d.Source == f.have.source:
			gap = true
		}
	}
	f.held = nil
	if gap || f.again {
		f.ask(c)
	}
}

func (f *feed) resend() {
	if f.have != nil {
		f.cfg.Deliver(f.have.all())
	}
}
