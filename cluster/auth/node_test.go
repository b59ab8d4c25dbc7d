package auth_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/troupe-run/troupe/cluster/auth"
	"github.com/troupe-run/troupe/messages"
)

// nodeWorld has a pod on node n1 that uses one of everything, and the same under other names that
// nobody uses.
func nodeWorld() world {
	core := func(resource string) messages.Resource { return messages.Resource{Resource: resource} }
	return world{
		messages.KeyOf(messages.Pods, "ns", "p"): &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"},
			Spec: corev1.PodSpec{
				NodeName: "n1", ServiceAccountName: "sa",
				ImagePullSecrets: []corev1.LocalObjectReference{{Name: "pull"}},
				ResourceClaims:   []corev1.PodResourceClaim{{Name: "gpu", ResourceClaimName: new(string)}},
				Containers:       []corev1.Container{{EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}}}}}},
				Volumes: []corev1.Volume{
					{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "claim"}}},
					{Name: "tmp", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}},
				},
			},
		},
		messages.KeyOf(core("persistentvolumeclaims"), "ns", "claim"): &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "claim"}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "pv"}},
		messages.KeyOf(core("persistentvolumes"), "", "pv"): &corev1.PersistentVolume{
			ObjectMeta: metav1.ObjectMeta{Name: "pv"}, Spec: corev1.PersistentVolumeSpec{
				ClaimRef: &corev1.ObjectReference{Namespace: "ns", Name: "claim"},
				PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
					NodeStageSecretRef: &corev1.SecretReference{Namespace: "vault", Name: "stage"}}},
			}},
		messages.KeyOf(messages.Resource{Group: storagev1.GroupName, Resource: "volumeattachments"}, "", "va"): &storagev1.VolumeAttachment{
			ObjectMeta: metav1.ObjectMeta{Name: "va"}, Spec: storagev1.VolumeAttachmentSpec{NodeName: "n1"}},
	}
}

func TestNodeAuthorizer(t *testing.T) {
	t.Parallel()
	node := auth.NewNode(nodeWorld())
	for _, tc := range []struct {
		verb, group, resource, sub, namespace, name, selector string
		own, foreign                                          bool // may n1, may n2
	}{
		{verb: "get", resource: "secrets", namespace: "ns", name: "pull", own: true},
		{verb: "watch", resource: "secrets", namespace: "ns", name: "pull", own: true},
		{verb: "list", resource: "secrets", namespace: "ns"},
		{verb: "get", resource: "secrets", namespace: "other", name: "pull"},
		{verb: "update", resource: "secrets", namespace: "ns", name: "pull"},
		{verb: "get", resource: "secrets", namespace: "vault", name: "stage", own: true},
		{verb: "get", resource: "configmaps", namespace: "ns", name: "cm", own: true},
		{verb: "get", resource: "configmaps", namespace: "ns", name: "other"},
		{verb: "get", resource: "persistentvolumeclaims", namespace: "ns", name: "claim", own: true},
		{verb: "get", resource: "persistentvolumeclaims", namespace: "ns", name: "p-tmp", own: true},
		{verb: "update", resource: "persistentvolumeclaims", sub: "status", namespace: "ns", name: "claim", own: true},
		{verb: "list", resource: "persistentvolumeclaims", namespace: "ns", name: "claim"},
		{verb: "get", resource: "persistentvolumes", name: "pv", own: true},
		{verb: "get", resource: "persistentvolumes", name: "other"},
		{verb: "get", group: "resource.k8s.io", resource: "resourceclaims", namespace: "ns", name: "other"},
		{verb: "get", group: "storage.k8s.io", resource: "volumeattachments", name: "va", own: true},
		{verb: "create", resource: "serviceaccounts", sub: "token", namespace: "ns", name: "sa", own: true},
		{verb: "get", resource: "serviceaccounts", namespace: "ns", name: "sa", own: true},
		{verb: "create", resource: "serviceaccounts", sub: "token", namespace: "ns", name: "other"},
		{verb: "update", resource: "serviceaccounts", namespace: "ns", name: "sa"},
		{verb: "get", resource: "pods", namespace: "ns", name: "p", own: true},
		{verb: "list", resource: "pods", selector: "spec.nodeName=n1", own: true},
		{verb: "list", resource: "pods"},
		{verb: "delete", resource: "pods", namespace: "ns", name: "p", own: true, foreign: true}, // admission tells them apart
		{verb: "patch", resource: "pods", namespace: "ns", name: "p"},
		{verb: "get", resource: "nodes", name: "n1", own: true},
		{verb: "list", resource: "nodes"},
		{verb: "delete", resource: "nodes", name: "n1"},
		{verb: "patch", resource: "nodes", sub: "status", name: "n1", own: true, foreign: true},
		{verb: "update", group: "coordination.k8s.io", resource: "leases", namespace: "kube-node-lease", name: "n1", own: true},
		{verb: "update", group: "coordination.k8s.io", resource: "leases", namespace: "default", name: "n1"},
		{verb: "get", group: "storage.k8s.io", resource: "csinodes", name: "n1", own: true},
		{verb: "list", group: "storage.k8s.io", resource: "csinodes"},
		{verb: "list", resource: "services", own: true, foreign: true},
		{verb: "create", resource: "namespaces"},
	} {
		for name, want := range map[string]bool{"n1": tc.own, "n2": tc.foreign} {
			a := authorizer.AttributesRecord{User: &user.DefaultInfo{Name: auth.NodeUser(name), Groups: []string{user.NodesGroup}},
				Verb: tc.verb, APIGroup: tc.group, Resource: tc.resource, Subresource: tc.sub, Namespace: tc.namespace, Name: tc.name, ResourceRequest: true}
			if tc.selector != "" {
				a.FieldSelectorRequirements = fields.ParseSelectorOrDie(tc.selector).Requirements()
			}
			got, why, err := node.Authorize(t.Context(), a)
			if err != nil || (got == authorizer.DecisionAllow) != want {
				t.Errorf("%s %+v: %v %q %v, want allowed %v", name, tc, got, why, err, want)
			}
		}
	}
	if _, _, incomplete, err := node.RulesFor(t.Context(), &user.DefaultInfo{Name: "system:node:n1", Groups: []string{user.NodesGroup}}, "ns"); !incomplete || err == nil {
		t.Error("the rules of a node are said to be complete")
	}
}
