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

var requestsResource = certificatesv1.Resource("certificatesigningrequests")

// requestsOf returns the signing request that is written, and the one before.
func requestsOf(a admission.Attributes) (now, old *certificatesv1.CertificateSigningRequest) {
	now, _ = a.GetObject().(*certificatesv1.CertificateSigningRequest)
	old, _ = a.GetOldObject().(*certificatesv1.CertificateSigningRequest)
	return now, old
}

// approval lets only those approve requests who may do so for the signer.
type approval struct {
	*admission.Handler
	authorizer authorizer.Authorizer
}

func newApproval(a authorizer.Authorizer) *approval {
	return &approval{admission.NewHandler(admission.Update), a}
}

// Validate checks changes by way of the approval subresource.
func (p *approval) Validate(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if _, old := requestsOf(a); is(a, requestsResource, "approval") && old != nil && !may(ctx, p.authorizer, a.GetUserInfo(), "approve", old.Spec.SignerName) {
		return admission.NewForbidden(a, fmt.Errorf("user not permitted to approve requests with signerName %q", old.Spec.SignerName))
	}
	return nil
}

// signing lets only those sign requests, or say that they failed, who may do so for the signer.
type signing struct {
	*admission.Handler
	authorizer authorizer.Authorizer
}

func newSigning(a authorizer.Authorizer) *signing {
	return &signing{admission.NewHandler(admission.Update), a}
}

// Validate checks changes of the status.
func (p *signing) Validate(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	now, old := requestsOf(a)
	if !is(a, requestsResource, "status") || now == nil || old == nil {
		return nil
	}
	same := apiequality.Semantic.DeepEqual(now.Status.Certificate, old.Status.Certificate) && apiequality.Semantic.DeepEqual(now.Status.Conditions, old.Status.Conditions)
	if !same && !may(ctx, p.authorizer, a.GetUserInfo(), "sign", old.Spec.SignerName) {
		return admission.NewForbidden(a, fmt.Errorf("user not permitted to sign requests with signerName %q", old.Spec.SignerName))
	}
	return nil
}

// subjects keeps requests from asking for the group that may do everything.
type subjects struct{ *admission.Handler }

func newSubjects() *subjects { return &subjects{admission.NewHandler(admission.Create)} }

// Validate checks new requests to the signer of client certificates.
func (*subjects) Validate(_ context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	r, _ := requestsOf(a)
	if r == nil || !is(a, requestsResource, "") || r.Spec.SignerName != certificatesv1.KubeAPIServerClientSignerName || !asksForEverything(r.Spec.Request) {
		return nil
	}
	return admission.NewForbidden(a, fmt.Errorf("use of %s signer with %s group is not allowed", r.Spec.SignerName, user.SystemPrivilegedGroup))
}

// may asks whether somebody acts for the signer, or for all of the signer's domain.
func may(ctx context.Context, a authorizer.Authorizer, who user.Info, verb, signer string) bool {
	domain, _, _ := strings.Cut(signer, "/")
	for _, name := range []string{signer, domain + "/*"} {
		decision, _, err := a.Authorize(ctx, authorizer.AttributesRecord{
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

var (
	_ admission.ValidationInterface = (*approval)(nil)
	_ admission.ValidationInterface = (*signing)(nil)
	_ admission.ValidationInterface = (*subjects)(nil)
)
