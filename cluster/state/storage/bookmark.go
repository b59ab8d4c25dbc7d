package storage

import (
	"time"

	"k8s.io/utils/clock"
)

// bookmarkTimer says when a watch owes its client a bookmark: at intervals, and once shortly
// before the watch's deadline, so that the next one resumes from as late as possible.
type bookmarkTimer struct {
	w     *watcher
	last  bool // the one before the deadline was armed
	timer clock.Timer
}

func newBookmarkTimer(w *watcher) *bookmarkTimer {
	b := &bookmarkTimer{w: w}
	if w.bookmarks {
		b.timer = w.storage.cfg.Clock.NewTimer(b.next())
	}
	return b
}

func (b *bookmarkTimer) next() time.Duration {
	d := b.w.storage.cfg.Bookmarks
	deadline, ok := b.w.ctx.Deadline()
	if !ok || b.last {
		return d
	}
	if left := deadline.Sub(b.w.storage.cfg.Clock.Now()) - lastBookmark; left < d {
		b.last = true
		return max(left, 0)
	}
	return d
}

// due is nil, which blocks for ever, for watches without bookmarks.
func (b *bookmarkTimer) due() <-chan time.Time {
	if b.timer == nil {
		return nil
	}
	return b.timer.C()
}

func (b *bookmarkTimer) reset() { b.timer.Reset(b.next()) }

func (b *bookmarkTimer) stop() {
	if b.timer != nil {
		b.timer.Stop()
	}
}
