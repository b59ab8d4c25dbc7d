package api

import (
	"context"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage/names"
	"k8s.io/kube-aggregator/pkg/apis/apiregistration"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/troupe-run/troupe/cluster/api/kind"
)

// strategy plays a kind to the generic registry: create, update and delete rules.
type strategy struct {
	runtime.ObjectTyper
	names.NameGenerator
	kind *kind.Kind
}

func (s strategy) NamespaceScoped() bool          { return s.kind.Namespaced }
func (s strategy) AllowCreateOnUpdate() bool      { return s.kind.AllowCreateOnUpdate }
func (s strategy) AllowUnconditionalUpdate() bool { return !s.kind.NeedsResourceVersion }
func (s strategy) Canonicalize(runtime.Object)    {}

func (s strategy) PrepareForCreate(ctx context.Context, obj runtime.Object) {
	o := obj.(kind.Object)
	if s.kind.SpecChanged != nil {
		o.SetGeneration(1)
	}
	if s.kind.PrepareForCreate != nil {
		s.kind.PrepareForCreate(ctx, o)
	}
}

func (s strategy) Validate(ctx context.Context, obj runtime.Object) field.ErrorList {
	o := obj.(kind.Object)
	validName := s.kind.ValidateName
	if validName == nil {
		validName = apivalidation.NameIsDNSSubdomain
	}
	errs := apivalidation.ValidateObjectMetaAccessor(o, s.kind.Namespaced, validName, field.NewPath("metadata"))
	errs = append(errs, s.finalizers(o)...)
	if s.kind.Validate != nil {
		errs = append(errs, s.kind.Validate(ctx, o)...)
	}
	return errs
}

// shortFinalizers are finalizers without a domain that Kubernetes itself has made.
var shortFinalizers = sets.New(string(corev1.FinalizerKubernetes), metav1.FinalizerOrphanDependents, metav1.FinalizerDeleteDependents)

// anyFinalizer are the groups that take any qualified name for a finalizer.
var anyFinalizer = sets.New(admissionregistrationv1.GroupName, apiextensions.GroupName, apiregistration.GroupName, coordinationv1.GroupName)

// finalizers checks that finalizers tell whose they are, which the metadata's own rules do not ask for.
func (s strategy) finalizers(o kind.Object) field.ErrorList {
	if anyFinalizer.Has(s.kind.GVK.Group) {
		return nil
	}
	var errs field.ErrorList
	for i, name := range o.GetFinalizers() {
		if !strings.Contains(name, "/") && !shortFinalizers.Has(name) {
			errs = append(errs, field.Invalid(field.NewPath("metadata", "finalizers").Index(i), name, "name is neither a standard finalizer name nor is it fully qualified"))
		}
	}
	return errs
}

func (s strategy) PrepareForUpdate(ctx context.Context, obj, old runtime.Object) {
	o, was := obj.(kind.Object), old.(kind.Object)
	if s.kind.PrepareForUpdate != nil {
		s.kind.PrepareForUpdate(ctx, o, was)
	}
	if s.kind.SpecChanged != nil && s.kind.SpecChanged(o, was) {
		o.SetGeneration(was.GetGeneration() + 1)
	}
}

func (s strategy) ValidateUpdate(ctx context.Context, obj, old runtime.Object) field.ErrorList {
	o, was := obj.(kind.Object), old.(kind.Object)
	errs := s.finalizers(o)
	switch { // the generic registry has compared the rest of the metadata
	case s.kind.ValidateUpdate != nil:
		errs = append(errs, s.kind.ValidateUpdate(ctx, o, was)...)
	case s.kind.Validate != nil:
		errs = append(errs, s.kind.Validate(ctx, o)...)
	}
	return errs
}

func (s strategy) WarningsOnCreate(ctx context.Context, obj runtime.Object) []string {
	if s.kind.Warnings == nil {
		return nil
	}
	return s.kind.Warnings(ctx, obj.(kind.Object), nil)
}

func (s strategy) WarningsOnUpdate(ctx context.Context, obj, old runtime.Object) []string {
	if s.kind.Warnings == nil {
		return nil
	}
	return s.kind.Warnings(ctx, obj.(kind.Object), old.(kind.Object))
}

// CheckGracefulDelete lets the kind keep an object, marked, for its grace period.
func (s strategy) CheckGracefulDelete(ctx context.Context, obj runtime.Object, options *metav1.DeleteOptions) bool {
	return s.kind.Delete != nil && s.kind.Delete(ctx, obj.(kind.Object), options)
}

// DefaultGarbageCollectionPolicy is what the current versions of all kinds ask for.
func (s strategy) DefaultGarbageCollectionPolicy(context.Context) rest.GarbageCollectionPolicy {
	return rest.DeleteDependents
}

// GetResetFields names what a writer of the whole object may not own.
func (s strategy) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	if s.kind.Status == nil {
		return nil
	}
	return resetFields(s.kind, "status")
}

// subStrategy is the strategy of a second writer such as the status subresource.
type subStrategy struct {
	strategy
	name string
	sub  *kind.Subresource
}

func (s subStrategy) AllowCreateOnUpdate() bool { return false }

func (s subStrategy) PrepareForUpdate(ctx context.Context, obj, old runtime.Object) {
	if s.sub.Prepare != nil {
		s.sub.Prepare(ctx, obj.(kind.Object), old.(kind.Object))
	}
	o, was := obj.(kind.Object), old.(kind.Object)
	if s.name != "status" && s.kind.SpecChanged != nil && s.kind.SpecChanged(o, was) {
		o.SetGeneration(was.GetGeneration() + 1)
	}
}

func (s subStrategy) ValidateUpdate(ctx context.Context, obj, old runtime.Object) field.ErrorList {
	errs := s.finalizers(obj.(kind.Object))
	if s.sub.Validate != nil {
		errs = append(errs, s.sub.Validate(ctx, obj.(kind.Object), old.(kind.Object))...)
	}
	return errs
}

func (s subStrategy) WarningsOnUpdate(context.Context, runtime.Object, runtime.Object) []string {
	return nil
}

func (s subStrategy) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	if s.name != "status" {
		return nil
	}
	return resetFields(s.kind, "spec")
}

func resetFields(k *kind.Kind, field string) map[fieldpath.APIVersion]*fieldpath.Set {
	set := fieldpath.NewSet(fieldpath.MakePathOrDie(field))
	out := map[fieldpath.APIVersion]*fieldpath.Set{fieldpath.APIVersion(k.GVK.GroupVersion().String()): set}
	for _, v := range k.Versions {
		out[fieldpath.APIVersion(v.GVK.GroupVersion().String())] = set
	}
	return out
}

var (
	_ rest.RESTCreateStrategy              = strategy{}
	_ rest.RESTUpdateStrategy              = strategy{}
	_ rest.RESTGracefulDeleteStrategy      = strategy{}
	_ rest.GarbageCollectionDeleteStrategy = strategy{}
	_ rest.ResetFieldsStrategy             = strategy{}
	_ rest.ResetFieldsStrategy             = subStrategy{}
)
