package admission

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

func TestCertificatesAreGuarded(t *testing.T) {
	t.Parallel()
	boss := authorizer.AuthorizerFunc(func(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
		if a.GetUser().GetName() == "boss" && a.GetResource() == "signers" && a.GetName() == "example.com/*" {
			return authorizer.DecisionAllow, "", nil
		}
		return authorizer.DecisionNoOpinion, "", nil
	})
	plugin := admission.NewChainHandler(newApproval(boss), newSigning(boss), newSubjects())
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{Organization: []string{"system:masters"}}}, key)
	if err != nil {
		t.Fatal(err)
	}
	plain := &certificatesv1.CertificateSigningRequest{Spec: certificatesv1.CertificateSigningRequestSpec{SignerName: "example.com/s"}}
	issued := plain.DeepCopy()
	issued.Status.Certificate = []byte("c")
	masters := &certificatesv1.CertificateSigningRequest{Spec: certificatesv1.CertificateSigningRequestSpec{
		SignerName: certificatesv1.KubeAPIServerClientSignerName, Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})}}
	for name, tc := range map[string]struct {
		obj  *certificatesv1.CertificateSigningRequest
		sub  string
		op   admission.Operation
		user string
		err  string
	}{
		"create":           {plain, "", admission.Create, "joe", ""},
		"create a master":  {masters, "", admission.Create, "joe", "with system:masters group is not allowed"},
		"approve":          {plain, "approval", admission.Update, "boss", ""},
		"approve, not own": {plain, "approval", admission.Update, "joe", `user not permitted to approve requests with signerName "example.com/s"`},
		"sign":             {issued, "status", admission.Update, "boss", ""},
		"sign, not own":    {issued, "status", admission.Update, "joe", `user not permitted to sign requests with signerName "example.com/s"`},
		"touch the status": {plain, "status", admission.Update, "joe", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := admission.NewAttributesRecord(tc.obj, plain, certificatesv1.SchemeGroupVersion.WithKind("CertificateSigningRequest"), "", "r",
				certificatesv1.SchemeGroupVersion.WithResource("certificatesigningrequests"), tc.sub, tc.op, nil, false, &user.DefaultInfo{Name: tc.user})
			err := plugin.Validate(t.Context(), a, nil)
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("error %v, want %q", err, tc.err)
			}
		})
	}
}
