// Package informer plays the replica to code that is written for client-go's informers, such as the
// controllers and admission plugins of Kubernetes' libraries. Nothing is watched and nothing cached:
// reads look at the store, handlers are fed by it, and both get the store's own objects, which must
// not be changed. An informer has synced as soon as it exists. Start with [New].
//
// Readers may be ahead of handlers, never behind. Handlers are called from one goroutine each, so
// that a slow one holds up nobody else; they begin with [Informer.Run] or, when that was called
// already, at once.
package informer
