package scheduler

import (
	"context"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/actors/stage"
	"github.com/troupe-run/troupe/messages"
)

// told is what a waiting pod's status and Events say by now.
type told struct {
	verdict   string // why it does not fit
	nominated string // the node it was promised
}

// report tells the user, once per different verdict, why a pod does not fit, and which node it was
// promised.
func (s *schedulerActor) report(c actor.Context, w *waiting, verdict string) {
	now := told{verdict, s.cluster.nominated[w.pod.UID].node}
	if w.told == now {
		return
	}
	if w.told.verdict != verdict {
		s.deps.Recorder.Event(w.pod, corev1.EventTypeWarning, "FailedScheduling", verdict)
	}
	w.told = now
	s.writeStatus(c, w.pod, func(p *corev1.Pod) {
		p.Status.NominatedNodeName = now.nominated
		p.Status.Conditions = messages.SetPodCondition(p.Status.Conditions, corev1.PodCondition{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable,
			Message: verdict, LastTransitionTime: metav1.NewTime(s.deps.Clock.Now()), ObservedGeneration: p.Generation})
	}, func() { w.told = told{} }) // said again on the next try
}

// writeStatus edits the status of a pod that still waits.
func (s *schedulerActor) writeStatus(c actor.Context, pod *corev1.Pod, edit func(*corev1.Pod), failed func()) {
	stage.Go(c, s.binds, 30*time.Second, func(ctx context.Context) (struct{}, error) {
		_, err := s.deps.Writer.Mutate(ctx, messages.KeyOf(messages.Pods, pod.Namespace, pod.Name), "status", func(o objects.Object) (objects.Object, error) {
			if p := o.(*corev1.Pod); p.UID == pod.UID && p.Spec.NodeName == "" {
				edit(p)
			}
			return o, nil
		})
		return struct{}{}, err
	}, func(_ struct{}, err error) {
		if err != nil && !apierrors.IsNotFound(err) {
			s.deps.Log.Warn("status of a waiting pod not written", "key", pod.Namespace+"/"+pod.Name, "err", err)
			failed()
		}
	})
}
