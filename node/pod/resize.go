package pod

import (
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	podresource "k8s.io/component-helpers/resource"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// resizable are the resources of a running container that may change.
var resizable = []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory}

// retryResize is how often a resize that has to wait for room is tried again.
const retryResize = 5 * time.Second

// allotment is what the node has promised a pod's containers, by name. It follows the spec when
// the node agrees.
type allotment map[string]corev1.ResourceRequirements

func allotmentOf(spec *corev1.PodSpec) allotment {
	out := make(allotment, len(spec.Containers)+len(spec.InitContainers))
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			out[list[i].Name] = list[i].Resources
		}
	}
	return out
}

// recovered is what an earlier life of the agent had promised: what the status says of containers
// that ran, the spec of others.
func recovered(spec *corev1.PodSpec, st *corev1.PodStatus) allotment {
	out := allotmentOf(spec)
	for _, list := range [][]corev1.ContainerStatus{st.InitContainerStatuses, st.ContainerStatuses} {
		for i := range list {
			c := &list[i]
			if have, ok := out[c.Name]; ok && c.State.Running != nil {
				have.Requests = merged(have.Requests, c.AllocatedResources)
				var limits corev1.ResourceList
				if c.Resources != nil {
					limits = c.Resources.Limits
				}
				have.Limits = merged(have.Limits, limits)
				out[c.Name] = have
			}
		}
	}
	return out
}

// merged is list with what may be resized taken from another.
func merged(list, from corev1.ResourceList) corev1.ResourceList {
	out := list.DeepCopy()
	for _, name := range resizable {
		delete(out, name)
		if q, ok := from[name]; ok {
			if out == nil {
				out = make(corev1.ResourceList, len(resizable))
			}
			out[name] = q
		}
	}
	return out
}

// applied returns the spec with these resources; slices that change are copies.
func (a allotment) applied(spec corev1.PodSpec) corev1.PodSpec {
	apply := func(list []corev1.Container) []corev1.Container {
		list = slices.Clone(list)
		for i := range list {
			if r, ok := a[list[i].Name]; ok {
				list[i].Resources = r
			}
		}
		return list
	}
	spec.InitContainers, spec.Containers = apply(spec.InitContainers), apply(spec.Containers)
	return spec
}

// ledger adds up what the pods of a node have been promised. Pod actors share it.
type ledger struct {
	mu   sync.Mutex
	pods map[types.UID]corev1.ResourceList
}

func newLedger() *ledger { return &ledger{pods: make(map[types.UID]corev1.ResourceList)} }

func requestsOf(spec corev1.PodSpec) corev1.ResourceList {
	return podresource.PodRequests(&corev1.Pod{Spec: spec}, podresource.PodResourcesOptions{})
}

// set notes what a pod has, whether it fits or not: it is here.
func (l *ledger) set(uid types.UID, need corev1.ResourceList) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pods[uid] = need
}

func (l *ledger) drop(uid types.UID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.pods, uid)
}

// admit notes what a pod would like to have instead of what it has, unless that does not fit.
func (l *ledger) admit(uid types.UID, need, capacity corev1.ResourceList) failure {
	l.mu.Lock()
	defer l.mu.Unlock()
	used := corev1.ResourceList{}
	for other, has := range l.pods {
		if other == uid {
			continue
		}
		for _, name := range resizable {
			sum, q := used[name], has[name]
			sum.Add(q)
			used[name] = sum
		}
	}
	f := fits(l.pods[uid], need, used, capacity)
	if f.reason == "" {
		l.pods[uid] = need
	}
	return f
}

// countable are the resources of new pods that are compared with what the node has.
var countable = []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage}

// room says why a new pod does not fit beside the pods here: its reason names the resource. Only
// pods that no scheduler has placed can be refused. The words are the kubelet's.
func (l *ledger) room(need, capacity corev1.ResourceList) failure {
	l.mu.Lock()
	defer l.mu.Unlock()
	short := func(name corev1.ResourceName, need, used, capacity int64) failure {
		return failure{"OutOf" + string(name), fmt.Sprintf("Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", name, need, used, capacity)}
	}
	if most, ok := capacity[corev1.ResourcePods]; ok && int64(len(l.pods)) >= most.Value() {
		return short(corev1.ResourcePods, 1, int64(len(l.pods)), most.Value())
	}
	for _, name := range countable {
		wanted, has := amount(need, name), amount(capacity, name)
		if _, ok := capacity[name]; !ok || wanted == 0 {
			continue
		}
		var used int64
		for _, list := range l.pods {
			used += amount(list, name)
		}
		if wanted > has-used {
			return short(name, wanted, used, has)
		}
	}
	return failure{}
}

// amount is a quantity in the unit that kubelets count in: thousandths of cores, bytes.
func amount(list corev1.ResourceList, name corev1.ResourceName) int64 {
	q := list[name]
	if name == corev1.ResourceCPU {
		return q.MilliValue()
	}
	return q.Value()
}

// fits says why a pod cannot get what it asks for, beside what others use: never, or not now. What
// does not grow always fits. The words are the kubelet's.
func fits(has, need, used, capacity corev1.ResourceList) failure {
	for _, name := range resizable {
		if limit, ok := capacity[name]; ok && amount(need, name) > amount(capacity, name) && !limit.IsZero() {
			return failure{corev1.PodReasonInfeasible, fmt.Sprintf("Node didn't have enough capacity: %s, requested: %d, capacity: %d", name, amount(need, name), amount(capacity, name))}
		}
	}
	for _, name := range resizable {
		if _, ok := capacity[name]; !ok || amount(need, name) <= amount(has, name) {
			continue
		}
		if amount(need, name)+amount(used, name) > amount(capacity, name) {
			return failure{corev1.PodReasonDeferred, fmt.Sprintf("Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d",
				name, amount(need, name), amount(used, name), amount(capacity, name))}
		}
	}
	return failure{}
}

// resizing is how far the change of a pod's resources is.
type resizing struct {
	// pending is why the node has not agreed to what the spec asks for.
	pending failure
	// generation is that of the spec the node has agreed to; active says that containers have not
	// all got what it says yet.
	generation int64
	active     bool
	// retry is why a container could not get it.
	retry retry
}

// change says which of a running container's resources are not what they should be.
type change struct{ cpu, memory bool }

func (c change) any() bool { return c.cpu || c.memory }

func changeOf(want, have *cri.LinuxContainerResources) change {
	if have == nil { // a runtime that does not tell cannot be compared
		return change{}
	}
	return change{
		cpu:    want.CpuShares != have.CpuShares || want.CpuQuota != max(have.CpuQuota, 0),
		memory: want.MemoryLimitInBytes != have.MemoryLimitInBytes,
	}
}

// restarting says whether a container takes the change by a new run only.
func (c change) restarting(policies []corev1.ContainerResizePolicy) bool {
	for _, p := range policies {
		if p.RestartPolicy == corev1.RestartContainer && (p.ResourceName == corev1.ResourceCPU && c.cpu || p.ResourceName == corev1.ResourceMemory && c.memory) {
			return true
		}
	}
	return false
}

// resize gives running containers what has been promised; it says with the plan when all have it.
func (d *decision) resize() {
	s := d.s
	if !s.resize.active {
		return
	}
	left := false
	d.each(func(c *corev1.Container, _ bool) {
		x := s.current(c.Name)
		if x == nil || !x.running() {
			return
		}
		diff := changeOf(resources(s.pod, c, machine{}), x.resources)
		if !diff.any() {
			return
		}
		left = true
		switch {
		case !d.free(c.Name):
		case s.resize.retry.waits(d.now):
			d.at(s.resize.retry.until)
		case diff.restarting(c.ResizePolicy):
			d.do(action{kind: stopContainer, name: c.Name, id: x.id, grace: grace(s.pod), hook: true, resize: true,
				reason: fmt.Sprintf("Container %s resize requires restart", c.Name)})
		default:
			d.do(action{kind: updateContainer, name: c.Name, id: x.id})
		}
	})
	if !left && d.free(laneVolumes) {
		d.do(action{kind: fitPod})
	}
}

// allot decides what a new version of the pod may use, and puts that into its spec: what the node
// has not agreed to does not show to anything else here.
func (p *podActor) allot(own *corev1.Pod) {
	s := &p.s
	asked := allotmentOf(&own.Spec)
	if s.allotted == nil {
		s.allotted = recovered(&own.Spec, &own.Status)
		s.resize.generation = own.Generation
		s.resize.active = findCondition(own.Status.Conditions, corev1.PodResizeInProgress) != nil
		p.cfg.promised.set(s.uid, requestsOf(s.allotted.applied(own.Spec)))
	}
	switch over := own.DeletionTimestamp != nil || isTerminal(own.Status.Phase) || !s.stopping.IsZero(); {
	case over:
		p.cfg.promised.drop(s.uid)
		s.resize.pending = failure{}
	case equality.Semantic.DeepEqual(asked, s.allotted):
		s.resize.pending = failure{}
		return // as nearly always: the spec is shared with others
	default:
		was := s.resize.pending
		s.resize.pending = p.cfg.promised.admit(s.uid, requestsOf(own.Spec), p.cfg.Facts().Capacity)
		if f := s.resize.pending; f.reason != "" {
			if f != was {
				p.cfg.record(own, corev1.EventTypeWarning, "Resize"+f.reason, "Pod resize %s: %s", f.reason, f.message)
			}
			break
		}
		s.allotted = asked
		s.resize = resizing{generation: own.Generation, active: true}
		p.cfg.record(own, corev1.EventTypeNormal, eventResizeStarted, "Pod resize started for generation %d", own.Generation)
	}
	own.Spec = s.allotted.applied(own.Spec)
}

// resized takes in how a step of a resize went.
func (p *podActor) resized(a action, now time.Time, err error) {
	r := &p.s.resize
	if err != nil {
		settleRetry(&r.retry, now, err)
		p.cfg.record(p.s.pod, corev1.EventTypeWarning, eventResizeError, "Pod resize failed: %s", words(err))
		return
	}
	r.retry = retry{}
	if a.kind == fitPod {
		r.active = false
		p.cfg.record(p.s.pod, corev1.EventTypeNormal, eventResizeCompleted, "Pod resize completed for generation %d", r.generation)
	}
}

// resizeConditions are the conditions that tell of a resize that is not over.
func resizeConditions(s *state) []corev1.PodCondition {
	var out []corev1.PodCondition
	if f := s.resize.pending; f.reason != "" {
		out = append(out, corev1.PodCondition{Type: corev1.PodResizePending, Status: corev1.ConditionTrue, Reason: f.reason, Message: f.message, ObservedGeneration: s.pod.Generation})
	}
	if s.resize.active && s.stopping.IsZero() {
		c := corev1.PodCondition{Type: corev1.PodResizeInProgress, Status: corev1.ConditionTrue, ObservedGeneration: s.resize.generation}
		if s.resize.retry.failures > 0 {
			c.Reason, c.Message = corev1.PodReasonError, s.resize.retry.message
		}
		out = append(out, c)
	}
	return out
}

// actual is what a running container has, as far as the runtime tells; the rest is what it was
// promised.
func actual(c *corev1.Container, have *cri.LinuxContainerResources) *corev1.ResourceRequirements {
	out := c.Resources.DeepCopy()
	if have == nil {
		return out
	}
	set := func(list *corev1.ResourceList, name corev1.ResourceName, q *resource.Quantity) {
		if *list == nil {
			*list = corev1.ResourceList{}
		}
		(*list)[name] = *q
	}
	request, asked := c.Resources.Requests[corev1.ResourceCPU]
	if !asked {
		request, asked = c.Resources.Limits[corev1.ResourceCPU]
	}
	if asked && cpuShares(request.MilliValue()) != have.CpuShares {
		set(&out.Requests, corev1.ResourceCPU, resource.NewMilliQuantity(have.CpuShares*1000/1024, resource.DecimalSI))
	}
	limit := c.Resources.Limits.Cpu()
	switch {
	case have.CpuQuota <= 0:
		delete(out.Limits, corev1.ResourceCPU)
	case quota(limit.MilliValue()) != have.CpuQuota && have.CpuPeriod > 0:
		set(&out.Limits, corev1.ResourceCPU, resource.NewMilliQuantity(have.CpuQuota*1000/have.CpuPeriod, resource.DecimalSI))
	}
	switch {
	case have.MemoryLimitInBytes <= 0:
		delete(out.Limits, corev1.ResourceMemory)
	case c.Resources.Limits.Memory().Value() != have.MemoryLimitInBytes:
		set(&out.Limits, corev1.ResourceMemory, resource.NewQuantity(have.MemoryLimitInBytes, resource.BinarySI))
	}
	return out
}
