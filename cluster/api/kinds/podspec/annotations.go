package podspec

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Annotations that were ways to choose a profile before there were fields for it, one for each
// container but for the first.
const (
	seccompPod       = corev1.SeccompPodAnnotationKey
	seccompContainer = corev1.SeccompContainerAnnotationKeyPrefix
	appArmor         = corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix
)

// ValidateAnnotations checks the annotations that mean something for pods.
func ValidateAnnotations(annotations map[string]string, spec *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if value, mirror := annotations[corev1.MirrorPodAnnotationKey]; mirror && spec.NodeName == "" {
		errs = append(errs, field.Invalid(path.Key(corev1.MirrorPodAnnotationKey), value, "must set spec.nodeName if mirror pod annotation is set"))
	}
	if cost, ok := annotations[corev1.PodDeletionCost]; ok && deletionCost(cost) != nil {
		errs = append(errs, field.Invalid(path.Key(corev1.PodDeletionCost), cost, "must be a 32bit integer"))
	}
	for key, value := range annotations {
		switch {
		case key == seccompPod || strings.HasPrefix(key, seccompContainer):
			errs = append(errs, seccompName(value, path.Child(key))...)
		case strings.HasPrefix(key, appArmor):
			if name := strings.TrimPrefix(key, appArmor); !hasContainer(spec, name) {
				errs = append(errs, field.Invalid(path.Key(key), name, "container not found"))
			}
			if value != "" && value != corev1.DeprecatedAppArmorBetaProfileRuntimeDefault && value != corev1.DeprecatedAppArmorBetaProfileNameUnconfined &&
				!strings.HasPrefix(value, corev1.DeprecatedAppArmorBetaProfileNamePrefix) {
				errs = append(errs, field.Invalid(path.Key(key), value, fmt.Sprintf("invalid AppArmor profile name: %q", value)))
			}
		}
	}
	return errs
}

// deletionCost says what is wrong with the cost of deleting a pod: it is a plain number.
func deletionCost(text string) error {
	if text != "0" && (strings.HasPrefix(text, "0") || strings.HasPrefix(text, "+")) {
		return errors.New("not a plain number")
	}
	_, err := strconv.ParseInt(text, 10, 32)
	return err
}

func seccompName(value string, path *field.Path) field.ErrorList {
	switch value {
	case corev1.SeccompProfileRuntimeDefault, corev1.DeprecatedSeccompProfileDockerDefault, corev1.SeccompProfileNameUnconfined:
		return nil
	}
	if file, ok := strings.CutPrefix(value, corev1.SeccompLocalhostProfileNamePrefix); ok {
		return localPath(file, path)
	}
	return field.ErrorList{field.Invalid(path, value, "must be a valid seccomp profile")}
}

func hasContainer(spec *corev1.PodSpec, name string) bool {
	found := false
	visit(spec, nil, func(c *corev1.Container, _ *field.Path) { found = found || c.Name == name })
	return found
}

// visit goes through the containers of all three sorts; path is that of the spec.
func visit(spec *corev1.PodSpec, path *field.Path, do func(c *corev1.Container, at *field.Path)) {
	for i := range spec.InitContainers {
		do(&spec.InitContainers[i], path.Child("initContainers").Index(i))
	}
	for i := range spec.Containers {
		do(&spec.Containers[i], path.Child("containers").Index(i))
	}
	for i := range spec.EphemeralContainers {
		do((*corev1.Container)(&spec.EphemeralContainers[i].EphemeralContainerCommon), path.Child("ephemeralContainers").Index(i))
	}
}

// ValidateProfiles checks that profiles chosen in both ways, by annotation and by field, are the
// same; path is that of the spec.
func ValidateProfiles(annotations map[string]string, spec *corev1.PodSpec, path *field.Path) field.ErrorList {
	if len(annotations) == 0 {
		return nil
	}
	var errs field.ErrorList
	pod := &corev1.PodSecurityContext{}
	if spec.SecurityContext != nil {
		pod = spec.SecurityContext
	}
	if value, ok := annotations[seccompPod]; ok {
		errs = append(errs, seccompDiffers(value, pod.SeccompProfile, path.Child("securityContext", "seccompProfile"))...)
	}
	visit(spec, path, func(c *corev1.Container, at *field.Path) {
		sc := &corev1.SecurityContext{}
		if c.SecurityContext != nil {
			sc = c.SecurityContext
		}
		if value, ok := annotations[seccompContainer+c.Name]; ok {
			errs = append(errs, seccompDiffers(value, sc.SeccompProfile, at.Child("securityContext", "seccompProfile"))...)
		}
		profile := sc.AppArmorProfile
		if profile == nil {
			profile = pod.AppArmorProfile
		}
		windows := spec.OS != nil && spec.OS.Name == corev1.Windows
		if value, ok := annotations[appArmor+c.Name]; ok && !windows {
			errs = append(errs, appArmorDiffers(value, profile, at.Child("securityContext", "appArmorProfile"))...)
		}
	})
	return errs
}

func seccompDiffers(value string, p *corev1.SeccompProfile, path *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	file, local := strings.CutPrefix(value, corev1.SeccompLocalhostProfileNamePrefix)
	same := true
	switch p.Type {
	case corev1.SeccompProfileTypeUnconfined:
		same = value == corev1.SeccompProfileNameUnconfined
	case corev1.SeccompProfileTypeRuntimeDefault:
		same = value == corev1.SeccompProfileRuntimeDefault || value == corev1.DeprecatedSeccompProfileDockerDefault
	case corev1.SeccompProfileTypeLocalhost:
		if same = local; same && (p.LocalhostProfile == nil || *p.LocalhostProfile != file) {
			return field.ErrorList{field.Forbidden(path.Child("localhostProfile"), "seccomp profile in annotation and field must match")}
		}
	}
	if !same {
		return field.ErrorList{field.Forbidden(path.Child("type"), "seccomp type in annotation and field must match")}
	}
	return nil
}

func appArmorDiffers(value string, p *corev1.AppArmorProfile, path *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	file, local := strings.CutPrefix(value, corev1.DeprecatedAppArmorBetaProfileNamePrefix)
	same := true
	switch p.Type {
	case corev1.AppArmorProfileTypeUnconfined:
		same = value == corev1.DeprecatedAppArmorBetaProfileNameUnconfined
	case corev1.AppArmorProfileTypeRuntimeDefault:
		same = value == corev1.DeprecatedAppArmorBetaProfileRuntimeDefault
	case corev1.AppArmorProfileTypeLocalhost:
		if same = local; same && (p.LocalhostProfile == nil || *p.LocalhostProfile != file) {
			return field.ErrorList{field.Forbidden(path.Child("localhostProfile"), "apparmor profile in annotation and field must match")}
		}
	}
	if !same {
		return field.ErrorList{field.Forbidden(path.Child("type"), "apparmor type in annotation and field must match")}
	}
	return nil
}

// ValidateAnnotationUpdate refuses to change annotations that a pod was made by.
func ValidateAnnotationUpdate(now, was map[string]string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for key, before := range was {
		if after, ok := now[key]; ok && after == before {
			continue
		}
		if strings.HasPrefix(key, appArmor) {
			errs = append(errs, field.Forbidden(path.Key(key), "may not remove or update AppArmor annotations"))
		}
		if key == corev1.MirrorPodAnnotationKey {
			errs = append(errs, field.Forbidden(path.Key(key), "may not remove or update mirror pod annotation"))
		}
	}
	for key := range now {
		if _, ok := was[key]; ok {
			continue
		}
		if strings.HasPrefix(key, appArmor) {
			errs = append(errs, field.Forbidden(path.Key(key), "may not add AppArmor annotations"))
		}
		if key == corev1.MirrorPodAnnotationKey {
			errs = append(errs, field.Forbidden(path.Key(key), "may not add mirror pod annotation"))
		}
	}
	return errs
}
