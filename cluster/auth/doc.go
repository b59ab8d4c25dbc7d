// Package auth says who a request comes from and what it may do: the cluster's certificate
// authority, service account tokens, the authenticators, and the Node and RBAC authorizers with
// Kubernetes' bootstrap roles. Start with [Open], which makes the authority once and keeps it in
// the data folder.
//
// Authorizers read roles from the replica through actors/objects and keep no copy, so a decision is
// as new as the last acknowledged write. Everything is safe for concurrent use. Private keys and
// tokens are never logged, and files that hold them have mode 0600.
package auth
