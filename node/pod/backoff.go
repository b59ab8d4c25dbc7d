package pod

import "time"

// CrashLoopBackOff as Kubernetes has it: the first restart is at once, the next waits ten seconds
// after the end of the last run, each further one twice as long up to five minutes; a container
// that ran for ten minutes starts over.
const (
	crashMin   = 10 * time.Second
	crashMax   = 5 * time.Minute
	crashReset = 10 * time.Minute
)

// crash is the restart clock of one container: how long its next restart has to wait.
type crash struct{ delay time.Duration }

// ended tells the clock about a finished run and returns when the next may begin. It does not
// change the clock.
func (c crash) next(started, finished time.Time) (delay time.Duration, at time.Time) {
	if !started.IsZero() && finished.Sub(started) > crashReset {
		return 0, finished
	}
	return c.delay, finished.Add(c.delay)
}

// after returns the clock once the restart that waited for delay has begun.
func (c crash) after(delay time.Duration) crash {
	if delay == 0 {
		return crash{crashMin}
	}
	return crash{min(delay*2, crashMax)}
}
