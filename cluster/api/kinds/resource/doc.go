// Package resource describes the kinds of the group resource.k8s.io, one file a kind: each exported
// function returns the [kind.Kind] of its name. The descriptions are values; their functions are
// pure and safe for concurrent use.
package resource
