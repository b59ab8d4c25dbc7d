// Package conformance runs the clients that users have against the troupe binary with simulated
// nodes: kubectl, Helm, an operator on controller-runtime, informers of client-go. It is a module of
// its own, so that what they depend on stays out of troupe. Its tests build troupe, or take the one
// that the variable TROUPE names.
package conformance
