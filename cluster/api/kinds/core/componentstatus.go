package core

import (
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

// ComponentStatus describes v1 ComponentStatus: how the parts of the control plane are, looked at
// when somebody asks.
func ComponentStatus() kind.Kind {
	return kind.Kind{
		GVK:      corev1.SchemeGroupVersion.WithKind("ComponentStatus"),
		Resource: "componentstatuses",
		Singular: "componentstatus",
		New:      func() kind.Object { return &corev1.ComponentStatus{} },
		NewList:  func() runtime.Object { return &corev1.ComponentStatusList{} },
		Answer: func(deps any) (rest.Storage, error) {
			c, ok := deps.(kind.Components)
			if !ok {
				return nil, fmt.Errorf("serve componentstatuses: %T has no components", deps)
			}
			return &componentStatuses{c.Components}, nil
		},
	}
}

// componentStatuses asks the checks by name.
type componentStatuses struct {
	checks func() map[string]func() error
}

func (*componentStatuses) New() runtime.Object     { return &corev1.ComponentStatus{} }
func (*componentStatuses) NewList() runtime.Object { return &corev1.ComponentStatusList{} }
func (*componentStatuses) Destroy()                {}
func (*componentStatuses) NamespaceScoped() bool   { return false }
func (*componentStatuses) GetSingularName() string { return "componentstatus" }
func (*componentStatuses) ShortNames() []string    { return []string{"cs"} }

// Get checks one component.
func (s *componentStatuses) Get(_ context.Context, name string, _ *metav1.GetOptions) (runtime.Object, error) {
	check, ok := s.checks()[name]
	if !ok {
		return nil, apierrors.NewNotFound(corev1.Resource("componentstatus"), name)
	}
	return componentStatus(name, check()), nil
}

// List checks the components that the options select.
func (s *componentStatuses) List(_ context.Context, opts *internalversion.ListOptions) (runtime.Object, error) {
	label, field := labels.Everything(), fields.Everything()
	if opts != nil && opts.LabelSelector != nil {
		label = opts.LabelSelector
	}
	if opts != nil && opts.FieldSelector != nil {
		field = opts.FieldSelector
	}
	checks := s.checks()
	list := &corev1.ComponentStatusList{Items: []corev1.ComponentStatus{}}
	for _, name := range slices.Sorted(maps.Keys(checks)) {
		if label.Matches(labels.Set{}) && field.Matches(fields.Set{"metadata.name": name}) {
			list.Items = append(list.Items, *componentStatus(name, checks[name]()))
		}
	}
	return list, nil
}

func componentStatus(name string, err error) *corev1.ComponentStatus {
	c := corev1.ComponentCondition{Type: corev1.ComponentHealthy, Status: corev1.ConditionTrue, Message: "ok"}
	if err != nil {
		c.Status, c.Message, c.Error = corev1.ConditionFalse, err.Error(), err.Error()
	}
	return &corev1.ComponentStatus{ObjectMeta: metav1.ObjectMeta{Name: name}, Conditions: []corev1.ComponentCondition{c}}
}

// ConvertToTable shows a line for each component.
func (s *componentStatuses) ConvertToTable(_ context.Context, obj, _ runtime.Object) (*metav1.Table, error) {
	out := &metav1.Table{ColumnDefinitions: []metav1.TableColumnDefinition{
		table.Name(),
		table.Col("Status", "Status of the component conditions"),
		table.Col("Message", "Message of the component conditions"),
		table.Col("Error", "Error of the component conditions"),
	}}
	row := func(c *corev1.ComponentStatus) {
		status, message, failure := "Unknown", "", ""
		for _, cond := range c.Conditions {
			if cond.Type != corev1.ComponentHealthy {
				continue
			}
			status = "Unhealthy"
			if cond.Status == corev1.ConditionTrue {
				status = "Healthy"
			}
			message, failure = cond.Message, cond.Error
		}
		out.Rows = append(out.Rows, metav1.TableRow{Cells: []any{c.Name, status, message, failure}, Object: runtime.RawExtension{Object: c}})
	}
	switch o := obj.(type) {
	case *corev1.ComponentStatusList:
		for i := range o.Items {
			row(&o.Items[i])
		}
	case *corev1.ComponentStatus:
		row(o)
	default:
		return nil, fmt.Errorf("not a ComponentStatus: %T", obj)
	}
	return out, nil
}

var (
	_ rest.Lister = (*componentStatuses)(nil)
	_ rest.Getter = (*componentStatuses)(nil)
)
