package auth

// controllerRoleTexts are the roles of Kubernetes' controllers; each is named system:controller:<name>
// and bound to the service account <name> of kube-system. Our own controllers write in-process and
// need none, but add-ons and audits expect them.
var controllerRoleTexts = []roleText{
	{name: "attachdetach-controller", rules: `
		list,watch: persistentvolumeclaims persistentvolumes
		get,list,watch: nodes
		patch,update: nodes/status
		list,watch: pods
		event: events events.events.k8s.io
		create,delete,get,list,watch: volumeattachments.storage.k8s.io
		read: csidrivers.storage.k8s.io csinodes.storage.k8s.io`},
	{name: "certificate-controller", rules: `
		delete,get,list,watch: certificatesigningrequests.certificates.k8s.io
		update: certificatesigningrequests/approval.certificates.k8s.io certificatesigningrequests/status.certificates.k8s.io
		approve: signers.certificates.k8s.io [kubernetes.io/kube-apiserver-client-kubelet]
		sign: signers.certificates.k8s.io [kubernetes.io/kube-apiserver-client kubernetes.io/kube-apiserver-client-kubelet kubernetes.io/kubelet-serving kubernetes.io/legacy-unknown]
		create: subjectaccessreviews.authorization.k8s.io
		event: events events.events.k8s.io`},
	{name: "clusterrole-aggregation-controller", rules: `escalate,get,list,patch,update,watch: clusterroles.rbac.authorization.k8s.io`},
	{name: "cronjob-controller", rules: `
		get,list,update,watch: cronjobs.batch
		create,delete,get,list,patch,update,watch: jobs.batch
		update: cronjobs/status.batch cronjobs/finalizers.batch
		delete,list,watch: pods
		event: events events.events.k8s.io`},
	{name: "daemon-set-controller", rules: `
		read: daemonsets.apps
		update: daemonsets/status.apps daemonsets/finalizers.apps
		list,watch: nodes
		create,delete,list,patch,watch: pods
		create: pods/binding
		create,delete,get,list,patch,update,watch: controllerrevisions.apps
		event: events events.events.k8s.io`},
	{name: "deployment-controller", rules: `
		get,list,update,watch: deployments.apps
		update: deployments/status.apps deployments/finalizers.apps
		create,delete,get,list,patch,update,watch: replicasets.apps
		get,list,update,watch: pods
		event: events events.events.k8s.io`},
	{name: "disruption-controller", rules: `
		read: deployments.apps replicasets.apps statefulsets.apps
		read: replicationcontrollers
		read: poddisruptionbudgets.policy
		update: poddisruptionbudgets/status.policy
		get: */scale.*
		patch,update: pods/status
		read: pods
		event: events events.events.k8s.io`},
	{name: "endpoint-controller", rules: `
		read: pods services
		create,delete,get,list,update,watch: endpoints
		create: endpoints/restricted
		event: events events.events.k8s.io`},
	{name: "endpointslice-controller", rules: `
		read: nodes pods services
		update: services/finalizers
		create,delete,get,list,update,watch: endpointslices.discovery.k8s.io
		create: endpointslices/restricted.discovery.k8s.io
		event: events events.events.k8s.io`},
	{name: "endpointslicemirroring-controller", rules: `
		read: endpoints services
		update: endpoints/finalizers services/finalizers
		create,delete,get,list,update,watch: endpointslices.discovery.k8s.io
		create: endpointslices/restricted.discovery.k8s.io
		event: events events.events.k8s.io`},
	{name: "ephemeral-volume-controller", rules: `
		update: pods/finalizers
		read: pods
		create,get,list,watch: persistentvolumeclaims
		event: events events.events.k8s.io`},
	{name: "expand-controller", rules: `
		get,list,patch,update,watch: persistentvolumes
		patch,update: persistentvolumeclaims/status
		read: persistentvolumeclaims
		get: services
		event: events events.events.k8s.io`},
	{name: "generic-garbage-collector", rules: `delete,get,list,patch,update,watch: *.*`},
	{name: "horizontal-pod-autoscaler", rules: `
		read: horizontalpodautoscalers.autoscaling
		update: horizontalpodautoscalers/status.autoscaling
		get,update: */scale.*
		list,watch: pods
		list,watch: pods.metrics.k8s.io
		read: *.custom.metrics.k8s.io *.external.metrics.k8s.io
		event: events events.events.k8s.io`},
	{name: "job-controller", rules: `
		get,list,patch,update,watch: jobs.batch
		update: jobs/status.batch jobs/finalizers.batch
		create,delete,list,patch,watch: pods
		event: events events.events.k8s.io`},
	{name: "legacy-service-account-token-cleaner", rules: `
		get: configmaps [kube-apiserver-legacy-service-account-token-tracking]
		delete,patch: secrets`},
	{name: "namespace-controller", rules: `
		delete,get,list,watch: namespaces
		update: namespaces/finalize namespaces/status
		delete,deletecollection,get,list: *.*`},
	{name: "node-controller", rules: `
		delete,get,list,patch,update,watch: nodes
		patch,update: nodes/status
		patch,update: pods/status
		delete,get,list,watch: pods
		event: events events.events.k8s.io`},
	{name: "persistent-volume-binder", rules: `
		create,delete,get,list,update,watch: persistentvolumes
		update: persistentvolumes/status
		get,list,update,watch: persistentvolumeclaims
		update: persistentvolumeclaims/status
		create,delete,get,list,watch: pods
		read: storageclasses.storage.k8s.io
		get: services
		list,watch: nodes
		watch: events
		event: events events.events.k8s.io`},
	{name: "pod-garbage-collector", rules: `
		delete,list,watch: pods
		read: nodes
		patch: pods/status`},
	{name: "pv-protection-controller", rules: `
		get,list,update,watch: persistentvolumes
		event: events events.events.k8s.io`},
	{name: "pvc-protection-controller", rules: `
		get,list,update,watch: persistentvolumeclaims
		get,list,watch: pods
		event: events events.events.k8s.io`},
	{name: "replicaset-controller", rules: `
		get,list,update,watch: replicasets.apps
		update: replicasets/status.apps replicasets/finalizers.apps
		create,delete,list,patch,watch: pods
		event: events events.events.k8s.io`},
	{name: "replication-controller", rules: `
		get,list,update,watch: replicationcontrollers
		update: replicationcontrollers/status replicationcontrollers/finalizers
		create,delete,list,patch,watch: pods
		event: events events.events.k8s.io`},
	{name: "resource-claim-controller", rules: `
		read: pods
		update: pods/finalizers
		create,delete,get,list,watch: resourceclaims.resource.k8s.io
		patch,update: resourceclaims.resource.k8s.io resourceclaims/status.resource.k8s.io
		patch,update: pods/status
		event: events events.events.k8s.io`},
	{name: "resourcequota-controller", rules: `
		list,watch: *.*
		update: resourcequotas/status
		event: events events.events.k8s.io`},
	{name: "root-ca-cert-publisher", rules: `
		create,get,list,update,watch: configmaps
		event: events events.events.k8s.io`},
	{name: "route-controller", rules: `
		list,watch: nodes
		patch: nodes/status
		event: events events.events.k8s.io`},
	{name: "selinux-warning-controller", rules: `
		event: events events.events.k8s.io
		read: persistentvolumes persistentvolumeclaims pods
		read: csidrivers.storage.k8s.io`},
	{name: "service-account-controller", rules: `
		create: serviceaccounts
		event: events events.events.k8s.io`},
	{name: "service-cidrs-controller", rules: `
		get,list,patch,update,watch: servicecidrs.networking.k8s.io
		patch,update: servicecidrs/finalizers.networking.k8s.io servicecidrs/status.networking.k8s.io
		read: ipaddresses.networking.k8s.io
		event: events events.events.k8s.io`},
	{name: "service-controller", rules: `
		read: services
		patch,update: services/status
		list,watch: nodes
		event: events events.events.k8s.io`},
	{name: "statefulset-controller", rules: `
		list,watch: pods
		get,list,watch: statefulsets.apps
		update: statefulsets/status.apps statefulsets/finalizers.apps
		create,delete,get,patch,update: pods
		create,delete,get,list,patch,update,watch: controllerrevisions.apps
		create,get,list,watch: persistentvolumeclaims
		delete,update: persistentvolumeclaims
		update: pods/finalizers
		event: events events.events.k8s.io`},
	{name: "storage-version-migrator-controller", rules: `
		create,list,patch,watch: *.*
		update: storageversionmigrations/status.storagemigration.k8s.io`},
	{name: "ttl-after-finished-controller", rules: `
		delete,get,list,watch: jobs.batch
		event: events events.events.k8s.io`},
	{name: "ttl-controller", rules: `
		list,patch,update,watch: nodes
		event: events events.events.k8s.io`},
	{name: "validatingadmissionpolicy-status-controller", rules: `
		get,list,watch: validatingadmissionpolicies.admissionregistration.k8s.io
		get,patch,update: validatingadmissionpolicies/status.admissionregistration.k8s.io
		event: events events.events.k8s.io`},
	{name: "volumeattributesclass-protection-controller", rules: `
		read: persistentvolumeclaims persistentvolumes
		get,list,update,watch: volumeattributesclasses.storage.k8s.io
		event: events events.events.k8s.io`},
	{name: "device-taint-eviction-controller", rules: `
		delete,get,list,watch: pods
		patch,update: pods/status
		read: resourceclaims.resource.k8s.io resourceslices.resource.k8s.io deviceclasses.resource.k8s.io devicetaintrules.resource.k8s.io
		event: events events.events.k8s.io`},
}
