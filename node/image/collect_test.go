package image

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	testingclock "k8s.io/utils/clock/testing"
)

func TestExcess(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ capacity, available, want int64 }{
		{1000, 500, 0}, {1000, 151, 49}, {1000, 160, 0}, {1000, 150, 50}, {1000, 0, 200}, {0, 0, 0},
	} {
		if got := excess(tt.capacity, tt.available); got != tt.want {
			t.Errorf("%d of %d available: %d, want %d", tt.available, tt.capacity, got, tt.want)
		}
	}
}

func TestCondemned(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	all := []candidate{
		{id: "used", size: 100, usage: usage{seen: ago(time.Hour), used: now}},
		{id: "fresh", size: 100, usage: usage{seen: ago(time.Minute)}},
		{id: "pinned", size: 100, pinned: true, usage: usage{seen: ago(time.Hour)}},
		{id: "lately", size: 100, usage: usage{seen: ago(2 * time.Hour), used: ago(time.Minute)}},
		{id: "never", size: 100, usage: usage{seen: ago(3 * time.Minute)}},
		{id: "long", size: 100, usage: usage{seen: ago(time.Hour), used: ago(50 * time.Minute)}},
	}
	for _, tt := range []struct {
		need int64
		want []string
	}{
		{1, []string{"never"}}, {101, []string{"never", "long"}}, {200, []string{"never", "long"}}, {900, []string{"never", "long", "lately"}},
	} {
		var got []string
		for _, i := range condemned(all, tt.need, now) {
			got = append(got, i.id)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%d bytes: %v, want %v", tt.need, got, tt.want)
		}
	}
}

// shelf is a store in memory on a disk of 1000 bytes.
type shelf struct {
	images     []*cri.Image
	containers []*cri.Container
	stuck      string // cannot be removed
}

func (s *shelf) ListImages(context.Context) ([]*cri.Image, error) { return s.images, nil }
func (s *shelf) ListContainers(context.Context, *cri.ContainerFilter) ([]*cri.Container, error) {
	return s.containers, nil
}

func (s *shelf) RemoveImage(_ context.Context, id string) error {
	if id == s.stuck {
		return errors.New("it is stuck")
	}
	s.images = slices.DeleteFunc(s.images, func(i *cri.Image) bool { return i.Id == id })
	return nil
}

func (s *shelf) ImageDisk(context.Context) (capacity, available int64, err error) {
	available = 1000
	for _, i := range s.images {
		available -= int64(i.Size)
	}
	return 1000, available, nil
}

func (s *shelf) put(id string, size uint64) {
	s.images = append(s.images, &cri.Image{Id: id, Size: size, RepoTags: []string{"example/" + id + ":1"}})
}

func (s *shelf) ids() (out []string) {
	for _, i := range s.images {
		out = append(out, i.Id)
	}
	return out
}

func TestCollect(t *testing.T) {
	t.Parallel()
	s, clock := &shelf{}, testingclock.NewFakeClock(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	c := NewCollector(s, clock, slog.New(slog.DiscardHandler))
	s.put("a", 400)
	s.put("b", 300)
	s.containers = []*cri.Container{{ImageRef: "a"}, {ImageRef: "x", Image: &cri.ImageSpec{Image: "example/b:1"}}}
	look := func(want ...string) error {
		t.Helper()
		err := c.Collect(t.Context())
		if got := s.ids(); !slices.Equal(got, want) {
			t.Errorf("left are %v, want %v", got, want)
		}
		return err
	}
	if err := look("a", "b"); err != nil {
		t.Error(err)
	}
	clock.Step(5 * time.Minute)
	s.put("c", 200)
	if err := look("a", "b", "c"); !errors.Is(err, ErrDiskFull) {
		t.Errorf("all are used or fresh: %v", err)
	}
	clock.Step(5 * time.Minute)
	s.containers = s.containers[:1] // b was used a while ago, c never
	if err := look("a", "b"); err != nil {
		t.Error(err)
	}
	s.put("d", 250)
	s.stuck = "b"
	if err := look("a", "b", "d"); err == nil {
		t.Errorf("what cannot be removed: %v", err)
	}
	s.stuck = ""
	if err := look("a", "d"); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"a d", "a"} { // d is as fresh as can be, then not
		if err := c.CollectAll(t.Context()); err != nil {
			t.Error(err)
		}
		if got := strings.Join(s.ids(), " "); got != want {
			t.Errorf("left are %s, want %s", got, want)
		}
		clock.Step(5 * time.Minute)
	}
}
