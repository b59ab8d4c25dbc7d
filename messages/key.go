package messages

import "strings"

// Resource names a collection of objects as the Kubernetes API does: the group ("" for core) and
// the lower-case plural resource, without a version.
type Resource struct {
	Group    string
	Resource string
}

// String returns "resource" for the core group and "resource.group" otherwise.
func (r Resource) String() string {
	if r.Group == "" {
		return r.Resource
	}
	return r.Resource + "." + r.Group
}

// Key names one object in the cluster state. Namespace is empty for cluster-scoped objects.
type Key struct {
	Resource
	Namespace string
	Name      string
}

// String returns "resource.group/namespace/name", without the namespace where there is none.
func (k Key) String() string {
	parts := []string{k.Resource.String()}
	if k.Namespace != "" {
		parts = append(parts, k.Namespace)
	}
	return strings.Join(append(parts, k.Name), "/")
}

// KeyOf builds a key; it only saves the reader the nested literal.
func KeyOf(r Resource, namespace, name string) Key {
	return Key{Resource: r, Namespace: namespace, Name: name}
}

// The resources the parts of troupe itself speak about.
var (
	Namespaces      = Resource{"", "namespaces"}
	Nodes           = Resource{"", "nodes"}
	Pods            = Resource{"", "pods"}
	Services        = Resource{"", "services"}
	Endpoints       = Resource{"", "endpoints"}
	ConfigMaps      = Resource{"", "configmaps"}
	Secrets         = Resource{"", "secrets"}
	ServiceAccounts = Resource{"", "serviceaccounts"}
	Events          = Resource{"", "events"}
	Deployments     = Resource{"apps", "deployments"}
	ReplicaSets     = Resource{"apps", "replicasets"}
	EndpointSlices  = Resource{"discovery.k8s.io", "endpointslices"}
	Leases          = Resource{"coordination.k8s.io", "leases"}
	ServiceCIDRs    = Resource{"networking.k8s.io", "servicecidrs"}
	IPAddresses     = Resource{"networking.k8s.io", "ipaddresses"}

	PodDisruptionBudgets = Resource{"policy", "poddisruptionbudgets"}
)
