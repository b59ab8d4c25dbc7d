// Package admission holds the in-process admission plugins: what Kubernetes fills in or refuses
// beyond validation, because it depends on other objects or on who asks. Start with [Chain], which
// returns the plugins in Kubernetes' order.
//
// Plugins read the replica and keep no state; they are safe for concurrent use. Only the
// ServiceAccount plugin may wait, briefly, for an account that is about to be created.
package admission
