// Package storage serves one resource of a state.Store as a k8s.io/apiserver storage.Interface.
// Start with [New], or give [Decorator] to the generic registry.
//
// There is no cache between the two: the store's memory is it. Reads never leave the process and
// are always the newest state; watches read the store's events at their own pace, and one that
// falls behind what is remembered ends with 410 Gone. Lists at an older revision, such as the
// pages of one listing, are exact as long as the store remembers that far back.
//
// A Storage is safe for concurrent use. It never hands out an object of the store itself, only
// copies, of which those in lists and watch events share what is below the outermost struct.
package storage
