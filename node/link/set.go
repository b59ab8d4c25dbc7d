package link

import (
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/proto/nodepb"
)

// wantedSet is what this node should have: pods, and the ConfigMaps and Secrets they refer to.
// Only the link's actor changes it; it outlives the actor's restarts, and lookups come from
// anywhere.
type wantedSet struct {
	keep bool // keep the raw entries, for the checkpoint

	mu      sync.RWMutex
	entries map[setKey]*setEntry
	pods    map[types.UID]setKey
	digest  uint64
}

// setKey names an entry. Pods go by UID, for one may follow another of its name; the others have
// no UID here.
type setKey struct {
	kind            nodepb.Kind
	namespace, name string
	uid             string
}

type setEntry struct {
	hash   uint64
	part   uint64 // in the digest
	object any    // *corev1.Pod, *corev1.ConfigMap or *corev1.Secret; nil when it could not be read
	raw    *nodepb.Entry
}

func newWantedSet(keep bool) *wantedSet {
	return &wantedSet{keep: keep, entries: make(map[setKey]*setEntry), pods: make(map[types.UID]setKey)}
}

func keyOf(r *nodepb.Ref) setKey {
	k := setKey{kind: r.GetKind(), namespace: r.GetNamespace(), name: r.GetName()}
	if k.kind == nodepb.Kind_KIND_POD {
		k.uid = r.GetUid()
	}
	return k
}

// change is one complete change of the set: puts and removals, or the puts as the whole new set.
type change struct {
	put    []*nodepb.Entry
	remove []*nodepb.Ref
	whole  bool
}

// apply makes one change. It returns what the node has to be told, objects before the pods that
// use them. An entry that cannot be read is kept in the digest, so that it is not asked for again
// and again, but never delivered; the errors say which.
func (s *wantedSet) apply(ch change) (out []Message, errs []error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ch.whole {
		ch.remove = s.missing(ch.put)
	}
	var pods []Message
	tell := func(m Message) {
		if o, ok := m.(ObjectChanged); ok {
			out = append(out, o)
		} else if m != nil {
			pods = append(pods, m)
		}
	}
	for _, ref := range ch.remove {
		tell(s.remove(keyOf(ref)))
	}
	for _, e := range ch.put {
		m, err := s.put(e)
		if err != nil {
			errs = append(errs, err)
		}
		tell(m)
	}
	return append(out, pods...), errs
}

// missing lists the entries that a whole set does not hold.
func (s *wantedSet) missing(whole []*nodepb.Entry) []*nodepb.Ref {
	held := make(map[setKey]bool, len(whole))
	for _, e := range whole {
		held[keyOf(e.GetRef())] = true
	}
	var out []*nodepb.Ref
	for k := range s.entries {
		if !held[k] {
			out = append(out, &nodepb.Ref{Kind: k.kind, Namespace: k.namespace, Name: k.name, Uid: k.uid})
		}
	}
	return out
}

func (s *wantedSet) remove(k setKey) Message {
	e, ok := s.entries[k]
	if !ok {
		return nil
	}
	delete(s.entries, k)
	s.digest -= e.part
	if k.kind == nodepb.Kind_KIND_POD {
		delete(s.pods, types.UID(k.uid))
		return Unwanted{UID: types.UID(k.uid)}
	}
	return ObjectChanged{Kind: kindName(k.kind), Namespace: k.namespace, Name: k.name}
}

func (s *wantedSet) put(e *nodepb.Entry) (Message, error) {
	k := keyOf(e.GetRef())
	old := s.entries[k]
	if old != nil && old.hash == e.GetHash() {
		return nil, nil
	}
	if old != nil {
		s.digest -= old.part
	}
	obj, err := decodeEntry(e)
	n := &setEntry{hash: e.GetHash(), part: messages.EntryDigest(e.GetRef(), e.GetHash()), object: obj}
	if s.keep {
		n.raw = e
	}
	s.entries[k] = n
	s.digest += n.part
	if k.uid != "" {
		s.pods[types.UID(k.uid)] = k
	}
	switch o := obj.(type) {
	case nil:
		return nil, err
	case *corev1.Pod:
		return Wanted{Pod: o}, nil
	default:
		return ObjectChanged{Kind: kindName(k.kind), Namespace: k.namespace, Name: k.name}, nil
	}
}

func decodeEntry(e *nodepb.Entry) (any, error) {
	var obj interface{ Unmarshal([]byte) error }
	switch e.GetRef().GetKind() {
	case nodepb.Kind_KIND_POD:
		obj = new(corev1.Pod)
	case nodepb.Kind_KIND_CONFIG_MAP:
		obj = new(corev1.ConfigMap)
	case nodepb.Kind_KIND_SECRET:
		obj = new(corev1.Secret)
	default:
		return nil, fmt.Errorf("read wanted object of kind %d: %w", e.GetRef().GetKind(), messages.ErrInvalid)
	}
	if err := obj.Unmarshal(e.GetObject()); err != nil {
		return nil, fmt.Errorf("read wanted %s %s/%s: %w", kindName(e.GetRef().GetKind()), e.GetRef().GetNamespace(), e.GetRef().GetName(), err)
	}
	if pod, ok := obj.(*corev1.Pod); ok && len(e.GetStatus()) > 0 {
		if err := pod.Status.Unmarshal(e.GetStatus()); err != nil {
			return nil, fmt.Errorf("read status of wanted pod %s/%s: %w", pod.Namespace, pod.Name, err)
		}
	}
	return obj, nil
}

func kindName(k nodepb.Kind) string {
	switch k {
	case nodepb.Kind_KIND_POD:
		return "Pod"
	case nodepb.Kind_KIND_CONFIG_MAP:
		return "ConfigMap"
	case nodepb.Kind_KIND_SECRET:
		return "Secret"
	}
	return k.String()
}

func (s *wantedSet) hasPod(uid types.UID) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, ok := s.pods[uid]
	return ok
}

// everything lists the raw entries, with the newest encoded status of each pod that status knows.
func (s *wantedSet) everything(status func(types.UID) []byte) []*nodepb.Entry {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]*nodepb.Entry, 0, len(s.entries))
	for k, e := range s.entries {
		if e.raw == nil {
			continue
		}
		raw := e.raw
		if data := status(types.UID(k.uid)); data != nil {
			raw = &nodepb.Entry{Ref: raw.Ref, Hash: raw.Hash, Object: raw.Object, Status: data}
		}
		out = append(out, raw)
	}
	return out
}

func (s *wantedSet) sum() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.digest
}

func (s *wantedSet) configMap(namespace, name string) (*corev1.ConfigMap, bool) {
	o, ok := s.lookup(setKey{kind: nodepb.Kind_KIND_CONFIG_MAP, namespace: namespace, name: name}).(*corev1.ConfigMap)
	return o, ok
}

func (s *wantedSet) secret(namespace, name string) (*corev1.Secret, bool) {
	o, ok := s.lookup(setKey{kind: nodepb.Kind_KIND_SECRET, namespace: namespace, name: name}).(*corev1.Secret)
	return o, ok
}

func (s *wantedSet) lookup(k setKey) any {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if e := s.entries[k]; e != nil {
		return e.object
	}
	return nil
}
