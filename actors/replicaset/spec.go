package replicaset

import (
	"context"
	"maps"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/troupe-run/troupe/actors/claim"
	"github.com/troupe-run/troupe/actors/controller"
	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// every is the least distance between two passes over one set.
const every = 50 * time.Millisecond

// sets is the controller.
type sets struct {
	controller.Deps
	orphans *claim.Orphans
}

// Spec returns the controller of ReplicaSets.
func Spec(d controller.Deps) controller.Spec {
	s := &sets{Deps: d, orphans: claim.NewOrphans()}
	return controller.Spec{
		Name: "replicaset",
		Watches: []controller.Watch{
			{Resource: messages.ReplicaSets},
			{Resource: messages.Pods, Keys: s.setsOf},
		},
		Reconcile: s.reconcile,
		Every:     every,
	}
}

// setsOf returns the sets that a change of a pod concerns: those that control it, before and now,
// and those that may adopt it.
func (s *sets) setsOf(ch objects.Change) []messages.Key {
	orphan := s.orphans.Note(ch)
	old, _ := ch.Old.(*corev1.Pod)
	pod, _ := ch.New.(*corev1.Pod)
	if old != nil && pod != nil && !matters(old, pod) {
		return nil
	}
	var out []messages.Key
	if old != nil {
		if key, ok := claim.Owner(old, messages.ReplicaSets, "ReplicaSet"); ok {
			out = append(out, key)
		}
	}
	if pod == nil {
		return out
	}
	if key, ok := claim.Owner(pod, messages.ReplicaSets, "ReplicaSet"); ok && (len(out) == 0 || out[0] != key) {
		out = append(out, key)
	}
	if orphan && pod.DeletionTimestamp == nil {
		for _, rs := range objects.List[*appsv1.ReplicaSet](s.Reader, messages.ReplicaSets, pod.Namespace) {
			if selector, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector); err == nil && selector.Matches(labels.Set(pod.Labels)) {
				out = append(out, messages.KeyOf(messages.ReplicaSets, rs.Namespace, rs.Name))
			}
		}
	}
	return out
}

// matters says whether a set may count or claim a pod differently after a change.
func matters(old, pod *corev1.Pod) bool {
	was, is := metav1.GetControllerOfNoCopy(old), metav1.GetControllerOfNoCopy(pod)
	if (was == nil) != (is == nil) || was != nil && was.UID != is.UID {
		return true
	}
	a, b := readyCondition(old), readyCondition(pod)
	return old.UID != pod.UID || old.Status.Phase != pod.Status.Phase ||
		(old.DeletionTimestamp == nil) != (pod.DeletionTimestamp == nil) ||
		a.Status != b.Status || !a.LastTransitionTime.Equal(&b.LastTransitionTime) ||
		!maps.Equal(old.Labels, pod.Labels)
}

func (s *sets) reconcile(ctx context.Context, key messages.Key) (controller.Result, error) {
	rs, ok := objects.Get[*appsv1.ReplicaSet](s.Reader, key)
	if !ok {
		return controller.Result{}, nil
	}
	return s.act(ctx, key, rs)
}
