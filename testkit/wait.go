package testkit

import (
	"context"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/yaml"
)

// waitLimit is how long WaitFor waits, in the cluster's own time: virtual in a bubble.
const waitLimit = 30 * time.Second

// How often Until looks: virtual time costs no waiting but every look costs work.
const (
	lookEvery        = 5 * time.Millisecond
	lookEveryVirtual = 100 * time.Millisecond
)

// lookAgain is how long to wait after an error of the API, such as a kind that is not served yet.
const lookAgain = 10 * time.Millisecond

// WaitFor waits until an object, named as in "Pod default/web-0", is as wanted, and returns it. It
// fails the test after thirty seconds and shows what the object and its Events were like.
func (c *Cluster) WaitFor(name string, want Condition) *unstructured.Unstructured {
	c.t.Helper()
	return c.WaitLong(name, want, waitLimit)
}

// WaitLong is WaitFor with a limit of its own; in a virtual cluster an hour costs milliseconds.
func (c *Cluster) WaitLong(name string, want Condition, limit time.Duration) *unstructured.Unstructured {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), limit)
	defer cancel()
	var obj *unstructured.Unstructured
	for {
		ok, err := c.follow(ctx, name, &obj, want)
		if ok {
			return obj
		}
		if ctx.Err() != nil {
			c.t.Fatalf("%s was not as wanted within %s (%v):\n%s", name, limit, err, c.describe(obj))
		}
		time.Sleep(lookAgain)
	}
}

// follow lists and watches one object, into obj, until it is as wanted or the watch ends.
func (c *Cluster) follow(ctx context.Context, name string, obj **unstructured.Unstructured, want Condition) (bool, error) {
	res, object, err := c.names.find(name)
	if err != nil {
		return false, err
	}
	only := metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", object).String()}
	list, err := res.List(ctx, only)
	if err != nil {
		return false, err
	}
	*obj = nil
	if len(list.Items) == 1 {
		*obj = &list.Items[0]
	}
	if want(*obj) {
		return true, nil
	}
	only.ResourceVersion = list.GetResourceVersion()
	w, err := res.Watch(ctx, only)
	if err != nil {
		return false, err
	}
	defer w.Stop()
	for ev := range w.ResultChan() {
		u, ok := ev.Object.(*unstructured.Unstructured)
		switch {
		case ev.Type == watch.Error || !ok:
			return false, fmt.Errorf("watch %s: %v", name, ev.Object)
		case ev.Type == watch.Deleted:
			u = nil
		}
		if *obj = u; want(u) {
			return true, nil
		}
	}
	return false, ctx.Err()
}

// Until waits until ok returns true and fails the test after thirty seconds. Where one object tells,
// WaitFor is quicker and says more.
func (c *Cluster) Until(what string, ok func() bool) {
	c.t.Helper()
	every := lookEvery
	if c.opts.virtual {
		every = lookEveryVirtual
	}
	for end := time.Now().Add(waitLimit); !ok(); time.Sleep(every) {
		if time.Now().After(end) {
			c.t.Fatalf("within %s it did not happen that %s", waitLimit, what)
		}
	}
}

// describe shows an object and its Events, for the log of a failed test.
func (c *Cluster) describe(o *unstructured.Unstructured) string {
	if o == nil {
		return "(does not exist)"
	}
	o = o.DeepCopy()
	o.SetManagedFields(nil)
	var b strings.Builder
	text, err := yaml.Marshal(o.Object)
	fmt.Fprintf(&b, "%s", text)
	events, listErr := c.client.CoreV1().Events(o.GetNamespace()).List(c.t.Context(), metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("involvedObject.uid", string(o.GetUID())).String(),
	})
	if err != nil || listErr != nil {
		fmt.Fprintf(&b, "(incomplete: %v, %v)\n", err, listErr)
		return b.String()
	}
	for _, e := range events.Items {
		fmt.Fprintf(&b, "%s %s %s x%d: %s\n", e.LastTimestamp.UTC().Format(time.TimeOnly), e.Type, e.Reason, max(e.Count, 1), e.Message)
	}
	return b.String()
}
