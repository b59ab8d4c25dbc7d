package pod

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	podresource "k8s.io/component-helpers/resource"

	"github.com/troupe-run/troupe/node/eviction"
)

// reasonEvicted is the reason of pods that take more of the node than they may or it can spare.
const reasonEvicted = eviction.Reason

// evictionGrace is what an evicted pod gets to end: each moment it may fill the disk further.
const evictionGrace = time.Second

// overLimit says that the pod has outgrown one of its emptyDirs, or that it or one of its containers
// takes more disk than it may. The words are the kubelet's.
func overLimit(spec *corev1.PodSpec, usage map[string]int64, disk *eviction.Usage) (failure, bool) {
	for i := range spec.Volumes {
		v := &spec.Volumes[i]
		if v.EmptyDir == nil || v.EmptyDir.SizeLimit == nil || v.EmptyDir.SizeLimit.Sign() <= 0 {
			continue
		}
		if limit := v.EmptyDir.SizeLimit; usage[v.Name] > limit.Value() {
			return failure{reasonEvicted, fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q. ", v.Name, limit.String())}, true
		}
	}
	if disk == nil {
		return failure{}, false
	}
	total := disk.Volumes.Bytes
	for _, c := range disk.Containers {
		total += c.Files.Bytes + c.Logs.Bytes
	}
	limits := podresource.PodLimits(&corev1.Pod{Spec: *spec}, podresource.PodResourcesOptions{})
	if limit, ok := limits[corev1.ResourceEphemeralStorage]; ok && total > limit.Value() {
		return failure{reasonEvicted, fmt.Sprintf("Pod ephemeral local storage usage exceeds the total limit of containers %s. ", limit.String())}, true
	}
	for _, c := range disk.Containers {
		if limit := storageLimit(spec, c.Name); limit != nil && c.Files.Bytes+c.Logs.Bytes > limit.Value() {
			return failure{reasonEvicted, fmt.Sprintf("Container %s exceeded its local ephemeral storage limit %q. ", c.Name, limit.String())}, true
		}
	}
	return failure{}, false
}

// storageLimit is how much disk a container may take, nil when there is no limit.
func storageLimit(spec *corev1.PodSpec, name string) *resource.Quantity {
	for i := range spec.Containers {
		if c := &spec.Containers[i]; c.Name == name && !c.Resources.Limits.StorageEphemeral().IsZero() {
			return c.Resources.Limits.StorageEphemeral()
		}
	}
	return nil
}

// measuredEvery is how often the disk is measured that a pod with a limit on it takes.
const measuredEvery = 10 * time.Second

// limitsDisk says whether the pod has a limit on the disk it takes.
func limitsDisk(spec *corev1.PodSpec) bool {
	_, ok := podresource.PodLimits(&corev1.Pod{Spec: *spec}, podresource.PodResourcesOptions{})[corev1.ResourceEphemeralStorage]
	return ok
}

// refreshEvery is how long the pod's files and its use of disk may go without a look; 0 is for ever.
func (c *Config) refreshEvery(spec *corev1.PodSpec) time.Duration {
	switch {
	case c.Refresh <= 0:
		return 0
	case c.Usage != nil && limitsDisk(spec):
		return min(c.Refresh, measuredEvery)
	case len(spec.Volumes) > 0:
		return c.Refresh
	}
	return 0
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

// refresh brings new content into the pod's volumes and measures what has a limit.
func (fx *effects) refresh(ctx context.Context, in input) (outcome, error) {
	usage, err := fx.cfg.Volumes.Usage(ctx, in.pod)
	o := outcome{usage: usage}
	if fx.cfg.Usage != nil && limitsDisk(&in.pod.Spec) {
		var failed error
		o.disk, failed = fx.cfg.Usage(ctx, in.pod)
		err = errors.Join(err, failed)
	}
	return o, errors.Join(fx.cfg.Volumes.Refresh(ctx, in.pod), err)
}
