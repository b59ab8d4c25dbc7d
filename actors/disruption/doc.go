// Package disruption keeps the status of PodDisruptionBudgets: how many pods of each are healthy, how
// many there should be, and how many may be evicted; and takes a promise to evict a pod back that
// nobody keeps. Start with [Spec] and [StaleSpec]. It never evicts or deletes anything.
package disruption
