// Package informers is client-go's informer factory over the replica, for Kubernetes' libraries that
// ask for one: admission by webhooks and policies, priority and fairness. Start with [New]. It has
// the groups that those ask for; nothing runs before [Factory.Start], and what runs costs one
// goroutine for each handler.
package informers
