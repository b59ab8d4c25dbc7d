package state

import (
	"container/heap"
	"crypto/sha256"
	"slices"
	"sync/atomic"

	"github.com/google/btree"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// Sum identifies an encoding: two objects of one resource with the same Sum are the same.
type Sum [16]byte

// SumOf returns the Sum of an encoded object.
func SumOf(data []byte) Sum {
	full := sha256.Sum256(data)
	return Sum(full[:16])
}

// Entry is one object with what the store knows about it.
type Entry struct {
	Object objects.Object
	Rev    uint64
	// Sum and Size are of the encoded object.
	Sum  Sum
	Size int
	// Expires is the Unix time in seconds when the store deletes the object; 0 is never.
	Expires int64

	shown *encoding
}

type name struct{ namespace, name string }

// record is one live object. It is never changed, only replaced, so that listings can be read
// without the lock.
type record struct {
	Entry
	key  messages.Key
	path string
}

// row has the newest record of one name; it stays the same row over all updates of the object.
type row struct{ *record }

// PathOf returns what objects are listed in the order of: namespace and name joined by a slash, or
// the name alone.
func PathOf(key messages.Key) string {
	if key.Namespace == "" {
		return key.Name
	}
	return key.Namespace + "/" + key.Name
}

// table holds one resource: rows by name, records in order, its indexes and its recent events.
type table struct {
	Resource
	registered bool
	rows       map[name]*row
	order      *btree.BTreeG[*record]
	frozen     *btree.BTreeG[*record] // order as it is, for readers without the lock; nil when it is not made yet
	indexes    map[string]*index
	labels     int // how many of the indexes are of labels
	bytes      int64
	shown      atomic.Int64 // bytes of kept encodings
	log        eventLog
}

type index struct {
	of   func(objects.Object) []string
	rows map[string]map[*row]struct{}
}

func newTable(r Resource) *table {
	t := &table{
		rows:  map[name]*row{},
		order: btree.NewG(32, func(a, b *record) bool { return a.path < b.path }),
	}
	t.describe(r)
	return t
}

// describe sets what the table knows of its objects; the caller has made the rows fit.
func (t *table) describe(r Resource) {
	t.Resource = r
	t.indexes, t.labels = make(map[string]*index, len(r.Indexes)+1), 0
	add := func(name string, of func(objects.Object) []string) {
		t.indexes[name] = t.index(of)
	}
	add(objects.IndexOwner, ownerUIDs)
	for name, of := range r.Indexes {
		add(name, of)
	}
}

func (t *table) index(of func(objects.Object) []string) *index {
	ix := &index{of: of, rows: map[string]map[*row]struct{}{}}
	for _, row := range t.rows {
		ix.add(row, of(row.Object))
	}
	return ix
}

// replace makes rec the newest record of a row.
func (t *table) replace(r *row, rec *record) {
	r.record = rec
	t.order.ReplaceOrInsert(rec)
	t.frozen = nil
}

// put stores e under key and returns the object it replaced, if any.
func (t *table) put(key messages.Key, e Entry) (old objects.Object) {
	n := name{key.Namespace, key.Name}
	e.shown = &encoding{kept: &t.shown}
	rec := &record{Entry: e, key: key}
	r := t.rows[n]
	if r == nil {
		rec.path = PathOf(key)
		r = &row{}
		t.rows[n] = r
	} else {
		rec.path, old = r.path, r.Object
		t.bytes -= int64(r.Size)
		r.shown.drop()
	}
	t.bytes += int64(e.Size)
	t.replace(r, rec)
	for _, ix := range t.indexes {
		var before []string
		if old != nil {
			before = ix.of(old)
		}
		if after := ix.of(e.Object); !slices.Equal(before, after) {
			ix.remove(r, before)
			ix.add(r, after)
		}
	}
	return old
}

// remove deletes the row of key and returns its object, nil when there was none.
func (t *table) remove(key messages.Key) objects.Object {
	n := name{key.Namespace, key.Name}
	row := t.rows[n]
	if row == nil {
		return nil
	}
	delete(t.rows, n)
	t.order.Delete(row.record)
	t.frozen = nil
	t.bytes -= int64(row.Size)
	row.shown.drop()
	for _, ix := range t.indexes {
		ix.remove(row, ix.of(row.Object))
	}
	return row.Object
}

func (ix *index) add(r *row, values []string) {
	for _, v := range values {
		set := ix.rows[v]
		if set == nil {
			set = map[*row]struct{}{}
			ix.rows[v] = set
		}
		set[r] = struct{}{}
	}
}

func (ix *index) remove(r *row, values []string) {
	for _, v := range values {
		if set := ix.rows[v]; set != nil {
			if delete(set, r); len(set) == 0 {
				delete(ix.rows, v)
			}
		}
	}
}

// deadline is one entry of the expiry heap; it is stale when the object's Expires differs by then.
type deadline struct {
	at  int64
	key messages.Key
}

type deadlines []deadline

func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].at < d[j].at }
func (d deadlines) Swap(i, j int)      { d[i], d[j] = d[j], d[i] }
func (d *deadlines) Push(x any)        { *d = append(*d, x.(deadline)) }
func (d *deadlines) Pop() any {
	last := len(*d) - 1
	x := (*d)[last]
	*d = (*d)[:last]
	return x
}

var _ heap.Interface = (*deadlines)(nil)
