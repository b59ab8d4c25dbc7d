package eviction

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
)

// Pod is a pod that runs, with what it uses; nil when that could not be measured.
type Pod struct {
	Pod   *corev1.Pod
	Usage *Usage
}

// Usage is what a pod uses of its node.
type Usage struct {
	// Memory is the working set in bytes, Processes a number.
	Memory, Processes int64
	// Volumes is what volumes on the node's disk take.
	Volumes    Disk
	Containers []ContainerUsage
}

// ContainerUsage is what one container uses.
type ContainerUsage struct {
	Name   string
	Memory int64 // working set in bytes
	// Files is what the container has written into its own files, Logs what it has printed.
	Files, Logs Disk
}

// Disk is an amount of bytes and the number of files they are in.
type Disk struct{ Bytes, Inodes int64 }

func (d Disk) plus(o Disk) Disk { return Disk{d.Bytes + o.Bytes, d.Inodes + o.Inodes} }

// disk adds up what counts of a pod for one signal: everything, or, when images have a disk of
// their own, what is on the disk the signal is about.
func (u *Usage) disk(s Signal, imageDisk bool) int64 {
	var sum Disk
	if !imageDisk || !s.image() {
		sum = u.Volumes
	}
	for _, c := range u.Containers {
		if !imageDisk || s.image() {
			sum = sum.plus(c.Files)
		}
		if !imageDisk || !s.image() {
			sum = sum.plus(c.Logs)
		}
	}
	if signals[s].resource == resourceInodes {
		return sum.Inodes
	}
	return sum.Bytes
}

// candidate is a pod with what decides about it.
type candidate struct {
	*Pod
	measured bool
	exceeds  bool // uses more than it asked for
	priority int32
	over     int64 // what it uses beyond that
}

// worst returns the pod that goes first when a signal is low: one that uses more than it asked
// for, of these the one with the least priority, of these the one that exceeds it most. Where
// nothing can be asked for (processes), priority and use alone count. Pods whose use is not known
// go before all others, critical ones never.
func worst(s Signal, pods []Pod, imageDisk bool) *Pod {
	var list []candidate
	for i := range pods {
		p := &pods[i]
		if critical(p.Pod) {
			continue
		}
		c := candidate{Pod: p, measured: p.Usage != nil, priority: podPriority(p.Pod)}
		if c.measured {
			used, asked := used(s, p.Usage, imageDisk), requested(s, p.Pod)
			c.exceeds, c.over = s != PIDAvailable && used > asked, used-asked
		}
		list = append(list, c)
	}
	if len(list) == 0 {
		return nil
	}
	return slices.MinFunc(list, func(a, b candidate) int {
		return cmp.Or(first(!a.measured, !b.measured), first(a.exceeds, b.exceeds), cmp.Compare(a.priority, b.priority), cmp.Compare(b.over, a.over),
			cmp.Compare(a.Pod.Pod.Namespace, b.Pod.Pod.Namespace), cmp.Compare(a.Pod.Pod.Name, b.Pod.Pod.Name))
	}).Pod
}

func used(s Signal, u *Usage, imageDisk bool) int64 {
	switch s {
	case MemoryAvailable:
		return u.Memory
	case PIDAvailable:
		return u.Processes
	}
	return u.disk(s, imageDisk)
}

// requested is what a pod asked for of what a signal is about: 0 where it cannot ask.
func requested(s Signal, p *corev1.Pod) int64 {
	q := resource.PodRequests(p, resource.PodResourcesOptions{})[signals[s].resource]
	return q.Value()
}

// systemCritical is the priority from which on pods are needed for the cluster to work.
const systemCritical = 2_000_000_000

func critical(p *corev1.Pod) bool { return podPriority(p) >= systemCritical }

func podPriority(p *corev1.Pod) int32 {
	if p.Spec.Priority != nil {
		return *p.Spec.Priority
	}
	return 0
}
