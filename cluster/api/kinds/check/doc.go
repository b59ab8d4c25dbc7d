// Package check holds the validation rules that many kinds share, each a small function from a
// value and its path to a list of field errors, worded as Kubernetes words them. Whatever
// k8s.io/apimachinery already checks is called there directly, not wrapped here.
package check
