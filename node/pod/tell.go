package pod

import (
	"github.com/asynkron/protoactor-go/actor"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/troupe-run/troupe/actors/stage"
	"github.com/troupe-run/troupe/node/link"
)

// tell reports the status when it differs from the last one reported. What only says that the pod
// is on its way waits a moment for something better, which spares the whole cluster a write.
func (p *podActor) tell(c actor.Context, due bool) {
	if p.s.pod == nil || p.s.unwanted || p.done {
		return
	}
	for i := range p.s.containers {
		if x := &p.s.containers[i]; x.exited() && !x.read {
			return // its exit is being read
		}
	}
	now := p.cfg.Clock.Now()
	if len(p.s.containers) == 0 && p.s.pod.DeletionTimestamp != nil && p.last != nil {
		return // all has been removed: the status before that is the last word
	}
	st := statusOf(&p.s, now, nodeFacts{runtime: p.cfg.RuntimeName, hostIPs: p.cfg.Facts().HostIPs})
	p.last = &st
	p.fx.views.put(p.viewOf())
	if p.told && equality.Semantic.DeepEqual(st, p.s.pod.Status) {
		return
	}
	if !due && transitional(p.s.pod, &st) {
		if p.report == nil {
			p.report = stage.After(c, p.cfg.Quiet, reportDue{})
		}
		return
	}
	p.report.Stop()
	p.report, p.told = nil, true
	own := *p.s.pod
	own.Status = st
	p.s.pod = &own
	p.cfg.Control.ReportPod(link.PodReport{UID: own.UID, Namespace: own.Namespace, Name: own.Name, Status: st})
	if isTerminal(st.Phase) {
		p.reconcile(c)
	}
}

// transitional says whether a status is worth less than the one that will follow soon.
func transitional(p *corev1.Pod, st *corev1.PodStatus) bool {
	if p.DeletionTimestamp != nil {
		return true
	}
	if st.Phase != corev1.PodPending {
		return false
	}
	for _, list := range [][]corev1.ContainerStatus{st.InitContainerStatuses, st.ContainerStatuses} {
		for i := range list {
			if w := list[i].State.Waiting; w == nil || w.Reason != reasonCreating && w.Reason != reasonInitializing {
				return false
			}
		}
	}
	return true
}

// finish reports the end and leaves.
func (p *podActor) finish(c actor.Context) {
	p.done = true
	if p.s.pod != nil && !p.s.unwanted {
		if p.last == nil {
			st := statusOf(&p.s, p.cfg.Clock.Now(), nodeFacts{runtime: p.cfg.RuntimeName, hostIPs: p.cfg.Facts().HostIPs})
			p.last = &st
		}
		p.cfg.Control.ReportPod(link.PodReport{UID: p.s.pod.UID, Namespace: p.s.pod.Namespace, Name: p.s.pod.Name, Status: *p.last, Finished: true})
	}
	c.Send(c.Parent(), finished{p.s.uid})
}
