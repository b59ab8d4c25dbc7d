package coordination

import (
	"context"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/check"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

// Lease describes coordination.k8s.io/v1 Lease.
func Lease() kind.Kind {
	return kind.Kind{
		GVK:        coordinationv1.SchemeGroupVersion.WithKind("Lease"),
		Resource:   "leases",
		Singular:   "lease",
		Namespaced: true,
		New:        func() kind.Object { return &coordinationv1.Lease{} },
		NewList:    func() runtime.Object { return &coordinationv1.LeaseList{} },

		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return validateLease(&obj.(*coordinationv1.Lease).Spec)
		},
		PrepareForCreate: func(_ context.Context, obj kind.Object) {
			dropElection(&obj.(*coordinationv1.Lease).Spec, nil)
		},
		PrepareForUpdate: func(_ context.Context, obj, old kind.Object) {
			dropElection(&obj.(*coordinationv1.Lease).Spec, &old.(*coordinationv1.Lease).Spec)
		},
		AllowCreateOnUpdate:  true,
		NeedsResourceVersion: true,

		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Col("Holder", coordinationv1.LeaseSpec{}.SwaggerDoc()["holderIdentity"]),
			table.Age(),
		},
		Row: func(obj kind.Object) []any {
			l := obj.(*coordinationv1.Lease)
			return []any{l.Name, ptr.Deref(l.Spec.HolderIdentity, ""), table.Since(l.CreationTimestamp)}
		},
	}
}

// dropElection removes what Kubernetes 1.36 has switched off, coordinated elections, from Leases that have
// not had it.
func dropElection(spec, old *coordinationv1.LeaseSpec) {
	if old == nil || old.Strategy == nil {
		spec.Strategy = nil
	}
	if old == nil || old.PreferredHolder == nil {
		spec.PreferredHolder = nil
	}
}

func validateLease(spec *coordinationv1.LeaseSpec) field.ErrorList {
	path := field.NewPath("spec")
	var errs field.ErrorList
	if spec.LeaseDurationSeconds != nil {
		errs = append(errs, check.Positive(*spec.LeaseDurationSeconds, path.Child("leaseDurationSeconds"))...)
	}
	errs = append(errs, check.OptionalNonNegative(spec.LeaseTransitions, path.Child("leaseTransitions"))...)
	if spec.Strategy != nil {
		errs = append(errs, check.QualifiedName(string(*spec.Strategy), path.Child("strategy"))...)
	}
	if spec.PreferredHolder != nil && *spec.PreferredHolder != "" && (spec.Strategy == nil || *spec.Strategy == "") {
		errs = append(errs, field.Forbidden(path.Child("preferredHolder"), "may only be specified when `strategy` is defined"))
	}
	return errs
}
