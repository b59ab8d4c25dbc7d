package nodes

import (
	"context"
	"fmt"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/proto/nodepb"
)

// podWriter brings one pod's status to what the node reported last: one write at a time, the
// newest report next. It stays until the pod is done with, so that a report that was overtaken by
// a newer one on its way is known for what it is.
type podWriter struct {
	incarnation, newest uint64 // of the reports seen
	busy                bool
	next                *nodepb.PodReport
}

// ackFlush sends the acknowledgements that have gathered.
type ackFlush struct{}

// outcome of a pod report.
type outcome int

const (
	written outcome = iota
	unknown         // no such pod on this node
)

func (n *node) podReports(c actor.Context, m *nodepb.PodReports) {
	if m.GetIncarnation() != n.incarnation {
		return // an agent that has been replaced
	}
	for _, r := range m.GetReports() {
		w := n.reports[r.GetUid()]
		if w == nil {
			w = &podWriter{}
			n.reports[r.GetUid()] = w
		}
		if w.incarnation != n.incarnation {
			w.incarnation, w.newest = n.incarnation, 0
		}
		switch {
		case r.GetVersion() < w.newest:
			continue
		case w.busy:
			w.next = r
		default:
			n.writePod(c, w, r)
		}
		w.newest = r.GetVersion()
	}
}

func (n *node) writePod(c actor.Context, w *podWriter, r *nodepb.PodReport) {
	w.busy = true
	work(c, n, func(ctx context.Context) (outcome, error) {
		return writePodStatus(ctx, n.cfg, n.name, r)
	}, func(out outcome, err error) {
		if err != nil {
			// Not acknowledged, so the node repeats it.
			n.log.Warn("pod status not written", "key", r.GetNamespace()+"/"+r.GetName(), "err", err)
		} else {
			n.ack(c, &nodepb.Ack{Uid: r.GetUid(), Version: r.GetVersion(), Unknown: out == unknown})
		}
		w.busy = false
		if next := w.next; next != nil {
			w.next = nil
			n.writePod(c, w, next)
			return
		}
		if err == nil && (out == unknown || r.GetFinished()) {
			delete(n.reports, r.GetUid())
		}
	})
}

// writePodStatus stores a pod's status, only for the node it is bound to, and takes the object
// away when the node is done with a pod that is marked for deletion.
func writePodStatus(ctx context.Context, cfg Config, node string, r *nodepb.PodReport) (outcome, error) {
	key := messages.KeyOf(messages.Pods, r.GetNamespace(), r.GetName())
	pod, ok := objects.Get[*corev1.Pod](cfg.Reader, key)
	if !ok || !bound(pod, node, r.GetUid()) {
		return unknown, nil
	}
	var st corev1.PodStatus
	if err := st.Unmarshal(r.GetStatus()); err != nil {
		return written, fmt.Errorf("read status: %w", err)
	}
	if merged, write := mergePodStatus(pod.Status, st); write {
		out, err := cfg.Writer.Mutate(ctx, key, "status", func(o objects.Object) (objects.Object, error) {
			p := o.(*corev1.Pod)
			if !bound(p, node, r.GetUid()) {
				return nil, apierrors.NewNotFound(corev1.Resource("pods"), p.Name)
			}
			if p.ResourceVersion != pod.ResourceVersion { // somebody was quicker
				if merged, write = mergePodStatus(p.Status, st); !write {
					return p, nil
				}
			}
			p.Status = merged
			return p, nil
		})
		if apierrors.IsNotFound(err) {
			return unknown, nil
		}
		if err != nil {
			return written, fmt.Errorf("write status: %w", err)
		}
		pod = out.(*corev1.Pod)
	}
	if !r.GetFinished() || pod.DeletionTimestamp == nil {
		return written, nil
	}
	uid := types.UID(r.GetUid())
	err := cfg.Writer.Delete(ctx, key, metav1.DeleteOptions{
		GracePeriodSeconds: new(int64), Preconditions: &metav1.Preconditions{UID: &uid},
	})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return written, fmt.Errorf("delete: %w", err)
	}
	return written, nil
}

func bound(pod *corev1.Pod, node, uid string) bool {
	return string(pod.UID) == uid && pod.Spec.NodeName == node
}

// ack gathers an acknowledgement; those of a burst share a message.
func (n *node) ack(c actor.Context, a *nodepb.Ack) {
	n.acks = append(n.acks, a)
	if !n.acking {
		n.acking = true
		c.Send(c.Self(), ackFlush{})
	}
}

func (n *node) flushAcks() {
	n.acking = false
	n.say(&nodepb.Down{Body: &nodepb.Down_Acks{Acks: &nodepb.Acks{Acks: n.acks}}})
	n.acks = nil
}

// event records a Kubernetes Event about a pod of this node or about the node.
func (n *node) event(r *nodepb.EventReport) {
	obj := n.subject(r.GetRef())
	if obj == nil {
		return
	}
	n.cfg.Recorder.EventOf(obj, r.GetFieldPath(), r.GetType(), r.GetReason(), r.GetMessage())
}

// subject is the object an event is about, by its reference alone when it is gone already; nil
// when a node speaks of what is not its own.
func (n *node) subject(ref *nodepb.Ref) objects.Object {
	if ref.GetName() == "" {
		if obj, ok := n.cfg.Reader.Get(messages.KeyOf(messages.Nodes, "", n.name)); ok {
			return obj
		}
		return &corev1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: metav1.ObjectMeta{Name: n.name}}
	}
	key := messages.KeyOf(messages.Pods, ref.GetNamespace(), ref.GetName())
	pod, ok := objects.Get[*corev1.Pod](n.cfg.Reader, key)
	switch {
	case ok && bound(pod, n.name, ref.GetUid()):
		return pod
	case ok && string(pod.UID) == ref.GetUid():
		return nil
	}
	return &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: ref.GetNamespace(), Name: ref.GetName(), UID: types.UID(ref.GetUid())},
	}
}

func unmarshal(data []byte, m proto.Message) error {
	if err := proto.Unmarshal(data, m); err != nil {
		return fmt.Errorf("decode %T: %w", m, err)
	}
	return nil
}
