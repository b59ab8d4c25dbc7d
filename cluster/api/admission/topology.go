package admission

import (
	"context"
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/admission"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// topology copies the labels that tell where a node is to the pods that come to it.
type topology struct {
	*admission.Handler
	reader objects.Reader
}

func newTopology(reader objects.Reader) *topology {
	return &topology{admission.NewHandler(admission.Create), reader}
}

// Admit labels new pods that name their node. Those that get one later are labelled when they are
// bound, by [TopologyLabels].
func (t *topology) Admit(_ context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	pod, ok := a.GetObject().(*corev1.Pod)
	if !ok || !is(a, podsResource, "") || pod.Spec.NodeName == "" {
		return nil
	}
	pod.Labels = TopologyLabels(t.reader, pod.Spec.NodeName, pod.Labels)
	return nil
}

// TopologyLabels returns labels with those that the node's place adds; it leaves its input alone.
func TopologyLabels(reader objects.Reader, name string, labels map[string]string) map[string]string {
	node, ok := objects.Get[*corev1.Node](reader, messages.KeyOf(messages.Nodes, "", name))
	if !ok {
		return labels
	}
	copied := false
	for _, key := range []string{corev1.LabelTopologyZone, corev1.LabelTopologyRegion} {
		value, ok := node.Labels[key]
		if !ok || labels[key] == value {
			continue
		}
		if !copied {
			if labels, copied = maps.Clone(labels), true; labels == nil {
				labels = make(map[string]string)
			}
		}
		labels[key] = value
	}
	return labels
}

var _ admission.MutationInterface = (*topology)(nil)
