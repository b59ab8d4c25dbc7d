package state

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/google/btree"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// Item is an object of a listing with its place in it.
type Item struct {
	// Path is "namespace/name", or the name alone for objects without a namespace.
	Path   string
	Object objects.Object

	shown *encoding // nil for an object of the past
}

// scan visits the records of a listing whose path begins with prefix and is not before from, in order.
func scan(order *btree.BTreeG[*record], prefix, from string, visit func(*record)) {
	order.AscendGreaterOrEqual(&record{path: max(prefix, from)}, func(rec *record) bool {
		if !strings.HasPrefix(rec.path, prefix) {
			return false
		}
		visit(rec)
		return true
	})
}

// freeze calls read with the lock held and t.frozen set, which may be read without the lock later. It
// is copied when it is written to: making it costs the same for any number of objects.
func (s *Store) freeze(t *table, read func()) {
	s.mu.RLock()
	if t.frozen != nil {
		defer s.mu.RUnlock()
		read()
		return
	}
	s.mu.RUnlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.frozen == nil {
		t.frozen = t.order.Clone()
	}
	read()
}

// ListAt returns the objects of a resource as they were at revision rev (0 means now), whose path
// begins with prefix and is not before from, in order of their paths, and the revision they stand
// for. A revision that is no longer remembered gives messages.ErrGone, one that is not reached
// yet messages.ErrUnavailable.
func (s *Store) ListAt(res messages.Resource, prefix, from string, rev uint64) ([]Item, uint64, error) {
	t := s.table(res)
	var (
		order *btree.BTreeG[*record]
		now   uint64
		since []Event
		err   error
	)
	s.freeze(t, func() {
		order, now = t.frozen, s.rev
		switch {
		case rev > now:
			err = fmt.Errorf("list %s: revision %d is above %d: %w", res, rev, now, messages.ErrUnavailable)
		case rev != 0 && rev != now:
			if err = s.gone(t, rev); err != nil {
				err = fmt.Errorf("list %w", err)
				return
			}
			if rev < s.blurred {
				err = fmt.Errorf("list %s at revision %d, known here from %d on: %w", res, rev, s.blurred, messages.ErrGone)
				return
			}
			since = slices.Clone(t.log.after(rev))
		}
	})
	if err != nil {
		return nil, now, err
	}
	var out []Item
	if prefix == "" && from == "" {
		out = make([]Item, 0, order.Len())
	}
	scan(order, prefix, from, func(rec *record) { out = append(out, Item{rec.path, rec.Object, rec.shown}) })
	if rev == 0 {
		rev = now
	}
	return undo(out, prefix, from, since), rev, nil
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
			items = append(items, Item{Path: path, Object: obj})
		}
	}
	slices.SortFunc(items, func(a, b Item) int { return strings.Compare(a.Path, b.Path) })
	return items
}

func compareResources(a, b messages.Resource) int {
	return cmp.Or(strings.Compare(a.Group, b.Group), strings.Compare(a.Resource, b.Resource))
}
