package apps

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/check"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

// ControllerRevision describes apps/v1 ControllerRevision.
func ControllerRevision() kind.Kind {
	doc := appsv1.ControllerRevision{}.SwaggerDoc()
	return kind.Kind{
		GVK:        appsv1.SchemeGroupVersion.WithKind("ControllerRevision"),
		Resource:   "controllerrevisions",
		Singular:   "controllerrevision",
		Namespaced: true,
		New:        func() kind.Object { return &appsv1.ControllerRevision{} },
		NewList:    func() runtime.Object { return &appsv1.ControllerRevisionList{} },

		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			r := obj.(*appsv1.ControllerRevision)
			return append(validateRevisionData(r.Data.Raw), check.NonNegative(r.Revision, field.NewPath("revision"))...)
		},
		ValidateUpdate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
			r, was := obj.(*appsv1.ControllerRevision), old.(*appsv1.ControllerRevision)
			return append(check.NonNegative(r.Revision, field.NewPath("revision")), apivalidation.ValidateImmutableField(r.Data, was.Data, field.NewPath("data"))...)
		},

		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Col("Controller", "Controller of the object"),
			table.Col("Revision", doc["revision"]),
			table.Age(),
		},
		Row: func(obj kind.Object) []any {
			r := obj.(*appsv1.ControllerRevision)
			return []any{r.Name, controllerName(r), r.Revision, table.Since(r.CreationTimestamp)}
		},
	}
}

// controllerName is the owner in charge, as kubectl takes it: "statefulset.apps/web".
func controllerName(obj metav1.Object) string {
	ref := metav1.GetControllerOf(obj)
	if ref == nil {
		return table.None
	}
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return table.None
	}
	return strings.ToLower(gv.WithKind(ref.Kind).GroupKind().String()) + "/" + ref.Name
}

// validateRevisionData checks that a revision holds an object.
func validateRevisionData(raw []byte) field.ErrorList {
	path := field.NewPath("data")
	if raw == nil {
		return field.ErrorList{field.Required(path, "data is mandatory")}
	}
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		return field.ErrorList{field.Invalid(path, "<value omitted>", fmt.Sprintf("error parsing data: %v", err))}
	}
	if v == nil {
		return field.ErrorList{field.Required(path, "data is mandatory")}
	}
	if _, ok := v.(map[string]any); !ok {
		return field.ErrorList{field.Required(path, "data must be a valid JSON object")}
	}
	return nil
}
