package storage

import (
	"context"
	"math"
	"strings"

	storagev1 "k8s.io/api/storage/v1"
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

var specPath = field.NewPath("spec")

// CSIDriver describes storage.k8s.io/v1 CSIDriver.
func CSIDriver() kind.Kind {
	doc := storagev1.CSIDriverSpec{}.SwaggerDoc()
	flag := func(name, field string) metav1.TableColumnDefinition {
		return metav1.TableColumnDefinition{Name: name, Type: "boolean", Description: doc[field]}
	}
	return kind.Kind{
		GVK:      storagev1.SchemeGroupVersion.WithKind("CSIDriver"),
		Resource: "csidrivers",
		Singular: "csidriver",
		New:      func() kind.Object { return &storagev1.CSIDriver{} },
		NewList:  func() runtime.Object { return &storagev1.CSIDriverList{} },

		Default: func(obj kind.Object) { defaultDriver(&obj.(*storagev1.CSIDriver).Spec) },
		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return validateDriver(&obj.(*storagev1.CSIDriver).Spec)
		},
		ValidateUpdate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
			spec, was := &obj.(*storagev1.CSIDriver).Spec, &old.(*storagev1.CSIDriver).Spec
			errs := validateDriver(spec)
			errs = append(errs, apivalidation.ValidateImmutableField(spec.AttachRequired, was.AttachRequired, specPath.Child("attachedRequired"))...)
			return append(errs, apivalidation.ValidateImmutableField(spec.VolumeLifecycleModes, was.VolumeLifecycleModes, specPath.Child("volumeLifecycleModes"))...)
		},
		Warnings: func(_ context.Context, obj, _ kind.Object) []string {
			if spec := &obj.(*storagev1.CSIDriver).Spec; len(spec.TokenRequests) > 0 && spec.ServiceAccountTokenInSecrets == nil {
				return []string{"spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes"}
			}
			return nil
		},

		NeedsResourceVersion: true,
		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			flag("AttachRequired", "attachRequired"),
			flag("PodInfoOnMount", "podInfoOnMount"),
			flag("StorageCapacity", "storageCapacity"),
			table.Col("TokenRequests", doc["tokenRequests"]),
			flag("RequiresRepublish", "requiresRepublish"),
			table.Col("Modes", doc["volumeLifecycleModes"]),
			table.Age(),
		},
		Row: func(obj kind.Object) []any {
			d := obj.(*storagev1.CSIDriver)
			var audiences, modes []string
			for _, r := range d.Spec.TokenRequests {
				audiences = append(audiences, r.Audience)
			}
			for _, m := range d.Spec.VolumeLifecycleModes {
				modes = append(modes, string(m))
			}
			return []any{
				d.Name, ptr.Deref(d.Spec.AttachRequired, true), ptr.Deref(d.Spec.PodInfoOnMount, false), ptr.Deref(d.Spec.StorageCapacity, false),
				listOr(audiences, "<unset>"), ptr.Deref(d.Spec.RequiresRepublish, false), listOr(modes, table.None), table.Since(d.CreationTimestamp),
			}
		},
	}
}

func listOr(list []string, none string) string {
	if len(list) == 0 {
		return none
	}
	return strings.Join(list, ",")
}

func defaultDriver(spec *storagev1.CSIDriverSpec) {
	for _, flag := range []struct {
		field **bool
		value bool
	}{{&spec.AttachRequired, true}, {&spec.PodInfoOnMount, false}, {&spec.StorageCapacity, false}, {&spec.RequiresRepublish, false}, {&spec.SELinuxMount, false}} {
		if *flag.field == nil {
			*flag.field = ptr.To(flag.value)
		}
	}
	if spec.FSGroupPolicy == nil {
		spec.FSGroupPolicy = ptr.To(storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy)
	}
	if len(spec.VolumeLifecycleModes) == 0 {
		spec.VolumeLifecycleModes = []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecyclePersistent}
	}
}

const (
	minTokenSeconds  = 10 * 60
	minUpdateSeconds = 10
)

var (
	lifecycleModes  = sets.New(storagev1.VolumeLifecyclePersistent, storagev1.VolumeLifecycleEphemeral)
	fsGroupPolicies = sets.New(storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy, storagev1.FileFSGroupPolicy, storagev1.NoneFSGroupPolicy)
)

func validateDriver(spec *storagev1.CSIDriverSpec) field.ErrorList {
	var errs field.ErrorList
	for _, need := range []struct {
		child string
		set   bool
	}{
		{"attachedRequired", spec.AttachRequired != nil}, {"podInfoOnMount", spec.PodInfoOnMount != nil}, {"storageCapacity", spec.StorageCapacity != nil},
		{"seLinuxMount", spec.SELinuxMount != nil}, {"requiresRepublish", spec.RequiresRepublish != nil},
	} {
		if !need.set {
			errs = append(errs, field.Required(specPath.Child(need.child), ""))
		}
	}
	errs = append(errs, check.OptionalOneOf(spec.FSGroupPolicy, fsGroupPolicies, specPath.Child("fsGroupPolicy"))...)
	for _, mode := range spec.VolumeLifecycleModes {
		errs = append(errs, check.OneOfOrBad(mode, lifecycleModes, specPath.Child("volumeLifecycleModes"))...)
	}
	audiences := sets.New[string]()
	for i, r := range spec.TokenRequests {
		at := specPath.Child("tokenRequests").Index(i)
		if audiences.Has(r.Audience) {
			errs = append(errs, field.Duplicate(at.Child("audience"), r.Audience))
			continue
		}
		audiences.Insert(r.Audience)
		if r.ExpirationSeconds == nil {
			continue
		}
		at = at.Child("expirationSeconds")
		if *r.ExpirationSeconds < minTokenSeconds {
			errs = append(errs, field.Invalid(at, *r.ExpirationSeconds, "may not specify a duration less than 10 minutes"))
		}
		if *r.ExpirationSeconds > math.MaxUint32+1 {
			errs = append(errs, field.Invalid(at, *r.ExpirationSeconds, "may not specify a duration larger than 2^32 seconds"))
		}
	}
	if n := spec.NodeAllocatableUpdatePeriodSeconds; n != nil && *n < minUpdateSeconds {
		errs = append(errs, field.Invalid(specPath.Child("nodeAllocatableUpdatePeriodSeconds"), *n, "must be greater than or equal to 10 seconds"))
	}
	return errs
}
