package nodes

import "time"

// liveness is how the keeper sees one node.
type liveness int

const (
	alive  liveness = iota
	probed          // silent for two heartbeats, asked directly
	silent          // no answer either
)

// judge says how a node stands that has been quiet for so long. Two heartbeats must have been
// missed, with some slack for timers, and the probe must have had time for its answer.
func judge(quiet, interval time.Duration) liveness {
	switch {
	case quiet < 2*interval+interval/10:
		return alive
	case quiet < 2*interval+interval/2:
		return probed
	}
	return silent
}
