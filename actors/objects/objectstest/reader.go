package objectstest

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// Get implements objects.Reader.
func (s *Store) Get(key messages.Key) (objects.Object, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	obj, ok := s.objects[key]
	return obj, ok
}

// List implements objects.Reader; the order is that of names, so that tests are repeatable.
func (s *Store) List(res messages.Resource, namespace string) []objects.Object {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var keys []messages.Key
	for key := range s.kinds[res] {
		if namespace == "" || key.Namespace == namespace {
			keys = append(keys, key)
		}
	}
	return s.sorted(keys)
}

// Index implements objects.Reader for the two indexes that package objects names.
func (s *Store) Index(res messages.Resource, index, value string) []objects.Object {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var set map[messages.Key]struct{}
	switch index {
	case objects.IndexOwner:
		set = s.owners[types.UID(value)]
	case objects.IndexNode:
		set = s.nodes[value]
	default:
		panic("no index " + index)
	}
	var keys []messages.Key
	for key := range set {
		if key.Resource == res {
			keys = append(keys, key)
		}
	}
	return s.sorted(keys)
}

// Resources implements objects.Reader.
func (s *Store) Resources() []messages.Resource {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []messages.Resource
	for r := range s.served {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b messages.Resource) int { return strings.Compare(a.String(), b.String()) })
	return out
}

func (s *Store) sorted(keys []messages.Key) []objects.Object {
	slices.SortFunc(keys, func(a, b messages.Key) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	out := make([]objects.Object, len(keys))
	for i, key := range keys {
		out[i] = s.objects[key]
	}
	return out
}

// index adds or removes one object's entries; the caller holds mu.
func (s *Store) index(key messages.Key, obj objects.Object, add bool) {
	toggle(s.kinds, key.Resource, key, add)
	for _, ref := range obj.GetOwnerReferences() {
		toggle(s.owners, ref.UID, key, add)
	}
	if pod, ok := obj.(*corev1.Pod); ok && pod.Spec.NodeName != "" {
		toggle(s.nodes, pod.Spec.NodeName, key, add)
	}
}

func toggle[V comparable](index map[V]map[messages.Key]struct{}, value V, key messages.Key, add bool) {
	set := index[value]
	switch {
	case !add:
		delete(set, key)
	case set == nil:
		index[value] = map[messages.Key]struct{}{key: {}}
	default:
		set[key] = struct{}{}
	}
}

// Follow implements objects.Feed. fn runs inside the write that made the change and must not write.
func (s *Store) Follow(resources []messages.Resource, fn func(objects.Change)) (stop func()) {
	s.writing.Lock()
	defer s.writing.Unlock()
	f := follower{resources, fn}
	id := s.follows
	s.follows++
	s.followers[id] = f
	s.mu.RLock()
	var now []objects.Change
	for key, obj := range s.objects {
		if f.wants(key.Resource) {
			now = append(now, objects.Change{Key: key, Rev: s.rev, New: obj})
		}
	}
	s.mu.RUnlock()
	for _, ch := range now {
		fn(ch)
	}
	return sync.OnceFunc(func() {
		s.writing.Lock()
		defer s.writing.Unlock()
		delete(s.followers, id)
	})
}

// Recorder keeps events in memory.
type Recorder struct {
	mu     sync.Mutex
	events []string
}

// Event implements objects.Recorder.
func (r *Recorder) Event(obj objects.Object, eventType, reason, message string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, KeyOf(obj).String()+" "+eventType+" "+reason+": "+message)
}

// EventOf implements objects.Recorder.
func (r *Recorder) EventOf(obj objects.Object, fieldPath, eventType, reason, message string) {
	if fieldPath != "" {
		message += " (" + fieldPath + ")"
	}
	r.Event(obj, eventType, reason, message)
}

// Events returns "<key> <type> <reason>: <message>" of each event since the last call; the part it
// is about, if any, follows in brackets.
func (r *Recorder) Events() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.events
	r.events = nil
	return out
}

var (
	_ objects.Reader   = (*Store)(nil)
	_ objects.Feed     = (*Store)(nil)
	_ objects.Recorder = (*Recorder)(nil)
)
