package state

import (
	"container/heap"
	"time"

	"github.com/troupe-run/troupe/messages"
)

// expires returns the Unix second at which an object written now with ttl ends; 0 is never.
func (s *Store) expires(ttl time.Duration, now time.Time) int64 {
	if ttl == 0 {
		ttl = s.cfg.TTL
	}
	if ttl == 0 {
		return 0
	}
	// Rounded up: an object must not end before its time.
	return now.Add(ttl + time.Second - time.Nanosecond).Unix()
}

// endOf returns the Unix second at which what op writes now ends; 0 is never.
func (s *Store) endOf(op *Op, now time.Time) int64 {
	if op.until != 0 {
		return op.until
	}
	return s.expires(op.TTL, now)
}

// schedule notes when key ends. The caller holds the lock.
func (s *Store) schedule(key messages.Key, at int64) {
	if at != 0 {
		heap.Push(&s.expiry, deadline{at: at, key: key})
	}
}

// expired returns deletions of objects whose time has come, at most limit, and how long until the
// next one. They are ordinary writes, so that watchers and the change stream see them.
func (s *Store) expired(now time.Time, limit int) (due []*txn, next time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.expiry) > 0 && len(due) < limit {
		d := s.expiry[0]
		if d.at > now.Unix() {
			break
		}
		heap.Pop(&s.expiry)
		t := s.tables[d.key.Resource]
		row := t.rows[name{d.key.Namespace, d.key.Name}]
		if row == nil || row.Expires != d.at {
			continue // deleted or written again since
		}
		due = append(due, &txn{
			ops: []Op{{Key: d.key, Expect: row.Rev}}, sums: make([]Sum, 1), done: make(chan error, 1),
		})
	}
	if len(s.expiry) == 0 {
		return due, 0
	}
	return due, max(time.Unix(s.expiry[0].at, 0).Sub(now), time.Millisecond)
}
