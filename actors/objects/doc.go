// Package objects is how actors meet the cluster state: the interfaces they read, follow and
// write API objects through. The control plane implements them over its replica and its API
// registry (package cluster/api); tests implement them in memory.
//
// Objects handed out are shared and immutable: DeepCopy before changing one. All interfaces are
// safe for concurrent use. Nothing here blocks except the methods that take a context.
package objects
