package rules

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-run/troupe/actors/stage"
	"github.com/troupe-run/troupe/proxy/feed"
)

// How the rules actor paces itself.
const (
	interval    = 50 * time.Millisecond
	verifyEvery = time.Minute
	syncLimit   = 2 * time.Minute
	minRetry    = time.Second
	maxRetry    = 30 * time.Second
)

// Config of the rules actor.
type Config struct {
	Backend Backend
	// Resend asks the feed for a reset; called at every start of the actor.
	Resend func()
	// Applied is told each revision that the kernel serves, in order. It must not block.
	Applied func(source string, revision uint64)
	// Report is told why the kernel could not be brought up to date, and nil once it could. It
	// must not block; nil means nobody wants to know.
	Report func(error)
	// Log must not be nil.
	Log *slog.Logger
}

// Props returns the rules actor. Send it [Change] messages.
func Props(cfg Config) *actor.Props {
	return stage.Props(func() actor.Actor {
		return &rulesActor{cfg: cfg, log: cfg.Log.With("actor", "rules")}
	})
}

// Change hands an update of the feed to the rules actor.
type Change struct{ Update feed.Update }

// rulesActor owns the backend: it alone calls it, one call at a time.
//
// Accepts: Change; its own timers.
// Sends:   nothing; tells Config.Applied and Config.Report.
// Restart: asks the feed for a reset; the backend knows what the kernel has.
// Mailbox: bounded by what the feed delivers while one message is folded in.
type rulesActor struct {
	cfg Config
	log *slog.Logger

	pending  feed.Update // what the backend has not taken over yet
	has      bool
	started  bool // a reset came: before it nothing is known and nothing written
	busy     bool
	resting  bool // the last sync is too recent, or failed
	failures int
	source   string
	revision uint64 // what the backend has been told
}

type (
	// restDue ends the pause after a sync.
	restDue struct{}
	// verifyDue looks whether somebody else changed our rules.
	verifyDue struct{}
)

func (r *rulesActor) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		stage.After(c, verifyEvery+rand.N(verifyEvery/10), verifyDue{})
		r.cfg.Resend()
	case Change:
		r.take(c, m.Update)
	case restDue:
		r.resting = false
		r.next(c)
	case verifyDue:
		stage.After(c, verifyEvery+rand.N(verifyEvery/10), verifyDue{})
		r.verify(c)
	}
}

// take folds an update into what the backend has not seen yet.
func (r *rulesActor) take(c actor.Context, u feed.Update) {
	if !r.started && !u.Reset {
		return // a change of something unknown; the reset that was asked for is on its way
	}
	r.started = true
	if r.has {
		r.pending.Add(u)
	} else {
		r.pending, r.has = feed.Update{}, true
		r.pending.Add(u)
	}
	r.next(c)
}

// next syncs when there is something to do and neither a sync nor a pause is under way: the first
// change is written at once, a stream of them every interval.
func (r *rulesActor) next(c actor.Context) {
	if r.busy || r.resting || !r.has && r.failures == 0 {
		return
	}
	u := r.pending
	if r.has {
		r.source, r.revision = u.Source, u.Revision
	}
	r.pending, r.has, r.busy = feed.Update{}, false, true
	stage.Go(c, nil, syncLimit, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, r.cfg.Backend.Sync(ctx, u)
	}, func(_ struct{}, err error) { r.done(c, err) })
}

func (r *rulesActor) verify(c actor.Context) {
	if r.busy || r.resting || !r.started {
		return
	}
	r.busy = true
	stage.Go(c, nil, syncLimit, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, r.cfg.Backend.Verify(ctx)
	}, func(_ struct{}, err error) { r.done(c, err) })
}

// done takes the outcome of a sync. A failed one is repeated after a pause that grows.
func (r *rulesActor) done(c actor.Context, err error) {
	r.busy, r.resting = false, true
	if err != nil {
		delay := min(minRetry<<min(r.failures, 10), maxRetry)
		r.failures++
		r.log.Warn("rules not written", "rev", r.revision, "err", err, "retryIn", delay)
		r.report(err)
		stage.After(c, delay+rand.N(delay/4), restDue{})
		return
	}
	if r.failures > 0 {
		r.log.Info("rules written again", "rev", r.revision)
		r.failures = 0
	}
	r.report(nil)
	r.cfg.Applied(r.source, r.revision)
	stage.After(c, interval, restDue{})
}

func (r *rulesActor) report(err error) {
	if r.cfg.Report != nil {
		r.cfg.Report(err)
	}
}
