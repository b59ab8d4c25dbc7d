package certificates

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"testing"

	"github.com/google/go-cmp/cmp"
	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kinds/kindtest"
)

func testRequest(t *testing.T) *csr {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "jane"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return &csr{ObjectMeta: metav1.ObjectMeta{Name: "jane"}, Spec: certificatesv1.CertificateSigningRequestSpec{
		Request:    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
		SignerName: certificatesv1.KubeAPIServerClientSignerName, Usages: []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth},
	}}
}

func TestSigningRequest(t *testing.T) {
	t.Parallel()
	k, r := CertificateSigningRequest(), testRequest(t)
	r.Spec.Username, r.Spec.ExpirationSeconds = "root", ptr.To[int32](3600)
	k.PrepareForCreate(request.WithUser(t.Context(), &user.DefaultInfo{Name: "jane", Groups: []string{"dev"}}), r)
	kindtest.Want(t, k.Validate(t.Context(), r))
	if diff := cmp.Diff([]any{"jane", "<unknown>", "kubernetes.io/kube-apiserver-client", "jane", "60m", "Pending"}, k.Row(r)); diff != "" {
		t.Error(diff)
	}
	kindtest.Want(t, kindtest.Create(k, &csr{Spec: certificatesv1.CertificateSigningRequestSpec{
		SignerName: "me", Usages: []certificatesv1.KeyUsage{"fun", "any", "any"}, ExpirationSeconds: ptr.To[int32](5)}}),
		"FieldValueInvalid spec.request", "FieldValueInvalid spec.signerName", "FieldValueNotSupported spec.usages[0]", "FieldValueDuplicate spec.usages[2]", "FieldValueInvalid spec.expirationSeconds")

	approve := func(r *csr, t certificatesv1.RequestConditionType) *csr {
		out := r.DeepCopy()
		out.Status.Conditions = append(out.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{Type: t, Status: "True"})
		return out
	}
	approval := k.Subresources["approval"]
	yes := approve(r, certificatesv1.CertificateApproved)
	yes.Spec.Username, yes.Status.Certificate = "root", []byte("forged")
	kindtest.Want(t, kindtest.Sub(approval, yes, r))
	if yes.Spec.Username != "jane" || len(yes.Status.Certificate) > 0 || yes.Status.Conditions[0].LastUpdateTime.IsZero() {
		t.Errorf("%+v", yes)
	}
	kindtest.Want(t, kindtest.Sub(approval, approve(yes, certificatesv1.CertificateDenied), yes), "FieldValueInvalid status.conditions")
	kindtest.Want(t, kindtest.Sub(approval, r.DeepCopy(), yes), "FieldValueForbidden status.conditions")
	// The one who signs can not approve.
	sneaky := approve(r, certificatesv1.CertificateApproved)
	sneaky.Status.Certificate = []byte("none")
	kindtest.Want(t, kindtest.Sub(k.Status, sneaky, r), "FieldValueInvalid status.certificate")
	if len(sneaky.Status.Conditions) > 0 {
		t.Errorf("conditions %+v", sneaky.Status.Conditions)
	}
	if got := k.Fields(r)["spec.signerName"]; got != certificatesv1.KubeAPIServerClientSignerName {
		t.Errorf("signerName %q", got)
	}
}
