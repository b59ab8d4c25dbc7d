// Package apiregistration describes the kinds of the group apiregistration.k8s.io. The rules are
// those of k8s.io/kube-aggregator, which has them for its internal type: each hook converts.
package apiregistration
