package state

import (
	"slices"
	"strings"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

const (
	// labelled is how many objects a resource must have for an index of a label to pay, and
	// maxLabelIndexes how many labels of a resource get one.
	labelled        = 500
	maxLabelIndexes = 16
)

// ListLabelled returns the objects of a resource whose path begins with prefix and whose label key has
// one of values, in order of their paths, with the revision. The index that finds them is made when a
// label is first asked for; ok is false when there is none, so that all objects have to be looked at.
func (s *Store) ListLabelled(res messages.Resource, prefix, key string, values []string) (items []Item, rev uint64, ok bool) {
	t := s.table(res)
	name := "metadata.labels[" + key + "]"
	s.mu.RLock()
	ix := t.indexes[name]
	pays := len(t.rows) >= labelled
	s.mu.RUnlock()
	if ix == nil && (!pays || !s.indexLabel(t, name, key)) {
		return nil, 0, false
	}
	return s.ListIndexed(res, prefix, name, values)
}

// indexLabel makes the index of a label, if there is room for one.
func (s *Store) indexLabel(t *table, name, key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.indexes[name] != nil {
		return true
	}
	if t.labels == maxLabelIndexes {
		return false
	}
	t.labels++
	t.indexes[name] = t.index(func(obj objects.Object) []string {
		if v, ok := obj.GetLabels()[key]; ok {
			return []string{v}
		}
		return nil
	})
	return true
}

// ListIndexed is [Store.ListLabelled] for an index that the resource's kind has declared.
func (s *Store) ListIndexed(res messages.Resource, prefix, name string, values []string) (items []Item, rev uint64, ok bool) {
	t := s.table(res)
	s.mu.RLock()
	rev = s.rev
	ix := t.indexes[name]
	if ix != nil {
		for _, v := range slices.Compact(slices.Sorted(slices.Values(values))) {
			for r := range ix.rows[v] {
				if strings.HasPrefix(r.path, prefix) {
					items = append(items, Item{r.path, r.Object, r.shown})
				}
			}
		}
	}
	s.mu.RUnlock()
	slices.SortFunc(items, func(a, b Item) int { return strings.Compare(a.Path, b.Path) })
	return items, rev, ix != nil
}
