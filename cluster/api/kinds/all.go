package kinds

import (
	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/apps"
	"github.com/troupe-run/troupe/cluster/api/kinds/authentication"
	"github.com/troupe-run/troupe/cluster/api/kinds/authorization"
	"github.com/troupe-run/troupe/cluster/api/kinds/autoscaling"
	"github.com/troupe-run/troupe/cluster/api/kinds/batch"
	"github.com/troupe-run/troupe/cluster/api/kinds/certificates"
	"github.com/troupe-run/troupe/cluster/api/kinds/coordination"
	"github.com/troupe-run/troupe/cluster/api/kinds/core"
	"github.com/troupe-run/troupe/cluster/api/kinds/discovery"
	"github.com/troupe-run/troupe/cluster/api/kinds/networking"
	"github.com/troupe-run/troupe/cluster/api/kinds/node"
	"github.com/troupe-run/troupe/cluster/api/kinds/policy"
	"github.com/troupe-run/troupe/cluster/api/kinds/rbac"
	"github.com/troupe-run/troupe/cluster/api/kinds/scheduling"
	"github.com/troupe-run/troupe/cluster/api/kinds/storage"
)

// All returns every kind the binary knows.
func All() []kind.Kind {
	return []kind.Kind{
		apps.ControllerRevision(),
		apps.DaemonSet(),
		apps.Deployment(),
		apps.ReplicaSet(),
		apps.StatefulSet(),
		authentication.SelfSubjectReview(),
		authentication.TokenReview(),
		authorization.LocalSubjectAccessReview(),
		authorization.SelfSubjectAccessReview(),
		authorization.SelfSubjectRulesReview(),
		authorization.SubjectAccessReview(),
		autoscaling.HorizontalPodAutoscaler(),
		batch.CronJob(),
		batch.Job(),
		certificates.CertificateSigningRequest(),
		coordination.Lease(),
		core.ConfigMap(),
		core.Endpoints(),
		core.Event(),
		core.LimitRange(),
		core.Namespace(),
		core.Node(),
		core.PersistentVolume(),
		core.PersistentVolumeClaim(),
		core.Pod(),
		core.PodTemplate(),
		core.ReplicationController(),
		core.ResourceQuota(),
		core.Secret(),
		core.Service(),
		core.ServiceAccount(),
		discovery.EndpointSlice(),
		networking.Ingress(),
		networking.IngressClass(),
		networking.NetworkPolicy(),
		node.RuntimeClass(),
		policy.PodDisruptionBudget(),
		rbac.ClusterRole(),
		rbac.ClusterRoleBinding(),
		rbac.Role(),
		rbac.RoleBinding(),
		scheduling.PriorityClass(),
		storage.CSIDriver(),
		storage.CSINode(),
		storage.CSIStorageCapacity(),
		storage.StorageClass(),
		storage.VolumeAttachment(),
		storage.VolumeAttributesClass(),
	}
}
