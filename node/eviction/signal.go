package eviction

import corev1 "k8s.io/api/core/v1"

// Signal names what a node may run out of.
type Signal string

// The signals, with their units: bytes, files (inodes) and processes. Nodefs is the disk with the
// node's data folder, imagefs the one with images and what containers write into their own files.
const (
	MemoryAvailable   Signal = "memory.available"
	NodeFSAvailable   Signal = "nodefs.available"
	NodeFSInodesFree  Signal = "nodefs.inodesFree"
	ImageFSAvailable  Signal = "imagefs.available"
	ImageFSInodesFree Signal = "imagefs.inodesFree"
	PIDAvailable      Signal = "pid.available"
)

// Resources that are no resources of pods.
const (
	resourceInodes corev1.ResourceName = "inodes"
	resourcePIDs   corev1.ResourceName = "pids"
)

// traits is what follows from a signal.
type traits struct {
	resource  corev1.ResourceName
	condition corev1.NodeConditionType
	disk      bool // unused images and ended containers take of it
}

var signals = map[Signal]traits{
	MemoryAvailable:   {corev1.ResourceMemory, corev1.NodeMemoryPressure, false},
	NodeFSAvailable:   {corev1.ResourceEphemeralStorage, corev1.NodeDiskPressure, true},
	NodeFSInodesFree:  {resourceInodes, corev1.NodeDiskPressure, true},
	ImageFSAvailable:  {corev1.ResourceEphemeralStorage, corev1.NodeDiskPressure, true},
	ImageFSInodesFree: {resourceInodes, corev1.NodeDiskPressure, true},
	PIDAvailable:      {resourcePIDs, corev1.NodePIDPressure, false},
}

// image says whether the signal is about the disk of images.
func (s Signal) image() bool { return s == ImageFSAvailable || s == ImageFSInodesFree }

// Amount is how much is left of something, and how much of it there is.
type Amount struct{ Available, Capacity int64 }

// Signals are the amounts that could be measured.
type Signals map[Signal]Amount
