package pod

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/troupe-run/troupe/actors/stage"
	"github.com/troupe-run/troupe/node/link"
)

// Pods runs the pods of one node. Its methods are safe for concurrent use.
type Pods struct {
	cfg   *Config
	pid   *actor.PID
	views *views
}

// firstRelist is when the runtime's records are compared for the first time: what it was making for
// an earlier life of the agent may have come about after the first look.
const firstRelist = 10 * time.Second

// Start begins to run pods. It does not wait for the runtime: nothing happens to a pod before the
// runtime has said what it holds.
func Start(cfg Config) (*Pods, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	cfg.defaults()
	p := &Pods{cfg: &cfg, views: newViews()}
	log := cfg.Log.With("actor", "pods", "node", cfg.Node)
	pid, err := cfg.Stage.Spawn(stage.Props(func() actor.Actor {
		return &supervisor{cfg: p.cfg, views: p.views, log: log, entries: make(map[types.UID]*entry)}
	}), "pods-"+cfg.Node)
	if err != nil {
		return nil, err
	}
	p.pid = pid
	return p, nil
}

// Deliver hands a message of the link over; it never blocks.
func (p *Pods) Deliver(m link.Message) { p.cfg.Stage.Send(p.pid, delivered{m}) }

// Close ends the actors and what they are doing. The pods' containers go on.
func (p *Pods) Close(ctx context.Context) error { return p.cfg.Stage.Stop(ctx, p.pid) }

// Evict ends a pod, within a second or so, because the node needs what it uses; message says so to
// users. A pod that has ended, or is not here, is left alone.
func (p *Pods) Evict(uid types.UID, message string) { p.cfg.Stage.Send(p.pid, evict{uid, message}) }

// Release removes the containers of pods that have ended, and their logs: it is for a disk that is
// full. It returns when they are gone or ctx ends.
func (p *Pods) Release(ctx context.Context) error {
	p.cfg.Stage.Send(p.pid, release{})
	look := time.NewTicker(releaseLook)
	defer look.Stop()
	for slices.ContainsFunc(p.views.list(), func(v View) bool { return isTerminal(v.Status.Phase) && len(v.Runs) > 0 }) {
		select {
		case <-look.C:
		case <-ctx.Done():
			return fmt.Errorf("remove ended containers: %w", ctx.Err())
		}
	}
	return nil
}

// releaseLook is how often Release looks whether all is gone.
const releaseLook = 50 * time.Millisecond

// Find returns the newest view of a pod.
func (p *Pods) Find(namespace, name string) (View, bool) { return p.views.find(namespace, name) }

// List returns the newest view of every pod.
func (p *Pods) List() []View { return p.views.list() }

// supervisor owns the set of pods of the node.
//
// Accepts: delivered (what the link says), evict and release from the node, finished and resend from
// pods, eventsBroke and its own timers.
// Sends:   wanted, unwanted, observed, objectsChanged, evicted, released to pods.
// Restart: reads the runtime anew and forgets what is wanted: Control tells again at the next
// Synced; its pods are stopped with it, their containers go on.
// Mailbox: bounded by the link's set and the runtime's events.
type supervisor struct {
	cfg      *Config
	views    *views
	log      *slog.Logger
	entries  map[types.UID]*entry
	found    map[types.UID]observed // on the runtime when the agent started, not claimed yet
	read     bool                   // found is complete
	synced   bool                   // whoever is not wanted now is not wanted at all
	down     bool                   // the runtime does not answer
	listing  bool                   // a list is under way
	swept    bool                   // leftover volumes and logs have been looked for
	sweeping bool                   // a sweep is under way
	held     bool                   // ... the first, which new pods wait for
	relist   *stage.Timer
	relistAt time.Time // when relist is due
}

// entry is one pod.
type entry struct {
	pid  *actor.PID
	pod  *corev1.Pod // newest wanted; nil for an orphan
	gone bool        // the object is gone
	done bool        // nothing is left on the node
	// known are the containers last seen in a list, so that only news travels.
	known map[string]cri.ContainerState
}

func (v *supervisor) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		v.start(c)
	case delivered:
		v.deliver(c, m.msg)
	case runtimeEvent:
		v.event(c, m.event)
	case followDue:
		v.follow(c)
	case evict:
		if e := v.entries[m.uid]; e != nil && e.pid != nil {
			c.Send(e.pid, evicted{m.message})
		}
	case release:
		for _, e := range v.entries {
			if e.pid != nil {
				c.Send(e.pid, released{})
			}
		}
	case finished:
		v.finished(c, m.uid)
	case resend:
		v.resend(c, m.uid)
	case relistDue:
		v.compare(c)
	case rotateDue:
		v.rotate(c)
	}
}

// start reads everything the runtime holds and then follows its events.
func (v *supervisor) start(c actor.Context) {
	v.follow(c)
	v.load(c)
	if v.cfg.LogRoot != "" {
		stage.After(c, rotateEvery, rotateDue{})
	}
}

func (v *supervisor) load(c actor.Context) {
	v.listing = true
	since := v.cfg.Clock.Now()
	stage.Go(c, nil, callLimit, func(ctx context.Context) (observed, error) {
		return inventory(ctx, v.cfg, nil, since, nil)
	}, func(all observed, err error) {
		v.listing = false
		v.health(err)
		if err != nil {
			v.compareIn(c, time.Second)
			return
		}
		v.found, v.read = byPod(all), true
		for uid, e := range v.entries {
			v.ensure(c, uid, e)
		}
		v.orphans(c)
		v.compareIn(c, min(v.cfg.Relist, firstRelist))
	})
}

// health tells about a runtime that stopped or began to answer.
func (v *supervisor) health(err error) {
	if down := err != nil; down != v.down {
		v.down = down
		if down {
			v.log.Warn("runtime does not answer, will retry", "err", err)
		} else {
			v.log.Info("runtime answers again")
		}
	}
	if v.cfg.Health != nil {
		v.cfg.Health(err)
	}
}

// byPod sorts a list by pods.
func byPod(all observed) map[types.UID]observed {
	out := make(map[types.UID]observed)
	for _, b := range all.sandboxes {
		if b.uid != "" {
			o := out[b.uid]
			o.all, o.since, o.sandboxes = true, all.since, append(o.sandboxes, b)
			out[b.uid] = o
		}
	}
	for _, x := range all.containers {
		if x.uid != "" {
			o := out[x.uid]
			o.all, o.since, o.containers = true, all.since, append(o.containers, x)
			out[x.uid] = o
		}
	}
	return out
}

// follow reads the runtime's events until the stream breaks. They pass through this actor, in
// their order, to the pod they are about.
func (v *supervisor) follow(c actor.Context) {
	self, root := c.Self(), c.ActorSystem().Root
	stage.Go(c, nil, 0, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, v.cfg.Runtime.Events(ctx, func(e *cri.ContainerEventResponse) { root.Send(self, runtimeEvent{e}) })
	}, func(_ struct{}, err error) { v.eventsBroke(c, err) })
}

// eventsBroke follows anew soon and compares lists meanwhile.
func (v *supervisor) eventsBroke(c actor.Context, err error) {
	v.log.Debug("runtime events broke off, will follow again", "err", err)
	if v.relistAt.Sub(v.cfg.Clock.Now()) > time.Second {
		v.compareIn(c, time.Second)
	}
	stage.After(c, time.Second, followDue{})
}

// compareIn sets when the runtime's records are looked at next.
func (v *supervisor) compareIn(c actor.Context, d time.Duration) {
	v.relist.Stop()
	v.relist, v.relistAt = stage.After(c, d, relistDue{}), v.cfg.Clock.Now().Add(d)
}

func (v *supervisor) event(c actor.Context, ev *cri.ContainerEventResponse) {
	box := ev.GetPodSandboxStatus()
	e := v.entries[types.UID(box.GetMetadata().GetUid())]
	if e == nil || e.pid == nil {
		return
	}
	news := observed{sandboxes: []sandbox{sandboxStatus(box)}}
	if ev.GetContainerEventType() == cri.ContainerEventType_CONTAINER_DELETED_EVENT {
		return // only we delete, and we know when it is done
	}
	for _, st := range ev.GetContainersStatuses() {
		news.containers = append(news.containers, containerStatus(st, box.GetId()))
	}
	c.Send(e.pid, news)
}

func (v *supervisor) deliver(c actor.Context, m link.Message) {
	switch m := m.(type) {
	case link.Wanted:
		v.want(c, m.Pod)
	case link.Unwanted:
		v.unwant(c, m.UID)
	case link.ObjectChanged:
		for _, e := range v.entries {
			if e.pid != nil && e.pod != nil && e.pod.Namespace == m.Namespace && refersTo(e.pod, m.Kind, m.Name) {
				c.Send(e.pid, objectsChanged{})
			}
		}
	case link.Synced:
		if m.Confirmed {
			v.synced = true
			v.orphans(c)
		}
	}
}

func (v *supervisor) want(c actor.Context, p *corev1.Pod) {
	e := v.entries[p.UID]
	if e == nil {
		e = &entry{}
		v.entries[p.UID] = e
	}
	e.pod, e.gone = p, false
	if e.done { // all has been taken down; say so again
		v.cfg.Control.ReportPod(link.PodReport{UID: p.UID, Namespace: p.Namespace, Name: p.Name, Status: p.Status, Finished: true})
		return
	}
	v.ensure(c, p.UID, e)
}

func (v *supervisor) unwant(c actor.Context, uid types.UID) {
	e := v.entries[uid]
	if e == nil {
		e = &entry{}
		if _, here := v.found[uid]; v.read && !here {
			return
		}
		v.entries[uid] = e
	}
	e.gone = true
	if e.done {
		delete(v.entries, uid)
		return
	}
	v.ensure(c, uid, e)
}

// ensure spawns a pod's actor once the runtime has been read, and tells it what is wanted.
func (v *supervisor) ensure(c actor.Context, uid types.UID, e *entry) {
	if !v.read {
		return
	}
	if e.pid == nil {
		if v.held {
			return
		}
		pid, err := c.SpawnNamed(newPod(v.cfg, v.views, uid, v.found[uid]), string(uid))
		if err != nil {
			panic(fmt.Errorf("spawn pod %s: %w", uid, err)) // names of children are ours alone
		}
		e.pid = pid
		delete(v.found, uid)
	}
	v.resend(c, uid)
}

func (v *supervisor) resend(c actor.Context, uid types.UID) {
	e := v.entries[uid]
	if e == nil || e.pid == nil {
		return
	}
	if e.pod != nil {
		c.Send(e.pid, wanted{e.pod})
	}
	if e.gone {
		c.Send(e.pid, unwanted{})
	}
}

// orphans takes down whatever the runtime holds that nobody wants, once the whole wanted set is
// known.
func (v *supervisor) orphans(c actor.Context) {
	if !v.synced || !v.read {
		return
	}
	for uid := range v.found {
		if v.entries[uid] == nil {
			v.log.Info("pod is not wanted any more, stopping it", "key", string(uid))
			v.unwant(c, uid)
		}
	}
	v.sweep(c)
}

func (v *supervisor) finished(c actor.Context, uid types.UID) {
	e := v.entries[uid]
	if e == nil {
		return
	}
	c.Stop(e.pid)
	e.pid, e.done, e.known = nil, true, nil
	if e.gone {
		delete(v.entries, uid)
	}
}

// compare lists what the runtime has and tells each pod what differs: events may be lost.
func (v *supervisor) compare(c actor.Context) {
	if v.listing {
		return // its end sets the next
	}
	if !v.read {
		v.load(c)
		return
	}
	v.listing = true
	seen := make(map[string]cri.ContainerState)
	for _, e := range v.entries {
		for id, st := range e.known {
			seen[id] = st
		}
	}
	since := v.cfg.Clock.Now()
	stage.Go(c, nil, callLimit, func(ctx context.Context) (observed, error) {
		return inventory(ctx, v.cfg, nil, since, func(id string, st cri.ContainerState) bool {
			was, ok := seen[id]
			return ok && was == st
		})
	}, func(all observed, err error) {
		v.listing = false
		v.health(err)
		if err != nil {
			v.compareIn(c, time.Second)
			return
		}
		v.compareIn(c, v.cfg.Relist)
		for uid, o := range byPod(all) {
			e := v.entries[uid]
			if e == nil || e.pid == nil {
				if v.found == nil {
					v.found = make(map[types.UID]observed)
				}
				if e == nil {
					v.found[uid] = o
				}
				continue
			}
			e.learn(&o)
			c.Send(e.pid, o)
		}
		for uid, e := range v.entries {
			if e.pid != nil && !has(all, uid) {
				c.Send(e.pid, observed{all: true, since: all.since})
			}
		}
		v.orphans(c)
	})
}

func has(all observed, uid types.UID) bool {
	for i := range all.sandboxes {
		if all.sandboxes[i].uid == uid {
			return true
		}
	}
	return false
}

// learn remembers the states seen.
func (e *entry) learn(o *observed) {
	known := make(map[string]cri.ContainerState, len(o.containers))
	for i := range o.containers {
		if x := &o.containers[i]; x.unchanged {
			known[x.id] = e.known[x.id]
		} else {
			known[x.id] = x.state
		}
	}
	e.known = known
}

// refersTo says whether a pod uses a ConfigMap or Secret.
func refersTo(p *corev1.Pod, kind, name string) bool {
	config := kind == "ConfigMap"
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			for _, f := range list[i].EnvFrom {
				if config && f.ConfigMapRef != nil && f.ConfigMapRef.Name == name || !config && f.SecretRef != nil && f.SecretRef.Name == name {
					return true
				}
			}
			for _, e := range list[i].Env {
				if f := e.ValueFrom; f != nil && (config && f.ConfigMapKeyRef != nil && f.ConfigMapKeyRef.Name == name ||
					!config && f.SecretKeyRef != nil && f.SecretKeyRef.Name == name) {
					return true
				}
			}
		}
	}
	for i := range p.Spec.Volumes {
		if volumeRefersTo(&p.Spec.Volumes[i], config, name) {
			return true
		}
	}
	for _, s := range p.Spec.ImagePullSecrets {
		if !config && s.Name == name {
			return true
		}
	}
	return false
}

func volumeRefersTo(v *corev1.Volume, config bool, name string) bool {
	switch {
	case v.ConfigMap != nil:
		return config && v.ConfigMap.Name == name
	case v.Secret != nil:
		return !config && v.Secret.SecretName == name
	case v.Projected != nil:
		for _, s := range v.Projected.Sources {
			if config && s.ConfigMap != nil && s.ConfigMap.Name == name || !config && s.Secret != nil && s.Secret.Name == name {
				return true
			}
		}
	}
	return false
}
