// Package storageprotection keeps what stores data while it is used: a claim that a pod mounts, a
// volume that is bound, a volume attributes class that something names. Admission puts a finalizer
// on each; the controller takes it away once the object is to go and nobody uses it. Start with
// [Spec].
//
// It never adds a finalizer to an object that is going, and never deletes anything itself.
package storageprotection
