// Package authentication describes the kinds of authentication.k8s.io/v1: TokenReview and
// SelfSubjectReview. Start with [TokenReview]. Both are answered and never stored. The package only
// returns data and functions without state.
package authentication
