package gc

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/troupe-run/troupe/actors/controller"
	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

const (
	// maxEnded is how many pods that ended are kept.
	maxEnded = 12500
	// quarantine is how long a node has to be gone before its pods are: it may only register anew.
	quarantine = 40 * time.Second
)

// allPods is the key under which the pods that ended are counted.
var allPods = messages.KeyOf(messages.Pods, "", "")

// podCollector collects pods.
type podCollector struct {
	controller.Deps
	limit int

	mu      sync.Mutex
	missing map[string]time.Time // nodes that pods are bound to and that are not there, since when
}

// PodSpec returns the garbage collector of pods.
func PodSpec(d controller.Deps) controller.Spec {
	return newPodCollector(d, maxEnded).spec()
}

func newPodCollector(d controller.Deps, limit int) *podCollector {
	return &podCollector{Deps: d, limit: limit, missing: make(map[string]time.Time)}
}

func (c *podCollector) spec() controller.Spec {
	return controller.Spec{
		Name: "pod-garbage-collector",
		Watches: []controller.Watch{
			{Resource: messages.Pods, Keys: c.ofPod},
			{Resource: messages.Nodes, Keys: c.ofNode},
		},
		Reconcile: c.reconcile,
		Every:     time.Second,
	}
}

func (c *podCollector) ofPod(ch objects.Change) (out []messages.Key) {
	pod, _ := ch.New.(*corev1.Pod)
	if pod == nil {
		return nil
	}
	old, _ := ch.Old.(*corev1.Pod)
	if ended(pod) && (old == nil || !ended(old)) {
		out = append(out, allPods)
	}
	bound := old == nil || old.Spec.NodeName != pod.Spec.NodeName
	leaving := pod.DeletionTimestamp != nil && (old == nil || old.DeletionTimestamp == nil)
	if (bound || leaving) && c.fate(pod) != stays {
		out = append(out, ch.Key)
	}
	return out
}

func (c *podCollector) ofNode(ch objects.Change) (out []messages.Key) {
	node, _ := ch.New.(*corev1.Node)
	if node != nil {
		c.present(node.Name)
		if !outOfService(node) {
			return nil
		}
	}
	for _, pod := range objects.Index[*corev1.Pod](c.Reader, messages.Pods, objects.IndexNode, ch.Key.Name) {
		out = append(out, messages.KeyOf(messages.Pods, pod.Namespace, pod.Name))
	}
	return out
}

// fate is what becomes of a pod.
type fate int

const (
	stays fate = iota
	// lost: its node is not there.
	lost
	// goes: it is to be deleted and nobody will finish that.
	goes
)

func (c *podCollector) fate(pod *corev1.Pod) fate {
	leaving := pod.DeletionTimestamp != nil
	if pod.Spec.NodeName == "" {
		if leaving {
			return goes
		}
		return stays
	}
	node, ok := objects.Get[*corev1.Node](c.Reader, messages.KeyOf(messages.Nodes, "", pod.Spec.NodeName))
	switch {
	case !ok && leaving, ok && leaving && outOfService(node):
		return goes
	case !ok:
		return lost
	}
	return stays
}

// outOfService says that somebody vouches for a node not to run anything any more.
func outOfService(node *corev1.Node) bool {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
			return false
		}
	}
	return slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeOutOfService })
}

func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

func (c *podCollector) reconcile(ctx context.Context, key messages.Key) (controller.Result, error) {
	if key == allPods {
		return controller.Result{}, c.thin(ctx)
	}
	pod, ok := objects.Get[*corev1.Pod](c.Reader, key)
	if !ok {
		return controller.Result{}, nil
	}
	switch c.fate(pod) {
	case lost:
		if left := c.quarantined(pod.Spec.NodeName); left > 0 {
			return controller.Result{After: left}, nil
		}
		return controller.Result{}, c.remove(ctx, pod, "PodGC: node no longer exists")
	case goes:
		return controller.Result{}, c.remove(ctx, pod, "")
	}
	return controller.Result{}, nil
}

// quarantined returns how long a lost node's pods are still left alone.
func (c *podCollector) quarantined(node string) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	since, ok := c.missing[node]
	if !ok {
		since = c.Clock.Now()
		c.missing[node] = since
	}
	return since.Add(quarantine).Sub(c.Clock.Now())
}

// present ends a node's quarantine.
func (c *podCollector) present(node string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.missing, node)
}

// remove deletes a pod at once. With a reason, a pod that has not ended is marked as failed first,
// so that its controller can tell.
func (c *podCollector) remove(ctx context.Context, pod *corev1.Pod, reason string) error {
	key := messages.KeyOf(messages.Pods, pod.Namespace, pod.Name)
	if reason != "" && !ended(pod) {
		_, err := c.Writer.Mutate(ctx, key, "status", func(o objects.Object) (objects.Object, error) {
			if p := o.(*corev1.Pod); p.UID == pod.UID {
				p.Status.Phase = corev1.PodFailed
				p.Status.Conditions = messages.SetPodCondition(p.Status.Conditions, corev1.PodCondition{
					Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "DeletionByPodGC", Message: reason,
					ObservedGeneration: p.Generation, LastTransitionTime: metav1.NewTime(c.Clock.Now())})
			}
			return o, nil
		})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("mark %s as failed: %w", key, err)
		}
	}
	now := int64(0)
	err := c.Writer.Delete(ctx, key, metav1.DeleteOptions{GracePeriodSeconds: &now, Preconditions: metav1.NewUIDPreconditions(string(pod.UID))})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("collect %s: %w", key, err)
	}
	return nil
}

// thin deletes the oldest of too many pods that ended.
func (c *podCollector) thin(ctx context.Context) error {
	var all []*corev1.Pod
	for _, pod := range objects.List[*corev1.Pod](c.Reader, messages.Pods, "") {
		if ended(pod) {
			all = append(all, pod)
		}
	}
	extra := len(all) - c.limit
	if extra <= 0 {
		return nil
	}
	slices.SortFunc(all, func(a, b *corev1.Pod) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	_, err := controller.SlowStart(ctx, extra, func(ctx context.Context, i int) error { return c.remove(ctx, all[i], "") })
	return err
}
