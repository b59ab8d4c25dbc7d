package controller

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/troupe-run/troupe/actors/stage"
	"github.com/troupe-run/troupe/messages"
)

// Retries of a failed reconcile start here and double up to the maximum.
const (
	minRetry = 20 * time.Millisecond
	maxRetry = 30 * time.Second
)

type objectConfig struct {
	key       messages.Key
	reconcile func(context.Context, messages.Key) (Result, error)
	every     time.Duration
	slots     stage.Semaphore
	log       *slog.Logger
}

// object reconciles one object: one run at a time, one more when something came meanwhile.
//
// Accepts: reconcile from its keeper, againDue and restDue from its timers.
// Sends:   idle to its keeper when there is nothing left to do.
// Restart: reconciles once.
type object struct {
	cfg         objectConfig
	seen        uint64
	busy, dirty bool
	failures    int
	timer       *stage.Timer // until the next run that nothing asked for
	rest        *stage.Timer // until runs are far enough apart
}

type (
	// reconcile says that the object may differ; n counts the keeper's sends to this actor.
	reconcile struct{ n uint64 }
	// againDue says that a retry or a requeue has waited long enough.
	againDue struct{}
	// restDue says that the distance to the last run is kept.
	restDue struct{}
	// idle tells the keeper that all up to seen is done.
	idle struct {
		key  messages.Key
		seen uint64
	}
)

func (reconcile) CoalesceKey() any { return reconcile{} }

func newObject(cfg objectConfig) *actor.Props {
	var last *object
	return stage.Props(func() actor.Actor {
		o := &object{cfg: cfg}
		if last != nil {
			o.dirty, o.seen = true, last.seen
		}
		last = o
		return o
	})
}

func (o *object) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		if o.dirty {
			o.run(c)
		}
	case reconcile:
		o.seen = m.n
		o.run(c)
	case againDue:
		o.timer = nil
		o.run(c)
	case restDue:
		o.rest = nil
		o.settle(c)
	}
}

func (o *object) run(c actor.Context) {
	if o.busy || o.rest != nil {
		o.dirty = true
		return
	}
	o.busy, o.dirty = true, false
	o.timer.Stop()
	o.timer = nil
	stage.Go(c, o.cfg.slots, 0, func(ctx context.Context) (Result, error) {
		return o.cfg.reconcile(ctx, o.cfg.key)
	}, func(res Result, err error) { o.done(c, res, err) })
}

func (o *object) done(c actor.Context, res Result, err error) {
	o.busy = false
	if err != nil {
		o.failures++
		o.cfg.log.Log(stage.Context(c), severity(err), "reconcile will be retried", "key", o.cfg.key.String(), "failures", o.failures, "err", err)
		res.After = retryDelay(o.failures)
	} else {
		o.failures = 0
	}
	if res.After > 0 {
		o.timer = stage.After(c, res.After, againDue{})
	}
	if o.cfg.every > 0 {
		o.rest = stage.After(c, o.cfg.every, restDue{})
		return
	}
	o.settle(c)
}

// settle decides what follows a run: the next one, a timer that is set, or leave to go. After a
// failure a change that came during the run waits for the retry.
func (o *object) settle(c actor.Context) {
	switch {
	case o.dirty && (o.failures == 0 || o.timer == nil):
		o.run(c)
	case o.timer == nil:
		c.Send(c.Parent(), idle{o.cfg.key, o.seen})
	}
}

// severity of a failed reconcile: a conflict is everyday, the change that caused it is on its way.
func severity(err error) slog.Level {
	if apierrors.IsConflict(err) {
		return slog.LevelDebug
	}
	return slog.LevelWarn
}

// retryDelay doubles with each failure in a row, with a tenth of jitter.
func retryDelay(failures int) time.Duration {
	d := min(minRetry<<min(failures-1, 20), maxRetry)
	return d + rand.N(d/10)
}
