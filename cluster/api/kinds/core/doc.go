// Package core describes the kinds of the core group (apiVersion v1), one file a kind: each
// exported function returns the [kind.Kind] of its name. The descriptions are values; their
// functions are pure and safe for concurrent use.
package core
