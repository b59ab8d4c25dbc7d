package stream

import (
	"sync"
	"time"
)

// deadline wakes the waiters of one direction when its time has come. The connection's mutex
// guards it.
type deadline struct {
	timer   *time.Timer
	expired bool
}

// set replaces the deadline; the zero time means none. The caller holds mu and wakes the waiters.
func (d *deadline) set(t time.Time, mu *sync.Mutex, wake func()) {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.expired = false
	if t.IsZero() {
		return
	}
	left := time.Until(t) //nolint:forbidigo // net.Conn's deadlines are wall-clock times
	if left <= 0 {
		d.expired = true
		return
	}
	var own *time.Timer
	own = time.AfterFunc(left, func() {
		mu.Lock()
		defer mu.Unlock()
		if d.timer == own { // not replaced meanwhile
			d.expired = true
			wake()
		}
	})
	d.timer = own
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}
