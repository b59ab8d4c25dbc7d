package node

import (
	"context"
	"maps"
	"slices"

	nodev1 "k8s.io/api/node/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/check"
	"github.com/troupe-run/troupe/cluster/api/kinds/podspec"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

// RuntimeClass describes node.k8s.io/v1 RuntimeClass.
func RuntimeClass() kind.Kind {
	return kind.Kind{
		GVK:      nodev1.SchemeGroupVersion.WithKind("RuntimeClass"),
		Resource: "runtimeclasses",
		Singular: "runtimeclass",
		New:      func() kind.Object { return &nodev1.RuntimeClass{} },
		NewList:  func() runtime.Object { return &nodev1.RuntimeClassList{} },

		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return validateRuntimeClass(obj.(*nodev1.RuntimeClass))
		},
		ValidateUpdate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
			c := obj.(*nodev1.RuntimeClass)
			return append(validateRuntimeClass(c), apivalidation.ValidateImmutableField(c.Handler, old.(*nodev1.RuntimeClass).Handler, field.NewPath("handler"))...)
		},

		Warnings: func(_ context.Context, obj, _ kind.Object) []string {
			var out []string
			if s := obj.(*nodev1.RuntimeClass).Scheduling; s != nil {
				for _, key := range slices.Sorted(maps.Keys(s.NodeSelector)) {
					if instead, ok := check.DeprecatedLabel(key); ok {
						out = append(out, "scheduling.nodeSelector: "+instead)
					}
				}
			}
			return out
		},
		AllowCreateOnUpdate:  true,
		NeedsResourceVersion: true,
		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Col("Handler", ""),
			table.Age(),
		},
		Row: func(obj kind.Object) []any {
			c := obj.(*nodev1.RuntimeClass)
			return []any{c.Name, c.Handler, table.Since(c.CreationTimestamp)}
		},
	}
}

func validateRuntimeClass(c *nodev1.RuntimeClass) field.ErrorList {
	var errs field.ErrorList
	if at := field.NewPath("handler"); c.Handler == "" {
		errs = append(errs, field.Required(at, ""))
	} else {
		errs = append(errs, check.DNSLabel(c.Handler, at)...)
	}
	if c.Overhead != nil {
		errs = append(errs, podspec.ValidateOverhead(c.Overhead.PodFixed, field.NewPath("overhead"))...)
	}
	if s := c.Scheduling; s != nil {
		path := field.NewPath("scheduling")
		errs = append(errs, metavalidation.ValidateLabels(s.NodeSelector, path.Child("nodeSelector"))...)
		errs = append(errs, podspec.ValidateTolerations(s.Tolerations, path.Child("tolerations"))...)
		for i := range s.Tolerations {
			for _, before := range s.Tolerations[:i] {
				if before.MatchToleration(&s.Tolerations[i]) {
					errs = append(errs, field.Duplicate(path.Child("tolerations").Index(i), s.Tolerations[i]))
					break
				}
			}
		}
	}
	return errs
}
