package podspec

import (
	"path"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kinds/check"
)

// need is a text field that a volume source must have.
type need struct{ child, value string }

func needs(at *field.Path, fields ...need) field.ErrorList {
	var errs field.ErrorList
	for _, f := range fields {
		errs = append(errs, required(f.value, at.Child(f.child))...)
	}
	return errs
}

// remoteSources checks the sources that lie on some storage system elsewhere. one is called for
// each that is set.
func remoteSources(v *corev1.Volume, one func(child string, check func(*field.Path) field.ErrorList)) {
	if s := v.NFS; s != nil {
		one("nfs", func(at *field.Path) field.ErrorList {
			errs := needs(at, need{"server", s.Server}, need{"path", s.Path})
			if s.Path != "" && !path.IsAbs(s.Path) {
				errs = append(errs, field.Invalid(at.Child("path"), s.Path, "must be an absolute path"))
			}
			return errs
		})
	}
	if s := v.GitRepo; s != nil {
		one("gitRepo", func(at *field.Path) field.ErrorList {
			return append(needs(at, need{"repository", s.Repository}), localPath(s.Directory, at.Child("directory"))...)
		})
	}
	if s := v.ISCSI; s != nil {
		one("iscsi", func(at *field.Path) field.ErrorList {
			errs := needs(at, need{"targetPortal", s.TargetPortal}, need{"iqn", s.IQN})
			if s.Lun < 0 || s.Lun > 255 {
				errs = append(errs, field.Invalid(at.Child("lun"), s.Lun, validation.InclusiveRangeError(0, 255)))
			}
			if (s.DiscoveryCHAPAuth || s.SessionCHAPAuth) && s.SecretRef == nil {
				errs = append(errs, field.Required(at.Child("secretRef"), ""))
			}
			return errs
		})
	}
	if s := v.FC; s != nil {
		one("fc", func(at *field.Path) field.ErrorList {
			switch {
			case len(s.TargetWWNs) > 0 && len(s.WWIDs) > 0:
				return field.ErrorList{field.Invalid(at.Child("targetWWNs"), s.TargetWWNs, "fc: targetWWNs and wwids can not be specified simultaneously")}
			case len(s.TargetWWNs) == 0 && len(s.WWIDs) == 0:
				return field.ErrorList{field.Required(at.Child("targetWWNs"), "specify either targetWWNs or wwids, but not both")}
			case len(s.TargetWWNs) > 0 && s.Lun == nil:
				return field.ErrorList{field.Required(at.Child("lun"), "lun is required if targetWWNs is specified")}
			case len(s.TargetWWNs) > 0 && (*s.Lun < 0 || *s.Lun > 255):
				return field.ErrorList{field.Invalid(at.Child("lun"), *s.Lun, validation.InclusiveRangeError(0, 255))}
			}
			return nil
		})
	}
	if s := v.CephFS; s != nil {
		one("cephfs", func(at *field.Path) field.ErrorList {
			if len(s.Monitors) == 0 {
				return field.ErrorList{field.Required(at.Child("monitors"), "")}
			}
			return nil
		})
	}
	if s := v.RBD; s != nil {
		one("rbd", func(at *field.Path) field.ErrorList {
			var errs field.ErrorList
			if len(s.CephMonitors) == 0 {
				errs = append(errs, field.Required(at.Child("monitors"), ""))
			}
			return append(errs, needs(at, need{"image", s.RBDImage})...)
		})
	}
	if s := v.FlexVolume; s != nil {
		one("flexVolume", func(at *field.Path) field.ErrorList {
			errs := needs(at, need{"driver", s.Driver})
			for key := range s.Options {
				errs = append(errs, check.QualifiedName(key, at.Child("options").Key(key))...)
			}
			return errs
		})
	}
	cloudSources(v, one)
}

// cloudSources checks the disks of clouds, which a node without their driver refuses to mount.
func cloudSources(v *corev1.Volume, one func(child string, check func(*field.Path) field.ErrorList)) {
	simple := func(child string, fields ...need) {
		one(child, func(at *field.Path) field.ErrorList { return needs(at, fields...) })
	}
	if s := v.GCEPersistentDisk; s != nil {
		simple("gcePersistentDisk", need{"pdName", s.PDName})
	}
	if s := v.AWSElasticBlockStore; s != nil {
		simple("awsElasticBlockStore", need{"volumeID", s.VolumeID})
	}
	if s := v.Glusterfs; s != nil {
		simple("glusterfs", need{"endpoints", s.EndpointsName}, need{"path", s.Path})
	}
	if s := v.Cinder; s != nil {
		simple("cinder", need{"volumeID", s.VolumeID})
	}
	if s := v.AzureFile; s != nil {
		simple("azureFile", need{"secretName", s.SecretName}, need{"shareName", s.ShareName})
	}
	if s := v.AzureDisk; s != nil {
		simple("azureDisk", need{"diskName", s.DiskName}, need{"diskURI", s.DataDiskURI})
	}
	if s := v.VsphereVolume; s != nil {
		simple("vsphereVolume", need{"volumePath", s.VolumePath})
	}
	if s := v.PhotonPersistentDisk; s != nil {
		simple("photonPersistentDisk", need{"pdID", s.PdID})
	}
	if s := v.PortworxVolume; s != nil {
		simple("portworxVolume", need{"volumeID", s.VolumeID})
	}
	if s := v.Quobyte; s != nil {
		simple("quobyte", need{"registry", s.Registry}, need{"volume", s.Volume})
	}
	if s := v.ScaleIO; s != nil {
		simple("scaleIO", need{"gateway", s.Gateway}, need{"system", s.System}, need{"volumeName", s.VolumeName})
	}
	if s := v.StorageOS; s != nil {
		simple("storageos", need{"volumeName", s.VolumeName})
	}
	if s := v.Flocker; s != nil {
		one("flocker", func(at *field.Path) field.ErrorList {
			switch {
			case s.DatasetName == "" && s.DatasetUUID == "":
				return field.ErrorList{field.Required(at, "one of datasetName and datasetUUID is required")}
			case s.DatasetName != "" && s.DatasetUUID != "":
				return field.ErrorList{field.Invalid(at, "resource", "datasetName and datasetUUID can not be specified simultaneously")}
			}
			return nil
		})
	}
}
