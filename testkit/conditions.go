package testkit

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// Condition says whether an object is as wanted; the object is nil when it does not exist.
type Condition func(obj *unstructured.Unstructured) bool

// Conditions that tests ask for most.
var (
	// Running holds for a pod whose phase is Running.
	Running = Phase("Running")
	// Ready holds for what has a Ready condition that is true: pods, nodes.
	Ready = Is("Ready", "True")
	// Available holds for what has an Available condition that is true: deployments.
	Available = Is("Available", "True")
	// Exists holds for an object that exists, Gone for one that does not.
	Exists Condition = func(o *unstructured.Unstructured) bool { return o != nil }
	Gone   Condition = func(o *unstructured.Unstructured) bool { return o == nil }
	// RolledOut holds for a workload whose controller has seen its newest spec and whose replicas are
	// all of it, available, and as many as wanted: what kubectl rollout status waits for.
	RolledOut Condition = rolledOut
)

// Phase holds for an object in a phase: "Running", "Succeeded", "Terminating".
func Phase(phase string) Condition {
	return func(o *unstructured.Unstructured) bool {
		s, _, _ := unstructured.NestedString(content(o), "status", "phase")
		return o != nil && s == phase
	}
}

// Is holds for an object with a status condition of that type, status and, if given, reason.
func Is(conditionType, status string, reason ...string) Condition {
	return func(o *unstructured.Unstructured) bool {
		list, _, _ := unstructured.NestedSlice(content(o), "status", "conditions")
		for _, item := range list {
			c, ok := item.(map[string]any)
			if ok && c["type"] == conditionType && c["status"] == status && (len(reason) == 0 || c["reason"] == reason[0]) {
				return true
			}
		}
		return false
	}
}

// Waiting holds for a pod with a container, an init one or not, that waits for that reason:
// "ImagePullBackOff", "CrashLoopBackOff".
func Waiting(reason string) Condition {
	return func(o *unstructured.Unstructured) bool {
		for _, kind := range []string{"initContainerStatuses", "containerStatuses"} {
			list, _, _ := unstructured.NestedSlice(content(o), "status", kind)
			for _, item := range list {
				c, _ := item.(map[string]any)
				if s, _, _ := unstructured.NestedString(c, "state", "waiting", "reason"); s == reason {
					return true
				}
			}
		}
		return false
	}
}

// That holds when a function says so of the object in its own type, which is never nil:
//
//	c.WaitFor("Pod web", testkit.That(func(p *corev1.Pod) bool { return p.Status.PodIP != "" }))
func That[T any](ok func(*T) bool) Condition {
	return func(o *unstructured.Unstructured) bool { return o != nil && ok(As[T](o)) }
}

// Not holds when a condition does not.
func Not(c Condition) Condition {
	return func(o *unstructured.Unstructured) bool { return !c(o) }
}

// All holds when all of several conditions do.
func All(list ...Condition) Condition {
	return func(o *unstructured.Unstructured) bool {
		for _, c := range list {
			if !c(o) {
				return false
			}
		}
		return true
	}
}

// As converts an object to its own type, as in As[corev1.Pod](c.Get("Pod web")). It panics when
// the object is of another type or does not exist.
func As[T any](o *unstructured.Unstructured) *T {
	if o == nil {
		panic(fmt.Sprintf("testkit: no object to convert to %T", *new(T)))
	}
	out := new(T)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, out); err != nil {
		panic(fmt.Sprintf("testkit: convert %s %s: %v", o.GetKind(), o.GetName(), err))
	}
	return out
}

func content(o *unstructured.Unstructured) map[string]any {
	if o == nil {
		return nil
	}
	return o.Object
}

func rolledOut(o *unstructured.Unstructured) bool {
	number := func(path ...string) int64 {
		n, _, _ := unstructured.NestedInt64(content(o), path...)
		return n
	}
	want := number("spec", "replicas")
	return o != nil && number("status", "observedGeneration") >= o.GetGeneration() && number("status", "replicas") == want &&
		number("status", "updatedReplicas") == want && number("status", "availableReplicas") == want
}
