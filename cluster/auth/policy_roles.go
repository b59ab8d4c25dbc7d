package auth

import (
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"
)

const (
	toAdmin = "rbac.authorization.k8s.io/aggregate-to-admin"
	toEdit  = "rbac.authorization.k8s.io/aggregate-to-edit"
	toView  = "rbac.authorization.k8s.io/aggregate-to-view"
)

var yes = "true"

// clusterRoleTexts are the cluster roles for users, nodes and components; see parseRules for the
// notation.
var clusterRoleTexts = []roleText{
	{name: "cluster-admin", rules: "*: *.* /*"},
	{name: "admin", aggregate: toAdmin},
	{name: "edit", aggregate: toEdit, labels: map[string]string{toAdmin: yes}},
	{name: "view", aggregate: toView, labels: map[string]string{toEdit: yes}},

	{name: "system:aggregate-to-admin", labels: map[string]string{toAdmin: yes}, rules: `
		create: localsubjectaccessreviews.authorization.k8s.io
		all: roles.rbac.authorization.k8s.io rolebindings.rbac.authorization.k8s.io`},
	{name: "system:aggregate-to-edit", labels: map[string]string{toEdit: yes}, rules: `
		read: pods/attach pods/proxy pods/exec pods/portforward secrets services/proxy
		impersonate: serviceaccounts
		write: pods pods/attach pods/proxy pods/exec pods/portforward
		create: pods/eviction
		write: configmaps events persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets serviceaccounts services services/proxy
		create: serviceaccounts/token
		write: daemonsets.apps deployments.apps deployments/rollback.apps deployments/scale.apps replicasets.apps replicasets/scale.apps statefulsets.apps statefulsets/scale.apps
		write: horizontalpodautoscalers.autoscaling
		write: jobs.batch cronjobs.batch
		write: daemonsets.extensions deployments.extensions deployments/rollback.extensions deployments/scale.extensions ingresses.extensions networkpolicies.extensions replicasets.extensions replicasets/scale.extensions replicationcontrollers/scale.extensions
		write: poddisruptionbudgets.policy
		write: networkpolicies.networking.k8s.io ingresses.networking.k8s.io
		all: leases.coordination.k8s.io
		write: resourceclaims.resource.k8s.io resourceclaimtemplates.resource.k8s.io`},
	{name: "system:aggregate-to-view", labels: map[string]string{toView: yes}, rules: `
		read: configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status
		read: bindings events limitranges namespaces/status pods/log pods/status replicationcontrollers/status resourcequotas resourcequotas/status
		read: namespaces
		read: endpointslices.discovery.k8s.io
		read: controllerrevisions.apps daemonsets.apps daemonsets/status.apps deployments.apps deployments/scale.apps deployments/status.apps replicasets.apps replicasets/scale.apps replicasets/status.apps statefulsets.apps statefulsets/scale.apps statefulsets/status.apps
		read: horizontalpodautoscalers.autoscaling horizontalpodautoscalers/status.autoscaling
		read: jobs.batch jobs/status.batch cronjobs.batch cronjobs/status.batch
		read: daemonsets.extensions daemonsets/status.extensions deployments.extensions deployments/scale.extensions deployments/status.extensions ingresses.extensions ingresses/status.extensions networkpolicies.extensions replicasets.extensions replicasets/scale.extensions replicasets/status.extensions replicationcontrollers/scale.extensions
		read: poddisruptionbudgets.policy poddisruptionbudgets/status.policy
		read: networkpolicies.networking.k8s.io ingresses.networking.k8s.io ingresses/status.networking.k8s.io
		read: resourceclaims.resource.k8s.io resourceclaims/status.resource.k8s.io resourceclaimtemplates.resource.k8s.io`},

	{name: "system:discovery", rules: "get: /api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/"},
	{name: "system:monitoring", rules: "get: /healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*"},
	{name: "system:public-info-viewer", rules: "get: /healthz /livez /readyz /version /version/"},
	{name: "system:basic-user", rules: `
		create: selfsubjectaccessreviews.authorization.k8s.io selfsubjectrulesreviews.authorization.k8s.io
		create: selfsubjectreviews.authentication.k8s.io`},
	{name: "system:service-account-issuer-discovery", rules: "get: /.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/"},
	{name: "system:cluster-trust-bundle-discovery", rules: "read: clustertrustbundles.certificates.k8s.io"},

	{name: "system:node", rules: nodeRoleText},
	{name: "system:node-problem-detector", rules: `
		get: nodes
		patch: nodes/status
		event: events events.events.k8s.io`},
	{name: "system:heapster", rules: `
		read: events namespaces nodes pods
		read: deployments.extensions`},
	{name: "system:node-bootstrapper", rules: "create,get,list,watch: certificatesigningrequests.certificates.k8s.io"},
	{name: "system:node-proxier", rules: `
		list,watch: services endpoints
		get,list,watch: nodes
		event: events events.events.k8s.io
		list,watch: endpointslices.discovery.k8s.io
		list,watch: servicecidrs.networking.k8s.io`},
	{name: "system:kubelet-api-admin", rules: `
		get,list,watch: nodes
		proxy: nodes
		*: nodes/checkpoint nodes/configz nodes/healthz nodes/log nodes/metrics nodes/pods nodes/proxy nodes/spec nodes/stats`},

	{name: "system:auth-delegator", rules: `
		create: tokenreviews.authentication.k8s.io
		create: subjectaccessreviews.authorization.k8s.io`},
	{name: "system:kube-aggregator", rules: "read: services endpoints"},
	{name: "system:kube-dns", rules: "list,watch: endpoints services"},
	{name: "system:persistent-volume-provisioner", rules: `
		create,delete,get,list,watch: persistentvolumes
		get,list,update,watch: persistentvolumeclaims
		read: storageclasses.storage.k8s.io
		watch: events
		event: events events.events.k8s.io`},
	{name: "system:volume-scheduler", rules: `
		get,list,patch,update,watch: persistentvolumes
		read: storageclasses.storage.k8s.io
		get,list,patch,update,watch: persistentvolumeclaims`},
	{name: "system:kube-scheduler", rules: `
		event: events events.events.k8s.io
		create: leases.coordination.k8s.io
		get,list,update,watch: leases.coordination.k8s.io
		get,update: leases.coordination.k8s.io [kube-scheduler]
		read: nodes
		delete,get,list,watch: pods
		create: bindings pods/binding
		patch,update: pods/status
		read: replicationcontrollers services
		read: replicasets.apps statefulsets.apps
		read: poddisruptionbudgets.policy
		read: persistentvolumeclaims persistentvolumes
		create: tokenreviews.authentication.k8s.io
		create: subjectaccessreviews.authorization.k8s.io
		read: csinodes.storage.k8s.io csidrivers.storage.k8s.io csistoragecapacities.storage.k8s.io
		read: namespaces
		read: deviceclasses.resource.k8s.io resourceslices.resource.k8s.io
		get,list,patch,update,watch: resourceclaims.resource.k8s.io
		patch,update: resourceclaims/status.resource.k8s.io`},
	{name: "system:kube-controller-manager", rules: `
		event: events events.events.k8s.io
		create: leases.coordination.k8s.io
		get,update: leases.coordination.k8s.io [kube-controller-manager]
		create: secrets serviceaccounts
		delete: secrets
		get: configmaps namespaces secrets serviceaccounts
		update: secrets serviceaccounts
		create: tokenreviews.authentication.k8s.io
		create: subjectaccessreviews.authorization.k8s.io
		list,watch: *.*
		create: serviceaccounts/token`},

	{name: "system:certificates.k8s.io:certificatesigningrequests:nodeclient", rules: "create: certificatesigningrequests/nodeclient.certificates.k8s.io"},
	{name: "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", rules: "create: certificatesigningrequests/selfnodeclient.certificates.k8s.io"},
	{name: "system:certificates.k8s.io:legacy-unknown-approver", rules: "approve: signers.certificates.k8s.io [kubernetes.io/legacy-unknown]"},
	{name: "system:certificates.k8s.io:kubelet-serving-approver", rules: "approve: signers.certificates.k8s.io [kubernetes.io/kubelet-serving]"},
	{name: "system:certificates.k8s.io:kube-apiserver-client-approver", rules: "approve: signers.certificates.k8s.io [kubernetes.io/kube-apiserver-client]"},
	{name: "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver", rules: "approve: signers.certificates.k8s.io [kubernetes.io/kube-apiserver-client-kubelet]"},
}

// nodeRoleText is what a node may do; of much of it only what concerns itself, see narrowed.
const nodeRoleText = `
	create: tokenreviews.authentication.k8s.io
	create: localsubjectaccessreviews.authorization.k8s.io subjectaccessreviews.authorization.k8s.io
	read: services
	create,get,list,watch: nodes
	patch,update: nodes nodes/status
	event: events events.events.k8s.io
	read: pods
	create,delete: pods
	patch,update: pods/status
	create: pods/eviction
	read: secrets configmaps
	get: serviceaccounts
	create: serviceaccounts/token
	get: endpoints
	create,get,list,watch: certificatesigningrequests.certificates.k8s.io
	create,delete,get,patch,update: leases.coordination.k8s.io
	get: persistentvolumeclaims persistentvolumes
	get,patch,update: persistentvolumeclaims/status
	get: volumeattachments.storage.k8s.io
	read: csidrivers.storage.k8s.io
	create,delete,get,patch,update: csinodes.storage.k8s.io
	read: runtimeclasses.node.k8s.io
	get: resourceclaims.resource.k8s.io
	all: resourceslices.resource.k8s.io`

func nodeRules() []rbacv1.PolicyRule { return parseRules(nodeRoleText) }

// joiners is the group that the tools of Kubernetes put bootstrap tokens in with which nodes join.
const joiners = "system:bootstrappers:kubeadm:default-node-token"

// clusterBindingTexts bind cluster roles; a binding without a name is called as its role is.
var clusterBindingTexts = []struct {
	name, role string
	subjects   []rbacv1.Subject
}{
	{"", "cluster-admin", []rbacv1.Subject{groupSubject(user.SystemPrivilegedGroup)}},
	{"", "system:monitoring", []rbacv1.Subject{groupSubject(user.MonitoringGroup)}},
	{"", "system:discovery", []rbacv1.Subject{groupSubject(user.AllAuthenticated)}},
	{"", "system:basic-user", []rbacv1.Subject{groupSubject(user.AllAuthenticated)}},
	{"", "system:public-info-viewer", []rbacv1.Subject{groupSubject(user.AllAuthenticated), groupSubject(user.AllUnauthenticated)}},
	{"", "system:service-account-issuer-discovery", []rbacv1.Subject{groupSubject(serviceaccount.AllServiceAccountsGroup)}},
	{"", "system:cluster-trust-bundle-discovery", []rbacv1.Subject{groupSubject(serviceaccount.AllServiceAccountsGroup)}},
	{"", "system:node-proxier", []rbacv1.Subject{userSubject(user.KubeProxy)}},
	{"", "system:kube-controller-manager", []rbacv1.Subject{userSubject(user.KubeControllerManager)}},
	{"", "system:kube-dns", []rbacv1.Subject{serviceAccount("kube-dns")}},
	{"", "system:kube-scheduler", []rbacv1.Subject{userSubject(user.KubeScheduler)}},
	{"", "system:volume-scheduler", []rbacv1.Subject{userSubject(user.KubeScheduler)}},
	// Nodes are let in by the Node authorizer; the binding exists without subjects, as elsewhere.
	{"", "system:node", nil},
	// Who joins may ask for a node's certificate and gets it, and nodes renew theirs.
	{"kubeadm:kubelet-bootstrap", "system:node-bootstrapper", []rbacv1.Subject{groupSubject(joiners)}},
	{"kubeadm:node-autoapprove-bootstrap", "system:certificates.k8s.io:certificatesigningrequests:nodeclient", []rbacv1.Subject{groupSubject(joiners)}},
	{"kubeadm:node-autoapprove-certificate-rotation", "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", []rbacv1.Subject{groupSubject(user.NodesGroup)}},
}

type namespacedRoleText struct{ namespace, name, rules string }

var namespacedRoleTexts = []namespacedRoleText{
	{"kube-system", "extension-apiserver-authentication-reader", "read: configmaps [extension-apiserver-authentication]"},
	{"kube-system", "system:controller:token-cleaner", "read,delete: secrets\nevent: events events.events.k8s.io"},
	{"kube-system", "system:controller:bootstrap-signer", "read: secrets"},
	{"kube-system", "system:controller:cloud-provider", "create,get,list,watch: configmaps"},
	{"kube-system", "system::leader-locking-kube-controller-manager", "watch: configmaps\nget,update: configmaps [kube-controller-manager]"},
	{"kube-system", "system::leader-locking-kube-scheduler", "watch: configmaps\nget,update: configmaps [kube-scheduler]"},
	{"kube-public", "system:controller:bootstrap-signer", "read: configmaps\nupdate: configmaps [cluster-info]\nevent: events events.events.k8s.io"},
}

var namespacedBindingTexts = []struct {
	namespace, name, role string
	subjects              []rbacv1.Subject
}{
	{"kube-system", "system::extension-apiserver-authentication-reader", "extension-apiserver-authentication-reader",
		[]rbacv1.Subject{userSubject(user.KubeControllerManager), userSubject(user.KubeScheduler)}},
	{"kube-system", "system::leader-locking-kube-controller-manager", "system::leader-locking-kube-controller-manager",
		[]rbacv1.Subject{userSubject(user.KubeControllerManager), serviceAccount("kube-controller-manager")}},
	{"kube-system", "system::leader-locking-kube-scheduler", "system::leader-locking-kube-scheduler",
		[]rbacv1.Subject{userSubject(user.KubeScheduler), serviceAccount("kube-scheduler")}},
	{"kube-system", "system:controller:bootstrap-signer", "system:controller:bootstrap-signer", []rbacv1.Subject{serviceAccount("bootstrap-signer")}},
	{"kube-system", "system:controller:cloud-provider", "system:controller:cloud-provider", []rbacv1.Subject{serviceAccount("cloud-provider")}},
	{"kube-system", "system:controller:token-cleaner", "system:controller:token-cleaner", []rbacv1.Subject{serviceAccount("token-cleaner")}},
	{"kube-public", "system:controller:bootstrap-signer", "system:controller:bootstrap-signer", []rbacv1.Subject{serviceAccount("bootstrap-signer")}},
}
