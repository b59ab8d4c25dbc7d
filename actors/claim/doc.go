// Package claim decides which objects belong to a controller object by owner reference and
// selector: pods to a ReplicaSet, ReplicaSets to a Deployment. Start with [Sort], a pure function;
// [Adopt] and [Release] carry out what it says. [Orphans] remembers objects that nobody controls,
// so that looking for some to adopt does not mean reading a whole namespace.
//
// Everything is safe for concurrent use. Nothing here decides by name.
package claim
