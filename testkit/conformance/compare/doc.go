// Package compare asks a Kubernetes API server and troupe the same things and tells where their answers
// differ: defaults, validation, warnings, updates and status updates of every kind, tables, discovery.
// It needs a kube-apiserver that runs already, whose kubeconfig the variable REFERENCE names; see
// `make compare`.
package compare
