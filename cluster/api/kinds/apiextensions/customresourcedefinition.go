package apiextensions

import (
	"context"
	"slices"

	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	registry "k8s.io/apiextensions-apiserver/pkg/registry/customresourcedefinition"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/check"
)

// CustomResourceDefinition describes apiextensions.k8s.io/v1 CustomResourceDefinition. One that is
// deleted stays, Terminating, until its custom resources are gone and the finalizer
// customresourcecleanup is off.
func CustomResourceDefinition() kind.Kind {
	whole, status := registry.NewStrategy(nil), registry.NewStatusStrategy(nil)
	return kind.Kind{
		GVK:        apiextensionsv1.SchemeGroupVersion.WithKind("CustomResourceDefinition"),
		Resource:   "customresourcedefinitions",
		Singular:   "customresourcedefinition",
		ShortNames: []string{"crd", "crds"},
		Categories: []string{"api-extensions"},
		New:        func() kind.Object { return &apiextensionsv1.CustomResourceDefinition{} },
		NewList:    func() runtime.Object { return &apiextensionsv1.CustomResourceDefinitionList{} },

		Default: func(obj kind.Object) {
			apiextensionsv1.SetObjectDefaults_CustomResourceDefinition(obj.(*apiextensionsv1.CustomResourceDefinition))
		},
		ValidateName: check.AnyName,
		Validate: func(ctx context.Context, obj kind.Object) field.ErrorList {
			if errs := validateSize(obj.(*apiextensionsv1.CustomResourceDefinition)); errs != nil {
				return errs
			}
			in, errs := internal(obj)
			if errs != nil {
				return errs
			}
			return check.BesidesMetadata(whole.Validate(ctx, in))
		},
		ValidateUpdate: func(ctx context.Context, obj, old kind.Object) field.ErrorList {
			// One that is too large already, from before there were limits, may be changed as before.
			if errs := validateSize(obj.(*apiextensionsv1.CustomResourceDefinition)); errs != nil && validateSize(old.(*apiextensionsv1.CustomResourceDefinition)) == nil {
				return errs
			}
			return both(obj, old, func(in, was *apiextensions.CustomResourceDefinition) field.ErrorList {
				return check.BesidesMetadata(whole.ValidateUpdate(ctx, in, was))
			})
		},
		PrepareForCreate: func(ctx context.Context, obj kind.Object) {
			if in, errs := internal(obj); errs == nil {
				whole.PrepareForCreate(ctx, in)
				external(in, obj)
			}
		},
		PrepareForUpdate: func(ctx context.Context, obj, old kind.Object) {
			both(obj, old, func(in, was *apiextensions.CustomResourceDefinition) field.ErrorList {
				whole.PrepareForUpdate(ctx, in, was)
				external(in, obj)
				return nil
			})
		},
		Warnings: func(ctx context.Context, obj, old kind.Object) (out []string) {
			if old == nil {
				if in, errs := internal(obj); errs == nil {
					out = whole.WarningsOnCreate(ctx, in)
				}
				return out
			}
			both(obj, old, func(in, was *apiextensions.CustomResourceDefinition) field.ErrorList {
				out = whole.WarningsOnUpdate(ctx, in, was)
				return nil
			})
			return out
		},
		NeedsResourceVersion: true,

		Status: &kind.Subresource{
			Prepare: func(_ context.Context, obj, old kind.Object) {
				// All versions of a definition share one spec, which may be large. Metadata is written with
				// the status: the finalizer goes that way.
				obj.(*apiextensionsv1.CustomResourceDefinition).Spec = old.(*apiextensionsv1.CustomResourceDefinition).Spec
			},
			Validate: func(ctx context.Context, obj, old kind.Object) field.ErrorList {
				return both(withoutSpec(obj), withoutSpec(old), func(in, was *apiextensions.CustomResourceDefinition) field.ErrorList {
					return check.BesidesMetadata(status.ValidateUpdate(ctx, in, was))
				})
			},
		},
		Finalize: &kind.Finalize{
			Pending:    func(kind.Object) bool { return false },
			Mark:       func(obj kind.Object) { terminate(obj.(*apiextensionsv1.CustomResourceDefinition)) },
			Collection: true,
		},
	}
}

// terminate marks a definition whose custom resources are to be deleted.
func terminate(crd *apiextensionsv1.CustomResourceDefinition) {
	if !slices.Contains(crd.Finalizers, apiextensionsv1.CustomResourceCleanupFinalizer) {
		crd.Finalizers = append(crd.Finalizers, apiextensionsv1.CustomResourceCleanupFinalizer)
	}
	apihelpers.SetCRDCondition(crd, apiextensionsv1.CustomResourceDefinitionCondition{
		Type: apiextensionsv1.Terminating, Status: apiextensionsv1.ConditionTrue, Reason: "InstanceDeletionPending",
		Message: "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
	})
}

// withoutSpec is what rules about the status need of a definition.
func withoutSpec(obj kind.Object) kind.Object {
	crd := *obj.(*apiextensionsv1.CustomResourceDefinition)
	crd.Spec = apiextensionsv1.CustomResourceDefinitionSpec{}
	return &crd
}

// internal converts a definition into the type that the rules are written for.
func internal(obj kind.Object) (*apiextensions.CustomResourceDefinition, field.ErrorList) {
	out := &apiextensions.CustomResourceDefinition{}
	err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(
		obj.(*apiextensionsv1.CustomResourceDefinition), out, nil)
	if err != nil { // JSON in a schema that is none
		return nil, field.ErrorList{field.Invalid(field.NewPath("spec"), "", err.Error())}
	}
	return out, nil
}

// both converts a definition and its predecessor.
func both(obj, old kind.Object, fn func(in, was *apiextensions.CustomResourceDefinition) field.ErrorList) field.ErrorList {
	in, errs := internal(obj)
	if errs != nil {
		return errs
	}
	was, errs := internal(old)
	if errs != nil {
		return errs
	}
	return fn(in, was)
}

// external writes what the rules made of a definition back to it.
func external(in *apiextensions.CustomResourceDefinition, obj kind.Object) {
	crd := obj.(*apiextensionsv1.CustomResourceDefinition)
	out := apiextensionsv1.CustomResourceDefinition{TypeMeta: crd.TypeMeta}
	if apiextensionsv1.Convert_apiextensions_CustomResourceDefinition_To_v1_CustomResourceDefinition(in, &out, nil) == nil {
		*crd = out
	}
}
