// Package authorization describes the kinds of authorization.k8s.io/v1: what somebody may do. Start
// with [SubjectAccessReview]. All are answered and never stored. The package only returns data and
// functions without state.
package authorization
