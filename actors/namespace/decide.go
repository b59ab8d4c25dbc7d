package namespace

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// item is one object of a namespace.
type item struct {
	key messages.Key
	obj objects.Object
}

// next returns what to delete now: pods, and what else there is once no pod is left. What is being
// deleted already is left to itself.
func next(content []item) (out []item) {
	pods := slices.ContainsFunc(content, func(i item) bool { return i.key.Resource == messages.Pods })
	for _, i := range content {
		if i.obj.GetDeletionTimestamp() == nil && (!pods || i.key.Resource == messages.Pods) {
			out = append(out, i)
		}
	}
	return out
}

// conditions returns a namespace's conditions for what remains and what failed.
func conditions(was []corev1.NamespaceCondition, content []item, failed error, now time.Time) []corev1.NamespaceCondition {
	left, holds := make(map[string]int), make(map[string]int)
	for _, i := range content {
		left[i.key.Resource.Resource+"."+i.key.Group]++
		for _, f := range i.obj.GetFinalizers() {
			holds[f]++
		}
	}
	out := slices.Clone(was)
	set := func(t corev1.NamespaceConditionType, is bool, reason, message string) {
		out = setCondition(out, t, is, reason, message, now)
	}
	set(corev1.NamespaceDeletionDiscoveryFailure, false, "ResourcesDiscovered", "All resources successfully discovered")
	set(corev1.NamespaceDeletionGVParsingFailure, false, "ParsedGroupVersions", "All legacy kube types successfully parsed")
	if failed != nil {
		set(corev1.NamespaceDeletionContentFailure, true, "ContentDeletionFailed", "Failed to delete all resource types, "+failed.Error())
	} else {
		set(corev1.NamespaceDeletionContentFailure, false, "ContentDeleted", "All content successfully deleted, may be waiting on finalization")
	}
	if len(left) > 0 {
		set(corev1.NamespaceContentRemaining, true, "SomeResourcesRemain", "Some resources are remaining: "+counts(left, "%s has %d resource instances"))
	} else {
		set(corev1.NamespaceContentRemaining, false, "ContentRemoved", "All content successfully removed")
	}
	if len(holds) > 0 {
		set(corev1.NamespaceFinalizersRemaining, true, "SomeFinalizersRemain", "Some content in the namespace has finalizers remaining: "+counts(holds, "%s in %d resource instances"))
	} else {
		set(corev1.NamespaceFinalizersRemaining, false, "ContentHasNoFinalizers", "All content-preserving finalizers finished")
	}
	return out
}

func counts(m map[string]int, format string) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		out = append(out, fmt.Sprintf(format, name, m[name]))
	}
	return strings.Join(out, ", ")
}

func setCondition(list []corev1.NamespaceCondition, t corev1.NamespaceConditionType, is bool, reason, message string, now time.Time) []corev1.NamespaceCondition {
	c := corev1.NamespaceCondition{Type: t, Status: corev1.ConditionFalse, Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(now)}
	if is {
		c.Status = corev1.ConditionTrue
	}
	for i := range list {
		if list[i].Type != t {
			continue
		}
		if list[i].Status == c.Status {
			c.LastTransitionTime = list[i].LastTransitionTime
		}
		list[i] = c
		return list
	}
	return append(list, c)
}
