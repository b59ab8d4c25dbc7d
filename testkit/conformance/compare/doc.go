// Package compare asks a Kubernetes API server and troupe the same things and tells where their answers
// differ: defaults, validation, warnings, updates and status updates of every kind, tables, discovery. Of
// some ten thousand requests few differ; those it shows are either mended or known:
//
//   - kube-apiserver names the wrong field where a webhook's service lacks a name or a namespace;
//   - the annotation with the generation of a DaemonSet's template is not parsed, and a bad one ignored;
//   - a dry run hands out addresses and ports of Services, and refuses those that are taken;
//   - what controllers do, which a lone kube-apiserver has none of.
//
// It needs both servers running already: the variables REFERENCE and SUBJECT name their kubeconfigs. The
// reference is kube-apiserver of the version that troupe follows, with etcd, built from their Go modules,
// with --service-cluster-ip-range 10.96.0.0/16, --allow-privileged, and a ServiceAccount default in the
// namespace default; the subject is troupe up --runtime none. Without them its tests are skipped.
package compare
