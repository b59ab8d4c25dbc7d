// Package nodes is the control plane's half of every node: an actor per node that registers the
// Node object, tells the node which pods it should run, with the ConfigMaps and Secrets they refer
// to, and writes what the node reports back to the state. Start with [Props], the keeper of all
// nodes.
//
//	bus ── keeper ── node/<name>     up: hello, heartbeat, acks, reports; down: deltas, acks, probes
//	feed ──┘
//
// The keeper alone listens to the bus and to the feed: it counts heartbeats in memory, gives out
// pod CIDRs and routes everything else to the node concerned. A node that has been silent for two
// heartbeats and does not answer a probe gets its conditions set to Unknown; what follows from
// that (taints, eviction) is decided elsewhere, from the conditions.
//
// A node hears that a pod is to end only when no proxy sends connections there any more, or when
// the patience for that has ended.
//
// Everything is level-triggered: a node actor compares what the replica holds with what it has
// sent, sends the difference, waits for the acknowledgement, and begins anew with the whole set
// when one does not come. It never decides about pods, and it never writes heartbeats or leases.
package nodes
