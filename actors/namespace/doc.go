// Package namespace empties namespaces that are being deleted: pods first, with their grace, then
// everything else of every resource that is served, and in the end it takes the "kubernetes"
// finalizer off, upon which the namespace goes. Start with [Spec].
//
// What cannot be deleted, what remains, and which finalizers hold it are shown in the namespace's
// conditions, in Kubernetes' words. It never touches a namespace that is not being deleted.
package namespace
