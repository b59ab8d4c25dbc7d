package resource

import (
	"context"
	"fmt"
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

// ResourceSlice describes resource.k8s.io/v1 ResourceSlice.
func ResourceSlice() kind.Kind {
	return kind.Kind{
		GVK:      resourcev1.SchemeGroupVersion.WithKind("ResourceSlice"),
		Resource: "resourceslices",
		Singular: "resourceslice",
		New:      func() kind.Object { return &resourcev1.ResourceSlice{} },
		NewList:  func() runtime.Object { return &resourcev1.ResourceSliceList{} },

		PrepareForCreate: func(_ context.Context, obj kind.Object) { stampTaints(obj.(*resourcev1.ResourceSlice), nil) },
		PrepareForUpdate: func(_ context.Context, obj, old kind.Object) {
			stampTaints(obj.(*resourcev1.ResourceSlice), old.(*resourcev1.ResourceSlice))
		},
		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return validateSlice(&obj.(*resourcev1.ResourceSlice).Spec)
		},
		ValidateUpdate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
			spec, was := &obj.(*resourcev1.ResourceSlice).Spec, &old.(*resourcev1.ResourceSlice).Spec
			errs := validateSlice(spec)
			errs = append(errs, apivalidation.ValidateImmutableField(spec.NodeName, was.NodeName, specPath.Child("nodeName"))...)
			errs = append(errs, apivalidation.ValidateImmutableField(spec.Driver, was.Driver, specPath.Child("driver"))...)
			return append(errs, apivalidation.ValidateImmutableField(spec.Pool.Name, was.Pool.Name, specPath.Child("pool", "name"))...)
		},
		Warnings: func(_ context.Context, obj, _ kind.Object) []string {
			driver := obj.(*resourcev1.ResourceSlice).Spec.Driver
			if driver == strings.ToLower(driver) {
				return nil
			}
			return []string{fmt.Sprintf("spec.driver: driver names should be lowercase; %q contains uppercase characters", driver)}
		},
		SpecChanged: func(obj, old kind.Object) bool {
			return !apiequality.Semantic.DeepEqual(obj.(*resourcev1.ResourceSlice).Spec, old.(*resourcev1.ResourceSlice).Spec)
		},

		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Col("Node", resourcev1.ResourceSliceSpec{}.SwaggerDoc()["nodeName"]),
			table.Col("Driver", resourcev1.ResourceSliceSpec{}.SwaggerDoc()["driver"]),
			table.Col("Pool", resourcev1.ResourcePool{}.SwaggerDoc()["name"]),
			table.Age(),
		},
		Row: func(obj kind.Object) []any {
			s := obj.(*resourcev1.ResourceSlice)
			return []any{s.Name, ptr.Deref(s.Spec.NodeName, ""), s.Spec.Driver, s.Spec.Pool.Name, table.Since(s.CreationTimestamp)}
		},
		Fields: func(obj kind.Object) fields.Set {
			s := obj.(*resourcev1.ResourceSlice)
			return fields.Set{
				resourcev1.ResourceSliceSelectorNodeName: ptr.Deref(s.Spec.NodeName, ""),
				resourcev1.ResourceSliceSelectorDriver:   s.Spec.Driver,
			}
		},
	}
}

// stampTaints notes since when devices are tainted, where the driver did not.
func stampTaints(s, old *resourcev1.ResourceSlice) {
	since := func(device string, t *resourcev1.DeviceTaint) *metav1.Time {
		if old != nil {
			for i := range old.Spec.Devices {
				for _, was := range old.Spec.Devices[i].Taints {
					if old.Spec.Devices[i].Name == device && was.Key == t.Key && was.Value == t.Value && was.Effect == t.Effect && was.TimeAdded != nil {
						return was.TimeAdded
					}
				}
			}
		}
		return ptr.To(metav1.Now())
	}
	for i := range s.Spec.Devices {
		for j := range s.Spec.Devices[i].Taints {
			if t := &s.Spec.Devices[i].Taints[j]; t.TimeAdded == nil {
				t.TimeAdded = since(s.Spec.Devices[i].Name, t)
			}
		}
	}
}
