// Package feed is the node's half of what proxies are told: it keeps the set of services, their
// endpoints and the namespaces, follows the deltas the control plane broadcasts, and asks for a
// snapshot at its start, after a gap, after a reconnect and when the control plane went silent.
// Start with [Props]; what changed is handed on as an [Update].
//
// Values handed out are immutable. While the control plane is away the last set stays valid:
// nothing is handed on until a first snapshot came, and nothing is ever taken back by silence.
package feed
