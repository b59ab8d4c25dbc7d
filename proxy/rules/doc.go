// Package rules makes the kernel of a node serve the cluster's services. Start with [Props], the
// actor that knows what is wanted, coalesces changes, retries, and says up to which revision the
// kernel serves; a [Backend] does the writing. [NewIptables] is the backend.
//
// The iptables backend owns the chains whose names it makes ([owned]), and jumps to them; it
// touches no other rule. Chains, from the packet's side:
//
//	nat PREROUTING, OUTPUT -> TROUPE-SERVICES -> TROUPE-IP-<block>  -> TROUPE-SVC|SVL|EXT-<hash>
//	                                          -> TROUPE-NODEPORTS -> TROUPE-PORT-<block> -> TROUPE-EXT-<hash>
//	TROUPE-EXT (from outside) -> TROUPE-SVC (all endpoints) or TROUPE-SVL (those of this node)
//	TROUPE-SVC, TROUPE-SVL -> TROUPE-SEP-<hash> (one endpoint): DNAT
//	nat POSTROUTING -> TROUPE-PROXY-SNAT: masquerades what TROUPE-PROXY-MARK marked
//	filter INPUT, FORWARD, OUTPUT -> TROUPE-PROXY-REJECT: whatever addresses a service and was not DNATed
//
// Blocks (256 addresses, 64 node ports) keep lookups short and writes small: a changed service
// rewrites its own chains and at most the blocks that lead to them.
//
// A backend is used by one goroutine at a time.
package rules
