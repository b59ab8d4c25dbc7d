package admission

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// certificates lets only those approve and sign requests who may do so for the signer, and keeps
// requests from asking for the group that may do everything.
type certificates struct {
	*admission.Handler
	authorizer authorizer.Authorizer
}

func newCertificates(a authorizer.Authorizer) *certificates {
	return &certificates{admission.NewHandler(admission.Create, admission.Update), a}
}

// Validate checks writes of certificate signing requests.
func (c *certificates) Validate(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if a.GetResource().Group != certificatesv1.GroupName || a.GetResource().Resource != "certificatesigningrequests" {
		return nil
	}
	r, ok := a.GetObject().(*certificatesv1.CertificateSigningRequest)
	if !ok {
		return nil
	}
	old, _ := a.GetOldObject().(*certificatesv1.CertificateSigningRequest)
	switch {
	case a.GetOperation() == admission.Create && a.GetSubresource() == "":
		if r.Spec.SignerName == certificatesv1.KubeAPIServerClientSignerName && asksForEverything(r.Spec.Request) {
			return admission.NewForbidden(a, fmt.Errorf("use of %s signer with %s group is not allowed", r.Spec.SignerName, user.SystemPrivilegedGroup))
		}
	case a.GetOperation() != admission.Update || old == nil:
	case a.GetSubresource() == "approval":
		if !c.may(ctx, a.GetUserInfo(), "approve", old.Spec.SignerName) {
			return admission.NewForbidden(a, fmt.Errorf("user not permitted to approve requests with signerName %q", old.Spec.SignerName))
		}
	case a.GetSubresource() == "status":
		same := apiequality.Semantic.DeepEqual(r.Status.Certificate, old.Status.Certificate) && apiequality.Semantic.DeepEqual(r.Status.Conditions, old.Status.Conditions)
		if !same && !c.may(ctx, a.GetUserInfo(), "sign", old.Spec.SignerName) {
			return admission.NewForbidden(a, fmt.Errorf("user not permitted to sign requests with signerName %q", old.Spec.SignerName))
		}
	}
	return nil
}

// may asks whether somebody acts for the signer, or for all of the signer's domain.
func (c *certificates) may(ctx context.Context, who user.Info, verb, signer string) bool {
	domain, _, _ := strings.Cut(signer, "/")
	for _, name := range []string{signer, domain + "/*"} {
		decision, _, err := c.authorizer.Authorize(ctx, authorizer.AttributesRecord{
			User: who, Verb: verb, Name: name, APIGroup: certificatesv1.GroupName, APIVersion: "*", Resource: "signers", ResourceRequest: true,
		})
		if err == nil && decision == authorizer.DecisionAllow {
			return true
		}
	}
	return false
}

func asksForEverything(request []byte) bool {
	block, _ := pem.Decode(request)
	if block == nil {
		return false // validation refuses it
	}
	r, err := x509.ParseCertificateRequest(block.Bytes)
	return err == nil && slices.Contains(r.Subject.Organization, user.SystemPrivilegedGroup)
}

var _ admission.ValidationInterface = (*certificates)(nil)
