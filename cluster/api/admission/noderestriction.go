package admission

import (
	"context"
	"fmt"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apiserver/pkg/admission"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/auth"
)

// restrictedLabels may only be set by administrators, never by the node that wears them.
const restrictedLabels = "node-restriction.kubernetes.io"

// nodeRestriction holds a node's agent to its own Node, its own Lease and the pods bound to it.
type nodeRestriction struct {
	*admission.Handler
	reader objects.Reader
}

func newNodeRestriction(reader objects.Reader) *nodeRestriction {
	return &nodeRestriction{admission.NewHandler(admission.Create, admission.Update, admission.Delete), reader}
}

// Admit refuses what is not the node's own; it changes nothing.
func (n *nodeRestriction) Admit(_ context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	node, ok := auth.NodeName(a.GetUserInfo())
	if !ok {
		return nil
	}
	var err error
	switch {
	case is(a, podsResource, ""):
		err = n.pod(node, a)
	case is(a, podsResource, "status"), is(a, podsResource, "eviction"):
		err = n.ownPod(node, a)
	case a.GetResource().GroupResource() == nodesResource:
		err = n.node(node, a)
	case is(a, accountsResource, "token"):
		err = n.token(node, a)
	case is(a, leasesResource, ""):
		if a.GetNamespace() != corev1.NamespaceNodeLease || a.GetName() != "" && a.GetName() != node {
			err = fmt.Errorf("can only access leases in the %q system namespace with the node's own name", corev1.NamespaceNodeLease)
		}
	}
	if err != nil {
		return admission.NewForbidden(a, fmt.Errorf("node %q: %w", node, err))
	}
	return nil
}

func (n *nodeRestriction) pod(node string, a admission.Attributes) error {
	switch a.GetOperation() {
	case admission.Create:
		pod, ok := a.GetObject().(*corev1.Pod)
		if !ok {
			return nil
		}
		if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; !mirror {
			return fmt.Errorf("pod does not have %q annotation, node can only create mirror pods", corev1.MirrorPodAnnotationKey)
		}
		if pod.Spec.NodeName != node {
			return fmt.Errorf("can only create pods with spec.nodeName set to itself")
		}
		return nil
	case admission.Delete:
		return n.ownPod(node, a)
	}
	return fmt.Errorf("unexpected operation %q", a.GetOperation())
}

func (n *nodeRestriction) ownPod(node string, a admission.Attributes) error {
	pod, ok := getPod(n.reader, a.GetNamespace(), a.GetName())
	if ok && pod.Spec.NodeName != node {
		return fmt.Errorf("can only change pods with spec.nodeName set to itself")
	}
	return nil // a pod that is gone is the storage's affair
}

func (n *nodeRestriction) node(node string, a admission.Attributes) error {
	name := a.GetName()
	obj, _ := a.GetObject().(*corev1.Node)
	if name == "" && obj != nil {
		name = obj.Name
	}
	if name != node {
		return fmt.Errorf("is not allowed to modify node %q", name)
	}
	if a.GetOperation() == admission.Delete {
		return fmt.Errorf("is not allowed to delete itself")
	}
	if obj == nil {
		return nil
	}
	old, _ := a.GetOldObject().(*corev1.Node)
	var had map[string]string
	if old != nil {
		had = old.Labels
		if !apiequality.Semantic.DeepEqual(obj.Spec.Taints, old.Spec.Taints) {
			return fmt.Errorf("is not allowed to modify taints")
		}
	}
	for key, value := range obj.Labels {
		if restricted(key) && had[key] != value {
			return fmt.Errorf("is not allowed to set label %q", key)
		}
	}
	for key := range had {
		if _, kept := obj.Labels[key]; restricted(key) && !kept {
			return fmt.Errorf("is not allowed to remove label %q", key)
		}
	}
	return nil
}

func restricted(label string) bool {
	domain, _, _ := strings.Cut(label, "/")
	return domain == restrictedLabels || strings.HasSuffix(domain, "."+restrictedLabels)
}

// token lets a node ask for tokens bound to pods that it runs.
func (n *nodeRestriction) token(node string, a admission.Attributes) error {
	req, ok := a.GetObject().(*authenticationv1.TokenRequest)
	if !ok {
		return nil
	}
	ref := req.Spec.BoundObjectRef
	if ref == nil || ref.Kind != "Pod" || ref.Name == "" || ref.UID == "" {
		return fmt.Errorf("node requested token not bound to a pod")
	}
	pod, ok := getPod(n.reader, a.GetNamespace(), ref.Name)
	switch {
	case !ok:
		return fmt.Errorf("pod %q not found", ref.Name)
	case pod.UID != ref.UID:
		return fmt.Errorf("the UID in the bound object reference (%s) does not match the UID in record", ref.UID)
	case pod.Spec.NodeName != node:
		return fmt.Errorf("node requested token bound to a pod scheduled on a different node")
	}
	return nil
}

var _ admission.MutationInterface = (*nodeRestriction)(nil)
