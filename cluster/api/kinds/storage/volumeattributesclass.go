package storage

import (
	"context"

	storagev1 "k8s.io/api/storage/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

// VolumeAttributesClass describes storage.k8s.io/v1 VolumeAttributesClass.
func VolumeAttributesClass() kind.Kind {
	return kind.Kind{
		GVK:        storagev1.SchemeGroupVersion.WithKind("VolumeAttributesClass"),
		Resource:   "volumeattributesclasses",
		Singular:   "volumeattributesclass",
		ShortNames: []string{"vac"},
		New:        func() kind.Object { return &storagev1.VolumeAttributesClass{} },
		NewList:    func() runtime.Object { return &storagev1.VolumeAttributesClassList{} },

		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return validateAttributesClass(obj.(*storagev1.VolumeAttributesClass))
		},
		ValidateUpdate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
			c, was := obj.(*storagev1.VolumeAttributesClass), old.(*storagev1.VolumeAttributesClass)
			errs := validateAttributesClass(c)
			if c.DriverName != was.DriverName {
				errs = append(errs, field.Forbidden(field.NewPath("driverName"), "updates to driverName are forbidden."))
			}
			if !apiequality.Semantic.DeepEqual(c.Parameters, was.Parameters) {
				errs = append(errs, field.Forbidden(field.NewPath("parameters"), "updates to parameters are forbidden."))
			}
			return errs
		},

		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Col("DriverName", storagev1.VolumeAttributesClass{}.SwaggerDoc()["driverName"]),
			table.Age(),
		},
		Row: func(obj kind.Object) []any {
			c := obj.(*storagev1.VolumeAttributesClass)
			return []any{c.Name, c.DriverName, table.Since(c.CreationTimestamp)}
		},
	}
}

func validateAttributesClass(c *storagev1.VolumeAttributesClass) field.ErrorList {
	return append(validateProvisioner(c.DriverName, field.NewPath("driverName")), validateParameters(c.Parameters, false, field.NewPath("parameters"))...)
}
