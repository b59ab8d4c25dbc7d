// Package proxyfeed is the control plane's half of what proxies are told. It follows services,
// endpoint slices and namespaces, broadcasts their changes to the proxies of all nodes, a burst as
// one delta, and answers proxies that ask for the whole set. Proxies report how far their rules
// have come; [Feed.WaitApplied] waits for all of them, which is what a drain does before it ends a
// pod. Start with [Props].
//
// One process of a region runs it: the leader. A successor is another source, which makes every
// proxy ask for a snapshot. A [Feed] is safe for concurrent use. The package never writes.
package proxyfeed
