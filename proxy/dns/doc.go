// Package dns answers the names of the cluster on each node, from memory, as the Kubernetes DNS
// specification (schema 1.1.0) says, and forwards all other names to the resolvers of the host.
// Start with [Table], which takes the updates of package feed, and [Start], which serves it.
//
// A Table has one writer and any number of readers, who take no lock. Nothing here blocks but the
// forwarding of foreign names.
package dns
