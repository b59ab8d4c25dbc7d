// Package cluster composes a control plane: NATS, state, API server and the actors that converge
// the world. Start with [Start]; it returns when the API answers. Nodes join through
// [Cluster.NodeConn]; this package never runs one.
//
// A [Cluster] is safe for concurrent use. Several may live in one process, each on its own data
// folder or on none (tests), also inside a testing/synctest bubble.
package cluster
