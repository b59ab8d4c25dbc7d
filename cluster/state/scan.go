package state

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// Item is an object of a listing with its place in it.
type Item struct {
	// Path is "namespace/name", or the name alone for objects without a namespace.
	Path   string
	Object objects.Object
}

// scan visits the rows whose path begins with prefix and is not before from, in order.
func (t *table) scan(prefix, from string, visit func(*record)) {
	t.order.AscendGreaterOrEqual(&record{path: max(prefix, from)}, func(row *record) bool {
		if !strings.HasPrefix(row.path, prefix) {
			return false
		}
		visit(row)
		return true
	})
}

// ListAt returns the objects of a resource as they were at revision rev (0 means now), whose path
// begins with prefix and is not before from, in order of their paths, and the revision they stand
// for. A revision that is no longer remembered gives messages.ErrGone, one that is not reached
// yet messages.ErrUnavailable.
func (s *Store) ListAt(res messages.Resource, prefix, from string, rev uint64) ([]Item, uint64, error) {
	t := s.table(res)
	s.mu.RLock()
	defer s.mu.RUnlock()
	if rev > s.rev {
		return nil, s.rev, fmt.Errorf("list %s: revision %d is above %d: %w", res, rev, s.rev, messages.ErrUnavailable)
	}
	var out []Item
	if prefix == "" && from == "" {
		out = make([]Item, 0, t.order.Len())
	}
	t.scan(prefix, from, func(row *record) { out = append(out, Item{row.path, row.Object}) })
	if rev == 0 || rev == s.rev {
		return out, s.rev, nil
	}
	if err := s.gone(t, rev); err != nil {
		return nil, s.rev, fmt.Errorf("list %w", err)
	}
	if rev < s.blurred {
		return nil, s.rev, fmt.Errorf("list %s at revision %d, known here from %d on: %w", res, rev, s.blurred, messages.ErrGone)
	}
	return undo(out, prefix, from, t.log.after(rev)), rev, nil
}

// undo turns a listing into the one from before events happened.
func undo(items []Item, prefix, from string, events []Event) []Item {
	if len(events) == 0 {
		return items
	}
	before := map[string]objects.Object{}
	for _, e := range slices.Backward(events) {
		if path := PathOf(e.Key); strings.HasPrefix(path, prefix) && path >= from {
			before[path] = e.Old
		}
	}
	items = slices.DeleteFunc(items, func(i Item) bool { _, changed := before[i.Path]; return changed })
	for path, obj := range before {
		if obj != nil {
			items = append(items, Item{path, obj})
		}
	}
	slices.SortFunc(items, func(a, b Item) int { return strings.Compare(a.Path, b.Path) })
	return items
}

func compareResources(a, b messages.Resource) int {
	return cmp.Or(strings.Compare(a.Group, b.Group), strings.Compare(a.Resource, b.Resource))
}
