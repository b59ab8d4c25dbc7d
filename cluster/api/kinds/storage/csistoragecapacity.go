package storage

import (
	"context"

	storagev1 "k8s.io/api/storage/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/check"
)

// CSIStorageCapacity describes storage.k8s.io/v1 CSIStorageCapacity.
func CSIStorageCapacity() kind.Kind {
	return kind.Kind{
		GVK:        storagev1.SchemeGroupVersion.WithKind("CSIStorageCapacity"),
		Resource:   "csistoragecapacities",
		Singular:   "csistoragecapacity",
		Namespaced: true,
		New:        func() kind.Object { return &storagev1.CSIStorageCapacity{} },
		NewList:    func() runtime.Object { return &storagev1.CSIStorageCapacityList{} },

		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return validateCapacity(obj.(*storagev1.CSIStorageCapacity))
		},
		ValidateUpdate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
			c, was := obj.(*storagev1.CSIStorageCapacity), old.(*storagev1.CSIStorageCapacity)
			errs := validateCapacity(c)
			errs = append(errs, apivalidation.ValidateImmutableField(c.NodeTopology, was.NodeTopology, field.NewPath("nodeTopology"))...)
			return append(errs, apivalidation.ValidateImmutableField(c.StorageClassName, was.StorageClassName, field.NewPath("storageClassName"))...)
		},

		NeedsResourceVersion: true,
	}
}

func validateCapacity(c *storagev1.CSIStorageCapacity) field.ErrorList {
	errs := check.DNSSubdomain(c.StorageClassName, field.NewPath("storageClassName"))
	errs = append(errs, metavalidation.ValidateLabelSelector(c.NodeTopology, metavalidation.LabelSelectorValidationOptions{}, field.NewPath("nodeTopology"))...)
	if c.Capacity != nil {
		errs = append(errs, check.NonNegativeQuantity(*c.Capacity, field.NewPath("capacity"))...)
	}
	if c.MaximumVolumeSize != nil {
		errs = append(errs, check.NonNegativeQuantity(*c.MaximumVolumeSize, field.NewPath("maximumVolumeSize"))...)
	}
	return errs
}
