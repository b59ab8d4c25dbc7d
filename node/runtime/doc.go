// Package runtime is how a node speaks to what runs its containers. Start with [Runtime]; [DialCRI]
// implements it over the Container Runtime Interface (containerd, CRI-O), package runtime/sim in
// memory. Types are CRI's own (k8s.io/cri-api), so that nothing is lost in between.
//
// A Runtime is safe for concurrent use. It never retries and never decides: pod actors do.
package runtime
