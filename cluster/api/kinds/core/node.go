package core

import (
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validate/content"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/check"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

// Node describes v1 Node; its proxy subresource lives with the API server.
func Node() kind.Kind {
	info := corev1.NodeSystemInfo{}.SwaggerDoc()
	return kind.Kind{
		GVK:        corev1.SchemeGroupVersion.WithKind("Node"),
		Resource:   "nodes",
		Singular:   "node",
		ShortNames: []string{"no"},
		New:        func() kind.Object { return &corev1.Node{} },
		NewList:    func() runtime.Object { return &corev1.NodeList{} },

		Default: func(obj kind.Object) { defaultNode(obj.(*corev1.Node)) },
		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return validateNode(obj.(*corev1.Node), nil)
		},
		ValidateUpdate: validateNodeUpdate,
		// A node registers itself together with its status, so create does not reset that.
		PrepareForUpdate: func(_ context.Context, obj, old kind.Object) {
			obj.(*corev1.Node).Status = old.(*corev1.Node).Status
		},
		Status: &kind.Subresource{
			Prepare: func(_ context.Context, obj, old kind.Object) {
				obj.(*corev1.Node).Spec = old.(*corev1.Node).Spec
			},
			Validate: func(ctx context.Context, obj, old kind.Object) field.ErrorList {
				return validateNodeUpdate(ctx, obj, old)
			},
		},

		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Col("Status", "The status of the node"),
			table.Col("Roles", "The roles of the node"),
			table.Age(),
			table.Col("Version", info["kubeletVersion"]),
			table.Wide(table.Col("Internal-IP", corev1.NodeStatus{}.SwaggerDoc()["addresses"])),
			table.Wide(table.Col("External-IP", corev1.NodeStatus{}.SwaggerDoc()["addresses"])),
			table.Wide(table.Col("OS-Image", info["osImage"])),
			table.Wide(table.Col("Kernel-Version", info["kernelVersion"])),
			table.Wide(table.Col("Container-Runtime", info["containerRuntimeVersion"])),
		},
		Row: func(obj kind.Object) []any { return nodeRow(obj.(*corev1.Node)) },
		Fields: func(obj kind.Object) fields.Set {
			return fields.Set{"spec.unschedulable": strconv.FormatBool(obj.(*corev1.Node).Spec.Unschedulable)}
		},
	}
}

// kernel is the node's kernel and, if it is known, what it runs on.
func kernel(info corev1.NodeSystemInfo) string {
	version := orUnknown(info.KernelVersion)
	if info.Architecture != "" {
		version += " (" + info.Architecture + ")"
	}
	return version
}

func defaultNode(n *corev1.Node) {
	// A node that does not hold anything back offers all it has.
	if len(n.Status.Allocatable) == 0 && len(n.Status.Capacity) > 0 {
		n.Status.Allocatable = n.Status.Capacity.DeepCopy()
	}
	if n.Spec.PodCIDR == "" && len(n.Spec.PodCIDRs) > 0 {
		n.Spec.PodCIDR = n.Spec.PodCIDRs[0]
	}
	if n.Spec.PodCIDR != "" && (len(n.Spec.PodCIDRs) == 0 || n.Spec.PodCIDRs[0] != n.Spec.PodCIDR) {
		n.Spec.PodCIDRs = []string{n.Spec.PodCIDR}
	}
}

func validateNode(n, old *corev1.Node) field.ErrorList {
	// The path of taints is metadata.taints in Kubernetes too; clients match on it.
	errs := validateTaints(n.Spec.Taints, field.NewPath("metadata", "taints"))
	for _, list := range []struct {
		name      string
		resources corev1.ResourceList
	}{{"capacity", n.Status.Capacity}, {"allocatable", n.Status.Allocatable}} {
		for name, quantity := range list.resources {
			errs = append(errs, check.ResourceQuantity(name, quantity, field.NewPath("status", list.name, string(name)))...)
		}
	}
	var oldCIDRs []string
	if old != nil {
		oldCIDRs = old.Spec.PodCIDRs
	}
	return append(errs, validatePodCIDRs(n.Spec, oldCIDRs)...)
}

func validatePodCIDRs(spec corev1.NodeSpec, oldCIDRs []string) field.ErrorList {
	if len(spec.PodCIDRs) == 0 {
		return nil
	}
	var errs field.ErrorList
	path := field.NewPath("spec", "podCIDRs")
	v4, v6 := 0, 0
	for i, value := range spec.PodCIDRs {
		errs = append(errs, validation.IsValidCIDRForLegacyField(path.Index(i), value, true, oldCIDRs)...)
		if prefix, err := netip.ParsePrefix(value); err == nil && prefix.Addr().Is6() {
			v6++
		} else {
			v4++
		}
	}
	if v4 > 1 || v6 > 1 {
		errs = append(errs, field.Invalid(path, spec.PodCIDRs, "may specify no more than one CIDR for each IP family"))
	}
	if spec.PodCIDR != spec.PodCIDRs[0] {
		errs = append(errs, field.Invalid(field.NewPath("spec", "podCIDR"), spec.PodCIDR, "must match spec.podCIDRs[0]"))
	}
	return errs
}

var taintEffects = sets.New(corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute)

func validateTaints(taints []corev1.Taint, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := make(map[[2]string]bool, len(taints))
	for i, taint := range taints {
		path := path.Index(i)
		errs = append(errs, check.QualifiedName(taint.Key, path.Child("key"))...)
		if bad := content.IsLabelValue(taint.Value); len(bad) > 0 {
			errs = append(errs, field.Invalid(path.Child("value"), taint.Value, strings.Join(bad, ";")))
		}
		errs = append(errs, check.OneOf(taint.Effect, taintEffects, path.Child("effect"))...)
		id := [2]string{taint.Key, string(taint.Effect)}
		if seen[id] {
			err := field.Duplicate(path, taint)
			err.Detail = "taints must be unique by key and effect pair"
			errs = append(errs, err)
		}
		seen[id] = true
	}
	return errs
}

func validateNodeUpdate(_ context.Context, obj, old kind.Object) field.ErrorList {
	n, was := obj.(*corev1.Node), old.(*corev1.Node)
	errs := validateNode(n, was)
	seen := make(map[corev1.NodeAddress]bool, len(n.Status.Addresses))
	for i, addr := range n.Status.Addresses {
		if seen[addr] {
			errs = append(errs, field.Duplicate(field.NewPath("status", "addresses").Index(i), addr))
		}
		seen[addr] = true
	}
	spec := field.NewPath("spec")
	if len(was.Spec.PodCIDRs) > 0 && !slices.Equal(was.Spec.PodCIDRs, n.Spec.PodCIDRs) {
		errs = append(errs, field.Forbidden(spec.Child("podCIDRs"), `node updates may not change podCIDR except from "" to valid`))
	}
	if was.Spec.ProviderID != "" && was.Spec.ProviderID != n.Spec.ProviderID {
		errs = append(errs, field.Forbidden(spec.Child("providerID"), `node updates may not change providerID except from "" to valid`))
	}
	// What is left over once everything that may change is set aside has to be the same.
	rest := was.Spec.DeepCopy()
	rest.PodCIDR, rest.PodCIDRs, rest.ProviderID = n.Spec.PodCIDR, n.Spec.PodCIDRs, n.Spec.ProviderID
	rest.Unschedulable, rest.Taints, rest.ConfigSource = n.Spec.Unschedulable, n.Spec.Taints, n.Spec.ConfigSource
	if !apiequality.Semantic.DeepEqual(*rest, n.Spec) {
		errs = append(errs, field.Forbidden(spec, "node updates may only change labels, taints, or capacity (or configSource, if the DynamicKubeletConfig feature gate is enabled)"))
	}
	return errs
}

const (
	rolePrefix = "node-role.kubernetes.io/"
	roleLabel  = "kubernetes.io/role"
)

// nodeRoles collects the roles that labels give a node.
func nodeRoles(labels map[string]string) string {
	roles := sets.New[string]()
	for key, value := range labels {
		if role, ok := strings.CutPrefix(key, rolePrefix); ok && role != "" {
			roles.Insert(role)
		} else if key == roleLabel && value != "" {
			roles.Insert(value)
		}
	}
	if len(roles) == 0 {
		return table.None
	}
	return strings.Join(sets.List(roles), ",")
}

func nodeRow(n *corev1.Node) []any {
	status := "Unknown"
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			status = "NotReady"
			if c.Status == corev1.ConditionTrue {
				status = "Ready"
			}
		}
	}
	if n.Spec.Unschedulable {
		status += ",SchedulingDisabled"
	}
	internal, external := table.None, table.None
	for _, addr := range n.Status.Addresses {
		switch {
		case addr.Type == corev1.NodeInternalIP && internal == table.None:
			internal = addr.Address
		case addr.Type == corev1.NodeExternalIP && external == table.None:
			external = addr.Address
		}
	}
	info := n.Status.NodeInfo
	return []any{
		n.Name, status, nodeRoles(n.Labels), table.Since(n.CreationTimestamp), info.KubeletVersion,
		internal, external, orUnknown(info.OSImage), kernel(info), orUnknown(info.ContainerRuntimeVersion),
	}
}

func orUnknown(s string) string {
	if s == "" {
		return table.Unknown
	}
	return s
}
