package controller

import (
	"log/slog"
	"maps"
	"slices"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/actors/stage"
	"github.com/troupe-run/troupe/messages"
)

// keeper owns one controller: it follows the feed and keeps an actor for every object that has
// something to do.
//
// Accepts: changed from the feed, idle from its objects.
// Sends:   reconcile to its objects.
// Restart: the feed is followed anew, which reconciles every object once.
// Mailbox: bounded by the number of objects (changed coalesces by key).
type keeper struct {
	spec    Spec
	deps    Deps
	log     *slog.Logger
	slots   stage.Semaphore
	objects map[messages.Key]*entry
	names   map[string]messages.Key // by actor id
	stop    func()
}

// entry is what a keeper knows of one object's actor.
type entry struct {
	pid     *actor.PID
	sent    uint64 // number of the last reconcile sent
	leaving bool   // told to stop, not gone yet
	again   bool   // changed while leaving
}

// changed says that the object under key may differ.
type changed struct{ key messages.Key }

func (c changed) CoalesceKey() any { return c.key }

// Props returns the keeper of one controller. It follows deps.Feed from its start to its stop.
func Props(spec Spec, deps Deps) *actor.Props {
	if spec.Workers == 0 {
		spec.Workers = 16
	}
	slots := stage.NewSemaphore(spec.Workers)
	log := deps.Log.With("actor", spec.Name)
	return stage.Props(func() actor.Actor {
		return &keeper{spec: spec, deps: deps, log: log, slots: slots,
			objects: make(map[messages.Key]*entry), names: make(map[string]messages.Key), stop: func() {}}
	})
}

func (k *keeper) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		k.follow(c)
	case *actor.Stopping, *actor.Restarting:
		k.stop()
	case changed:
		k.change(c, m.key)
	case idle:
		k.idle(c, m)
	case *actor.Terminated:
		k.gone(c, m.Who)
	}
}

func (k *keeper) follow(c actor.Context) {
	byResource := make(map[messages.Resource][]Watch)
	for _, w := range k.spec.Watches {
		byResource[w.Resource] = append(byResource[w.Resource], w)
	}
	resources := slices.Collect(maps.Keys(byResource))
	anything := byResource[messages.Resource{}]
	if len(anything) > 0 {
		resources = nil
	}
	self, root := c.Self(), c.ActorSystem().Root
	tell := func(w Watch, ch objects.Change) {
		if w.Keys == nil {
			root.Send(self, changed{ch.Key})
			return
		}
		for _, key := range w.Keys(ch) {
			root.Send(self, changed{key})
		}
	}
	k.stop = k.deps.Feed.Follow(resources, func(ch objects.Change) {
		for _, w := range byResource[ch.Key.Resource] {
			tell(w, ch)
		}
		for _, w := range anything {
			tell(w, ch)
		}
	})
}

func (k *keeper) change(c actor.Context, key messages.Key) {
	e := k.objects[key]
	switch {
	case e == nil:
		e = &entry{}
		k.objects[key] = e
		k.spawn(c, key, e)
	case e.leaving:
		e.again = true
		return
	}
	e.sent++
	c.Send(e.pid, reconcile{e.sent})
}

func (k *keeper) spawn(c actor.Context, key messages.Key, e *entry) {
	cfg := objectConfig{key: key, reconcile: k.spec.Reconcile, every: k.spec.Every, slots: k.slots, log: k.log}
	pid, err := c.SpawnNamed(newObject(cfg), messages.EscapeToken(key.String()))
	if err != nil {
		panic(err) // names of children are ours alone; gone() comes before a second spawn
	}
	e.pid = pid
	k.names[pid.Id] = key
}

// idle lets an object's actor go when nothing was sent to it since it went idle.
func (k *keeper) idle(c actor.Context, m idle) {
	if e := k.objects[m.key]; e != nil && !e.leaving && e.sent == m.seen {
		e.leaving = true
		c.Stop(e.pid)
	}
}

// gone forgets an actor that ended, and starts the next one when its object changed meanwhile.
func (k *keeper) gone(c actor.Context, who *actor.PID) {
	key, ok := k.names[who.Id]
	if !ok {
		return
	}
	e := k.objects[key]
	delete(k.names, who.Id)
	delete(k.objects, key)
	if e.again {
		k.change(c, key)
	}
}
