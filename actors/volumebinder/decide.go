package volumebinder

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/component-helpers/storage/volume"
	"k8s.io/utils/ptr"
)

// note is what users are told of an object in an Event.
type note struct{ kind, reason, message string }

func normal(reason, format string, args ...any) note {
	return note{corev1.EventTypeNormal, reason, fmt.Sprintf(format, args...)}
}

func warning(reason, format string, args ...any) note {
	return note{corev1.EventTypeWarning, reason, fmt.Sprintf(format, args...)}
}

// view is what decisions look at.
type view interface {
	volume(name string) *corev1.PersistentVolume
	volumes() []*corev1.PersistentVolume
	claim(namespace, name string) *corev1.PersistentVolumeClaim
	class(name string) *storagev1.StorageClass
	defaultClass() string
	waitingPod(c *corev1.PersistentVolumeClaim) string
}

// claimStep is what is to be done about a claim: bind it to a volume, or say in what phase it is.
type claimStep struct {
	bind  *corev1.PersistentVolume
	phase corev1.PersistentVolumeClaimPhase
	// class is the storage class it is given because it has none.
	class string
	// provisioner is who shall make a volume for it.
	provisioner string
	note        note
}

func pending(n note) claimStep { return claimStep{phase: corev1.ClaimPending, note: n} }

func decideClaim(c *corev1.PersistentVolumeClaim, s view) claimStep {
	_, bound := c.Annotations[volume.AnnBindCompleted]
	switch {
	case bound:
		return decideBound(c, s)
	case c.Spec.VolumeName != "":
		return decideNamed(c, s)
	}
	return decideOpen(c, s)
}

// decideBound looks after a claim that was bound.
func decideBound(c *corev1.PersistentVolumeClaim, s view) claimStep {
	lost := func(reason, message string) claimStep {
		return claimStep{phase: corev1.ClaimLost, note: note{corev1.EventTypeWarning, reason, message}}
	}
	if c.Spec.VolumeName == "" {
		return lost("ClaimLost", "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!")
	}
	v := s.volume(c.Spec.VolumeName)
	switch {
	case v == nil:
		return lost("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!")
	case v.Spec.ClaimRef == nil, v.Spec.ClaimRef.UID == c.UID:
		return claimStep{bind: v}
	}
	return lost("ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")
}

// decideNamed is for a claim whose author has chosen a volume.
func decideNamed(c *corev1.PersistentVolumeClaim, s view) claimStep {
	v := s.volume(c.Spec.VolumeName)
	switch {
	case v == nil:
		return pending(note{})
	case v.Spec.ClaimRef == nil:
		if why := unfit(v, c); why != "" {
			return pending(warning("VolumeMismatch", "Cannot bind to requested volume %q: %s", v.Name, why))
		}
		return claimStep{bind: v}
	case volume.IsVolumeBoundToClaim(v, c):
		return claimStep{bind: v}
	}
	return pending(warning("FailedBinding", "volume %q already bound to a different claim.", v.Name))
}

// unfit says why a claim cannot have a volume that it asks for by name.
func unfit(v *corev1.PersistentVolume, c *corev1.PersistentVolumeClaim) string {
	size, want := v.Spec.Capacity[corev1.ResourceStorage], c.Spec.Resources.Requests[corev1.ResourceStorage]
	switch {
	case v.DeletionTimestamp != nil:
		return fmt.Sprintf("the volume is marked for deletion %q", v.Name)
	case size.Cmp(want) < 0:
		return "requested PV is too small"
	case volume.GetPersistentVolumeClass(v) != volume.GetPersistentVolumeClaimClass(c):
		return "storageClassName does not match"
	case ptr.Deref(v.Spec.VolumeAttributesClassName, "") != ptr.Deref(c.Spec.VolumeAttributesClassName, ""):
		return "volumeAttributesClassName does not match"
	case volume.CheckVolumeModeMismatches(&c.Spec, &v.Spec):
		return "incompatible volumeMode"
	case !volume.CheckAccessModes(c, v):
		return "incompatible accessMode"
	}
	return ""
}

// decideOpen is for a claim that takes any volume that fits.
func decideOpen(c *corev1.PersistentVolumeClaim, s view) claimStep {
	className := volume.GetPersistentVolumeClaimClass(c)
	class := (*storagev1.StorageClass)(nil)
	if className != "" {
		class = s.class(className)
	}
	waits := class != nil && ptr.Deref(class.VolumeBindingMode, "") == storagev1.VolumeBindingWaitForFirstConsumer && !volume.IsDelayBindingProvisioning(c)
	v, err := bestMatch(c, s.volumes(), waits)
	switch {
	case err != nil:
		return pending(warning("FailedBinding", "%v", err))
	case v != nil:
		return claimStep{bind: v}
	case !volume.PersistentVolumeClaimHasClass(c) && s.defaultClass() != "":
		return claimStep{class: s.defaultClass()}
	case waits:
		if pod := s.waitingPod(c); pod != "" {
			return pending(normal("WaitForPodScheduled", "waiting for pod %s to be scheduled", pod))
		}
		return pending(normal("WaitForFirstConsumer", "waiting for first consumer to be created before binding"))
	case className == "":
		return pending(normal("FailedBinding", "no persistent volumes available for this claim and no storage class is set"))
	case class == nil:
		return pending(warning("ProvisioningFailed", "storageclass.storage.k8s.io %q not found", className))
	case strings.HasPrefix(class.Provisioner, "kubernetes.io/"):
		return pending(warning("ProvisioningFailed", "no volume plugin matched name: %s", class.Provisioner))
	}
	step := pending(normal("ExternalProvisioning", "Waiting for a volume to be created either by the external provisioner '%s' or manually by the system administrator. "+
		"If volume creation is delayed, please verify that the provisioner is running and correctly registered.", class.Provisioner))
	step.provisioner = class.Provisioner
	return step
}

// bestMatch finds the volume for a claim: one that somebody has reserved for it, else the smallest
// of those with the fewest access modes.
func bestMatch(c *corev1.PersistentVolumeClaim, all []*corev1.PersistentVolume, waits bool) (*corev1.PersistentVolume, error) {
	var reserved []*corev1.PersistentVolume
	byModes := map[int][]*corev1.PersistentVolume{}
	var counts []int
	for _, v := range all {
		if !volume.CheckAccessModes(c, v) {
			continue
		}
		if volume.IsVolumeBoundToClaim(v, c) {
			reserved = append(reserved, v)
			continue
		}
		n := len(v.Spec.AccessModes)
		if byModes[n] == nil {
			counts = append(counts, n)
		}
		byModes[n] = append(byModes[n], v)
	}
	slices.Sort(counts)
	groups := [][]*corev1.PersistentVolume{reserved}
	for _, n := range counts {
		groups = append(groups, byModes[n])
	}
	for _, group := range groups {
		if v, err := volume.FindMatchingVolume(c, group, nil, nil, waits, true); v != nil || err != nil {
			return v, err
		}
	}
	return nil, nil
}

// volumeStep is what is to be done about a volume.
type volumeStep struct {
	phase   corev1.PersistentVolumePhase
	message string
	// unbind takes the volume back from a claim that has another.
	unbind bool
	note   note
}

func decideVolume(v *corev1.PersistentVolume, s view) volumeStep {
	ref := v.Spec.ClaimRef
	if ref == nil || ref.UID == "" {
		// A volume that waits for a certain claim is bound from that claim's side.
		step := volumeStep{phase: corev1.VolumeAvailable}
		if ref != nil {
			if c := s.claim(ref.Namespace, ref.Name); c != nil && c.Spec.VolumeName == "" && volume.CheckVolumeModeMismatches(&c.Spec, &v.Spec) {
				step.note = warning("VolumeMismatch", "Cannot bind PersistentVolume to requested PersistentVolumeClaim %q due to incompatible volumeMode.", c.Name)
			}
		}
		return step
	}
	c := s.claim(ref.Namespace, ref.Name)
	switch {
	case c == nil || c.UID != ref.UID:
		return decideReleased(v)
	case c.Spec.VolumeName == v.Name:
		return volumeStep{phase: corev1.VolumeBound}
	case c.Spec.VolumeName == "":
		return volumeStep{} // the claim's reconcile binds it
	case v.Annotations[volume.AnnDynamicallyProvisioned] != "" && v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete:
		return volumeStep{phase: corev1.VolumeReleased} // made for this claim, which took another; its provisioner deletes it
	}
	return volumeStep{phase: corev1.VolumeAvailable, unbind: true}
}

// decideReleased is for a volume whose claim is gone.
func decideReleased(v *corev1.PersistentVolume) volumeStep {
	failed := func(reason, message string) volumeStep {
		return volumeStep{phase: corev1.VolumeFailed, message: message, note: warning(reason, "%s", message)}
	}
	switch v.Spec.PersistentVolumeReclaimPolicy {
	case corev1.PersistentVolumeReclaimDelete:
		by := v.Annotations[volume.AnnDynamicallyProvisioned]
		if by == "" || strings.HasPrefix(by, "kubernetes.io/") && v.Annotations[volume.AnnMigratedTo] == "" {
			return failed("VolumeFailedDelete", fmt.Sprintf("error getting deleter volume plugin for volume %q: no deletable volume plugin matched", v.Name))
		}
	case corev1.PersistentVolumeReclaimRecycle:
		return failed("VolumeFailedRecycle", "No recycler plugin found for the volume!")
	}
	return volumeStep{phase: corev1.VolumeReleased}
}
