// Package serviceaccount gives each namespace what its pods rely on: the ServiceAccount "default"
// and the ConfigMap "kube-root-ca.crt" with the cluster's CA. Start with [Spec]. It repairs both
// when they are deleted or the ConfigMap is changed, and never touches other accounts.
package serviceaccount
