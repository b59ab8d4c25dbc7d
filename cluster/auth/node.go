package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/troupe-run/troupe/actors/objects"
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

// NewNode reads pods, and what they lead to, from reader.
func NewNode(reader objects.Reader) *Node { return &Node{reader: reader, rules: nodeRules()} }

// Authorize allows or has no opinion; for objects that a node reaches only through its pods it
// looks at the pods bound to it now.
func (n *Node) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	node, ok := NodeName(a.GetUser())
	if !ok {
		return authorizer.DecisionNoOpinion, "", nil
	}
	if check, ok := narrowed[a.GetAPIGroup()+"/"+a.GetResource()]; ok && a.IsResourceRequest() {
		if why := check(n, node, a); why != "" {
			return authorizer.DecisionNoOpinion, why, nil
		}
		return authorizer.DecisionAllow, "", nil
	}
	for i := range n.rules {
		if ruleAllows(&n.rules[i], a) {
			return authorizer.DecisionAllow, "", nil
		}
	}
	return authorizer.DecisionNoOpinion, "", nil
}

// RulesFor says of nodes that what they may do cannot be listed: it depends on their pods.
func (n *Node) RulesFor(_ context.Context, u user.Info, _ string) ([]authorizer.ResourceRuleInfo, []authorizer.NonResourceRuleInfo, bool, error) {
	if _, ok := NodeName(u); ok {
		return nil, nil, true, errors.New("node authorizer does not support user rule resolution")
	}
	return nil, nil, false, nil
}

// narrowed are the resources, by group and name, of which a node may not do all that its role
// says. Each returns why not, "" when the node may.
var narrowed = map[string]func(n *Node, node string, a authorizer.Attributes) (why string){
	"/secrets":                         readsRelated,
	"/configmaps":                      readsRelated,
	"/persistentvolumes":               getsRelated,
	"/persistentvolumeclaims":          volumeClaims,
	"/serviceaccounts":                 accounts,
	"/nodes":                           itself,
	"/pods":                            ownPods,
	"resource.k8s.io/resourceclaims":   getsRelated,
	"resource.k8s.io/resourceslices":   deviceSlices,
	"storage.k8s.io/volumeattachments": getsRelated,
	"storage.k8s.io/csinodes":          sameName("a CSINode", ""),
	"coordination.k8s.io/leases":       sameName("a node lease", corev1.NamespaceNodeLease),
}

func readsRelated(n *Node, node string, a authorizer.Attributes) string {
	switch {
	case !slices.Contains([]string{"get", "list", "watch"}, a.GetVerb()):
		return "can only read resources of this type"
	case a.GetSubresource() != "":
		return "cannot read subresource"
	case a.GetNamespace() == "":
		return "can only read namespaced object of this type"
	}
	return n.related(node, a)
}

func getsRelated(n *Node, node string, a authorizer.Attributes) string {
	switch {
	case a.GetVerb() != "get":
		return "can only get individual resources of this type"
	case a.GetSubresource() != "":
		return "cannot get subresource"
	}
	return n.related(node, a)
}

func volumeClaims(n *Node, node string, a authorizer.Attributes) string {
	if a.GetSubresource() != "status" {
		return getsRelated(n, node, a)
	}
	if !slices.Contains([]string{"update", "patch"}, a.GetVerb()) {
		return "can only get/update/patch this type"
	}
	return n.related(node, a)
}

func accounts(n *Node, node string, a authorizer.Attributes) string {
	switch {
	case a.GetSubresource() == "":
		return getsRelated(n, node, a)
	case a.GetSubresource() != "token":
		return "can only get serviceaccount or create token subresource of serviceaccount"
	case a.GetVerb() != "create" || a.GetName() == "":
		return "can only create tokens for individual service accounts"
	}
	return n.related(node, a)
}

// sameName is for objects that each node has one of, under its own name. At a create the name is
// not known here; admission looks at it.
func sameName(what, namespace string) func(*Node, string, authorizer.Attributes) string {
	return func(_ *Node, node string, a authorizer.Attributes) string {
		switch {
		case !slices.Contains([]string{"get", "create", "update", "patch", "delete"}, a.GetVerb()):
			return "can only get, create, update, patch, or delete " + what
		case a.GetSubresource() != "":
			return "cannot authorize subresources of " + what
		case namespace != a.GetNamespace():
			return fmt.Sprintf("can only access leases in the %q system namespace", namespace)
		case a.GetVerb() != "create" && a.GetName() != node:
			return "can only access " + what + " with the same name as the requesting node"
		}
		return ""
	}
}

// itself lets a node write Nodes, which admission narrows down to its own, and read its own.
func itself(_ *Node, node string, a authorizer.Attributes) string {
	switch a.GetSubresource() + " " + a.GetVerb() {
	case " create", " update", " patch", "status update", "status patch":
		return ""
	case " get", " list", " watch":
		switch a.GetName() {
		case node:
			return ""
		case "":
			return fmt.Sprintf("node '%s' cannot read all nodes, only its own Node object", node)
		}
		return fmt.Sprintf("node '%s' cannot read '%s', only its own Node object", node, a.GetName())
	}
	return fmt.Sprintf("node '%s' cannot %s this", node, a.GetVerb())
}

// ownPods lets a node read the pods bound to it, and do what admission narrows down to them.
func ownPods(n *Node, node string, a authorizer.Attributes) string {
	switch a.GetSubresource() + " " + a.GetVerb() {
	case " create", " delete", "status update", "status patch", "eviction create":
		return ""
	case " get":
		return getsRelated(n, node, a)
	case " list", " watch":
		switch {
		case selects(a, "spec.nodeName", node):
			return ""
		case a.GetName() != "":
			return n.related(node, a)
		}
		return "can only list/watch pods with spec.nodeName field selector"
	}
	return fmt.Sprintf("node '%s' cannot %s this", node, a.GetVerb())
}

// deviceSlices lets a node handle the ResourceSlices of its own devices.
func deviceSlices(n *Node, node string, a authorizer.Attributes) string {
	if a.GetSubresource() != "" {
		return "cannot authorize ResourceSlice subresources"
	}
	switch a.GetVerb() {
	case "create":
		return "" // admission sees which node it names
	case "get", "update", "patch", "delete":
		return n.related(node, a)
	case "list", "watch", "deletecollection":
		if selects(a, "nodeName", node) {
			return ""
		}
		return "can only list/watch/deletecollection resourceslices with nodeName field selector"
	}
	return "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection"
}

// selects says whether a request is only for objects whose field has the value.
func selects(a authorizer.Attributes, field, value string) bool {
	requirements, err := a.GetFieldSelector()
	if err != nil {
		return false
	}
	for _, r := range requirements {
		if r.Field == field && r.Operator == selection.Equals && r.Value == value {
			return true
		}
	}
	return false
}

func (n *Node) related(node string, a authorizer.Attributes) string {
	if a.GetName() == "" {
		return "No Object name found"
	}
	if !n.leadsTo(node, a.GetResource(), a.GetNamespace(), a.GetName()) {
		return fmt.Sprintf("no relationship found between node '%s' and this object", node)
	}
	return ""
}

var (
	_ authorizer.Authorizer   = (*Node)(nil)
	_ authorizer.RuleResolver = (*Node)(nil)
)
