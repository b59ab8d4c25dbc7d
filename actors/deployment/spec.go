package deployment

import (
	"context"
	"fmt"
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

// every is the least distance between two passes over one Deployment.
const every = 100 * time.Millisecond

// deployments is the controller.
type deployments struct {
	controller.Deps
	orphans *claim.Orphans
}

// Spec returns the controller of Deployments.
func Spec(d controller.Deps) controller.Spec {
	s := &deployments{Deps: d, orphans: claim.NewOrphans()}
	return controller.Spec{
		Name: "deployment",
		Watches: []controller.Watch{
			{Resource: messages.Deployments},
			{Resource: messages.ReplicaSets, Keys: s.deploymentsOf},
		},
		Reconcile: s.reconcile,
		Every:     every,
	}
}

// deploymentsOf returns the Deployments that a change of a ReplicaSet concerns: those that control
// it, before and now, and those that may adopt it.
func (s *deployments) deploymentsOf(ch objects.Change) []messages.Key {
	orphan := s.orphans.Note(ch)
	var out []messages.Key
	for _, obj := range []objects.Object{ch.Old, ch.New} {
		if obj == nil {
			continue
		}
		if key, ok := claim.Owner(obj, messages.Deployments, "Deployment"); ok && (len(out) == 0 || out[0] != key) {
			out = append(out, key)
		}
	}
	if orphan && ch.New.GetDeletionTimestamp() == nil {
		for _, d := range objects.List[*appsv1.Deployment](s.Reader, messages.Deployments, ch.Key.Namespace) {
			if selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector); err == nil && selector.Matches(labels.Set(ch.New.GetLabels())) {
				out = append(out, messages.KeyOf(messages.Deployments, d.Namespace, d.Name))
			}
		}
	}
	return out
}

func (s *deployments) reconcile(ctx context.Context, key messages.Key) (controller.Result, error) {
	d, ok := objects.Get[*appsv1.Deployment](s.Reader, key)
	if !ok {
		return controller.Result{}, nil
	}
	if err := s.claim(ctx, key, d); err != nil {
		return controller.Result{}, err
	}
	return s.act(ctx, key, d, decide(snapshot{deployment: d, sets: s.sets(d), running: s.running, now: s.Clock.Now()}))
}

// sets returns the ReplicaSets the Deployment controls.
func (s *deployments) sets(d *appsv1.Deployment) []*appsv1.ReplicaSet {
	all := objects.Index[*appsv1.ReplicaSet](s.Reader, messages.ReplicaSets, objects.IndexOwner, string(d.UID))
	out := all[:0]
	for _, rs := range all {
		if metav1.IsControlledBy(rs, d) && rs.Namespace == d.Namespace {
			out = append(out, rs)
		}
	}
	return out
}

// running says whether a set has pods that have not ended, those being deleted included.
func (s *deployments) running(rs *appsv1.ReplicaSet) bool {
	for _, pod := range objects.Index[*corev1.Pod](s.Reader, messages.Pods, objects.IndexOwner, string(rs.UID)) {
		if metav1.IsControlledBy(pod, rs) && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
			return true
		}
	}
	return false
}

func (s *deployments) claim(ctx context.Context, key messages.Key, d *appsv1.Deployment) error {
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil {
		return fmt.Errorf("read the selector of %s: %w", key, err)
	}
	_, adopt, release := claim.Sort(d, selector, claim.Append(s.sets(d), s.orphans, s.Reader, d.Namespace))
	for _, rs := range adopt {
		if _, err := claim.Adopt(ctx, s.Reader, s.Writer, key, controllerRef(d), setKey(rs), rs); err != nil {
			return err
		}
	}
	for _, rs := range release {
		if err := claim.Release(ctx, s.Writer, d, setKey(rs), rs); err != nil {
			return err
		}
	}
	return nil
}

func setKey(rs *appsv1.ReplicaSet) messages.Key {
	return messages.KeyOf(messages.ReplicaSets, rs.Namespace, rs.Name)
}
