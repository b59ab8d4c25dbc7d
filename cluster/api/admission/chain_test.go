package admission

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/utils/clock"

	"github.com/troupe-run/troupe/actors/resourcequota"
)

// TestPluginsRunInKubernetesOrder fixes the order of kube-apiserver's AllOrderedPlugins: what is
// filled in first decides what is checked later.
func TestPluginsRunInKubernetesOrder(t *testing.T) {
	t.Parallel()
	p, err := Chain(Config{Reader: world{}, Clock: clock.RealClock{}, Books: resourcequota.NewBooks(world{}, clock.RealClock{})})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"NamespaceLifecycle", "LimitRanger", "ServiceAccount", "NodeRestriction", "TaintNodesByCondition", "PodSecurity", "Priority",
		"DefaultTolerationSeconds", "DefaultStorageClass", "StorageObjectInUseProtection", "OwnerReferencesPermissionEnforcement",
		"PersistentVolumeClaimResize", "RuntimeClass", "CertificateApproval", "CertificateSigning", "CertificateSubjectRestriction",
		"DefaultIngressClass", "PodTopologyLabels", "RoleEscalation", "PolicyParams",
		"MutatingAdmissionPolicy", "MutatingAdmissionWebhook", "ValidatingAdmissionPolicy", "ValidatingAdmissionWebhook", "ResourceQuota",
	}
	if diff := cmp.Diff(want, p.names); diff != "" {
		t.Error(diff)
	}
}
