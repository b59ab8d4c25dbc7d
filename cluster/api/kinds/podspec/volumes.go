package podspec

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
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
		errs = append(errs, v.volumeSource(volume, path)...)
		if volume.Name == "" {
			errs = append(errs, field.Required(path.Child("name"), ""))
			continue
		}
		errs = append(errs, check.DNSLabel(volume.Name, path.Child("name"))...)
		if v.volumeByName[volume.Name] != nil {
			errs = append(errs, field.Duplicate(path.Child("name"), volume.Name))
		}
		v.volumeByName[volume.Name] = volume
	}
	return errs
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
		one("hostPath", func(path *field.Path) field.ErrorList { return validateHostPath(s, path) })
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
		one("ephemeral", func(path *field.Path) field.ErrorList { return v.ephemeral(volume.Name, s, path) })
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

func validateHostPath(s *corev1.HostPathVolumeSource, path *field.Path) field.ErrorList {
	if s.Path == "" {
		return field.ErrorList{field.Required(path.Child("path"), "")}
	}
	errs := noBacksteps(s.Path, path.Child("path"))
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
	errs := driverName(s.Driver, path.Child("driver"))
	if s.NodePublishSecretRef == nil {
		return errs
	}
	if s.NodePublishSecretRef.Name == "" {
		return append(errs, field.Required(path.Child("nodePublishSecretRef"), ""))
	}
	return append(errs, check.DNSSubdomain(s.NodePublishSecretRef.Name, path.Child("name"))...)
}

// maxDriverName is the longest name of a volume driver.
const maxDriverName = 63

func driverName(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	var errs field.ErrorList
	if len(name) > maxDriverName {
		errs = append(errs, field.TooLong(path, "", maxDriverName))
	}
	return append(errs, check.Invalid(name, validation.IsDNS1123Subdomain(name), path)...)
}
