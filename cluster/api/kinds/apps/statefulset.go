package apps

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/check"
	"github.com/troupe-run/troupe/cluster/api/kinds/core"
	"github.com/troupe-run/troupe/cluster/api/kinds/podspec"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

// StatefulSet describes apps/v1 StatefulSet.
func StatefulSet() kind.Kind {
	return kind.Kind{
		GVK:        appsv1.SchemeGroupVersion.WithKind("StatefulSet"),
		Resource:   "statefulsets",
		Singular:   "statefulset",
		ShortNames: []string{"sts"},
		Categories: []string{"all"},
		Namespaced: true,
		New:        func() kind.Object { return &appsv1.StatefulSet{} },
		NewList:    func() runtime.Object { return &appsv1.StatefulSetList{} },

		// Pods are named after the set, and their host names are labels.
		ValidateName: apivalidation.NameIsDNSLabel,
		Default:      func(obj kind.Object) { defaultStatefulSet(&obj.(*appsv1.StatefulSet).Spec) },
		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			spec := &obj.(*appsv1.StatefulSet).Spec
			errs := append(validateStatefulSet(spec), validateStatefulTemplate(spec)...)
			for i := range spec.VolumeClaimTemplates {
				errs = append(errs, podspec.ValidateClaim(&spec.VolumeClaimTemplates[i].Spec, specPath.Child("volumeClaimTemplates").Index(i).Child("spec"))...)
			}
			if spec.ServiceName != "" {
				errs = append(errs, check.DNSLabel(spec.ServiceName, specPath.Child("serviceName"))...)
			}
			return errs
		},
		ValidateUpdate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
			return validateStatefulSetUpdate(&obj.(*appsv1.StatefulSet).Spec, &old.(*appsv1.StatefulSet).Spec)
		},
		PrepareForCreate: func(_ context.Context, obj kind.Object) {
			s := obj.(*appsv1.StatefulSet)
			s.Status = appsv1.StatefulSetStatus{}
			dropMaxUnavailable(&s.Spec, nil)
		},
		PrepareForUpdate: func(_ context.Context, obj, old kind.Object) {
			s, was := obj.(*appsv1.StatefulSet), old.(*appsv1.StatefulSet)
			s.Status = was.Status
			dropMaxUnavailable(&s.Spec, &was.Spec)
		},
		SpecChanged: func(obj, old kind.Object) bool {
			return !apiequality.Semantic.DeepEqual(obj.(*appsv1.StatefulSet).Spec, old.(*appsv1.StatefulSet).Spec)
		},
		Warnings: func(_ context.Context, obj, old kind.Object) []string {
			spec := &obj.(*appsv1.StatefulSet).Spec
			out := podspec.TemplateWarnings(&spec.Template, specPath.Child("template"), obj, old)
			for i := range spec.VolumeClaimTemplates {
				at := specPath.Child("volumeClaimTemplates").Index(i)
				if old != nil {
					at = at.Child("Spec")
				}
				out = append(out, podspec.ClaimWarnings(&spec.VolumeClaimTemplates[i].Spec, at)...)
			}
			if ptr.Deref(spec.RevisionHistoryLimit, 0) < 0 {
				out = append(out, "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended")
			}
			return out
		},
		Status: &kind.Subresource{
			Prepare: func(_ context.Context, obj, old kind.Object) {
				obj.(*appsv1.StatefulSet).Spec = old.(*appsv1.StatefulSet).Spec
			},
			Validate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
				s, was := &obj.(*appsv1.StatefulSet).Status, &old.(*appsv1.StatefulSet).Status
				errs := check.NonNegative(s.ObservedGeneration, statusPath.Child("observedGeneration"))
				errs = append(errs, check.ReplicaCounts(s.Replicas, s.ReadyReplicas, s.AvailableReplicas, statusPath,
					check.Count{Child: "currentReplicas", Value: s.CurrentReplicas}, check.Count{Child: "updatedReplicas", Value: s.UpdatedReplicas})...)
				if n := len(errs); n > 0 && s.AvailableReplicas > s.ReadyReplicas { // the last check, worded in another way
					errs[n-1].Detail = "cannot be greater than status.readyReplicas"
				}
				return append(errs, validateCollisions(s.CollisionCount, was.CollisionCount)...)
			},
		},
		Scale: &kind.Scale{
			Get: func(obj kind.Object) (int32, int32, string) {
				s := obj.(*appsv1.StatefulSet)
				return ptr.Deref(s.Spec.Replicas, 0), s.Status.Replicas, selectorText(s.Spec.Selector)
			},
			Set: func(obj kind.Object, replicas int32) { obj.(*appsv1.StatefulSet).Spec.Replicas = &replicas },
		},

		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Col("Ready", "Number of the pod with ready state"),
			table.Age(),
			table.Wide(table.Col("Containers", "Names of each container in the template.")),
			table.Wide(table.Col("Images", "Images referenced by each container in the template.")),
		},
		Row: func(obj kind.Object) []any {
			s := obj.(*appsv1.StatefulSet)
			names, images := table.Containers(s.Spec.Template.Spec.Containers)
			return []any{s.Name, fmt.Sprintf("%d/%d", s.Status.ReadyReplicas, ptr.Deref(s.Spec.Replicas, 0)), table.Since(s.CreationTimestamp), names, images}
		},
	}
}

func defaultStatefulSet(spec *appsv1.StatefulSetSpec) {
	if spec.Replicas == nil {
		spec.Replicas = ptr.To(int32(1))
	}
	if spec.PodManagementPolicy == "" {
		spec.PodManagementPolicy = appsv1.OrderedReadyPodManagement
	}
	strategy := &spec.UpdateStrategy
	if strategy.Type == "" {
		strategy.Type = appsv1.RollingUpdateStatefulSetStrategyType
		if strategy.RollingUpdate == nil {
			strategy.RollingUpdate = &appsv1.RollingUpdateStatefulSetStrategy{}
		}
	}
	if r := strategy.RollingUpdate; r != nil && r.Partition == nil && strategy.Type == appsv1.RollingUpdateStatefulSetStrategyType {
		r.Partition = ptr.To(int32(0))
	}
	if spec.PersistentVolumeClaimRetentionPolicy == nil {
		spec.PersistentVolumeClaimRetentionPolicy = &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{}
	}
	for _, policy := range []*appsv1.PersistentVolumeClaimRetentionPolicyType{
		&spec.PersistentVolumeClaimRetentionPolicy.WhenDeleted, &spec.PersistentVolumeClaimRetentionPolicy.WhenScaled,
	} {
		if *policy == "" {
			*policy = appsv1.RetainPersistentVolumeClaimRetentionPolicyType
		}
	}
	if spec.RevisionHistoryLimit == nil {
		spec.RevisionHistoryLimit = ptr.To(int32(10))
	}
	for i := range spec.VolumeClaimTemplates {
		c := &spec.VolumeClaimTemplates[i]
		c.APIVersion, c.Kind = "v1", "PersistentVolumeClaim" // whatever was said
		core.DefaultPersistentVolumeClaim(c)
	}
	podspec.DefaultTemplate(&spec.Template)
}

// dropMaxUnavailable removes a field that Kubernetes 1.36 has switched off, from sets that have not had it.
func dropMaxUnavailable(spec, old *appsv1.StatefulSetSpec) {
	in := func(s *appsv1.StatefulSetSpec) bool {
		return s != nil && s.UpdateStrategy.RollingUpdate != nil && s.UpdateStrategy.RollingUpdate.MaxUnavailable != nil
	}
	if in(spec) && !in(old) {
		rolling := *spec.UpdateStrategy.RollingUpdate
		rolling.MaxUnavailable = nil
		spec.UpdateStrategy.RollingUpdate = &rolling
	}
}

var retentionPolicies = sets.New(appsv1.RetainPersistentVolumeClaimRetentionPolicyType, appsv1.DeletePersistentVolumeClaimRetentionPolicyType)

func validateStatefulSet(spec *appsv1.StatefulSetSpec) field.ErrorList {
	var errs field.ErrorList
	switch spec.PodManagementPolicy {
	case "":
		errs = append(errs, field.Required(specPath.Child("podManagementPolicy"), ""))
	case appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement:
	default:
		errs = append(errs, field.Invalid(specPath.Child("podManagementPolicy"), spec.PodManagementPolicy,
			fmt.Sprintf("must be '%s' or '%s'", appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement)))
	}
	errs = append(errs, validateStatefulStrategy(&spec.UpdateStrategy, specPath.Child("updateStrategy"))...)
	if p := spec.PersistentVolumeClaimRetentionPolicy; p != nil {
		at := specPath.Child("persistentVolumeClaimRetentionPolicy")
		errs = append(errs, check.OneOfOrBad(p.WhenDeleted, retentionPolicies, at.Child("whenDeleted"))...)
		errs = append(errs, check.OneOfOrBad(p.WhenScaled, retentionPolicies, at.Child("whenScaled"))...)
	}
	errs = append(errs, check.OptionalNonNegative(spec.Replicas, specPath.Child("replicas"))...)
	errs = append(errs, check.NonNegative(spec.MinReadySeconds, specPath.Child("minReadySeconds"))...)
	if spec.Ordinals != nil {
		errs = append(errs, check.NonNegative(spec.Ordinals.Start, specPath.Child("ordinals", "start"))...)
	}
	errs = append(errs, podspec.ValidateSelector(spec.Selector, &spec.Template, "statefulset", specPath)...)
	return append(errs, podspec.ValidateLasting(&spec.Template, "StatefulSet", specPath.Child("template"))...)
}

// validateStatefulTemplate checks the template as the pods are made from it: each has a name and a
// domain of its own, and the claims for volumes.
func validateStatefulTemplate(spec *appsv1.StatefulSetSpec) field.ErrorList {
	t := spec.Template.DeepCopy()
	t.Spec.Hostname, t.Spec.Subdomain = "", ""
	own := sets.New[string]()
	var volumes []corev1.Volume
	for i := range spec.VolumeClaimTemplates {
		name := spec.VolumeClaimTemplates[i].Name
		if own.Has(name) {
			continue
		}
		own.Insert(name)
		volumes = append(volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}})
	}
	for _, v := range t.Spec.Volumes {
		if !own.Has(v.Name) {
			volumes = append(volumes, v)
		}
	}
	t.Spec.Volumes = volumes
	return podspec.ValidateTemplate(t, specPath.Child("template"), podspec.Options{})
}

func validateStatefulStrategy(s *appsv1.StatefulSetUpdateStrategy, path *field.Path) field.ErrorList {
	rolling := path.Child("rollingUpdate")
	switch s.Type {
	case "":
		return field.ErrorList{field.Required(path, "")}
	case appsv1.OnDeleteStatefulSetStrategyType:
		if s.RollingUpdate != nil {
			return field.ErrorList{field.Invalid(rolling, s.RollingUpdate, fmt.Sprintf("only allowed for updateStrategy '%s'", appsv1.RollingUpdateStatefulSetStrategyType))}
		}
		return nil
	case appsv1.RollingUpdateStatefulSetStrategyType:
		if s.RollingUpdate == nil {
			return nil
		}
		errs := check.OptionalNonNegative(s.RollingUpdate.Partition, rolling.Child("partition"))
		if n := s.RollingUpdate.MaxUnavailable; n != nil {
			at := rolling.Child("maxUnavailable")
			errs = append(errs, check.NonNegativeIntOrPercent(*n, at)...)
			if isZero(*n) {
				errs = append(errs, field.Invalid(at, *n, "cannot be 0"))
			}
			errs = append(errs, check.AtMost100Percent(*n, at)...)
		}
		return errs
	}
	return field.ErrorList{field.Invalid(path, s, fmt.Sprintf("must be '%s' or '%s'", appsv1.RollingUpdateStatefulSetStrategyType, appsv1.OnDeleteStatefulSetStrategyType))}
}

func validateStatefulSetUpdate(spec, old *appsv1.StatefulSetSpec) field.ErrorList {
	errs := validateStatefulSet(spec)
	// A set that was let through with a bad template may still be changed.
	if len(validateStatefulTemplate(old)) == 0 {
		errs = append(errs, validateStatefulTemplate(spec)...)
	}
	rest := spec.DeepCopy()
	rest.Replicas, rest.Template, rest.UpdateStrategy, rest.Ordinals = old.Replicas, old.Template, old.UpdateStrategy, old.Ordinals
	rest.MinReadySeconds, rest.RevisionHistoryLimit = old.MinReadySeconds, old.RevisionHistoryLimit
	rest.PersistentVolumeClaimRetentionPolicy = old.PersistentVolumeClaimRetentionPolicy
	if !apiequality.Semantic.DeepEqual(*rest, *old) {
		errs = append(errs, field.Forbidden(specPath, "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"))
	}
	return errs
}

// validateCollisions checks the count of names that were taken already: it never goes back.
func validateCollisions(now, was *int32) field.ErrorList {
	errs := check.OptionalNonNegative(now, statusPath.Child("collisionCount"))
	if was != nil && (now == nil || *now < *was) {
		errs = append(errs, field.Invalid(statusPath.Child("collisionCount"), ptr.Deref(now, 0), "cannot be decremented"))
	}
	return errs
}
