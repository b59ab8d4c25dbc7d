package core

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
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
			c := obj.(*corev1.PersistentVolumeClaim)
			c.Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending}
			if d := c.Spec.DataSource; d != nil && !oldSource(d) {
				c.Spec.DataSource = nil // left out without a word, as it has always been
			}
			alignSources(&c.Spec)
		},
		PrepareForUpdate: func(_ context.Context, obj, old kind.Object) {
			c, was := obj.(*corev1.PersistentVolumeClaim), old.(*corev1.PersistentVolumeClaim)
			c.Status = was.Status
			if d := c.Spec.DataSource; d != nil && !oldSource(d) && was.Spec.DataSource == nil && was.Spec.DataSourceRef == nil {
				c.Spec.DataSource = nil
			}
			alignSources(&c.Spec)
		},
		Warnings: func(_ context.Context, obj, _ kind.Object) []string {
			return append(classAnnotationWarnings(obj), podspec.ClaimWarnings(&obj.(*corev1.PersistentVolumeClaim).Spec, specPath)...)
		},
		Status: &kind.Subresource{
			Prepare: func(_ context.Context, obj, old kind.Object) {
				obj.(*corev1.PersistentVolumeClaim).Spec = old.(*corev1.PersistentVolumeClaim).Spec
			},
			Validate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
				return validateClaimStatus(&obj.(*corev1.PersistentVolumeClaim).Status)
			},
		},

		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Col("Status", status["phase"]),
			table.Col("Volume", spec["volumeName"]),
			table.Col("Capacity", status["capacity"]),
			table.Col("Access Modes", status["accessModes"]),
			table.Col("StorageClass", "StorageClass of the pvc"),
			table.Col("VolumeAttributesClass", "VolumeAttributesClass of the pvc"),
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
