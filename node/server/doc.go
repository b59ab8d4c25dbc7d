// Package server is the HTTP surface of a node, as kubelets have it: container logs, exec, attach
// and port-forward. The API server reaches it through byte streams over the bus, so that a node
// needs no open port. Start with [New]; the container side is the interface [Containers].
//
// A Server is an http.Handler, safe for concurrent use. It trusts whoever reaches its listener:
// only the control plane can dial a node's stream. It never reads more of a log than was asked
// for and never holds one in memory.
package server
