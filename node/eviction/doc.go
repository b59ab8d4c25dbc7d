// Package eviction decides when a node has too little left of something, and which pod has to end
// for the others, as kubelets do:
// https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/.
// Start with [Rules.Decide].
//
// Everything here is a function of values, safe for concurrent use: nothing measures, waits or
// stops anything.
package eviction
