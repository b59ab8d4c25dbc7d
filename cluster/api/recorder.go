package api

import (
	"context"
	"fmt"
	"hash/maphash"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/utils/lru"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

const (
	// recorderLanes write side by side; all events about one object share a lane, so that their
	// order holds and repeats are counted by one writer.
	recorderLanes = 4
	// recorderQueue is how many events wait in a lane before new ones are dropped.
	recorderQueue = 4096
	// recorderMemory is how many different events a lane recognizes repeats of.
	recorderMemory = 2048
	// recorderBurst is how many different events about one object are written before the object is
	// held to be noisy; recorderRefill is how many seconds earn it one more.
	recorderBurst  = 25
	recorderRefill = 300
)

// recorder writes Events in the background.
type recorder struct {
	s       *Server
	writer  *local
	lanes   [recorderLanes]chan *occurrence
	seed    maphash.Seed
	dropped atomic.Int64
}

// occurrence is one event as it was reported, reduced to what is written.
type occurrence struct {
	component string
	about     corev1.ObjectReference
	eventType string
	reason    string
	message   string
	at        metav1.Time
}

// same says which occurrences count as repeats of each other.
type same struct {
	component, uid, kind, namespace, name, part, eventType, reason, message string
}

func newRecorder(s *Server) *recorder {
	r := &recorder{s: s, writer: s.local(user.APIServerUser), seed: maphash.MakeSeed()}
	for i := range r.lanes {
		r.lanes[i] = make(chan *occurrence, recorderQueue)
	}
	return r
}

// Recorder returns what the named component records Events with. They are written while the server
// runs; when more come than can be written the newest are dropped.
func (s *Server) Recorder(component string) objects.Recorder {
	return componentRecorder{s.recorder, component}
}

type componentRecorder struct {
	*recorder
	component string
}

// Event records that reason happened to obj.
func (c componentRecorder) Event(obj objects.Object, eventType, reason, message string) {
	c.EventOf(obj, "", eventType, reason, message)
}

// EventOf records that reason happened to a part of obj.
func (c componentRecorder) EventOf(obj objects.Object, fieldPath, eventType, reason, message string) {
	about := c.s.reference(obj)
	about.FieldPath = fieldPath
	o := &occurrence{c.component, about, eventType, reason, message, metav1.NewTime(c.s.cfg.Clock.Now())}
	var h maphash.Hash
	h.SetSeed(c.seed)
	_, _ = h.WriteString(string(about.UID))
	_, _ = h.WriteString(about.Name)
	select {
	case c.lanes[h.Sum64()%recorderLanes] <- o:
	default:
		if n := c.dropped.Add(1); n&(n-1) == 0 { // one line per doubling
			c.s.log.Warn("events dropped", "count", n)
		}
	}
}

// reference names an object as Events do. Objects of the replica do not always say their kind.
func (s *Server) reference(obj objects.Object) corev1.ObjectReference {
	gvk := obj.GetObjectKind().GroupVersionKind()
	if gvk.Empty() {
		if r, err := (&local{s: s}).resourceOf(obj); err == nil {
			gvk = r.gvk
		}
	}
	return corev1.ObjectReference{
		APIVersion: gvk.GroupVersion().String(), Kind: gvk.Kind,
		Namespace: obj.GetNamespace(), Name: obj.GetName(), UID: obj.GetUID(), ResourceVersion: obj.GetResourceVersion(),
	}
}

// run writes one lane until ctx ends; what is queued then is lost, as events may be.
func (r *recorder) run(ctx context.Context, lane <-chan *occurrence) {
	l := &laneState{seed: r.seed, seen: lru.New(recorderMemory), noise: lru.New(recorderMemory)}
	for {
		select {
		case o := <-lane:
			r.write(ctx, l, o)
		case <-ctx.Done():
			return
		}
	}
}

// laneState is what a lane remembers.
type laneState struct {
	seed  maphash.Seed
	seen  *lru.Cache // hash of same -> messages.Key of the stored Event
	noise *lru.Cache // hash of uid and component -> *allowance
}

// allowance is a token bucket in whole events.
type allowance struct {
	left int
	at   metav1.Time
}

func (r *recorder) write(ctx context.Context, l *laneState, o *occurrence) {
	if !l.allow(o) {
		return
	}
	id := maphash.Comparable(l.seed, same{o.component, string(o.about.UID), o.about.Kind, o.about.Namespace, o.about.Name, o.about.FieldPath, o.eventType, o.reason, o.message})
	if key, ok := l.seen.Get(id); ok {
		_, err := r.writer.Mutate(ctx, key.(messages.Key), "", func(obj objects.Object) (objects.Object, error) {
			e, ok := obj.(*corev1.Event)
			if !ok {
				return nil, fmt.Errorf("event %s: unexpected object %T", key, obj)
			}
			e.Count++
			e.LastTimestamp = o.at
			return e, nil
		})
		if err == nil {
			return
		}
		l.seen.Remove(id) // it has expired, or its namespace has gone
	}
	e := newEvent(o)
	_, err := r.writer.createOwn(ctx, e)
	for n := 1; apierrors.IsAlreadyExists(err) && n < recorderBurst; n++ { // of another in the same instant
		e = newEvent(o)
		e.Name = fmt.Sprintf("%s%x", e.Name, n)
		_, err = r.writer.createOwn(ctx, e)
	}
	if err != nil {
		if ctx.Err() == nil {
			r.s.log.Debug("event not written", "key", e.Namespace+"/"+e.Name, "err", err)
		}
		return
	}
	l.seen.Add(id, messages.KeyOf(messages.Events, e.Namespace, e.Name))
}

func (l *laneState) allow(o *occurrence) bool {
	key := maphash.Comparable(l.seed, [3]string{string(o.about.UID), o.about.Name, o.component})
	a := &allowance{left: recorderBurst, at: o.at}
	if v, ok := l.noise.Get(key); ok {
		a = v.(*allowance)
	} else {
		l.noise.Add(key, a)
	}
	if earned := int(o.at.Sub(a.at.Time).Seconds()) / recorderRefill; earned > 0 {
		a.left, a.at = min(recorderBurst, a.left+earned), o.at
	}
	if a.left == 0 {
		return false
	}
	a.left--
	return true
}

func newEvent(o *occurrence) *corev1.Event {
	namespace := o.about.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	return &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace,
			Name:      fmt.Sprintf("%s.%x", o.about.Name, o.at.UnixNano()),
		},
		InvolvedObject:      o.about,
		Type:                o.eventType,
		Reason:              o.reason,
		Message:             o.message,
		Source:              corev1.EventSource{Component: o.component},
		ReportingController: o.component,
		FirstTimestamp:      o.at,
		LastTimestamp:       o.at,
		Count:               1,
	}
}

var _ objects.Recorder = componentRecorder{}
