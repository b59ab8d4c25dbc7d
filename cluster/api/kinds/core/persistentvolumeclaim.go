package core

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/podspec"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

// PersistentVolumeClaim describes v1 PersistentVolumeClaim.
func PersistentVolumeClaim() kind.Kind {
	spec, status := corev1.PersistentVolumeClaimSpec{}.SwaggerDoc(), corev1.PersistentVolumeClaimStatus{}.SwaggerDoc()
	return kind.Kind{
		GVK:        corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim"),
		Resource:   "persistentvolumeclaims",
		Singular:   "persistentvolumeclaim",
		ShortNames: []string{"pvc"},
		Namespaced: true,
		New:        func() kind.Object { return &corev1.PersistentVolumeClaim{} },
		NewList:    func() runtime.Object { return &corev1.PersistentVolumeClaimList{} },

		Default: func(obj kind.Object) { DefaultPersistentVolumeClaim(obj.(*corev1.PersistentVolumeClaim)) },
		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return podspec.ValidateClaim(&obj.(*corev1.PersistentVolumeClaim).Spec, specPath)
		},
		ValidateUpdate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
			return validateClaimUpdate(obj.(*corev1.PersistentVolumeClaim), old.(*corev1.PersistentVolumeClaim))
		},
		PrepareForCreate: func(_ context.Context, obj kind.Object) {
			obj.(*corev1.PersistentVolumeClaim).Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending}
		},
		PrepareForUpdate: func(_ context.Context, obj, old kind.Object) {
			obj.(*corev1.PersistentVolumeClaim).Status = old.(*corev1.PersistentVolumeClaim).Status
		},
		Status: &kind.Subresource{
			Prepare: func(_ context.Context, obj, old kind.Object) {
				obj.(*corev1.PersistentVolumeClaim).Spec = old.(*corev1.PersistentVolumeClaim).Spec
			},
			Validate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
				s, path := &obj.(*corev1.PersistentVolumeClaim).Status, field.NewPath("status")
				return append(quotaAmounts(s.Capacity, path.Child("capacity")), quotaAmounts(s.AllocatedResources, path.Child("allocatedResources"))...)
			},
		},

		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Col("Status", status["phase"]),
			table.Col("Volume", spec["volumeName"]),
			table.Col("Capacity", status["capacity"]),
			table.Col("Access Modes", status["accessModes"]),
			table.Col("StorageClass", spec["storageClassName"]),
			table.Col("VolumeAttributesClass", spec["volumeAttributesClassName"]),
			table.Age(),
			table.Wide(table.Col("VolumeMode", spec["volumeMode"])),
		},
		Row: func(obj kind.Object) []any { return claimRow(obj.(*corev1.PersistentVolumeClaim)) },
	}
}

// classAnnotation named the storage class before there was a field for it.
const classAnnotation = "volume.beta.kubernetes.io/storage-class"

// DefaultPersistentVolumeClaim fills in what the author of a claim left out; stateful sets have
// templates of claims.
func DefaultPersistentVolumeClaim(c *corev1.PersistentVolumeClaim) {
	podspec.DefaultClaim(&c.Spec)
	if c.Status.Phase == "" {
		c.Status.Phase = corev1.ClaimPending
	}
}

func validateClaimUpdate(c, old *corev1.PersistentVolumeClaim) field.ErrorList {
	errs := podspec.ValidateClaim(&c.Spec, specPath)
	// What is left over once everything that may change is set aside has to be the same.
	rest := c.Spec.DeepCopy()
	if old.Spec.VolumeName == "" {
		rest.VolumeName = ""
	}
	if old.Spec.StorageClassName == nil && old.Annotations[classAnnotation] == "" {
		rest.StorageClassName = nil // the default class, given later
	}
	bound := old.Status.Phase == corev1.ClaimBound
	size, was := c.Spec.Resources.Requests[corev1.ResourceStorage], old.Spec.Resources.Requests[corev1.ResourceStorage]
	if bound {
		rest.Resources.Requests = old.Spec.Resources.Requests
		rest.VolumeAttributesClassName = old.Spec.VolumeAttributesClassName
		have := old.Status.Capacity[corev1.ResourceStorage]
		if size.Cmp(was) < 0 && size.Cmp(have) < 0 {
			errs = append(errs, field.Forbidden(specPath.Child("resources", "requests", "storage"), "field can not be less than status.capacity"))
		}
	}
	if !apiequality.Semantic.DeepEqual(*rest, old.Spec) {
		errs = append(errs, field.Forbidden(specPath, fmt.Sprintf("spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n%v", diff.Diff(old.Spec, *rest))))
	}
	return errs
}

func claimRow(c *corev1.PersistentVolumeClaim) []any {
	phase := string(c.Status.Phase)
	if c.DeletionTimestamp != nil {
		phase = "Terminating"
	}
	capacity, modes := "", ""
	if c.Spec.VolumeName != "" {
		q := c.Status.Capacity[corev1.ResourceStorage]
		capacity, modes = q.String(), accessModes(c.Status.AccessModes)
	}
	class := c.Annotations[classAnnotation]
	if class == "" {
		class = ptr.Deref(c.Spec.StorageClassName, "")
	}
	return []any{
		c.Name, phase, c.Spec.VolumeName, capacity, modes, class, ptr.Deref(c.Spec.VolumeAttributesClassName, "<unset>"),
		table.Since(c.CreationTimestamp), string(ptr.Deref(c.Spec.VolumeMode, "<unset>")),
	}
}

// accessModes is a list of modes in its short form.
func accessModes(modes []corev1.PersistentVolumeAccessMode) string {
	short := map[corev1.PersistentVolumeAccessMode]string{
		corev1.ReadWriteOnce: "RWO", corev1.ReadOnlyMany: "ROX", corev1.ReadWriteMany: "RWX", corev1.ReadWriteOncePod: "RWOP",
	}
	var out []string
	for _, mode := range []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce, corev1.ReadOnlyMany, corev1.ReadWriteMany, corev1.ReadWriteOncePod} {
		for _, m := range modes {
			if m == mode {
				out = append(out, short[mode])
				break
			}
		}
	}
	return strings.Join(out, ",")
}
