package core

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/podspec"
)

var (
	specPath        = field.NewPath("spec")
	annotationsPath = field.NewPath("metadata", "annotations")
)

// updatable says what an update may change, for the error that refuses anything else.
var updatable = strings.Join([]string{
	"`spec.containers[*].image`", "`spec.initContainers[*].image`", "`spec.activeDeadlineSeconds`",
	"`spec.tolerations` (only additions to existing tolerations)",
	"`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
}, ",")

func validatePodCreate(pod *corev1.Pod) field.ErrorList {
	errs := validatePod(pod, podspec.Options{Pod: true})
	if len(pod.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(specPath.Child("ephemeralContainers"), "cannot be set on create"))
	}
	if pod.Spec.NodeName != "" && len(pod.Spec.SchedulingGates) > 0 {
		errs = append(errs, field.Forbidden(specPath.Child("nodeName"), "cannot be set until all schedulingGates have been cleared"))
	}
	return append(errs, podspec.ValidateProfiles(pod.Annotations, &pod.Spec, specPath)...)
}

func validatePod(pod *corev1.Pod, opts podspec.Options) field.ErrorList {
	errs := podspec.ValidateAnnotations(pod.Annotations, &pod.Spec, annotationsPath)
	return append(errs, podspec.Validate(&pod.Spec, &pod.ObjectMeta, specPath, opts)...)
}

func validatePodUpdate(pod, old *corev1.Pod) field.ErrorList {
	errs := validatePod(pod, podspec.Options{Pod: true, OldImageNames: true})
	errs = append(errs, podspec.ValidateAnnotationUpdate(pod.Annotations, old.Annotations, annotationsPath)...)
	for _, list := range []struct {
		child    string
		now, was []corev1.Container
	}{{"containers", pod.Spec.Containers, old.Spec.Containers}, {"initContainers", pod.Spec.InitContainers, old.Spec.InitContainers}} {
		if len(list.now) != len(list.was) {
			return append(errs, field.Forbidden(specPath.Child(list.child), "pod updates may not add or remove containers"))
		}
		for i := range list.now {
			if strings.TrimSpace(list.now[i].Image) != list.now[i].Image && list.now[i].Image != list.was[i].Image {
				errs = append(errs, field.Invalid(specPath.Child(list.child).Index(i).Child("image"), list.now[i].Image, "must not have leading or trailing whitespace"))
			}
		}
	}
	if deadline := validateDeadlineUpdate(pod.Spec.ActiveDeadlineSeconds, old.Spec.ActiveDeadlineSeconds); deadline != nil {
		return append(errs, deadline)
	}
	errs = append(errs, onlyAddedTolerations(pod.Spec.Tolerations, old.Spec.Tolerations)...)
	errs = append(errs, onlyRemovedGates(pod.Spec.SchedulingGates, old.Spec.SchedulingGates)...)

	// What is left over once everything that may change is set aside has to be the same.
	rest := pod.Spec.DeepCopy()
	for i := range rest.Containers {
		rest.Containers[i].Image = old.Spec.Containers[i].Image
	}
	for i := range rest.InitContainers {
		rest.InitContainers[i].Image = old.Spec.InitContainers[i].Image
	}
	rest.ActiveDeadlineSeconds = old.Spec.ActiveDeadlineSeconds
	rest.Tolerations = old.Spec.Tolerations
	rest.SchedulingGates = old.Spec.SchedulingGates
	if was, now := old.Spec.TerminationGracePeriodSeconds, rest.TerminationGracePeriodSeconds; was != nil && now != nil && *was < 0 && *now == 1 {
		rest.TerminationGracePeriodSeconds = was
	}
	if len(old.Spec.SchedulingGates) > 0 {
		errs = append(errs, narrowed(rest, &old.Spec)...)
	}
	if !apiequality.Semantic.DeepEqual(*rest, old.Spec) {
		errs = append(errs, field.Forbidden(specPath, fmt.Sprintf("pod updates may not change fields other than %s\n%v", updatable, diff.Diff(old.Spec, *rest))))
	}
	return errs
}

// validateDeadlineUpdate lets a deadline be set or brought forward.
func validateDeadlineUpdate(now, was *int64) *field.Error {
	path := specPath.Child("activeDeadlineSeconds")
	switch {
	case now == nil && was != nil:
		return field.Invalid(path, now, "must not update from a positive integer to nil value")
	case now != nil && (*now < 0 || *now > math.MaxInt32):
		return field.Invalid(path, *now, validation.InclusiveRangeError(0, math.MaxInt32))
	case now != nil && was != nil && *was < *now:
		return field.Invalid(path, *now, "must be less than or equal to previous value")
	}
	return nil
}

func onlyAddedTolerations(now, was []corev1.Toleration) field.ErrorList {
	for _, old := range was {
		old.TolerationSeconds = nil // may change
		if !slices.ContainsFunc(now, func(t corev1.Toleration) bool { t.TolerationSeconds = nil; return t == old }) {
			return field.ErrorList{field.Forbidden(specPath.Child("tolerations"), "existing toleration can not be modified except its tolerationSeconds")}
		}
	}
	return nil
}

func onlyRemovedGates(now, was []corev1.PodSchedulingGate) field.ErrorList {
	var errs field.ErrorList
	for i, gate := range now {
		if !slices.Contains(was, gate) {
			errs = append(errs, field.Forbidden(specPath.Child("schedulingGates").Index(i).Child("name"),
				fmt.Sprintf("only deletion is allowed, but found new scheduling gate '%s'", gate.Name)))
		}
	}
	return errs
}

// narrowed lets a gated pod's choice of nodes become smaller; what is fine is set back to old in rest.
func narrowed(rest, old *corev1.PodSpec) field.ErrorList {
	var errs field.ErrorList
	for key, value := range old.NodeSelector {
		if now, ok := rest.NodeSelector[key]; !ok || now != value {
			errs = append(errs, field.Invalid(specPath.Child("nodeSelector"), rest.NodeSelector, "only additions to spec.nodeSelector are allowed (no mutations or deletions)"))
			break
		}
	}
	rest.NodeSelector = old.NodeSelector
	now, was := nodeAffinity(rest), nodeAffinity(old)
	if apiequality.Semantic.DeepEqual(now, was) {
		return errs
	}
	errs = append(errs, narrowedAffinity(now, was)...)
	switch {
	case rest.Affinity == nil:
		rest.Affinity = &corev1.Affinity{NodeAffinity: was}
	case old.Affinity == nil && rest.Affinity.PodAffinity == nil && rest.Affinity.PodAntiAffinity == nil:
		rest.Affinity = nil
	default:
		rest.Affinity.NodeAffinity = was
	}
	return errs
}

func nodeAffinity(spec *corev1.PodSpec) *corev1.NodeAffinity {
	if spec.Affinity == nil {
		return nil
	}
	return spec.Affinity.NodeAffinity
}

// narrowedAffinity lets terms that were there get more requirements. What is only preferred may change
// freely, as may the whole while no node is required.
func narrowedAffinity(now, was *corev1.NodeAffinity) field.ErrorList {
	if was == nil || was.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return nil
	}
	var terms []corev1.NodeSelectorTerm
	if now != nil && now.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		terms = now.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	}
	before := was.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	at := specPath.Child("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")
	if len(before) > 0 && len(before) != len(terms) {
		return field.ErrorList{field.Invalid(at, terms, "no additions/deletions to non-empty NodeSelectorTerms list are allowed")}
	}
	var errs field.ErrorList
	for i := range before {
		if !onlyNarrower(&terms[i], &before[i]) {
			errs = append(errs, field.Invalid(at.Index(i), terms[i], "only additions are allowed (no mutations or deletions)"))
		}
	}
	return errs
}

// onlyNarrower says that a term has all the requirements it had before.
func onlyNarrower(now, was *corev1.NodeSelectorTerm) bool {
	begins := func(now, was []corev1.NodeSelectorRequirement) bool {
		return len(now) >= len(was) && apiequality.Semantic.DeepEqual(now[:len(was)], was[:len(was):len(was)])
	}
	// An empty term matches nothing, so adding to it would widen the choice.
	if len(was.MatchExpressions)+len(was.MatchFields) == 0 && len(now.MatchExpressions)+len(now.MatchFields) > 0 {
		return false
	}
	return begins(now.MatchExpressions, was.MatchExpressions) && begins(now.MatchFields, was.MatchFields)
}

// prepareEphemeral keeps everything but the ephemeral containers.
func prepareEphemeral(_ context.Context, obj, old kind.Object) {
	pod, was := obj.(*corev1.Pod), old.(*corev1.Pod)
	added := pod.Spec.EphemeralContainers
	keepOld(pod, was)
	pod.Spec.EphemeralContainers = added
}

// keepOld sets a pod back to what it was, but for what the write itself is checked by.
func keepOld(pod, was *corev1.Pod) {
	meta := pod.ObjectMeta
	was.DeepCopyInto(pod)
	pod.Name, pod.Namespace, pod.UID, pod.ResourceVersion = meta.Name, meta.Namespace, meta.UID, meta.ResourceVersion
	pod.ManagedFields = meta.ManagedFields
}

// validateEphemeralUpdate lets ephemeral containers be added only.
func validateEphemeralUpdate(_ context.Context, obj, old kind.Object) field.ErrorList {
	pod, was := obj.(*corev1.Pod), old.(*corev1.Pod)
	errs := validatePod(pod, podspec.Options{Pod: true, OldImageNames: true})
	errs = append(errs, podspec.ValidateAnnotationUpdate(pod.Annotations, was.Annotations, annotationsPath)...)
	path := specPath.Child("ephemeralContainers")
	if _, static := was.Annotations[corev1.MirrorPodAnnotationKey]; static {
		return field.ErrorList{field.Forbidden(field.NewPath(""), "static pods do not support ephemeral containers")}
	}
	now := make(map[string]*corev1.EphemeralContainer, len(pod.Spec.EphemeralContainers))
	for i := range pod.Spec.EphemeralContainers {
		now[pod.Spec.EphemeralContainers[i].Name] = &pod.Spec.EphemeralContainers[i]
	}
	for i := range was.Spec.EphemeralContainers {
		before := &was.Spec.EphemeralContainers[i]
		after, ok := now[before.Name]
		if !ok {
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("existing ephemeral containers %q may not be removed\n", before.Name)))
		} else if !apiequality.Semantic.DeepEqual(before, after) {
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("existing ephemeral containers %q may not be changed\n%v", before.Name, diff.Diff(before, after))))
		}
	}
	return errs
}
