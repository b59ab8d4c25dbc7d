package core

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kinds/check"
	"github.com/troupe-run/troupe/cluster/api/kinds/podspec"
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
func validateVolumeSource(name string, spec *corev1.PersistentVolumeSpec) field.ErrorList {
	var errs field.ErrorList
	n := 0
	for _, s := range append(nearSources(name, spec), farSources(&spec.PersistentVolumeSource)...) {
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

// nearSources are those in use without a driver of some vendor in the tree.
func nearSources(name string, spec *corev1.PersistentVolumeSpec) []volumeSource {
	return []volumeSource{
		{"hostPath", spec.HostPath != nil, func(at *field.Path) field.ErrorList {
			return podspec.ValidateHostPath(spec.HostPath, at)
		}},
		{"local", spec.Local != nil, func(at *field.Path) field.ErrorList {
			errs := append(parts(at, part{"path", spec.Local.Path}), podspec.NoBacksteps(spec.Local.Path, at.Child("path"))...)
			if spec.NodeAffinity == nil {
				errs = append(errs, field.Required(specPath.Child("nodeAffinity"), "Local volume requires node affinity"))
			}
			return errs
		}},
		{"nfs", spec.NFS != nil, func(at *field.Path) field.ErrorList {
			return podspec.ValidateNFS(spec.NFS, at)
		}},
		{"csi", spec.CSI != nil, func(at *field.Path) field.ErrorList { return validateCSI(spec.CSI, at) }},
		{"iscsi", spec.ISCSI != nil, func(at *field.Path) field.ErrorList {
			s := spec.ISCSI
			errs := podspec.ValidateISCSI(podspec.ISCSI{Portal: s.TargetPortal, IQN: s.IQN, Lun: s.Lun, CHAP: s.DiscoveryCHAPAuth || s.SessionCHAPAuth,
				Secret: s.SecretRef != nil, Initiator: s.InitiatorName}, at)
			if s.SecretRef != nil && s.SecretRef.Name == "" {
				errs = append(errs, field.Required(at.Child("secretRef", "name"), ""))
			}
			if s.InitiatorName != nil && len(name+":"+s.TargetPortal) > podspec.MaxISCSIName {
				errs = append(errs, field.Invalid(at.Child("targetportal"), s.TargetPortal, podspec.LongISCSIName))
			}
			return errs
		}},
		{"fc", spec.FC != nil, func(at *field.Path) field.ErrorList {
			return podspec.ValidateFC(spec.FC, at)
		}},
		{"flexVolume", spec.FlexVolume != nil, func(at *field.Path) field.ErrorList { return parts(at, part{"driver", spec.FlexVolume.Driver}) }},
	}
}

func validateCSI(s *corev1.CSIPersistentVolumeSource, at *field.Path) field.ErrorList {
	errs := append(check.DriverName(s.Driver, at.Child("driver")), parts(at, part{"volumeHandle", s.VolumeHandle})...)
	for _, ref := range []struct {
		child  string
		secret *corev1.SecretReference
	}{
		{"controllerPublishSecretRef", s.ControllerPublishSecretRef}, {"controllerExpandSecretRef", s.ControllerExpandSecretRef},
		{"nodePublishSecretRef", s.NodePublishSecretRef}, {"nodeExpandSecretRef", s.NodeExpandSecretRef},
	} {
		if ref.secret == nil {
			continue
		}
		at := at.Child(ref.child)
		errs = append(errs, parts(at, part{"name", ref.secret.Name}, part{"namespace", ref.secret.Namespace})...)
		if ref.secret.Name != "" {
			errs = append(errs, check.DNSSubdomain(ref.secret.Name, at.Child("name"))...)
		}
		if ref.secret.Namespace != "" {
			errs = append(errs, check.DNSLabel(ref.secret.Namespace, at.Child("namespace"))...)
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
