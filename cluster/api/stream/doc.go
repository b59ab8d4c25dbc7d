// Package stream serves the subresources that talk to a node: log, exec, attach and portforward of
// pods, and the proxies to pods, services and nodes. Start with [New]. A request becomes one to the
// node's HTTP surface, which is a kubelet's, over a connection that Config.Dial opens; what is for a
// pod's own port goes on from there, so that nodes may be anywhere. WebSocket clients of exec, attach
// and portforward are translated to the SPDY that container runtimes speak, as kube-apiserver does.
//
// Everything is safe for concurrent use. A connection lives as long as its request, none is kept.
package stream
