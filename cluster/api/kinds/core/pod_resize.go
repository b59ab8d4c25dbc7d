package core

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubectl/pkg/util/qos"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/podspec"
)

// prepareResize keeps everything but what the pod and its containers ask for.
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
	pod.Spec.Resources = asked.Resources
}

const onlyCompute = "only cpu and memory resources are mutable"

// validateResize lets cpu and memory change, as long as the pod's class of service stays what it is.
func validateResize(_ context.Context, obj, old kind.Object) field.ErrorList {
	pod, was := obj.(*corev1.Pod), old.(*corev1.Pod)
	errs := validatePod(pod, podspec.Options{Pod: true, OldImageNames: true})
	if _, static := was.Annotations[corev1.MirrorPodAnnotationKey]; static {
		return field.ErrorList{field.Forbidden(field.NewPath(""), "static pods cannot be resized")}
	}
	if was.Spec.OS != nil && was.Spec.OS.Name == corev1.Windows {
		return field.ErrorList{field.Forbidden(field.NewPath(""), "windows pods cannot be resized")}
	}
	if qos.ComputePodQOS(pod) != qos.GetPodQOS(was) {
		errs = append(errs, field.Invalid(specPath, pod.Status.QOSClass, "Pod QOS Class may not change as a result of resizing"))
	}
	if !nodeResizes(was) {
		errs = append(errs, field.Forbidden(specPath, "Pod running on node without support for resize"))
	}
	rest := pod.Spec.DeepCopy()
	errs = append(errs, resizePod(rest, &was.Spec)...)
	for i := range rest.InitContainers {
		c, before := &rest.InitContainers[i], &was.Spec.InitContainers[i]
		if c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways {
			if !apiequality.Semantic.DeepEqual(c, before) {
				errs = append(errs, field.Forbidden(specPath, "resources for non-sidecar init containers are immutable"))
			}
			*c = *before
			continue
		}
		errs = append(errs, resizeContainer(c, before, "only cpu and memory resources for sidecar containers are mutable", specPath.Child("initContainers").Index(i))...)
	}
	for i := range rest.Containers {
		errs = append(errs, resizeContainer(&rest.Containers[i], &was.Spec.Containers[i], onlyCompute, specPath.Child("containers").Index(i))...)
	}
	if len(errs) == 0 && !apiequality.Semantic.DeepEqual(*rest, was.Spec) {
		errs = append(errs, field.Forbidden(specPath, onlyCompute))
	}
	return errs
}

// nodeResizes says that the pod's node is one that can resize it: it tells what containers really have.
func nodeResizes(pod *corev1.Pod) bool {
	for i := range pod.Status.ContainerStatuses {
		if s := &pod.Status.ContainerStatuses[i]; s.State.Running != nil {
			return s.Resources != nil
		}
	}
	return true // nothing runs yet, so nothing can be told
}

// resizePod checks what the pod asks for as a whole, and sets it back to what it was.
func resizePod(rest, was *corev1.PodSpec) field.ErrorList {
	now := rest.Resources
	if now == nil && was.Resources == nil {
		return nil
	}
	path := specPath.Child("resources")
	if now == nil {
		rest.Resources = was.Resources
		return field.ErrorList{field.Forbidden(path, "pod-level resources cannot be removed")}
	}
	before := was.Resources
	if before == nil {
		before = &corev1.ResourceRequirements{}
	}
	var errs field.ErrorList
	if removed(now.Requests, before.Requests) {
		errs = append(errs, field.Forbidden(path.Child("requests"), "pod-level resource requests cannot be removed"))
	}
	if removed(now.Limits, before.Limits) {
		errs = append(errs, field.Forbidden(path.Child("limits"), "pod-level resource limits cannot be removed"))
	}
	if !sameButCompute(now, before) {
		errs = append(errs, field.Forbidden(specPath, "only cpu and memory resources are mutable at pod-level"))
	}
	rest.Resources = was.Resources
	return errs
}

// resizeContainer checks what one container asks for, and sets it back to what it was.
func resizeContainer(c, was *corev1.Container, other string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	path = path.Child("resources")
	if removed(c.Resources.Requests, was.Resources.Requests) {
		errs = append(errs, field.Forbidden(path.Child("requests"), "resource requests cannot be removed"))
	}
	if removed(c.Resources.Limits, was.Resources.Limits) {
		errs = append(errs, field.Forbidden(path.Child("limits"), "resource limits cannot be removed"))
	}
	if !sameButCompute(&c.Resources, &was.Resources) || !apiequality.Semantic.DeepEqual(c.ResizePolicy, was.ResizePolicy) {
		errs = append(errs, field.Forbidden(specPath, other))
	}
	c.Resources, c.ResizePolicy = was.Resources, was.ResizePolicy
	return errs
}

func removed(now, was corev1.ResourceList) bool {
	for name := range was {
		if _, ok := now[name]; !ok {
			return true
		}
	}
	return false
}

// sameButCompute says that two requirements differ in cpu and memory at most.
func sameButCompute(now, was *corev1.ResourceRequirements) bool {
	rest := func(list corev1.ResourceList) corev1.ResourceList {
		out := list.DeepCopy()
		delete(out, corev1.ResourceCPU)
		delete(out, corev1.ResourceMemory)
		return out
	}
	return apiequality.Semantic.DeepEqual(rest(now.Requests), rest(was.Requests)) &&
		apiequality.Semantic.DeepEqual(rest(now.Limits), rest(was.Limits)) && apiequality.Semantic.DeepEqual(now.Claims, was.Claims)
}
