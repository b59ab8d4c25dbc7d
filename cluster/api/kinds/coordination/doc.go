// Package coordination describes the kinds of the group coordination.k8s.io: [Lease]. The
// descriptions are values; their functions are pure and safe for concurrent use.
package coordination
