// Package resourcequota counts what the objects of a namespace use. Start with [Books]: admission
// charges new objects to the quotas of their namespace by it, and the controller ([Spec]) writes
// what is used when something ended, was deleted or when a quota changed.
//
// The count is exact as long as one process writes: both work under one lock per namespace, and an
// object that was charged but is not stored yet counts for the controller too. Books is safe for
// concurrent use.
package resourcequota
