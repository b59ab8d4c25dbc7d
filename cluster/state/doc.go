// Package state keeps the cluster's objects in one JetStream bucket and, decoded, in memory.
// Start with [Open]; a [Store] then answers reads from memory, commits writes durably and lets
// any number of watchers follow.
//
// One Store at a time writes to a bucket: each publish says which sequence it expects the stream
// to have, so the first write of a Store that was replaced fails with messages.ErrFenced, as all
// later ones do. A revision is the stream sequence: one order over all resources of the bucket.
//
// A Store is safe for concurrent use. Objects it hands out are shared and must not be changed;
// objects given to [Store.Commit] belong to it. What a reader or watcher sees is on disk.
package state
