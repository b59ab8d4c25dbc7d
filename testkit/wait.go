package testkit

import (
	"encoding/json"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// waitLimit is how long WaitFor waits, in the cluster's own time: virtual in a bubble.
const waitLimit = 30 * time.Second

// pollEvery is how often WaitFor looks.
const pollEvery = 10 * time.Millisecond

// Condition says whether an object is as wanted; the object is nil when it does not exist.
type Condition func(obj *unstructured.Unstructured) bool

// Running holds for a pod in phase Running, Ready for an object whose Ready condition is true,
// Available for one whose Available condition is, and Gone for one that does not exist.
var (
	Running   Condition = func(o *unstructured.Unstructured) bool { return text(o, "status", "phase") == "Running" }
	Ready     Condition = func(o *unstructured.Unstructured) bool { return condition(o, "Ready") == "True" }
	Available Condition = func(o *unstructured.Unstructured) bool { return condition(o, "Available") == "True" }
	Gone      Condition = func(o *unstructured.Unstructured) bool { return o == nil }
)

// WaitFor waits until an object, named as in "Pod default/web-0", is as wanted, and returns it. It
// fails the test after thirty seconds and shows what the object was like.
func (c *Cluster) WaitFor(name string, want Condition) *unstructured.Unstructured {
	c.t.Helper()
	return c.WaitLong(name, want, waitLimit)
}

// WaitLong is WaitFor with a limit of its own; in a virtual cluster an hour costs milliseconds.
func (c *Cluster) WaitLong(name string, want Condition, limit time.Duration) *unstructured.Unstructured {
	c.t.Helper()
	end := time.Now().Add(limit)
	for {
		obj, err := c.get(c.t.Context(), name)
		if err == nil && want(obj) {
			return obj
		}
		if time.Now().After(end) {
			c.t.Fatalf("%s was not as wanted within %s (error %v):\n%s", name, limit, err, pretty(obj))
		}
		time.Sleep(pollEvery)
	}
}

func isNotFound(err error) bool { return apierrors.IsNotFound(err) }

func text(o *unstructured.Unstructured, path ...string) string {
	if o == nil {
		return ""
	}
	s, _, _ := unstructured.NestedString(o.Object, path...)
	return s
}

// condition returns the status of a condition, "" when it is not there.
func condition(o *unstructured.Unstructured, name string) string {
	if o == nil {
		return ""
	}
	list, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	for _, item := range list {
		if c, ok := item.(map[string]any); ok && c["type"] == name {
			s, _ := c["status"].(string)
			return s
		}
	}
	return ""
}

func pretty(o *unstructured.Unstructured) string {
	if o == nil {
		return "(does not exist)"
	}
	b, err := json.MarshalIndent(o.Object, "", "  ")
	if err != nil {
		return err.Error()
	}
	return string(b)
}
