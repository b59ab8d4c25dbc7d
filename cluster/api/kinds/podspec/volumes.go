package podspec

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kinds/check"
)

var hostPathTypes = sets.New(
	corev1.HostPathUnset, corev1.HostPathDirectoryOrCreate, corev1.HostPathDirectory, corev1.HostPathFileOrCreate,
	corev1.HostPathFile, corev1.HostPathSocket, corev1.HostPathCharDev, corev1.HostPathBlockDev,
)

// volumes checks all volumes and remembers the well-named ones for mounts to refer to.
func (v *validator) volumes(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range v.spec.Volumes {
		volume, path := &v.spec.Volumes[i], path.Index(i)
		bad := v.volumeSource(volume, path)
		if volume.Name == "" {
			bad = append(bad, field.Required(path.Child("name"), ""))
		} else {
			bad = append(bad, check.DNSLabel(volume.Name, path.Child("name"))...)
		}
		if v.volumeByName[volume.Name] != nil {
			bad = append(bad, field.Duplicate(path.Child("name"), volume.Name))
		}
		if len(bad) == 0 {
			v.volumeByName[volume.Name] = volume
		}
		errs = append(errs, bad...)
		if claim := volume.PersistentVolumeClaim; claim != nil && v.madeClaims().Has(claim.ClaimName) {
			errs = append(errs, field.Invalid(path.Child("persistentVolumeClaim", "claimName"), claim.ClaimName, "must not reference a PVC that gets created for an ephemeral volume"))
		}
	}
	return errs
}

// madeClaims are the names of the claims that are made for the pod's ephemeral volumes.
func (v *validator) madeClaims() sets.Set[string] {
	names := sets.New[string]()
	if !v.opts.Pod || v.meta == nil || v.meta.Name == "" {
		return names
	}
	for i := range v.spec.Volumes {
		if v.spec.Volumes[i].Ephemeral != nil {
			names.Insert(v.meta.Name + "-" + v.spec.Volumes[i].Name)
		}
	}
	return names
}

// volumeSource checks that a volume has one source and that it is a good one.
func (v *validator) volumeSource(volume *corev1.Volume, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	n := 0
	one := func(child string, check func(*field.Path) field.ErrorList) {
		if n++; n > 1 {
			errs = append(errs, field.Forbidden(path.Child(child), "may not specify more than 1 volume type"))
			return
		}
		errs = append(errs, check(path.Child(child))...)
	}
	if s := volume.EmptyDir; s != nil {
		one("emptyDir", func(path *field.Path) field.ErrorList { return validateEmptyDir(s, path) })
	}
	if s := volume.HostPath; s != nil {
		one("hostPath", func(path *field.Path) field.ErrorList { return ValidateHostPath(s, path) })
	}
	if s := volume.Secret; s != nil {
		one("secret", func(path *field.Path) field.ErrorList {
			errs := required(s.SecretName, path.Child("secretName"))
			errs = append(errs, fileMode(s.DefaultMode, path.Child("defaultMode"))...)
			return append(errs, keysToPaths(s.Items, path.Child("items"))...)
		})
	}
	if s := volume.ConfigMap; s != nil {
		one("configMap", func(path *field.Path) field.ErrorList {
			errs := required(s.Name, path.Child("name"))
			errs = append(errs, fileMode(s.DefaultMode, path.Child("defaultMode"))...)
			return append(errs, keysToPaths(s.Items, path.Child("items"))...)
		})
	}
	if s := volume.DownwardAPI; s != nil {
		one("downwardAPI", func(path *field.Path) field.ErrorList {
			errs := fileMode(s.DefaultMode, path.Child("defaultMode"))
			for i := range s.Items {
				// In Kubernetes, too, the index is missing from these paths.
				errs = append(errs, downwardFile(&s.Items[i], path)...)
			}
			return errs
		})
	}
	if s := volume.Projected; s != nil {
		one("projected", func(path *field.Path) field.ErrorList { return validateProjected(s, path) })
	}
	if s := volume.PersistentVolumeClaim; s != nil {
		one("persistentVolumeClaim", func(path *field.Path) field.ErrorList {
			return required(s.ClaimName, path.Child("claimName"))
		})
	}
	if s := volume.Ephemeral; s != nil {
		one("ephemeral", func(at *field.Path) field.ErrorList { return v.ephemeral(volume.Name, s, at, path) })
	}
	if s := volume.CSI; s != nil {
		one("csi", func(path *field.Path) field.ErrorList { return validateCSI(s, path) })
	}
	if s := volume.Image; s != nil {
		one("image", func(path *field.Path) field.ErrorList {
			var errs field.ErrorList
			if v.opts.Pod {
				errs = required(s.Reference, path.Child("reference"))
			}
			return append(errs, check.OneOf(s.PullPolicy, pullPolicies, path.Child("pullPolicy"))...)
		})
	}
	remoteSources(volume, one)
	if s := volume.ISCSI; s != nil && s.InitiatorName != nil && len(volume.Name+":"+s.TargetPortal) > MaxISCSIName {
		errs = append(errs, field.Invalid(path.Child("name"), volume.Name, LongISCSIName))
	}
	if n == 0 {
		errs = append(errs, field.Required(path, "must specify a volume type"))
	}
	return errs
}

func required(value string, path *field.Path) field.ErrorList {
	if value != "" {
		return nil
	}
	return field.ErrorList{field.Required(path, "")}
}

func validateEmptyDir(s *corev1.EmptyDirVolumeSource, path *field.Path) field.ErrorList {
	if s.SizeLimit != nil && s.SizeLimit.Sign() < 0 {
		return field.ErrorList{field.Forbidden(path.Child("sizeLimit"), "SizeLimit field must be a valid resource quantity")}
	}
	return nil
}

// ValidateHostPath checks a path on the node, of a pod or of a persistent volume.
func ValidateHostPath(s *corev1.HostPathVolumeSource, path *field.Path) field.ErrorList {
	if s.Path == "" {
		return field.ErrorList{field.Required(path.Child("path"), "")}
	}
	errs := NoBacksteps(s.Path, path.Child("path"))
	return append(errs, check.OptionalOneOf(s.Type, hostPathTypes, path.Child("type"))...)
}

func fileMode(mode *int32, path *field.Path) field.ErrorList {
	if mode == nil || *mode >= 0 && *mode <= 0o777 {
		return nil
	}
	return field.ErrorList{field.Invalid(path, *mode, "must be a number between 0 and 0777 (octal), both inclusive")}
}

func keysToPaths(items []corev1.KeyToPath, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, item := range items {
		path := path.Index(i)
		errs = append(errs, required(item.Key, path.Child("key"))...)
		if item.Path == "" {
			errs = append(errs, field.Required(path.Child("path"), ""))
		} else {
			errs = append(errs, localFile(item.Path, path.Child("path"))...)
		}
		errs = append(errs, fileMode(item.Mode, path.Child("mode"))...)
	}
	return errs
}

func downwardFile(f *corev1.DownwardAPIVolumeFile, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if f.Path == "" {
		errs = append(errs, field.Required(path.Child("path"), ""))
	} else {
		errs = append(errs, localFile(f.Path, path.Child("path"))...)
	}
	switch {
	case f.FieldRef != nil:
		errs = append(errs, validateFieldRef(f.FieldRef, volumeFields, path.Child("fieldRef"))...)
		if f.ResourceFieldRef != nil {
			errs = append(errs, field.Invalid(path, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously"))
		}
	case f.ResourceFieldRef != nil:
		errs = append(errs, validateResourceFieldRef(f.ResourceFieldRef, true, path.Child("resourceFieldRef"))...)
	default:
		errs = append(errs, field.Required(path, "one of fieldRef and resourceFieldRef is required"))
	}
	return append(errs, fileMode(f.Mode, path.Child("mode"))...)
}

func validateCSI(s *corev1.CSIVolumeSource, path *field.Path) field.ErrorList {
	errs := check.DriverName(s.Driver, path.Child("driver"))
	if s.NodePublishSecretRef == nil {
		return errs
	}
	if s.NodePublishSecretRef.Name == "" {
		return append(errs, field.Required(path.Child("nodePublishSecretRef", "name"), ""))
	}
	return append(errs, check.DNSSubdomain(s.NodePublishSecretRef.Name, path.Child("name"))...)
}
