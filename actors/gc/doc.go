// Package gc deletes what nobody needs any more. Start with [Spec], the garbage collector of owner
// references of every kind, and [PodSpec], that of pods.
//
// An object whose owners are all gone is deleted; owners are told apart by uid, never by name
// alone. An owner deleted in the foreground waits until its blocking dependents are gone; one
// deleted with the orphan policy loses its dependents first. An owner of a kind that is not served
// counts as alive: nothing is deleted on a guess. Events are never looked at.
//
// Pods go when their node is gone for good, when they were never placed and are to be deleted, and
// the oldest of too many that ended.
package gc
