// Package replicaset keeps the wanted number of pods for each ReplicaSet: it creates and deletes
// pods, adopts pods that match and belong to nobody, releases those that stopped matching, and
// reports counts in the status. Start with [Spec].
//
// No expectations are kept, as a Kubernetes controller has to: reconciles of one set never
// overlap, and the reader shows a pod as soon as its creation returned, so that the next count
// includes it. A creation whose outcome got lost (the writer failed after the fact) may yield a pod
// too many; it is counted next time and deleted again. It never creates on a count that was taken
// before its own last write.
//
// A burst of pod changes costs one pass over the set's pods and at most one status write per
// [every]. It never touches pods of another controller.
package replicaset
