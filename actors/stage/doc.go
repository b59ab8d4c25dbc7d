// Package stage is the thin layer through which troupe uses protoactor-go; no other package knows
// its props, mailboxes or supervision. Start with [New], spawn with [System.Spawn] or a context,
// and build every actor's props with [Props].
//
// What it adds: a mailbox that coalesces and never loses an asker, blocking work off the actor
// ([Go]), timers that die with their incarnation ([After]), supervision with real exponential
// back-off for every actor's children, awaited and ordered stop, asks with a context ([Ask]) and
// an endpoint that reaches actors in other processes over NATS ([Endpoint]).
//
// An actor's Receive must never block, and its [actor.Context] must never leave its goroutine
// except through Go and After. Delivery is at most once: whatever has to survive is state, and
// every actor reads its state anew when it starts.
package stage
