// Package volumebinder binds PersistentVolumeClaims to PersistentVolumes and says in their statuses
// how it stands with them. Start with [Spec].
//
// A volume and a claim are bound by one transaction: both refer to each other, or neither does,
// however this process ends. Storage classes with a provisioner are left to that provisioner, which
// is told of by annotations as Kubernetes has them; claims of classes that wait for the first
// consumer are left to whoever places pods. Nothing here touches storage itself: a volume that is to
// be deleted is deleted by the provisioner that made it, or fails.
//
// The controller keeps nothing but what it last told users of each claim; it is safe to restart.
package volumebinder
