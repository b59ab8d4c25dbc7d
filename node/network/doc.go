// Package network gives the pods of one node their network: a bridge with host-local addresses
// and host ports by the CNI plugins, forwarding, and one masquerade chain for traffic that leaves
// the cluster. Start with [Setup].
//
//	n, err := network.Setup(ctx, network.Config{DataDir: dir, BinDir: bin, PodCIDR: cidr, Log: log})
//	n.Gateway()                    // the bridge's own address, where node services can listen
//	n.Sweep(ctx, living, spaces)   // after a crash: frees addresses and interfaces of dead sandboxes
//	n.Remove(ctx)                  // deletes bridge, interfaces, chains and CNI state
//
// Everything is idempotent: Setup repairs what is there, Remove is happy when nothing is. A Network
// is safe for concurrent use. The package writes only rules in chains of its own and jumps to them.
package network
