package scheduler

import (
	"context"
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/actors/stage"
	"github.com/troupe-run/troupe/messages"
)

// makeRoom evicts pods for one that fits nowhere, if that helps, and promises it their node. It
// returns what the pod's verdict says of it.
func (s *schedulerActor) makeRoom(c actor.Context, w *waiting, bad *misfit) string {
	choice, why := preempt(w.podInfo, s.cluster, bad, objects.List[*policyv1.PodDisruptionBudget](s.deps.Reader, messages.PodDisruptionBudgets, ""))
	if choice == nil {
		if why != preemptsAlready {
			delete(s.cluster.nominated, w.pod.UID)
		}
		return " preemption: " + why
	}
	for uid, m := range s.cluster.nominated {
		if m.node == choice.node && m.pod.priority < w.priority {
			s.withdraw(c, m.pod)
			delete(s.cluster.nominated, uid)
		}
	}
	s.nominate(w.podInfo, choice.node)
	for _, v := range choice.victims {
		if v.pod.DeletionTimestamp == nil {
			s.evict(c, w.pod, v.pod, choice.node)
		}
	}
	return ""
}

// withdraw takes a promise back that a more important pod needs.
func (s *schedulerActor) withdraw(c actor.Context, p *podInfo) {
	if other := s.queue.pods[p.pod.UID]; other != nil {
		other.told.nominated = ""
		s.writeStatus(c, p.pod, func(p *corev1.Pod) { p.Status.NominatedNodeName = "" }, func() {})
	}
}

// evict ends a pod, with its grace, in favour of another, and says so in its status.
func (s *schedulerActor) evict(c actor.Context, winner, victim *corev1.Pod, node string) {
	key := messages.KeyOf(messages.Pods, victim.Namespace, victim.Name)
	stage.Go(c, s.binds, 30*time.Second, func(ctx context.Context) (struct{}, error) {
		_, err := s.deps.Writer.Mutate(ctx, key, "status", func(o objects.Object) (objects.Object, error) {
			if p := o.(*corev1.Pod); p.UID == victim.UID {
				p.Status.Conditions = messages.SetPodCondition(p.Status.Conditions, corev1.PodCondition{
					Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonPreemptionByScheduler,
					Message:            corev1.DefaultSchedulerName + ": preempting to accommodate a higher priority pod",
					ObservedGeneration: p.Generation, LastTransitionTime: metav1.NewTime(s.deps.Clock.Now())})
			}
			return o, nil
		})
		if err != nil {
			return struct{}{}, err
		}
		return struct{}{}, s.deps.Writer.Delete(ctx, key, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(victim.UID))})
	}, func(_ struct{}, err error) {
		switch {
		case err == nil:
			s.deps.Recorder.Event(victim, corev1.EventTypeNormal, "Preempted", fmt.Sprintf("Preempted by pod %s on node %s", winner.UID, node))
		case apierrors.IsNotFound(err) || apierrors.IsConflict(err): // it left on its own
		default: // the waiting pod is tried again and chooses anew
			s.deps.Log.Warn("eviction will be retried", "key", key, "node", node, "err", err)
			if w := s.queue.pods[winner.UID]; w != nil {
				w.stuck = false
				s.wantPass(c)
			}
		}
	})
}
