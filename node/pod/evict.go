package pod

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// reasonEvicted is the reason of pods that take more of the node than they may.
const reasonEvicted = "Evicted"

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

// refresh brings new content into the pod's volumes and measures those that have a limit.
func (fx *effects) refresh(ctx context.Context, in input) (outcome, error) {
	usage, err := fx.cfg.Volumes.Usage(ctx, in.pod)
	return outcome{usage: usage}, errors.Join(fx.cfg.Volumes.Refresh(ctx, in.pod), err)
}
