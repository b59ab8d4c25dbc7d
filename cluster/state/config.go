package state

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/clock"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/bus"
	"github.com/troupe-run/troupe/messages"
)

// Config says what bucket to keep and how.
type Config struct {
	// Bus carries the bucket. Required.
	Bus *bus.Bus
	// Bucket is the bucket's name. Empty means messages.StateBucket.
	Bucket string
	// Resources are known from the start, so that replay decodes them in parallel.
	Resources []Resource
	// First is the revision a bucket begins at that is made by this opening. Zero means 1.
	First uint64
	// TTL is how long an object lives that was not given a time of its own; zero means for ever.
	TTL time.Duration
	// Shared opens the bucket as one member of several: it follows what the member that leads writes,
	// and passes writes on to that, until [Store.Lead] makes it the leading one.
	Shared bool
	// Leased says whether, at this moment, no other member may have begun to lead: then a leading store
	// answers reads without asking the stream. Nil means that it always asks. Only for Shared.
	Leased func() bool
	// Owner says whose the streams are, where others may have some too: it is written into those that
	// are made, and none of another owner is used. Empty means that nobody else has any.
	Owner string
	// Async lets the server write to disk later, for a bucket whose tail may be lost with the
	// machine. Commits of more than one operation are refused then.
	Async bool
	// Changes keeps the change stream. Nil means the bucket's writes are not published at all.
	Changes *Changes
	// Sealed are the resources whose objects are encrypted in the bucket and the change stream, so
	// that only the control plane reads them. Nil means Secrets. The key is made on first use and
	// kept in the bus's data folder; without that file the objects are lost.
	Sealed []messages.Resource
	// KeyWrap is a secret of 32 bytes that all members have. With it the sealing keys are kept in the
	// bucket, too, so that they can be changed while members share it. Nil means in the file only.
	KeyWrap []byte
	// TombstoneTTL is how long the bucket remembers a deletion. Zero means one hour.
	TombstoneTTL time.Duration
	// History and HistoryBytes bound the events in memory that watches resume from, by number and
	// by encoded size. Zero means 65,536 and 32 MiB.
	History, HistoryBytes int
	// MaxValue is the largest encoded object in bytes. Zero means 1.5 MiB, Kubernetes' limit.
	MaxValue int
	// Clock is the source of time. Nil means the real one.
	Clock clock.WithTicker
	// Log gets what an operator should know. Required.
	Log *slog.Logger
}

// Changes bounds the change stream; zero fields mean 72 hours and 1 GiB, or 64 MiB in memory.
type Changes struct {
	MaxAge   time.Duration
	MaxBytes int64
}

// Resource tells a Store how the objects of one resource look.
type Resource struct {
	messages.Resource
	// Kind is written into every stored object. It has no version for unstructured objects, which
	// carry their own.
	Kind schema.GroupVersionKind
	// New returns an empty object of the kind's Go type. Nil means unstructured.
	New func() objects.Object
	// Indexes name the values an object is found under; every resource is indexed by
	// objects.IndexOwner besides.
	Indexes map[string]func(objects.Object) []string
	// Codec encodes and decodes where the Go type's own JSON is not what shall be stored. Nil
	// means the Go type's JSON.
	Codec runtime.Codec
}

// Check reports everything that is wrong with the configuration.
func (c Config) Check() error {
	var errs []error
	if c.Bus == nil {
		errs = append(errs, errors.New("state: a bus is required"))
	}
	if c.Log == nil {
		errs = append(errs, errors.New("state: a logger is required"))
	}
	if len(c.KeyWrap) != 0 && len(c.KeyWrap) != keySize {
		errs = append(errs, fmt.Errorf("state: the secret that wraps sealing keys has %d bytes, not %d", len(c.KeyWrap), keySize))
	}
	seen := map[messages.Resource]bool{}
	for _, r := range c.Resources {
		if r.Resource.Resource == "" || seen[r.Resource] {
			errs = append(errs, fmt.Errorf("state: resource %q is unnamed or named twice", r.Resource))
		}
		seen[r.Resource] = true
	}
	return errors.Join(errs...)
}

func (c *Config) complete() {
	def(&c.Bucket, messages.StateBucket)
	def(&c.TombstoneTTL, time.Hour)
	def(&c.History, 1<<16)
	def(&c.HistoryBytes, 32<<20)
	def(&c.MaxValue, 3<<19)
	if c.Sealed == nil {
		c.Sealed = []messages.Resource{messages.Secrets}
	}
	if c.Clock == nil {
		c.Clock = clock.RealClock{}
	}
	if c.Leased == nil {
		c.Leased = func() bool { return false }
	}
	if c.Changes != nil {
		changes := *c.Changes
		def(&changes.MaxAge, 72*time.Hour)
		if c.Bus.InMemory() {
			def(&changes.MaxBytes, 64<<20)
		}
		def(&changes.MaxBytes, 1<<30)
		c.Changes = &changes
	}
}

func def[T comparable](v *T, otherwise T) {
	var zero T
	if *v == zero {
		*v = otherwise
	}
}
