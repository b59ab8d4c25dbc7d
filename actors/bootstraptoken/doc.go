// Package bootstraptoken looks after the tokens by which machines join: it removes those that have
// ended, and signs the ConfigMap cluster-info in kube-public with each that is good for that, so
// that whoever holds a token can tell the cluster from an impostor. Start with [Spec]. It keeps
// nothing, and never makes a token.
package bootstraptoken
