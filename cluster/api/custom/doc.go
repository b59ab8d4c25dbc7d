// Package custom serves custom resources, with the handlers and controllers of
// k8s.io/apiextensions-apiserver over the replica. Start with [New], then [Server.Run].
//
// A CustomResourceDefinition is a kind like any other (cluster/api/kinds/apiextensions); this
// package makes what it defines appear: as resources of the store, so that the garbage collector and
// namespaces see them, in discovery and in schemas. What serves a resource is built by the first
// request for it and thrown away when its definition changes. Schemas are built when asked for.
//
// Nothing is cached besides: the library's listers read the replica (cluster/state/informer), its
// status writes go straight to the registry. Custom resources are kept as they were written;
// cluster/state/storage converts, prunes and defaults them for the version that is asked for.
package custom
