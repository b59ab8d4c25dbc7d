package storage

import (
	"context"
	"fmt"

	storagev1 "k8s.io/api/storage/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/check"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

// CSINode describes storage.k8s.io/v1 CSINode.
func CSINode() kind.Kind {
	return kind.Kind{
		GVK:      storagev1.SchemeGroupVersion.WithKind("CSINode"),
		Resource: "csinodes",
		Singular: "csinode",
		New:      func() kind.Object { return &storagev1.CSINode{} },
		NewList:  func() runtime.Object { return &storagev1.CSINodeList{} },

		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return validateDrivers(obj.(*storagev1.CSINode).Spec.Drivers)
		},
		ValidateUpdate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
			n, was := obj.(*storagev1.CSINode), old.(*storagev1.CSINode)
			errs := validateDrivers(n.Spec.Drivers)
			// A driver may come and go, but not change; only what it has room for may.
			for i, d := range n.Spec.Drivers {
				for _, before := range was.Spec.Drivers {
					before.Allocatable = d.Allocatable
					if d.Name == before.Name && !apiequality.Semantic.DeepEqual(d, before) {
						errs = append(errs, field.Invalid(specPath.Child("drivers"), n.Spec.Drivers[i], "field is immutable"))
					}
				}
			}
			return errs
		},

		NeedsResourceVersion: true,
		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Int("Drivers", "Drivers indicates the number of CSI drivers registered on the node"),
			table.Age(),
		},
		Row: func(obj kind.Object) []any {
			n := obj.(*storagev1.CSINode)
			return []any{n.Name, int64(len(n.Spec.Drivers)), table.Since(n.CreationTimestamp)}
		},
	}
}

// maxNodeID is the longest name a driver may have for a node.
const maxNodeID = 256

func validateDrivers(drivers []storagev1.CSINodeDriver) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[string]()
	for i, d := range drivers {
		at := specPath.Child("drivers").Index(i)
		errs = append(errs, check.DriverName(d.Name, at.Child("name"))...)
		if seen.Has(d.Name) {
			errs = append(errs, field.Duplicate(at.Child("name"), d.Name))
		}
		seen.Insert(d.Name)
		if d.NodeID == "" {
			errs = append(errs, field.Required(at.Child("nodeID"), d.NodeID))
		}
		if len(d.NodeID) > maxNodeID {
			errs = append(errs, field.Invalid(at.Child("nodeID"), d.NodeID, fmt.Sprintf("must be %d characters or less", maxNodeID)))
		}
		if d.Allocatable != nil {
			errs = append(errs, check.OptionalNonNegative(d.Allocatable.Count, at.Child("allocatable", "count"))...)
		}
		keys := sets.New[string]()
		for _, key := range d.TopologyKeys {
			// In Kubernetes, too, the field is missing from these paths.
			if key == "" {
				errs = append(errs, field.Required(at, key))
			}
			if keys.Has(key) {
				errs = append(errs, field.Duplicate(at, key))
			}
			keys.Insert(key)
			errs = append(errs, check.QualifiedName(key, at)...)
		}
	}
	return errs
}
