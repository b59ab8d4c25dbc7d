package controller

import (
	"context"
	"log/slog"
	"time"

	"k8s.io/utils/clock"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// Deps is what every controller gets.
type Deps struct {
	Reader   objects.Reader
	Writer   objects.Writer
	Feed     objects.Feed
	Recorder objects.Recorder
	Clock    clock.Clock
	Log      *slog.Logger
}

// Spec describes one controller.
type Spec struct {
	// Name is the keeper's actor name and the "actor" of its log lines.
	Name string
	// Watches say which changes concern which objects of the controller.
	Watches []Watch
	// Reconcile brings one object to where it should be. It may block; ctx ends with the actor.
	Reconcile func(ctx context.Context, key messages.Key) (Result, error)
	// Every is the least time between two reconciles of one object, so that a burst of changes
	// costs few of them; the first one after a rest is at once. 0 means no distance.
	Every time.Duration
	// Workers is how many reconciles run at a time; 0 means 16.
	Workers int
}

// Watch follows one resource.
type Watch struct {
	// Resource is what to follow; the zero Resource means everything that is served, also later.
	Resource messages.Resource
	// Keys maps a change to the objects to reconcile; nil means the changed object itself. It runs
	// on the feed's goroutine: it may look at the change and at indexes, and must not block.
	Keys func(c objects.Change) []messages.Key
}

// Result says when to look again though nothing changed.
type Result struct {
	// After is the delay until the next reconcile; 0 means only when something changes.
	After time.Duration
}
