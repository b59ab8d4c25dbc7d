package core

import (
	"context"
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubectl/pkg/util/qos"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/podspec"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

// Pod describes v1 Pod. Its spec's rules are in package podspec; binding, eviction, log, exec,
// attach, portforward and proxy live with the API server.
func Pod() kind.Kind {
	status := corev1.PodStatus{}.SwaggerDoc()
	spec := corev1.PodSpec{}.SwaggerDoc()
	return kind.Kind{
		GVK:        corev1.SchemeGroupVersion.WithKind("Pod"),
		Resource:   "pods",
		Singular:   "pod",
		ShortNames: []string{"po"},
		Categories: []string{"all"},
		Namespaced: true,
		New:        func() kind.Object { return &corev1.Pod{} },
		NewList:    func() runtime.Object { return &corev1.PodList{} },

		Default: func(obj kind.Object) { defaultPod(obj.(*corev1.Pod)) },
		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return validatePodCreate(obj.(*corev1.Pod))
		},
		ValidateUpdate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
			return validatePodUpdate(obj.(*corev1.Pod), old.(*corev1.Pod))
		},
		PrepareForCreate: func(_ context.Context, obj kind.Object) { preparePod(obj.(*corev1.Pod)) },
		PrepareForUpdate: func(_ context.Context, obj, old kind.Object) {
			obj.(*corev1.Pod).Status = old.(*corev1.Pod).Status
		},
		SpecChanged: func(obj, old kind.Object) bool {
			return !apiequality.Semantic.DeepEqual(obj.(*corev1.Pod).Spec, old.(*corev1.Pod).Spec)
		},
		Warnings: func(_ context.Context, obj, old kind.Object) []string { return podWarnings(obj.(*corev1.Pod), old) },

		Status: &kind.Subresource{
			Prepare: func(_ context.Context, obj, old kind.Object) {
				preparePodStatus(obj.(*corev1.Pod), old.(*corev1.Pod))
			},
			Validate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
				return validatePodStatus(obj.(*corev1.Pod), old.(*corev1.Pod))
			},
		},
		Subresources: map[string]*kind.Subresource{
			"ephemeralcontainers": {Prepare: prepareEphemeral, Validate: validateEphemeralUpdate},
			"resize":              {Prepare: prepareResize, Validate: validateResize},
		},
		Delete: podGrace,

		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Col("Ready", "The aggregate readiness state of this pod for accepting traffic."),
			table.Col("Status", "The aggregate status of the containers in this pod."),
			table.Col("Restarts", "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted."),
			table.Age(),
			table.Wide(table.Col("IP", status["podIP"])),
			table.Wide(table.Col("Node", spec["nodeName"])),
			table.Wide(table.Col("Nominated Node", status["nominatedNodeName"])),
			table.Wide(table.Col("Readiness Gates", spec["readinessGates"])),
		},
		Row: func(obj kind.Object) []any { return podRow(obj.(*corev1.Pod)) },
		Fields: func(obj kind.Object) fields.Set {
			pod := obj.(*corev1.Pod)
			return fields.Set{
				"spec.nodeName":            pod.Spec.NodeName,
				"spec.restartPolicy":       string(pod.Spec.RestartPolicy),
				"spec.schedulerName":       pod.Spec.SchedulerName,
				"spec.serviceAccountName":  pod.Spec.ServiceAccountName,
				"spec.hostNetwork":         strconv.FormatBool(pod.Spec.HostNetwork),
				"status.phase":             string(pod.Status.Phase),
				"status.podIP":             pod.Status.PodIP,
				"status.nominatedNodeName": pod.Status.NominatedNodeName,
			}
		},
		Indexes: map[string]func(kind.Object) []string{
			objects.IndexNode: func(obj kind.Object) []string { return []string{obj.(*corev1.Pod).Spec.NodeName} },
		},
	}
}

func defaultPod(pod *corev1.Pod) {
	podspec.Default(&pod.Spec)
	podspec.DefaultPod(pod)
	if t := pod.Spec.TerminationGracePeriodSeconds; t != nil && *t < 0 {
		pod.Spec.TerminationGracePeriodSeconds = ptr.To[int64](1)
	}
	syncPodIPs(&pod.Status)
}

// syncPodIPs makes podIP the first of podIPs; when they differ, the older field is what was meant.
func syncPodIPs(s *corev1.PodStatus) {
	if s.PodIP == "" && len(s.PodIPs) > 0 {
		s.PodIP = s.PodIPs[0].IP
	}
	if s.PodIP != "" && (len(s.PodIPs) == 0 || s.PodIPs[0].IP != s.PodIP) {
		s.PodIPs = []corev1.PodIP{{IP: s.PodIP}}
	}
}

func preparePod(pod *corev1.Pod) {
	pod.Status = corev1.PodStatus{Phase: corev1.PodPending, QOSClass: qos.ComputePodQOS(pod)}
	if len(pod.Spec.SchedulingGates) > 0 {
		pod.Status.Conditions = []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonSchedulingGated,
			Message: "Scheduling is blocked due to non-empty scheduling gates", LastTransitionTime: pod.CreationTimestamp,
		}}
	}
	podspec.MergeMatchLabelKeys(pod)
}

// podGrace lets a scheduled pod run down; one that no node has seen, or that has run down already,
// goes at once.
func podGrace(_ context.Context, obj kind.Object, options *metav1.DeleteOptions) bool {
	if options == nil {
		return false
	}
	pod := obj.(*corev1.Pod)
	var grace int64
	switch {
	case options.GracePeriodSeconds != nil:
		grace = *options.GracePeriodSeconds
	case pod.Spec.TerminationGracePeriodSeconds != nil:
		grace = *pod.Spec.TerminationGracePeriodSeconds
	}
	if pod.Spec.NodeName == "" || pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded {
		grace = 0
	}
	if grace < 0 {
		grace = 1
	}
	options.GracePeriodSeconds = &grace
	return true
}

// podWarnings speaks of what is allowed but hardly meant; an update says nothing new of the spec.
func podWarnings(pod *corev1.Pod, old kind.Object) []string {
	if old != nil {
		return nil
	}
	var out []string
	if msgs := validation.IsDNS1123Label(pod.Name); len(msgs) > 0 {
		out = append(out, fmt.Sprintf("metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: %v", msgs))
	}
	return append(out, podspec.Warnings(&pod.ObjectMeta, &pod.Spec, nil)...)
}
