package auth

import (
	"context"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

const nodePrefix = "system:node:"

// NodeName returns the node a user is, if it is one: named system:node:<name>, in group system:nodes.
func NodeName(u user.Info) (string, bool) {
	if u == nil {
		return "", false
	}
	name, ok := strings.CutPrefix(u.GetName(), nodePrefix)
	return name, ok && name != "" && slices.Contains(u.GetGroups(), user.NodesGroup)
}

// NodeUser is the user name of a node's agent; its group is system:nodes.
func NodeUser(node string) string { return nodePrefix + node }

// Node lets a node do what the pods bound to it need, and nothing for other nodes' pods.
type Node struct {
	reader objects.Reader
	rules  []rbacv1.PolicyRule
}

// NewNode reads pods from reader.
func NewNode(reader objects.Reader) *Node { return &Node{reader: reader, rules: nodeRules()} }

// Authorize allows or has no opinion; for objects that a node reaches only through its pods it
// looks at the pods bound to it now.
func (n *Node) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	node, ok := NodeName(a.GetUser())
	if !ok {
		return authorizer.DecisionNoOpinion, "", nil
	}
	if a.IsResourceRequest() && a.GetAPIGroup() == "" {
		switch a.GetResource() {
		case "secrets", "configmaps":
			return n.decide(a.GetSubresource() == "" && slices.Contains([]string{"get", "list", "watch"}, a.GetVerb()) &&
				a.GetName() != "" && n.refers(node, a.GetNamespace(), a.GetResource(), a.GetName()))
		case "serviceaccounts":
			if a.GetSubresource() == "token" {
				return n.decide(a.GetVerb() == "create" && n.refers(node, a.GetNamespace(), "serviceaccounts", a.GetName()))
			}
		}
	}
	for i := range n.rules {
		if ruleAllows(&n.rules[i], a) {
			return authorizer.DecisionAllow, "", nil
		}
	}
	return authorizer.DecisionNoOpinion, "", nil
}

func (n *Node) decide(ok bool) (authorizer.Decision, string, error) {
	if ok {
		return authorizer.DecisionAllow, "", nil
	}
	return authorizer.DecisionNoOpinion, "no relationship found between node and this object", nil
}

// refers says whether a pod bound to the node uses the object.
func (n *Node) refers(node, namespace, resource, name string) bool {
	for _, pod := range objects.Index[*corev1.Pod](n.reader, messages.Pods, objects.IndexNode, node) {
		if pod.Namespace == namespace && podUses(pod, resource, name) {
			return true
		}
	}
	return false
}

func podUses(pod *corev1.Pod, resource, name string) bool {
	used := false
	switch resource {
	case "serviceaccounts":
		return pod.Spec.ServiceAccountName == name
	case "secrets":
		visitSecrets(pod, func(s string) { used = used || s == name })
	case "configmaps":
		visitConfigMaps(pod, func(s string) { used = used || s == name })
	}
	return used
}

func visitSecrets(pod *corev1.Pod, fn func(name string)) {
	for _, ref := range pod.Spec.ImagePullSecrets {
		fn(ref.Name)
	}
	visitContainers(pod, func(c *corev1.Container) {
		for _, e := range c.EnvFrom {
			if e.SecretRef != nil {
				fn(e.SecretRef.Name)
			}
		}
		for _, e := range c.Env {
			if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
				fn(e.ValueFrom.SecretKeyRef.Name)
			}
		}
	})
	for _, v := range pod.Spec.Volumes {
		if v.Secret != nil {
			fn(v.Secret.SecretName)
		}
		if v.Projected != nil {
			for _, s := range v.Projected.Sources {
				if s.Secret != nil {
					fn(s.Secret.Name)
				}
			}
		}
	}
}

func visitConfigMaps(pod *corev1.Pod, fn func(name string)) {
	visitContainers(pod, func(c *corev1.Container) {
		for _, e := range c.EnvFrom {
			if e.ConfigMapRef != nil {
				fn(e.ConfigMapRef.Name)
			}
		}
		for _, e := range c.Env {
			if e.ValueFrom != nil && e.ValueFrom.ConfigMapKeyRef != nil {
				fn(e.ValueFrom.ConfigMapKeyRef.Name)
			}
		}
	})
	for _, v := range pod.Spec.Volumes {
		if v.ConfigMap != nil {
			fn(v.ConfigMap.Name)
		}
		if v.Projected != nil {
			for _, s := range v.Projected.Sources {
				if s.ConfigMap != nil {
					fn(s.ConfigMap.Name)
				}
			}
		}
	}
}

func visitContainers(pod *corev1.Pod, fn func(*corev1.Container)) {
	for i := range pod.Spec.InitContainers {
		fn(&pod.Spec.InitContainers[i])
	}
	for i := range pod.Spec.Containers {
		fn(&pod.Spec.Containers[i])
	}
	for i := range pod.Spec.EphemeralContainers {
		c := corev1.Container(pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
		fn(&c)
	}
}

var _ authorizer.Authorizer = (*Node)(nil)
