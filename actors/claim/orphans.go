package claim

import (
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// Orphans is the set of objects of one resource that have no controller, kept up to date by
// [Orphans.Note]. It may name objects that are gone: whoever uses it reads them anew.
type Orphans struct {
	mu   sync.Mutex
	keys map[string]map[messages.Key]struct{} // by namespace
}

// NewOrphans returns an empty set.
func NewOrphans() *Orphans {
	return &Orphans{keys: make(map[string]map[messages.Key]struct{})}
}

// Note takes in one change and says whether the object has no controller now.
func (s *Orphans) Note(ch objects.Change) bool {
	orphan := ch.New != nil && metav1.GetControllerOfNoCopy(ch.New) == nil
	s.mu.Lock()
	defer s.mu.Unlock()
	set := s.keys[ch.Key.Namespace]
	switch {
	case orphan && set == nil:
		s.keys[ch.Key.Namespace] = map[messages.Key]struct{}{ch.Key: {}}
	case orphan:
		set[ch.Key] = struct{}{}
	default:
		delete(set, ch.Key)
		if len(set) == 0 {
			delete(s.keys, ch.Key.Namespace)
		}
	}
	return orphan
}

// Append adds the orphans of a namespace that exist to list.
func Append[T objects.Object](list []T, s *Orphans, r objects.Reader, namespace string) []T {
	s.mu.Lock()
	keys := make([]messages.Key, 0, len(s.keys[namespace]))
	for key := range s.keys[namespace] {
		keys = append(keys, key)
	}
	s.mu.Unlock()
	for _, key := range keys {
		if obj, ok := objects.Get[T](r, key); ok && metav1.GetControllerOfNoCopy(obj) == nil {
			list = append(list, obj)
		}
	}
	return list
}
