package link

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/troupe-run/troupe/proto/nodepb"
)

// Message is what a link tells its node through Config.Deliver.
type Message interface{ linkMessage() }

// Wanted says that this node should run the pod as given: a new one, or a new version of one it
// runs (labels, annotations, resources, deletionTimestamp). A pod with a deletionTimestamp is to
// be stopped within its grace period and reported as finished. Status is the last one this node
// reported, or what the control plane had stored before; a pod whose phase there is Succeeded or
// Failed must not be started again.
type Wanted struct{ Pod *corev1.Pod }

// Unwanted says that the pod's object is gone, or that the control plane never had it: whatever is
// left of the pod has to go. It may come again, also for a pod the node does not know.
type Unwanted struct{ UID types.UID }

// ObjectChanged says that a ConfigMap or Secret that pods of this node refer to appeared, changed
// or went; Link.ConfigMap and Link.Secret give the new state.
type ObjectChanged struct {
	// Kind is "ConfigMap" or "Secret".
	Kind      string
	Namespace string
	Name      string
}

// Synced says that the whole wanted set has been delivered: pods found on the node that were not
// wanted until now are not wanted at all. Confirmed is false when the set came from the checkpoint
// on disk, and true once the control plane has said the same or more. It comes again after each
// loss of the control plane.
type Synced struct{ Confirmed bool }

// Registered says that the control plane knows the node. Node is the object as stored, with its
// pod CIDR. It comes again after each loss of the control plane and, at once, from the checkpoint.
type Registered struct {
	Node    *corev1.Node
	Cluster Cluster
}

func (Wanted) linkMessage()        {}
func (Unwanted) linkMessage()      {}
func (ObjectChanged) linkMessage() {}
func (Synced) linkMessage()        {}
func (Registered) linkMessage()    {}

// Cluster is what a node has to know about its cluster; the zero value of a field means that the
// cluster does not have it.
type Cluster struct {
	// DNS is the address pods ask for names.
	DNS string
	// Domain is the DNS domain, such as "cluster.local".
	Domain string
	// PodCIDR and ServiceCIDR are the cluster-wide address ranges.
	PodCIDR     string
	ServiceCIDR string
	// APIHost and APIPort are where pods reach the API: the "kubernetes" service.
	APIHost string
	APIPort int32
}

func clusterOf(c *nodepb.Cluster) Cluster {
	return Cluster{
		DNS: c.GetDnsIp(), Domain: c.GetDomain(), PodCIDR: c.GetPodCidr(), ServiceCIDR: c.GetServiceCidr(),
		APIHost: c.GetApiIp(), APIPort: int32(c.GetApiPort()),
	}
}

// PodReport is the newest status of one pod, as the node sees it.
type PodReport struct {
	UID       types.UID
	Namespace string
	Name      string
	Status    corev1.PodStatus
	// Finished says that nothing of the pod is left running or mounted: when the pod is marked for
	// deletion, its object may go now.
	Finished bool
}

// CoalesceKey lets a newer report of a pod replace one that still waits.
func (r PodReport) CoalesceKey() any { return reportKey(r.UID) }

type reportKey types.UID

// Event is a Kubernetes Event to record about a pod of this node, or about the node itself when
// Pod is nil.
type Event struct {
	Pod *corev1.Pod
	// FieldPath is the part of the pod it is about, as in "spec.containers{web}"; empty means the
	// whole pod.
	FieldPath string
	// Type is corev1.EventTypeNormal or corev1.EventTypeWarning.
	Type    string
	Reason  string
	Message string
}

// TokenRequest asks for a service account token bound to a pod of this node.
type TokenRequest struct {
	Pod *corev1.Pod
	// Audiences of the token; none means the API server's own.
	Audiences []string
	// Expiry is the wanted lifetime, 0 for one hour; the answer may live shorter.
	Expiry time.Duration
}

// Token is a service account token and when it ends.
type Token struct {
	Value   string
	Expires time.Time
}
