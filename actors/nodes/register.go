package nodes

import (
	"context"
	"fmt"
	"maps"
	goruntime "runtime"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/actors/stage"
	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/proto/nodepb"
)

// statusRetry is how long a node status that could not be written waits.
const statusRetry = time.Second

// nodeWriter brings the Node's status to what the node reported, or to Unknown while it is silent.
type nodeWriter struct {
	reported *corev1.NodeStatus // nil until the node has reported in this life of the actor
	version  uint64             // of the report
	silent   bool
	busy     bool
	dirty    bool
}

// statusDue retries a status write.
type statusDue struct{}

// hello registers the node, and welcomes it when its object is there. Of several greetings the
// newest counts.
func (n *node) hello(c actor.Context, m hello) {
	if n.registering {
		n.next = &m
		return
	}
	h, own, err := readHello(n.name, m.data)
	if err != nil {
		n.log.Warn("unreadable hello dropped", "err", err)
		return
	}
	n.endSession(c)
	n.registering = true
	work(c, n, func(ctx context.Context) (*corev1.Node, error) {
		return register(ctx, n.cfg, own, m.cidr)
	}, func(stored *corev1.Node, err error) {
		n.registering = false
		if next := n.next; next != nil {
			n.next = nil
			n.hello(c, *next)
			return
		}
		n.welcome(c, h, own, stored, err)
	})
}

func readHello(name string, data []byte) (*nodepb.Hello, *corev1.Node, error) {
	h := new(nodepb.Hello)
	if err := unmarshal(data, h); err != nil {
		return nil, nil, err
	}
	own := new(corev1.Node)
	if err := own.Unmarshal(h.GetNode()); err != nil {
		return nil, nil, fmt.Errorf("read node of hello: %w", err)
	}
	if own.Name != name {
		return nil, nil, fmt.Errorf("hello of %s in the name of %s: %w", own.Name, name, messages.ErrInvalid)
	}
	return h, own, nil
}

func (n *node) welcome(c actor.Context, h *nodepb.Hello, own, stored *corev1.Node, err error) {
	w := &nodepb.Welcome{Incarnation: h.GetIncarnation(), Cluster: n.cfg.Cluster}
	if err == nil {
		w.Node, err = stored.Marshal()
	}
	if err != nil {
		n.log.Warn("node not registered", "err", err)
		w.Error = err.Error()
		n.say(&nodepb.Down{Body: &nodepb.Down_Welcome{Welcome: w}})
		return
	}
	n.log.Info("node registered", "podCIDR", stored.Spec.PodCIDR)
	n.incarnation = h.GetIncarnation()
	// The keeper must know the session before the node's answers arrive.
	c.Send(c.Parent(), greeted{n.name, n.session})
	n.say(&nodepb.Down{Body: &nodepb.Down_Welcome{Welcome: w}})
	n.begin(c, h.GetDigest())
	n.reported(c, own.Status, h.GetStatusVersion())
}

// register makes sure that the Node object exists with what the agent says and the pod CIDR, and
// returns it as stored. Its status is written by the caller.
func register(ctx context.Context, cfg Config, own *corev1.Node, cidr string) (*corev1.Node, error) {
	key := messages.KeyOf(messages.Nodes, "", own.Name)
	if _, ok := cfg.Reader.Get(key); !ok {
		out, err := cfg.Writer.Create(ctx, newNodeObject(own, cidr))
		if err == nil {
			return out.(*corev1.Node), nil
		}
		if !apierrors.IsAlreadyExists(err) {
			return nil, fmt.Errorf("create node %s: %w", own.Name, err)
		}
	}
	out, err := cfg.Writer.Mutate(ctx, key, "", func(o objects.Object) (objects.Object, error) {
		updateNodeObject(o.(*corev1.Node), own, cidr)
		return o, nil
	})
	if err != nil {
		return nil, fmt.Errorf("update node %s: %w", own.Name, err)
	}
	return out.(*corev1.Node), nil
}

// newNodeObject is the object of a node seen for the first time. It is not schedulable until its
// first status says Ready: whoever watches conditions takes the taint away.
func newNodeObject(own *corev1.Node, cidr string) *corev1.Node {
	out := &corev1.Node{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: metav1.ObjectMeta{Name: own.Name},
		Spec:       corev1.NodeSpec{Unschedulable: own.Spec.Unschedulable, Taints: own.Spec.Taints},
		Status:     own.Status,
	}
	out.Spec.Taints = append(out.Spec.Taints[:len(out.Spec.Taints):len(out.Spec.Taints)],
		corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule})
	updateNodeObject(out, own, cidr)
	return out
}

// updateNodeObject sets what the agent answers for and leaves everything else: labels of others,
// taints and cordons set since.
func updateNodeObject(n, own *corev1.Node, cidr string) {
	labels := map[string]string{
		corev1.LabelHostname:   own.Name,
		corev1.LabelOSStable:   first(own.Status.NodeInfo.OperatingSystem, goruntime.GOOS),
		corev1.LabelArchStable: first(own.Status.NodeInfo.Architecture, goruntime.GOARCH),
	}
	maps.Copy(labels, own.Labels)
	n.Labels = merged(n.Labels, labels)
	n.Annotations = merged(n.Annotations, own.Annotations)
	if n.Spec.PodCIDR == "" && cidr != "" {
		n.Spec.PodCIDR, n.Spec.PodCIDRs = cidr, []string{cidr}
	}
}

func merged(into, from map[string]string) map[string]string {
	if into == nil && len(from) > 0 {
		into = make(map[string]string, len(from))
	}
	maps.Copy(into, from)
	return into
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func (n *node) nodeReport(c actor.Context, r *nodepb.NodeReport) {
	if r.GetIncarnation() != n.incarnation {
		return
	}
	var st corev1.NodeStatus
	if err := st.Unmarshal(r.GetStatus()); err != nil {
		n.log.Warn("unreadable node status dropped", "err", err)
		return
	}
	n.reported(c, st, r.GetVersion())
}

func (n *node) reported(c actor.Context, st corev1.NodeStatus, version uint64) {
	n.status.reported, n.status.version, n.status.silent = &st, version, false
	n.writeStatus(c)
}

// writeStatus writes what the status should be now, one write at a time.
func (n *node) writeStatus(c actor.Context) {
	s := &n.status
	if s.busy {
		s.dirty = true
		return
	}
	if !s.silent && s.reported == nil {
		return
	}
	s.busy, s.dirty = true, false
	silent, reported, version := s.silent, s.reported, s.version
	key := messages.KeyOf(messages.Nodes, "", n.name)
	work(c, n, func(ctx context.Context) (struct{}, error) {
		_, err := n.cfg.Writer.Mutate(ctx, key, "status", func(o objects.Object) (objects.Object, error) {
			obj, now := o.(*corev1.Node), metav1.NewTime(n.cfg.Clock.Now())
			if silent {
				obj.Status, _ = unknownStatus(obj.Status, now)
			} else if out, write := mergeNodeStatus(obj.Status, *reported, now); write {
				obj.Status = out
			}
			return obj, nil
		})
		return struct{}{}, err
	}, func(_ struct{}, err error) {
		s.busy = false
		switch {
		case apierrors.IsNotFound(err): // deleted: the node greets again and is registered anew
		case err != nil:
			n.log.Warn("node status not written", "err", err)
			stage.After(c, statusRetry, statusDue{})
			return
		case !silent:
			n.ack(c, &nodepb.Ack{Version: version})
		}
		if s.dirty {
			n.writeStatus(c)
		}
	})
}
