// Package admissionregistration describes the kinds of admissionregistration.k8s.io/v1: webhooks,
// and policies with their bindings. Every file is one kind and starts with the function of its
// name; what they share is in defaults.go, rules.go and expressions.go. Expressions are compiled
// to check them; cluster/api/admission runs them.
//
// Functions are pure and safe for concurrent use.
package admissionregistration
