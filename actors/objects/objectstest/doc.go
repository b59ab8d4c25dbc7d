// Package objectstest keeps API objects in memory behind the interfaces of package objects, so
// that actors can be tested without a control plane. Start with [New]; a [Store] is a Reader, a
// Writer and a Feed at once, and its Recorder keeps what it was told.
//
// It follows the API's rules that controllers depend on: resource versions and conflicts, uids,
// generations, finalizers, graceful deletion of pods, propagation policies, the status subresource.
// It has no defaults, no admission and no validation: tests spell out what they rely on. It starts
// no goroutine, hence works in a synctest bubble; all methods are safe for concurrent use.
package objectstest
