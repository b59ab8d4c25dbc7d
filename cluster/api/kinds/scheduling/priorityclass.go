package scheduling

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/check"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

// PriorityClass describes scheduling.k8s.io/v1 PriorityClass.
func PriorityClass() kind.Kind {
	doc := schedulingv1.PriorityClass{}.SwaggerDoc()
	return kind.Kind{
		GVK:        schedulingv1.SchemeGroupVersion.WithKind("PriorityClass"),
		Resource:   "priorityclasses",
		Singular:   "priorityclass",
		ShortNames: []string{"pc"},
		New:        func() kind.Object { return &schedulingv1.PriorityClass{} },
		NewList:    func() runtime.Object { return &schedulingv1.PriorityClassList{} },

		Default: func(obj kind.Object) {
			if c := obj.(*schedulingv1.PriorityClass); c.PreemptionPolicy == nil {
				c.PreemptionPolicy = ptr.To(corev1.PreemptLowerPriority)
			}
		},
		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return validatePriorityClass(obj.(*schedulingv1.PriorityClass))
		},
		ValidateUpdate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
			c, was := obj.(*schedulingv1.PriorityClass), old.(*schedulingv1.PriorityClass)
			var errs field.ErrorList
			if c.Value != was.Value {
				errs = append(errs, field.Forbidden(field.NewPath("value"), "may not be changed in an update."))
			}
			return append(errs, apivalidation.ValidateImmutableField(c.PreemptionPolicy, was.PreemptionPolicy, field.NewPath("preemptionPolicy"))...)
		},
		SpecChanged: func(_, _ kind.Object) bool { return false },

		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Int("Value", doc["value"]),
			{Name: "Global-Default", Type: "boolean", Description: doc["globalDefault"]},
			table.Age(),
			table.Col("PreemptionPolicy", doc["preemptionPolicy"]),
		},
		Row: func(obj kind.Object) []any {
			c := obj.(*schedulingv1.PriorityClass)
			return []any{c.Name, int64(c.Value), c.GlobalDefault, table.Since(c.CreationTimestamp), string(ptr.Deref(c.PreemptionPolicy, ""))}
		},
	}
}

const (
	// highestUserPriority is the highest value that is not the system's.
	highestUserPriority = 1000000000
	systemPrefix        = "system-"
)

// SystemClasses are the classes every cluster has.
func SystemClasses() []*schedulingv1.PriorityClass {
	class := func(name string, value int32, description string) *schedulingv1.PriorityClass {
		return &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Value: value, Description: description, PreemptionPolicy: ptr.To(corev1.PreemptLowerPriority)}
	}
	return []*schedulingv1.PriorityClass{
		class("system-node-critical", 2*highestUserPriority+1000, "Used for system critical pods that must not be moved from their current node."),
		class("system-cluster-critical", 2*highestUserPriority, "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary."),
	}
}

var preemptionPolicies = sets.New(corev1.PreemptLowerPriority, corev1.PreemptNever)

func validatePriorityClass(c *schedulingv1.PriorityClass) field.ErrorList {
	var errs field.ErrorList
	switch {
	case strings.HasPrefix(c.Name, systemPrefix):
		if err := isSystem(c); err != nil {
			errs = append(errs, field.Forbidden(field.NewPath("metadata", "name"),
				fmt.Sprintf("priority class names with '%s' prefix are reserved for system use only. error: %v", systemPrefix, err)))
		}
	case c.Value > highestUserPriority:
		errs = append(errs, field.Forbidden(field.NewPath("value"), fmt.Sprintf("maximum allowed value of a user defined priority is %d", highestUserPriority)))
	}
	if p := c.PreemptionPolicy; p != nil {
		errs = append(errs, check.OneOf(*p, preemptionPolicies, field.NewPath("preemptionPolicy"))...)
	}
	return errs
}

func isSystem(c *schedulingv1.PriorityClass) error {
	for _, known := range SystemClasses() {
		switch {
		case known.Name != c.Name:
			continue
		case known.Value != c.Value:
			return fmt.Errorf("value of %v PriorityClass must be %v", c.Name, known.Value)
		case c.GlobalDefault:
			return fmt.Errorf("globalDefault of %v PriorityClass must be %v", c.Name, known.GlobalDefault)
		}
		return nil
	}
	return fmt.Errorf("%v is not a known system priority class", c.Name)
}
