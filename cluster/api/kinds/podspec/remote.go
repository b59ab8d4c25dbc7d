package podspec

import (
	"path"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
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
		one("nfs", func(at *field.Path) field.ErrorList { return ValidateNFS(s, at) })
	}
	if s := v.GitRepo; s != nil {
		one("gitRepo", func(at *field.Path) field.ErrorList {
			return append(needs(at, need{"repository", s.Repository}), localPath(s.Directory, at.Child("directory"))...)
		})
	}
	if s := v.ISCSI; s != nil {
		one("iscsi", func(at *field.Path) field.ErrorList {
			return ValidateISCSI(ISCSI{Portal: s.TargetPortal, IQN: s.IQN, Lun: s.Lun, CHAP: s.DiscoveryCHAPAuth || s.SessionCHAPAuth,
				Secret: s.SecretRef != nil, Initiator: s.InitiatorName}, at)
		})
	}
	if s := v.FC; s != nil {
		one("fc", func(at *field.Path) field.ErrorList {
			return ValidateFC(s, at)
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
				domain, _, _ := strings.Cut(key, "/")
				if domain = "." + strings.ToLower(domain); strings.HasSuffix(domain, ".kubernetes.io") || strings.HasSuffix(domain, ".k8s.io") {
					errs = append(errs, field.Invalid(at.Child("options").Key(key), key, "kubernetes.io and k8s.io namespaces are reserved"))
				}
			}
			return errs
		})
	}
	cloudSources(v, one)
}

// ValidateNFS checks a share of an NFS server.
func ValidateNFS(s *corev1.NFSVolumeSource, at *field.Path) field.ErrorList {
	errs := needs(at, need{"server", s.Server}, need{"path", s.Path})
	if !path.IsAbs(s.Path) {
		errs = append(errs, field.Invalid(at.Child("path"), s.Path, "must be an absolute path"))
	}
	return errs
}

// ISCSI is what volumes of pods and persistent volumes say of an iSCSI disk alike.
type ISCSI struct {
	Portal, IQN string
	Lun         int32
	// CHAP says that the portal asks who one is, Secret that there is an answer.
	CHAP, Secret bool
	Initiator    *string
}

const (
	// MaxISCSIName bounds a volume's name and portal together when there is an initiator.
	MaxISCSIName = 64
	// LongISCSIName says so.
	LongISCSIName = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified."
)

// iscsiNames are the three forms of names in iSCSI (RFC 3720, 3.2.6).
var iscsiNames = map[string]*regexp.Regexp{
	"iqn": regexp.MustCompile(`iqn\.\d{4}-\d{2}\.([[:alnum:]-.]+)(:[^,;*&$|\s]+)$`),
	"eui": regexp.MustCompile(`^eui.[[:alnum:]]{16}$`),
	"naa": regexp.MustCompile(`^naa.[[:alnum:]]{32}$`),
}

func iscsiName(name string, at *field.Path) field.ErrorList {
	form, ok := iscsiNames[name[:min(3, len(name))]]
	switch {
	case !ok:
		return field.ErrorList{field.Invalid(at, name, "must be valid format starting with iqn, eui, or naa")}
	case !form.MatchString(name):
		return field.ErrorList{field.Invalid(at, name, "must be valid format")}
	}
	return nil
}

// ValidateISCSI checks an iSCSI disk.
func ValidateISCSI(s ISCSI, at *field.Path) field.ErrorList {
	errs := needs(at, need{"targetPortal", s.Portal}, need{"iqn", s.IQN})
	if s.IQN != "" {
		errs = append(errs, iscsiName(s.IQN, at.Child("iqn"))...)
	}
	errs = append(errs, lun(s.Lun, at)...)
	if s.CHAP && !s.Secret {
		errs = append(errs, field.Required(at.Child("secretRef"), ""))
	}
	if s.Initiator != nil {
		errs = append(errs, iscsiName(*s.Initiator, at.Child("initiatorname"))...)
	}
	return errs
}

func lun(n int32, at *field.Path) field.ErrorList {
	if n >= 0 && n <= 255 {
		return nil
	}
	return field.ErrorList{field.Invalid(at.Child("lun"), n, validation.InclusiveRangeError(0, 255))}
}

// ValidateFC checks a disk on fibre channel.
func ValidateFC(s *corev1.FCVolumeSource, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch targets, ids := len(s.TargetWWNs), len(s.WWIDs); {
	case targets > 0 && ids > 0:
		errs = append(errs, field.Invalid(at.Child("targetWWNs"), s.TargetWWNs, "targetWWNs and wwids can not be specified simultaneously"))
	case targets == 0 && ids == 0:
		errs = append(errs, field.Required(at.Child("targetWWNs"), "must specify either targetWWNs or wwids, but not both"))
	}
	switch {
	case len(s.TargetWWNs) == 0:
	case s.Lun == nil:
		errs = append(errs, field.Required(at.Child("lun"), "lun is required if targetWWNs is specified"))
	default:
		errs = append(errs, lun(*s.Lun, at)...)
	}
	return errs
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
