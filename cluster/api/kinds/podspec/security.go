package podspec

import (
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/component-helpers/node/util/sysctl"

	"github.com/troupe-run/troupe/cluster/api/kinds/check"
)

var (
	procMounts          = sets.New(corev1.DefaultProcMount, corev1.UnmaskedProcMount)
	seccompTypes        = sets.New(corev1.SeccompProfileTypeLocalhost, corev1.SeccompProfileTypeRuntimeDefault, corev1.SeccompProfileTypeUnconfined)
	appArmorTypes       = sets.New(corev1.AppArmorProfileTypeLocalhost, corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeUnconfined)
	fsGroupPolicies     = sets.New(corev1.FSGroupChangeOnRootMismatch, corev1.FSGroupChangeAlways)
	groupsPolicies      = sets.New(corev1.SupplementalGroupsPolicyMerge, corev1.SupplementalGroupsPolicyStrict)
	seLinuxChangePolicy = sets.New(corev1.SELinuxChangePolicyRecursive, corev1.SELinuxChangePolicyMountOption)
)

// A sysctl's name is segments joined by dots or slashes.
const (
	sysctlSegment   = `[a-z0-9]([-_a-z0-9]*[a-z0-9])?`
	sysctlFmt       = `(` + sysctlSegment + `[\./])*` + sysctlSegment
	sysctlMaxLength = 253
)

var sysctlName = regexp.MustCompile(`^` + sysctlFmt + `$`)

func userID(id *int64, path *field.Path) field.ErrorList {
	if id == nil {
		return nil
	}
	return check.Invalid(*id, validation.IsValidUserID(*id), path)
}

func groupID(id *int64, path *field.Path) field.ErrorList {
	if id == nil {
		return nil
	}
	return check.Invalid(*id, validation.IsValidGroupID(*id), path)
}

func (v *validator) containerSecurity(sc *corev1.SecurityContext, path *field.Path) field.ErrorList {
	if sc == nil {
		return nil
	}
	errs := userID(sc.RunAsUser, path.Child("runAsUser"))
	errs = append(errs, groupID(sc.RunAsGroup, path.Child("runAsGroup"))...)
	if sc.ProcMount != nil {
		errs = append(errs, check.OneOfOrBad(*sc.ProcMount, procMounts, path.Child("procMount"))...)
		if *sc.ProcMount == corev1.UnmaskedProcMount && !v.ownUsers() {
			errs = append(errs, field.Invalid(path.Child("procMount"), *sc.ProcMount, "`hostUsers` must be false to use `Unmasked`"))
		}
	}
	if sc.AllowPrivilegeEscalation != nil && !*sc.AllowPrivilegeEscalation {
		if sc.Privileged != nil && *sc.Privileged {
			errs = append(errs, field.Invalid(path, sc, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"))
		}
		if sc.Capabilities != nil {
			for _, added := range sc.Capabilities.Add {
				if added == "CAP_SYS_ADMIN" {
					errs = append(errs, field.Invalid(path, sc, "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"))
				}
			}
		}
	}
	errs = append(errs, validateWindows(sc.WindowsOptions, path.Child("windowsOptions"))...)
	errs = append(errs, validateSeccomp(sc.SeccompProfile, path.Child("seccompProfile"))...)
	return append(errs, validateAppArmor(sc.AppArmorProfile, path.Child("appArmorProfile"))...)
}

func (v *validator) podSecurity(path *field.Path) field.ErrorList {
	sc := v.spec.SecurityContext
	if sc == nil {
		return nil
	}
	errs := groupID(sc.FSGroup, path.Child("fsGroup"))
	errs = append(errs, userID(sc.RunAsUser, path.Child("runAsUser"))...)
	errs = append(errs, groupID(sc.RunAsGroup, path.Child("runAsGroup"))...)
	for i := range sc.SupplementalGroups {
		errs = append(errs, groupID(&sc.SupplementalGroups[i], path.Child("supplementalGroups").Index(i))...)
	}
	errs = append(errs, v.sysctls(sc.Sysctls, path.Child("sysctls"))...)
	errs = append(errs, check.OptionalOneOf(sc.FSGroupChangePolicy, fsGroupPolicies, path.Child("fsGroupChangePolicy"))...)
	errs = append(errs, check.OptionalOneOf(sc.SupplementalGroupsPolicy, groupsPolicies, path.Child("supplementalGroupsPolicy"))...)
	errs = append(errs, check.OptionalOneOf(sc.SELinuxChangePolicy, seLinuxChangePolicy, path.Child("seLinuxChangePolicy"))...)
	errs = append(errs, validateWindows(sc.WindowsOptions, path.Child("windowsOptions"))...)
	errs = append(errs, validateSeccomp(sc.SeccompProfile, path.Child("seccompProfile"))...)
	return append(errs, validateAppArmor(sc.AppArmorProfile, path.Child("appArmorProfile"))...)
}

func (v *validator) sysctls(list []corev1.Sysctl, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[string]()
	for i, s := range list {
		at := path.Index(i).Child("name")
		switch {
		case s.Name == "":
			errs = append(errs, field.Required(at, ""))
		case len(s.Name) > sysctlMaxLength || !sysctlName.MatchString(s.Name):
			errs = append(errs, field.Invalid(at, s.Name, fmt.Sprintf("must have at most %d characters and match regex %s", sysctlMaxLength, sysctlName)))
		case seen.Has(s.Name):
			errs = append(errs, field.Duplicate(at, s.Name))
		}
		seen.Insert(s.Name)
		namespace, _, _ := sysctl.GetNamespace(s.Name)
		switch {
		case v.spec.HostNetwork && namespace == sysctl.NetNamespace:
			errs = append(errs, field.Invalid(at, s.Name, "may not be specified when 'hostNetwork' is true"))
		case v.spec.HostIPC && namespace == sysctl.IPCNamespace:
			errs = append(errs, field.Invalid(at, s.Name, "may not be specified when 'hostIPC' is true"))
		}
	}
	return errs
}

func validateSeccomp(p *corev1.SeccompProfile, path *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	if p.Type == "" {
		return field.ErrorList{field.Required(path.Child("type"), "type is required when seccompProfile is set")}
	}
	if !seccompTypes.Has(p.Type) {
		return field.ErrorList{field.NotSupported(path.Child("type"), p.Type, sets.List(seccompTypes))}
	}
	if p.Type != corev1.SeccompProfileTypeLocalhost {
		if p.LocalhostProfile != nil {
			return field.ErrorList{field.Invalid(path.Child("localhostProfile"), p, "can only be set when seccomp type is Localhost")}
		}
		return nil
	}
	if p.LocalhostProfile == nil {
		return field.ErrorList{field.Required(path.Child("localhostProfile"), "must be set when seccomp type is Localhost")}
	}
	return localPath(*p.LocalhostProfile, path.Child("localhostProfile"))
}

// maxAppArmorProfile is the longest name of a profile: that of a path in the kernel.
const maxAppArmorProfile = 4095

func validateAppArmor(p *corev1.AppArmorProfile, path *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	if p.Type == "" {
		return field.ErrorList{field.Required(path.Child("type"), "type is required when appArmorProfile is set")}
	}
	if !appArmorTypes.Has(p.Type) {
		return field.ErrorList{field.NotSupported(path.Child("type"), p.Type, sets.List(appArmorTypes))}
	}
	at := path.Child("localhostProfile")
	if p.Type != corev1.AppArmorProfileTypeLocalhost {
		if p.LocalhostProfile != nil {
			return field.ErrorList{field.Invalid(at, *p.LocalhostProfile, "can only be set when AppArmor type is Localhost")}
		}
		return nil
	}
	if p.LocalhostProfile == nil || strings.TrimSpace(*p.LocalhostProfile) == "" {
		return field.ErrorList{field.Required(at, "must be set when AppArmor type is Localhost")}
	}
	if strings.TrimSpace(*p.LocalhostProfile) != *p.LocalhostProfile {
		return field.ErrorList{field.Invalid(at, *p.LocalhostProfile, "must not be padded with whitespace")}
	}
	if len(*p.LocalhostProfile) > maxAppArmorProfile {
		return field.ErrorList{field.TooLong(at, "", maxAppArmorProfile)}
	}
	return nil
}

func validateWindows(w *corev1.WindowsSecurityContextOptions, path *field.Path) field.ErrorList {
	if w == nil {
		return nil
	}
	var errs field.ErrorList
	if w.GMSACredentialSpecName != nil {
		errs = append(errs, check.DNSSubdomain(*w.GMSACredentialSpecName, path.Child("gmsaCredentialSpecName"))...)
	}
	if w.GMSACredentialSpec != nil && *w.GMSACredentialSpec == "" {
		errs = append(errs, field.Invalid(path.Child("gmsaCredentialSpec"), "", "gmsaCredentialSpec cannot be an empty string"))
	}
	if w.RunAsUserName != nil && *w.RunAsUserName == "" {
		errs = append(errs, field.Invalid(path.Child("runAsUserName"), "", "runAsUserName cannot be an empty string"))
	}
	return errs
}

// os checks that a pod which names its operating system asks for nothing the system has not.
func (v *validator) os(path *field.Path) field.ErrorList {
	if v.spec.OS == nil {
		return nil
	}
	if v.spec.OS.Name == "" {
		return field.ErrorList{field.Required(path.Child("os", "name"), "")}
	}
	if errs := check.OneOfOrBad(v.spec.OS.Name, osNames, path.Child("os")); len(errs) > 0 {
		return errs
	}
	windows := v.spec.OS.Name == corev1.Windows
	var errs field.ErrorList
	if sc := v.spec.SecurityContext; sc != nil {
		at := path.Child("securityContext")
		if !windows && sc.WindowsOptions != nil {
			errs = append(errs, field.Forbidden(at.Child("windowsOptions"), "windows options cannot be set for a linux pod"))
		}
		if windows {
			errs = append(errs, forbidAll(at, map[string]bool{
				"seLinuxOptions": sc.SELinuxOptions != nil, "seccompProfile": sc.SeccompProfile != nil,
				"appArmorProfile": sc.AppArmorProfile != nil, "fsGroup": sc.FSGroup != nil,
				"fsGroupChangePolicy": sc.FSGroupChangePolicy != nil, "sysctls": len(sc.Sysctls) > 0,
				"runAsUser": sc.RunAsUser != nil, "runAsGroup": sc.RunAsGroup != nil,
				"supplementalGroups": sc.SupplementalGroups != nil, "supplementalGroupsPolicy": sc.SupplementalGroupsPolicy != nil,
				"seLinuxChangePolicy": sc.SELinuxChangePolicy != nil,
			})...)
		}
	}
	if windows {
		errs = append(errs, forbidAll(path, map[string]bool{
			"hostPID": v.spec.HostPID, "hostIPC": v.spec.HostIPC, "hostUsers": v.spec.HostUsers != nil,
			"shareProcessNamespace": v.spec.ShareProcessNamespace != nil,
		})...)
	}
	for _, list := range []struct {
		child string
		of    []corev1.Container
	}{{"containers", v.spec.Containers}, {"initContainers", v.spec.InitContainers}} {
		for i := range list.of {
			errs = append(errs, containerOS(list.of[i].SecurityContext, windows, path.Child(list.child).Index(i).Child("securityContext"))...)
		}
	}
	return errs
}

func containerOS(sc *corev1.SecurityContext, windows bool, path *field.Path) field.ErrorList {
	switch {
	case sc == nil:
		return nil
	case windows:
		return forbidAll(path, map[string]bool{
			"seLinuxOptions": sc.SELinuxOptions != nil, "seccompProfile": sc.SeccompProfile != nil,
			"appArmorProfile": sc.AppArmorProfile != nil, "capabilities": sc.Capabilities != nil,
			"readOnlyRootFilesystem": sc.ReadOnlyRootFilesystem != nil, "privileged": sc.Privileged != nil,
			"allowPrivilegeEscalation": sc.AllowPrivilegeEscalation != nil, "procMount": sc.ProcMount != nil,
			"runAsUser": sc.RunAsUser != nil, "runAsGroup": sc.RunAsGroup != nil,
		})
	case sc.WindowsOptions != nil:
		return field.ErrorList{field.Forbidden(path.Child("windowsOptions"), "windows options cannot be set for a linux pod")}
	}
	return nil
}

func forbidAll(path *field.Path, set map[string]bool) field.ErrorList {
	var errs field.ErrorList
	for _, child := range sets.List(sets.KeySet(set)) {
		if set[child] {
			errs = append(errs, field.Forbidden(path.Child(child), "cannot be set for a windows pod"))
		}
	}
	return errs
}
