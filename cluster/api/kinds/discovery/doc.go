// Package discovery describes the kinds of the group discovery.k8s.io: [EndpointSlice]. The
// descriptions are values; their functions are pure and safe for concurrent use.
package discovery
