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
	"k8s.io/kubectl/pkg/util/qos"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/podspec"
)

var specPath = field.NewPath("spec")

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
	return errs
}

func validatePod(pod *corev1.Pod, opts podspec.Options) field.ErrorList {
	errs := podspec.ValidateAnnotations(pod.Annotations, &pod.Spec, field.NewPath("metadata", "annotations"))
	return append(errs, podspec.Validate(&pod.Spec, &pod.ObjectMeta, specPath, opts)...)
}

func validatePodUpdate(pod, old *corev1.Pod) field.ErrorList {
	errs := validatePod(pod, podspec.Options{Pod: true, OldImageNames: true})
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
	if !apiequality.Semantic.DeepEqual(rest.NodeSelector, old.NodeSelector) {
		path := specPath.Child("nodeSelector")
		for key, value := range old.NodeSelector {
			if now, ok := rest.NodeSelector[key]; !ok || now != value {
				errs = append(errs, field.Invalid(path, rest.NodeSelector, "only additions are allowed to `spec.nodeSelector` (no mutations or deletions)"))
				break
			}
		}
		rest.NodeSelector = old.NodeSelector
	}
	now, was := requiredNodes(rest.Affinity), requiredNodes(old.Affinity)
	if apiequality.Semantic.DeepEqual(now, was) {
		return errs
	}
	path := specPath.Child("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
	if was != nil && !onlyNarrower(now, was) {
		errs = append(errs, field.Invalid(path, now, "no additions/deletions to non-empty NodeSelectorTerms list are allowed"))
	}
	rest.Affinity = rest.Affinity.DeepCopy()
	setRequiredNodes(rest, was)
	// What a gated pod prefers may change freely.
	if rest.Affinity != nil && rest.Affinity.NodeAffinity != nil && old.Affinity != nil && old.Affinity.NodeAffinity != nil {
		rest.Affinity.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution = old.Affinity.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution
	}
	return errs
}

func requiredNodes(a *corev1.Affinity) *corev1.NodeSelector {
	if a == nil || a.NodeAffinity == nil {
		return nil
	}
	return a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
}

// setRequiredNodes sets the required nodes and drops what becomes empty by it.
func setRequiredNodes(spec *corev1.PodSpec, sel *corev1.NodeSelector) {
	if spec.Affinity == nil || spec.Affinity.NodeAffinity == nil {
		return
	}
	spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution = sel
	if sel == nil && len(spec.Affinity.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution) == 0 {
		spec.Affinity.NodeAffinity = nil
		if spec.Affinity.PodAffinity == nil && spec.Affinity.PodAntiAffinity == nil {
			spec.Affinity = nil
		}
	}
}

// onlyNarrower says that each term of now has all the requirements it had before.
func onlyNarrower(now, was *corev1.NodeSelector) bool {
	if now == nil || len(now.NodeSelectorTerms) != len(was.NodeSelectorTerms) {
		return false
	}
	begins := func(now, was []corev1.NodeSelectorRequirement) bool {
		return len(now) >= len(was) && apiequality.Semantic.DeepEqual(now[:len(was)], was)
	}
	for i := range was.NodeSelectorTerms {
		n, w := &now.NodeSelectorTerms[i], &was.NodeSelectorTerms[i]
		// An empty term matches nothing, so adding to it would widen the choice.
		if len(w.MatchExpressions)+len(w.MatchFields) == 0 && len(n.MatchExpressions)+len(n.MatchFields) > 0 {
			return false
		}
		if !begins(n.MatchExpressions, w.MatchExpressions) || !begins(n.MatchFields, w.MatchFields) {
			return false
		}
	}
	return true
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
	path := specPath.Child("ephemeralContainers")
	if _, static := was.Annotations[corev1.MirrorPodAnnotationKey]; static {
		return append(errs, field.Forbidden(field.NewPath(""), "static pods do not support ephemeral containers"))
	}
	now := make(map[string]*corev1.EphemeralContainer, len(pod.Spec.EphemeralContainers))
	at := make(map[string]int, len(now))
	for i := range pod.Spec.EphemeralContainers {
		now[pod.Spec.EphemeralContainers[i].Name], at[pod.Spec.EphemeralContainers[i].Name] = &pod.Spec.EphemeralContainers[i], i
	}
	for i := range was.Spec.EphemeralContainers {
		before := &was.Spec.EphemeralContainers[i]
		after, ok := now[before.Name]
		if !ok {
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("existing ephemeral containers %q may not be removed\n", before.Name)))
		} else if !apiequality.Semantic.DeepEqual(before, after) {
			errs = append(errs, field.Forbidden(path.Index(at[before.Name]), fmt.Sprintf("existing ephemeral containers %q may not be changed\n%v", before.Name, diff.Diff(before, after))))
		}
	}
	return errs
}

// prepareResize keeps everything but what containers ask for and how they take a change of it.
func prepareResize(_ context.Context, obj, old kind.Object) {
	pod, was := obj.(*corev1.Pod), old.(*corev1.Pod)
	asked := pod.Spec
	keepOld(pod, was)
	resize := func(containers, asked []corev1.Container) {
		for i := range containers {
			for a := range asked {
				if asked[a].Name == containers[i].Name {
					containers[i].Resources = asked[a].Resources
					containers[i].ResizePolicy = asked[a].ResizePolicy
				}
			}
		}
	}
	resize(pod.Spec.Containers, asked.Containers)
	resize(pod.Spec.InitContainers, asked.InitContainers)
}

// validateResize lets cpu and memory of containers change, as long as the pod's class of service
// stays what it is.
func validateResize(_ context.Context, obj, old kind.Object) field.ErrorList {
	pod, was := obj.(*corev1.Pod), old.(*corev1.Pod)
	errs := validatePod(pod, podspec.Options{Pod: true, OldImageNames: true})
	if _, static := was.Annotations[corev1.MirrorPodAnnotationKey]; static {
		return append(errs, field.Forbidden(field.NewPath(""), "static pods cannot be resized"))
	}
	if was.Spec.OS != nil && was.Spec.OS.Name == corev1.Windows {
		return append(errs, field.Forbidden(field.NewPath(""), "windows pods cannot be resized"))
	}
	if qos.ComputePodQOS(pod) != qos.GetPodQOS(was) {
		errs = append(errs, field.Invalid(specPath, qos.ComputePodQOS(pod), "Pod QOS Class may not change as a result of resizing"))
	}
	rest := pod.Spec.DeepCopy()
	reset := func(now, was []corev1.Container) {
		for i := range now {
			now[i].Resources.Requests = withoutResize(now[i].Resources.Requests, was[i].Resources.Requests)
			now[i].Resources.Limits = withoutResize(now[i].Resources.Limits, was[i].Resources.Limits)
			now[i].ResizePolicy = was[i].ResizePolicy
		}
	}
	reset(rest.Containers, was.Spec.Containers)
	for i := range rest.InitContainers {
		if c := &was.Spec.InitContainers[i]; c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			reset(rest.InitContainers[i:i+1], was.Spec.InitContainers[i:i+1])
		}
	}
	if !apiequality.Semantic.DeepEqual(*rest, was.Spec) {
		errs = append(errs, field.Forbidden(specPath, fmt.Sprintf("only cpu and memory resources are mutable\n%v", diff.Diff(was.Spec, *rest))))
	}
	return errs
}

// withoutResize sets cpu and memory back to what they were. They may be changed and added, but not
// taken away.
func withoutResize(now, was corev1.ResourceList) corev1.ResourceList {
	out := now.DeepCopy()
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		before, had := was[name]
		if _, has := now[name]; !has {
			continue
		}
		if had {
			out[name] = before
		} else {
			delete(out, name)
		}
	}
	return out
}
