package pod

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	corev1 "k8s.io/api/core/v1"

	"github.com/troupe-run/troupe/node/eviction"
)

// reasonEvicted is the reason of pods that take more of the node than they may or it can spare.
const reasonEvicted = eviction.Reason

// evictionGrace is what an evicted pod gets to end: each moment it may fill the disk further.
const evictionGrace = time.Second

// overLimit says that the pod has outgrown one of its emptyDirs. The words are the kubelet's.
func overLimit(spec *corev1.PodSpec, usage map[string]int64) (failure, bool) {
	for i := range spec.Volumes {
		v := &spec.Volumes[i]
		if v.EmptyDir == nil || v.EmptyDir.SizeLimit == nil || v.EmptyDir.SizeLimit.Sign() <= 0 {
			continue
		}
		if limit := v.EmptyDir.SizeLimit; usage[v.Name] > limit.Value() {
			return failure{reasonEvicted, fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q. ", v.Name, limit.String())}, true
		}
	}
	return failure{}, false
}

// evict ends the pod for the good of others, unless it is ending anyway.
func (p *podActor) evict(c actor.Context, message string) {
	if p.s.pod == nil || !p.s.stopping.IsZero() || isTerminal(p.s.pod.Status.Phase) {
		return
	}
	p.s.failed, p.s.disrupted = failure{reasonEvicted, message}, true
	p.cfg.record(p.s.pod, corev1.EventTypeWarning, reasonEvicted, "%s", message)
	p.halt()
	p.reconcile(c)
}

// isNew says whether the pod comes to this node for the first time, and not from an earlier life
// of the agent.
func (p *podActor) isNew(own *corev1.Pod) bool {
	return own.DeletionTimestamp == nil && own.Status.StartTime == nil && !isTerminal(own.Status.Phase) &&
		len(p.s.sandboxes) == 0 && len(p.s.containers) == 0
}

// admit says why a new pod is not let in.
func (p *podActor) admit(own *corev1.Pod) failure {
	if p.cfg.Admit == nil {
		return failure{}
	}
	reason, message := p.cfg.Admit(own)
	if reason != "" {
		p.cfg.record(own, corev1.EventTypeWarning, reason, "%s", message)
	}
	return failure{reason, message}
}

// refresh brings new content into the pod's volumes and measures those that have a limit.
func (fx *effects) refresh(ctx context.Context, in input) (outcome, error) {
	usage, err := fx.cfg.Volumes.Usage(ctx, in.pod)
	return outcome{usage: usage}, errors.Join(fx.cfg.Volumes.Refresh(ctx, in.pod), err)
}
