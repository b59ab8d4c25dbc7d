package state

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/google/btree"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// Store is one open bucket.
type Store struct {
	cfg    Config
	log    *slog.Logger
	seals  *sealer
	nc     *nats.Conn
	js     jetstream.JetStream
	stream jetstream.Stream

	mu        sync.RWMutex // guards all below, and the contents of tables
	tables    map[messages.Resource]*table
	kinds     map[schema.GroupKind]messages.Resource // of what is registered
	rev       uint64                                 // newest revision that is on disk and applied
	epoch     uint64                                 // see Epoch
	floor     uint64                                 // see Floor
	blurred   uint64                                 // revisions below are not known one by one, see intake
	past      []*table                               // one entry per remembered event, oldest first: whose it is
	pastBytes int
	expiry    deadlines
	deleted   map[messages.Key]uint64 // what replay of a shared bucket has seen go, and when
	advanced  chan struct{}           // closed when rev rises; nil when nobody waits
	closed    bool
	stale     map[messages.Key]string // objects that are to be sealed anew, and the key's id they have

	role    role // of a bucket that is shared
	writer  *writer
	sealing *resealer
	feed    *feed
	changes *publisher // nil when changes are not published
	mark    *mark      // nil when the bucket's tail may be lost
	stalled atomic.Pointer[error]
	life    context.Context // ends with the store
	stop    context.CancelFunc
	done    sync.WaitGroup
}

// Open takes over the bucket, creating it if needed, reads all of it and returns when reads and
// writes are served. ctx bounds the opening only.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	cfg.complete()
	s := &Store{
		cfg: cfg, tables: map[messages.Resource]*table{}, kinds: map[schema.GroupKind]messages.Resource{}, stale: map[messages.Key]string{},
		log: cfg.Log.With("actor", "state", "bucket", cfg.Bucket),
	}
	for _, r := range cfg.Resources {
		t := newTable(r)
		t.registered = true
		s.tables[r.Resource], s.kinds[r.Kind.GroupKind()] = t, r.Resource
	}
	if err := s.open(ctx); err != nil {
		if s.nc != nil {
			s.nc.Close()
		}
		if s.changes != nil {
			s.changes.nc.Close()
		}
		if s.mark != nil {
			err = errors.Join(err, s.mark.close())
		}
		if s.stop != nil {
			s.stop()
		}
		return nil, fmt.Errorf("open bucket %s: %w", cfg.Bucket, err)
	}
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	var err error
	if s.seals, err = loadSealer(s.cfg.Bus.DataDir(), s.cfg.Sealed); err != nil {
		return err
	}
	if s.nc, err = s.cfg.Bus.Connect("state-" + s.cfg.Bucket); err != nil {
		return err
	}
	if s.js, err = jetstream.New(s.nc); err != nil {
		return err
	}
	if !s.cfg.Async && !s.cfg.Bus.InMemory() {
		if s.mark, err = openMark(s.cfg.Bus.DataDir(), s.cfg.Bucket); err != nil {
			return err
		}
	}
	if !s.cfg.Shared { // members that start do not have the stream yet; they look at each record
		if err := s.checkEpochFormat(ctx); err != nil {
			return err
		}
	}
	if s.stream, err = s.ensureStream(ctx); err != nil {
		return err
	}
	// The store outlives the call that opens it; Close ends it.
	s.life, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	if s.cfg.Shared {
		return s.openShared(ctx)
	}
	if s.shares() {
		if err := s.learnKeys(ctx); err != nil {
			return err
		}
	}
	last := s.stream.CachedInfo().State.LastSeq
	if s.mark != nil {
		if err := s.mark.checkEnd(last); err != nil {
			return err
		}
	}
	if s.cfg.Changes != nil {
		changes, err := s.openChanges(ctx)
		if err != nil {
			return err
		}
		s.changes = changes
	}
	s.writer = newWriter(s)
	// The epoch record comes before replay: from here on no other writer can change what is read.
	epoch, err := s.writer.takeOver(ctx)
	if err != nil {
		return err
	}
	if err := s.replay(ctx, epoch); err != nil {
		return err
	}
	if s.mark != nil {
		if err := s.checkWhole(last, epoch); err != nil {
			return err
		}
	}
	s.rev, s.epoch, s.floor = epoch, epoch, epoch
	s.done.Go(func() { s.writer.run(s.life) })
	if s.changes != nil {
		s.done.Go(func() { s.changes.run(s.life) })
	}
	s.serve()
	return nil
}

// openShared reads the bucket as a follower.
func (s *Store) openShared(ctx context.Context) error {
	s.deleted = map[messages.Key]uint64{}
	begun, wait := s.cfg.Clock.Now(), firstPause
	rev, last, err := s.replayWhole(ctx)
	for err != nil {
		// The servers may still be bringing each other up to date; then the bucket ends early for a while.
		early := s.mark != nil && last < s.mark.seq && s.cfg.Clock.Since(begun) < electionWait
		final := errors.Is(err, messages.ErrInvalid) || errors.Is(err, messages.ErrDamaged) && !early
		if final || !s.wait(ctx, &wait) {
			return err
		}
		s.log.Debug("bucket cannot be read yet", "err", err)
		rev, last, err = s.replayWhole(ctx)
	}
	if s.mark != nil {
		if err := s.checkWhole(last, last); err != nil {
			return err
		}
	}
	s.rev, s.floor, s.deleted = rev, rev, nil
	s.role.heard = begun
	s.serve()
	s.startPump()
	return nil
}

// replayWhole is replayShared of a bucket that does not end before the mark.
func (s *Store) replayWhole(ctx context.Context) (rev, last uint64, err error) {
	if s.shares() {
		if err := s.learnKeys(ctx); err != nil {
			return 0, 0, err
		}
	}
	if rev, last, err = s.replayShared(ctx); err == nil && s.mark != nil {
		err = s.mark.checkEnd(last)
	}
	return rev, last, err
}

// serve starts what a store does in either role.
func (s *Store) serve() {
	s.feed = newFeed()
	s.done.Go(func() { s.feed.run(s.life) })
	s.sealing = newResealer(s)
	if !s.cfg.Shared {
		s.done.Go(func() { s.sealing.run(s.life) })
	}
	if s.mark != nil {
		s.done.Go(func() { s.mark.run(s.life, s.cfg.Clock) })
	}
}

// checkWhole compares what replay has found with the mark, and moves the mark to it. The bucket
// ended at last before this store's epoch record.
func (s *Store) checkWhole(last, epoch uint64) error {
	all := content{seq: epoch}
	old := content{}
	for _, t := range s.tables {
		for _, row := range t.rows {
			all.put(row.key, row.Rev)
			if row.Rev <= s.mark.seq {
				old.put(row.key, row.Rev)
			}
		}
	}
	if err := s.mark.checkWhole(last, old); err != nil {
		return err
	}
	return s.mark.set(all)
}

// Close lets accepted writes finish and ends the store. Later commits fail with
// messages.ErrUnavailable.
func (s *Store) Close(ctx context.Context) error {
	var err error
	if s.cfg.Shared {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		err = s.StepDown(ctx)
		s.role.changing.Lock()
		s.stopPump()
		s.role.changing.Unlock()
	} else {
		err = s.writer.drain(ctx, s.writer.ending())
		if s.changes != nil {
			err = errors.Join(err, s.changes.drain(ctx))
		}
	}
	s.stop()
	s.done.Wait()
	s.nc.Close()
	if s.mark != nil {
		err = errors.Join(err, s.mark.close())
	}
	if err != nil {
		return fmt.Errorf("close bucket %s: %w", s.cfg.Bucket, err)
	}
	return nil
}

// Healthy returns why the store cannot commit now, or nil.
func (s *Store) Healthy() error {
	if err := s.stalled.Load(); err != nil {
		return *err
	}
	return nil
}

// table returns the table of a resource, made on first use.
func (s *Store) table(res messages.Resource) *table {
	s.mu.RLock()
	t := s.tables[res]
	s.mu.RUnlock()
	if t != nil {
		return t
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tableLocked(res)
}

func (s *Store) tableLocked(res messages.Resource) *table {
	t := s.tables[res]
	if t == nil {
		t = newTable(Resource{Resource: res})
		s.tables[res] = t
	}
	return t
}

// Register adds or replaces what is known of a resource. Objects of it that were read before as
// unstructured are converted; the error names the first that does not fit.
func (s *Store) Register(r Resource) error {
	t := s.table(r.Resource)
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.New == nil && t.Codec == nil && r.New == nil && r.Codec == nil && len(r.Indexes) == 0 {
		// Unstructured before and after: there is nothing to convert and nothing to index.
		t.Kind, t.registered, s.kinds[r.Kind.GroupKind()] = r.Kind, true, r.Resource
		return nil
	}
	converted := make(map[*row]objects.Object, len(t.rows))
	for _, row := range t.rows {
		data, err := t.encode(WithRevision(row.Object, 0))
		if err != nil {
			return fmt.Errorf("register %s: %w", r.Resource, err)
		}
		if converted[row], err = r.decode(data, row.Rev); err != nil {
			return fmt.Errorf("register %s: %s: %w", r.Resource, row.path, err)
		}
	}
	for row, obj := range converted {
		rec := *row.record
		rec.Object, rec.shown = obj, &encoding{kept: &t.shown}
		row.shown.drop()
		t.replace(row, &rec)
	}
	t.describe(r)
	t.registered, s.kinds[r.Kind.GroupKind()] = true, r.Resource
	return nil
}

// Registered says whether a resource is served.
func (s *Store) Registered(res messages.Resource) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t := s.tables[res]
	return t != nil && t.registered
}

// Unstructured says whether the objects of a resource have no Go type.
func (s *Store) Unstructured(res messages.Resource) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t := s.tables[res]
	return t == nil || t.New == nil && t.Codec == nil
}

// Unregister takes a resource off the served ones; its objects stay.
func (s *Store) Unregister(res messages.Resource) {
	t := s.table(res)
	s.mu.Lock()
	defer s.mu.Unlock()
	t.registered = false
	if s.kinds[t.Kind.GroupKind()] == res {
		delete(s.kinds, t.Kind.GroupKind())
	}
}

// ResourceOf finds the registered resource of a kind.
func (s *Store) ResourceOf(gk schema.GroupKind) (res messages.Resource, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	res, ok = s.kinds[gk]
	return res, ok
}

// Encode returns obj as the bucket stores it: JSON without a resourceVersion. obj must be the
// caller's own and have no resourceVersion; its kind is set.
func (s *Store) Encode(res messages.Resource, obj objects.Object) ([]byte, error) {
	data, err := s.table(res).encode(obj)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", messages.KeyOf(res, obj.GetNamespace(), obj.GetName()), err)
	}
	return data, nil
}

// Decode returns the object that Encode made data of, without a resourceVersion.
func (s *Store) Decode(res messages.Resource, data []byte) (objects.Object, error) {
	return s.table(res).decode(data, 0)
}

// Revision returns the newest revision: that of the last write, or of the opening.
func (s *Store) Revision() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.rev
}

// Epoch identifies this opening of the bucket: it grows with every takeover, so that whoever gets
// commands from two stores knows the newer one.
func (s *Store) Epoch() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.epoch
}

// Get returns one object; ok is false when it does not exist.
func (s *Store) Get(key messages.Key) (objects.Object, bool) {
	e, _, ok := s.Lookup(key)
	return e.Object, ok
}

// Lookup returns one object with what the store knows of it, and the revision at which this is
// the newest state, also when ok is false because there is none.
func (s *Store) Lookup(key messages.Key) (e Entry, rev uint64, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t := s.tables[key.Resource]
	if t == nil {
		return Entry{}, s.rev, false
	}
	row := t.rows[name{key.Namespace, key.Name}]
	if row == nil {
		return Entry{}, s.rev, false
	}
	return row.Entry, s.rev, true
}

// Item returns an object as a listing has it, and the object's revision.
func (s *Store) Item(key messages.Key) (item Item, rev uint64, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if t := s.tables[key.Resource]; t != nil {
		if row := t.rows[name{key.Namespace, key.Name}]; row != nil {
			return Item{row.path, row.Object, row.shown}, row.Rev, true
		}
	}
	return Item{}, 0, false
}

// List returns the objects of a resource in one namespace ("" means all) in the order of their
// namespaces and names.
func (s *Store) List(res messages.Resource, namespace string) []objects.Object {
	prefix := ""
	if namespace != "" {
		prefix = namespace + "/"
	}
	var order *btree.BTreeG[*record]
	t := s.table(res)
	s.freeze(t, func() { order = t.frozen })
	var out []objects.Object
	if prefix == "" {
		out = make([]objects.Object, 0, order.Len())
	}
	scan(order, prefix, "", func(rec *record) { out = append(out, rec.Object) })
	return out
}

// Index returns the objects of a resource that have value under the named index. Asking for an
// index nobody declared is a bug and panics.
func (s *Store) Index(res messages.Resource, name, value string) []objects.Object {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t := s.tables[res]
	if t == nil {
		return nil
	}
	ix := t.indexes[name]
	if ix == nil {
		panic(fmt.Sprintf("state: %s has no index %q", res, name))
	}
	rows := ix.rows[value]
	out := make([]objects.Object, 0, len(rows))
	for row := range rows {
		out = append(out, row.Object)
	}
	return out
}

// Resources returns the registered resources in order of group and name.
func (s *Store) Resources() []messages.Resource {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []messages.Resource
	for res, t := range s.tables {
		if t.registered {
			out = append(out, res)
		}
	}
	slices.SortFunc(out, compareResources)
	return out
}

// Stats returns the number of objects of a resource and their encoded size.
func (s *Store) Stats(res messages.Resource) (count, bytes int64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t := s.tables[res]
	if t == nil {
		return 0, 0
	}
	return int64(len(t.rows)), t.bytes
}

var (
	_ objects.Reader = (*Store)(nil)
	_ objects.Feed   = (*Store)(nil)
)
