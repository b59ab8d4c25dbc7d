package core

import (
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kinds/check"
)

// part is a text that a volume source cannot do without.
type part struct{ child, value string }

func parts(at *field.Path, list ...part) field.ErrorList {
	var errs field.ErrorList
	for _, p := range list {
		if p.value == "" {
			errs = append(errs, field.Required(at.Child(p.child), ""))
		}
	}
	return errs
}

// volumeSource is one of the kinds of storage a volume may lie on.
type volumeSource struct {
	child    string
	set      bool
	validate func(at *field.Path) field.ErrorList
}

// validateVolumeSource checks that a volume lies on one kind of storage, well described.
func validateVolumeSource(spec *corev1.PersistentVolumeSpec) field.ErrorList {
	var errs field.ErrorList
	n := 0
	for _, s := range append(nearSources(spec), farSources(&spec.PersistentVolumeSource)...) {
		if !s.set {
			continue
		}
		if n++; n > 1 {
			errs = append(errs, field.Forbidden(specPath.Child(s.child), "may not specify more than 1 volume type"))
			continue
		}
		errs = append(errs, s.validate(specPath.Child(s.child))...)
	}
	if n == 0 {
		errs = append(errs, field.Required(specPath, "must specify a volume type"))
	}
	return errs
}

func noBacksteps(p string, at *field.Path) field.ErrorList {
	if slices.Contains(strings.Split(p, "/"), "..") {
		return field.ErrorList{field.Invalid(at, p, "must not contain '..'")}
	}
	return nil
}

// nearSources are those in use without a driver of some vendor in the tree.
func nearSources(spec *corev1.PersistentVolumeSpec) []volumeSource {
	return []volumeSource{
		{"hostPath", spec.HostPath != nil, func(at *field.Path) field.ErrorList {
			return append(parts(at, part{"path", spec.HostPath.Path}), noBacksteps(spec.HostPath.Path, at.Child("path"))...)
		}},
		{"local", spec.Local != nil, func(at *field.Path) field.ErrorList {
			errs := append(parts(at, part{"path", spec.Local.Path}), noBacksteps(spec.Local.Path, at.Child("path"))...)
			if spec.NodeAffinity == nil {
				errs = append(errs, field.Required(specPath.Child("nodeAffinity"), "Local volume requires node affinity"))
			}
			return errs
		}},
		{"nfs", spec.NFS != nil, func(at *field.Path) field.ErrorList {
			errs := parts(at, part{"server", spec.NFS.Server}, part{"path", spec.NFS.Path})
			if spec.NFS.Path != "" && !path.IsAbs(spec.NFS.Path) {
				errs = append(errs, field.Invalid(at.Child("path"), spec.NFS.Path, "must be an absolute path"))
			}
			return errs
		}},
		{"csi", spec.CSI != nil, func(at *field.Path) field.ErrorList { return validateCSI(spec.CSI, at) }},
		{"iscsi", spec.ISCSI != nil, func(at *field.Path) field.ErrorList {
			errs := parts(at, part{"targetPortal", spec.ISCSI.TargetPortal}, part{"iqn", spec.ISCSI.IQN})
			if lun := spec.ISCSI.Lun; lun < 0 || lun > 255 {
				errs = append(errs, field.Invalid(at.Child("lun"), lun, validation.InclusiveRangeError(0, 255)))
			}
			return errs
		}},
		{"fc", spec.FC != nil, func(at *field.Path) field.ErrorList {
			switch targets, ids := len(spec.FC.TargetWWNs), len(spec.FC.WWIDs); {
			case targets > 0 && ids > 0:
				return field.ErrorList{field.Invalid(at.Child("targetWWNs"), spec.FC.TargetWWNs, "fc: targetWWNs and wwids can not be specified simultaneously")}
			case targets == 0 && ids == 0:
				return field.ErrorList{field.Required(at.Child("targetWWNs"), "specify either targetWWNs or wwids, but not both")}
			case targets > 0 && spec.FC.Lun == nil:
				return field.ErrorList{field.Required(at.Child("lun"), "lun is required if targetWWNs is specified")}
			}
			return nil
		}},
		{"flexVolume", spec.FlexVolume != nil, func(at *field.Path) field.ErrorList { return parts(at, part{"driver", spec.FlexVolume.Driver}) }},
	}
}

func validateCSI(s *corev1.CSIPersistentVolumeSource, at *field.Path) field.ErrorList {
	errs := parts(at, part{"driver", s.Driver}, part{"volumeHandle", s.VolumeHandle})
	if s.Driver != "" {
		errs = append(errs, check.DNSSubdomain(strings.ToLower(s.Driver), at.Child("driver"))...)
	}
	if len(s.Driver) > validation.DNS1123LabelMaxLength {
		errs = append(errs, field.TooLong(at.Child("driver"), s.Driver, validation.DNS1123LabelMaxLength))
	}
	for _, ref := range []struct {
		child  string
		secret *corev1.SecretReference
	}{
		{"controllerPublishSecretRef", s.ControllerPublishSecretRef}, {"controllerExpandSecretRef", s.ControllerExpandSecretRef},
		{"nodePublishSecretRef", s.NodePublishSecretRef}, {"nodeExpandSecretRef", s.NodeExpandSecretRef}, {"nodeStageSecretRef", s.NodeStageSecretRef},
	} {
		if ref.secret != nil {
			errs = append(errs, parts(at.Child(ref.child), part{"name", ref.secret.Name}, part{"namespace", ref.secret.Namespace})...)
		}
	}
	return errs
}

// farSources are those that only a driver of their vendor understands.
func farSources(s *corev1.PersistentVolumeSource) []volumeSource {
	need := func(list func() []part) func(*field.Path) field.ErrorList {
		return func(at *field.Path) field.ErrorList { return parts(at, list()...) }
	}
	return []volumeSource{
		{"gcePersistentDisk", s.GCEPersistentDisk != nil, need(func() []part { return []part{{"pdName", s.GCEPersistentDisk.PDName}} })},
		{"awsElasticBlockStore", s.AWSElasticBlockStore != nil, need(func() []part { return []part{{"volumeID", s.AWSElasticBlockStore.VolumeID}} })},
		{"glusterfs", s.Glusterfs != nil, need(func() []part { return []part{{"endpoints", s.Glusterfs.EndpointsName}, {"path", s.Glusterfs.Path}} })},
		{"cinder", s.Cinder != nil, need(func() []part { return []part{{"volumeID", s.Cinder.VolumeID}} })},
		{"azureFile", s.AzureFile != nil, need(func() []part {
			return []part{{"secretName", s.AzureFile.SecretName}, {"shareName", s.AzureFile.ShareName}}
		})},
		{"azureDisk", s.AzureDisk != nil, need(func() []part { return []part{{"diskName", s.AzureDisk.DiskName}, {"diskURI", s.AzureDisk.DataDiskURI}} })},
		{"vsphereVolume", s.VsphereVolume != nil, need(func() []part { return []part{{"volumePath", s.VsphereVolume.VolumePath}} })},
		{"photonPersistentDisk", s.PhotonPersistentDisk != nil, need(func() []part { return []part{{"pdID", s.PhotonPersistentDisk.PdID}} })},
		{"portworxVolume", s.PortworxVolume != nil, need(func() []part { return []part{{"volumeID", s.PortworxVolume.VolumeID}} })},
		{"quobyte", s.Quobyte != nil, need(func() []part { return []part{{"registry", s.Quobyte.Registry}, {"volume", s.Quobyte.Volume}} })},
		{"scaleIO", s.ScaleIO != nil, need(func() []part {
			return []part{{"gateway", s.ScaleIO.Gateway}, {"system", s.ScaleIO.System}, {"volumeName", s.ScaleIO.VolumeName}}
		})},
		{"storageos", s.StorageOS != nil, need(func() []part { return []part{{"volumeName", s.StorageOS.VolumeName}} })},
		{"rbd", s.RBD != nil, need(func() []part {
			return []part{{"monitors", strings.Join(s.RBD.CephMonitors, ",")}, {"image", s.RBD.RBDImage}}
		})},
		{"cephfs", s.CephFS != nil, need(func() []part { return []part{{"monitors", strings.Join(s.CephFS.Monitors, ",")}} })},
		{"flocker", s.Flocker != nil, func(at *field.Path) field.ErrorList {
			switch name, uuid := s.Flocker.DatasetName, s.Flocker.DatasetUUID; {
			case name == "" && uuid == "":
				return field.ErrorList{field.Required(at, "one of datasetName and datasetUUID is required")}
			case name != "" && uuid != "":
				return field.ErrorList{field.Invalid(at, "resource", "datasetName and datasetUUID can not be specified simultaneously")}
			}
			return nil
		}},
	}
}
