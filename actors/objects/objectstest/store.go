package objectstest

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/clock"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// Store holds objects by key. Changes are delivered to followers before the write returns.
type Store struct {
	// Recorder keeps the events told to it.
	Recorder *Recorder

	clock clock.PassiveClock

	// writing serializes writes and the delivery of what they changed; it is taken before mu.
	writing   sync.Mutex
	followers map[int]follower
	follows   int

	mu      sync.RWMutex
	rev     uint64
	names   int
	objects map[messages.Key]objects.Object
	kinds   map[messages.Resource]map[messages.Key]struct{}
	owners  map[types.UID]map[messages.Key]struct{}
	nodes   map[string]map[messages.Key]struct{}
	served  map[messages.Resource]struct{}
	writes  []Write
	fail    func(Write) error
}

type follower struct {
	resources []messages.Resource
	fn        func(objects.Change)
}

// Write is one call of a writer that asked for a change, in the order in which they came.
type Write struct {
	// Verb is create, update, delete or bind; Sub the subresource of an update.
	Verb, Sub string
	Key       messages.Key
	// Object is what was asked for; nil for delete and bind.
	Object objects.Object
	// Options of a delete.
	Options metav1.DeleteOptions
}

func (w Write) String() string {
	s := w.Verb + " " + w.Key.String()
	if w.Sub != "" {
		s += "/" + w.Sub
	}
	return s
}

// New returns a store that holds objs, stored as by [Store.Put]. Times come from c.
func New(c clock.PassiveClock, objs ...objects.Object) *Store {
	s := &Store{
		Recorder:  &Recorder{},
		clock:     c,
		followers: make(map[int]follower),
		objects:   make(map[messages.Key]objects.Object),
		kinds:     make(map[messages.Resource]map[messages.Key]struct{}),
		owners:    make(map[types.UID]map[messages.Key]struct{}),
		nodes:     make(map[string]map[messages.Key]struct{}),
		served:    make(map[messages.Resource]struct{}),
	}
	for _, r := range []messages.Resource{messages.Namespaces, messages.Nodes, messages.Pods, messages.Services,
		messages.Endpoints, messages.ConfigMaps, messages.Secrets, messages.ServiceAccounts, messages.Events,
		messages.Deployments, messages.ReplicaSets, messages.EndpointSlices, messages.Leases} {
		s.served[r] = struct{}{}
	}
	s.Put(objs...)
	return s
}

// KeyOf returns the key of an object: its resource is guessed from its kind.
func KeyOf(obj objects.Object) messages.Key {
	gvk := obj.GetObjectKind().GroupVersionKind()
	if gvk.Empty() {
		gvks, _, err := scheme.Scheme.ObjectKinds(obj)
		if err != nil {
			panic(err) // a test used a type of no API
		}
		gvk = gvks[0]
	}
	return messages.KeyOf(resourceOf(gvk), obj.GetNamespace(), obj.GetName())
}

func resourceOf(gvk schema.GroupVersionKind) messages.Resource {
	plural, _ := meta.UnsafeGuessKindToResource(gvk)
	return messages.Resource{Group: gvk.Group, Resource: plural.Resource}
}

// Put stores objects as they are, as another component would have left them: only an empty uid, an
// empty creation time and the resource version are filled in, and nothing is recorded as a write.
func (s *Store) Put(objs ...objects.Object) {
	s.writing.Lock()
	defer s.writing.Unlock()
	for _, obj := range objs {
		obj = obj.DeepCopyObject().(objects.Object)
		s.identify(obj)
		s.store(KeyOf(obj), obj)
	}
}

// Drop takes an object away whatever its finalizers say.
func (s *Store) Drop(key messages.Key) {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.store(key, nil)
}

// Serve adds resources to those that [Store.Resources] returns.
func (s *Store) Serve(res ...messages.Resource) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range res {
		s.served[r] = struct{}{}
	}
}

// FailWith lets fn refuse writes: what it returns is the write's error. Nil ends that.
func (s *Store) FailWith(fn func(Write) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = fn
}

// Writes returns the writes since the last call and forgets them.
func (s *Store) Writes() []Write {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.writes
	s.writes = nil
	return out
}

// Must returns an object that has to exist, as a private copy.
func Must[T objects.Object](t testing.TB, s *Store, key messages.Key) T {
	t.Helper()
	obj, ok := objects.Get[T](s, key)
	if !ok {
		t.Fatalf("%s does not exist", key)
	}
	return obj.DeepCopyObject().(T)
}

func (s *Store) identify(obj objects.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names++
	if obj.GetUID() == "" {
		obj.SetUID(types.UID(fmt.Sprintf("uid-%d", s.names)))
	}
	if t := obj.GetCreationTimestamp(); t.IsZero() {
		obj.SetCreationTimestamp(metav1.NewTime(s.clock.Now()))
	}
}

// store puts obj (nil deletes) under key and tells the followers; the caller holds writing.
func (s *Store) store(key messages.Key, obj objects.Object) {
	s.mu.Lock()
	old := s.objects[key]
	if old == nil && obj == nil {
		s.mu.Unlock()
		return
	}
	s.rev++
	rev := s.rev
	if old != nil {
		s.index(key, old, false)
		delete(s.objects, key)
	}
	if obj != nil {
		obj.SetResourceVersion(strconv.FormatUint(rev, 10))
		s.objects[key] = obj
		s.served[key.Resource] = struct{}{}
		s.index(key, obj, true)
	}
	s.mu.Unlock()
	if old != nil && obj != nil && old.GetUID() != obj.GetUID() {
		s.deliver(objects.Change{Key: key, Rev: rev, Old: old})
		old = nil
	}
	s.deliver(objects.Change{Key: key, Rev: rev, Old: old, New: obj})
}

func (s *Store) deliver(ch objects.Change) {
	for i := range s.follows {
		if f, ok := s.followers[i]; ok && f.wants(ch.Key.Resource) {
			f.fn(ch)
		}
	}
}

func (f follower) wants(res messages.Resource) bool {
	return len(f.resources) == 0 || slices.Contains(f.resources, res)
}
