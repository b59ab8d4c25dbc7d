// Package api is the API server: it turns the kinds of cluster/api/kinds into served resources
// over a replicated store (cluster/state), behind the handler chain of k8s.io/apiserver. Start with
// [New]; [Server.Local] writes without HTTP, [Server.Recorder] writes Events.
//
// Reads and watches are answered from the store's replica in memory: there is no second cache and
// there are no informers. Kinds exist in one Go type each, the versioned one of k8s.io/api, which is
// registered for the internal version too, so that the generic machinery finds its hub type.
//
// A Server is safe for concurrent use. Objects it hands out are shared unless said otherwise. The
// package never starts a goroutine before [Server.Run] and none that outlives it, and it reaches the
// world only through what its Config injects, so that a server can live in a synctest bubble.
package api
