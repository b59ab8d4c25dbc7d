// Package stream serves the subresources of pods that talk to a node: log, exec, attach and
// portforward. Start with [New]. A request becomes one to the node's HTTP surface, which is a
// kubelet's, over a connection that Config.Dial opens; WebSocket clients are translated to the SPDY
// that container runtimes speak, as kube-apiserver does.
//
// Everything is safe for concurrent use. A connection lives as long as its request, none is kept.
package stream
