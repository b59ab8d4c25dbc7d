package storage

import (
	"slices"

	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apiserver/pkg/storage"

	"github.com/troupe-run/troupe/cluster/state"
)

// find returns the newest objects that a predicate may select, by an index if one helps; which of them
// it does select is still to be seen. Pages and older revisions are not for indexes.
func (s *Storage) find(prefix string, pred *storage.SelectionPredicate) (items []state.Item, rev uint64, ok bool) {
	if pred.Limit > 0 || s.converter != nil { // a conversion may change what the indexes are of
		return nil, 0, false
	}
	if pred.Field != nil {
		for _, r := range pred.Field.Requirements() {
			if r.Operator != selection.Equals && r.Operator != selection.DoubleEquals {
				continue
			}
			if items, rev, ok = s.cfg.Store.ListIndexed(s.cfg.Resource, prefix, r.Field, []string{r.Value}); ok {
				return items, rev, true
			}
		}
	}
	if pred.Label == nil {
		return nil, 0, false
	}
	requirements, _ := pred.Label.Requirements()
	equal := []selection.Operator{selection.Equals, selection.DoubleEquals, selection.In}
	for _, r := range requirements {
		if !slices.Contains(equal, r.Operator()) {
			continue
		}
		if items, rev, ok = s.cfg.Store.ListLabelled(s.cfg.Resource, prefix, r.Key(), r.Values().UnsortedList()); ok {
			return items, rev, true
		}
	}
	return nil, 0, false
}
