package state

import (
	"sync/atomic"
	"testing"

	"github.com/troupe-run/troupe/actors/objects"
)

func TestShownIsKeptAndBounded(t *testing.T) {
	var kept atomic.Int64
	made := 0
	show := func(size int) func(objects.Object) ([]byte, error) {
		return func(objects.Object) ([]byte, error) {
			made++
			return make([]byte, size), nil
		}
	}
	ask := func(i Item, size, wantMade int, wantKept int64) {
		t.Helper()
		if text, err := i.Shown(show(size)); err != nil || len(text) != size || made != wantMade || kept.Load() != wantKept {
			t.Errorf("%d bytes, %v; made %d, want %d; kept %d, want %d", len(text), err, made, wantMade, kept.Load(), wantKept)
		}
	}
	item := func() Item { return Item{shown: &encoding{kept: &kept}} }
	a, big := item(), item()
	ask(a, 100, 1, 100)
	ask(a, 100, 1, 100)
	ask(Item{}, 50, 2, 100)
	ask(big, maxShown, 3, 100) // no room
	ask(big, maxShown, 4, 100)
	a.shown.drop()
	a.shown.drop()
	if kept.Load() != 0 {
		t.Errorf("%d bytes are kept of what was dropped", kept.Load())
	}
	ask(a, 100, 5, 0) // of a list made before
	ask(big, maxShown, 6, maxShown)
	ask(big, maxShown, 6, maxShown)
}
