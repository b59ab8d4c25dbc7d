// Package apiextensions describes the kinds of the group apiextensions.k8s.io. The rules are those
// of k8s.io/apiextensions-apiserver, which has them for its internal type: each hook converts, so
// that there is one Go type, the versioned one, everywhere else.
package apiextensions
