package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/clock"
)

// Unused images are removed when the disk they are on is filled to the high mark, until it is down
// to the low one, but none that has come lately. The numbers are the kubelet's defaults.
const (
	highMark = 85 // percent
	lowMark  = 80
	minAge   = 2 * time.Minute
)

// Store is what a [Collector] needs of a runtime.
type Store interface {
	ListImages(ctx context.Context) ([]*cri.Image, error)
	ListContainers(ctx context.Context, filter *cri.ContainerFilter) ([]*cri.Container, error)
	// RemoveImage removes an image with all its names.
	RemoveImage(ctx context.Context, id string) error
	// ImageDisk measures the disk that images are on, in bytes.
	ImageDisk(ctx context.Context) (capacity, available int64, err error)
}

// Collector removes images that nobody uses when the disk runs full. It is safe for concurrent use.
type Collector struct {
	store Store
	clock clock.PassiveClock
	log   *slog.Logger

	mu    sync.Mutex
	known map[string]usage // by image ID
}

// usage is when an image was first seen and last used.
type usage struct{ seen, used time.Time }

// NewCollector returns a collector that has seen nothing yet.
func NewCollector(store Store, c clock.PassiveClock, log *slog.Logger) *Collector {
	return &Collector{store: store, clock: c, log: log, known: make(map[string]usage)}
}

// ErrDiskFull says that removing all that may go did not free enough.
var ErrDiskFull = errors.New("failed to garbage collect required amount of images")

// Collect looks which images are used, and removes others when the disk is filled to the high mark.
// Call it regularly: it remembers who was used when.
func (c *Collector) Collect(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock.Now()
	list, err := c.survey(ctx, now)
	if err != nil {
		return fmt.Errorf("collect images: %w", err)
	}
	capacity, available, err := c.store.ImageDisk(ctx)
	if err != nil {
		return fmt.Errorf("collect images: %w", err)
	}
	need := excess(capacity, available)
	if need == 0 {
		return nil
	}
	freed, err := c.remove(ctx, condemned(list, need, now))
	if freed < need {
		err = errors.Join(err, fmt.Errorf("%w. Attempted to free %d bytes, but only found %d bytes eligible to free", ErrDiskFull, need, freed))
	}
	return err
}

// CollectAll removes every image that nobody uses, however much is free, but none that has come
// lately.
func (c *Collector) CollectAll(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock.Now()
	list, err := c.survey(ctx, now)
	if err != nil {
		return fmt.Errorf("collect images: %w", err)
	}
	_, err = c.remove(ctx, condemned(list, math.MaxInt64, now))
	return err
}

// remove removes images and returns how many bytes that freed.
func (c *Collector) remove(ctx context.Context, list []candidate) (freed int64, err error) {
	var errs []error
	for _, i := range list {
		if err := c.store.RemoveImage(ctx, i.id); err != nil {
			errs = append(errs, fmt.Errorf("collect images: %w", err))
			continue
		}
		c.log.Info("unused image is removed", "image", i.name, "bytes", i.size)
		delete(c.known, i.id)
		freed += i.size
	}
	return freed, errors.Join(errs...)
}

// candidate is an image with what decides about it.
type candidate struct {
	id, name string
	size     int64
	pinned   bool
	usage
}

// survey lists the images and notes which are used now.
func (c *Collector) survey(ctx context.Context, now time.Time) ([]candidate, error) {
	images, err := c.store.ListImages(ctx)
	if err != nil {
		return nil, err
	}
	containers, err := c.store.ListContainers(ctx, nil)
	if err != nil {
		return nil, err
	}
	used := make(map[string]bool)
	for _, x := range containers {
		used[x.GetImageRef()], used[x.GetImageId()], used[x.GetImage().GetImage()] = true, true, true
	}
	delete(used, "")
	out := make([]candidate, 0, len(images))
	known := make(map[string]usage, len(images))
	for _, i := range images {
		names := slices.Concat([]string{i.GetId()}, i.GetRepoTags(), i.GetRepoDigests())
		u, ok := c.known[i.GetId()]
		if !ok {
			u.seen = now
		}
		if slices.ContainsFunc(names, func(n string) bool { return used[n] }) {
			u.used = now
		}
		known[i.GetId()] = u
		out = append(out, candidate{id: i.GetId(), name: names[min(1, len(names)-1)], size: int64(i.GetSize()), pinned: i.GetPinned(), usage: u})
	}
	c.known = known
	return out, nil
}

// excess is how many bytes have to go: none below the high mark.
func excess(capacity, available int64) int64 {
	if capacity <= 0 || 100-available*100/capacity < highMark {
		return 0
	}
	return capacity*(100-lowMark)/100 - available
}

// condemned picks images to remove, the longest unused first, until that is enough.
func condemned(list []candidate, need int64, now time.Time) []candidate {
	list = slices.DeleteFunc(slices.Clone(list), func(i candidate) bool {
		return i.pinned || !i.used.Before(now) || now.Sub(i.seen) < minAge
	})
	slices.SortFunc(list, func(a, b candidate) int {
		return cmp.Or(a.used.Compare(b.used), a.seen.Compare(b.seen), cmp.Compare(a.id, b.id))
	})
	for n := range list {
		if need -= list[n].size; need <= 0 {
			return list[:n+1]
		}
	}
	return list
}
