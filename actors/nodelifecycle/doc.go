// Package nodelifecycle draws the conclusions of what nodes report: it turns node conditions into
// taints, marks the pods of an unreachable node as not ready, and evicts pods that do not tolerate
// a NoExecute taint, after their toleration has run out. Start with [Spec].
//
// Who notices that a node is silent, and sets its Ready condition, is package actors/nodes. Times
// are kept in the objects (a taint's timeAdded, a pod's scheduling), so that a restart neither
// shortens nor prolongs a toleration. Taints of others stay as they are. It evicts without a rate
// limit: zones are not looked at.
package nodelifecycle
