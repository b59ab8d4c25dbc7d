package certificates

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
)

const (
	nodesGroup = "system:nodes"
	nodePrefix = "system:node:"

	// pendingFor is how long a request waits for a decision, decidedFor how long it stays to be read
	// after one.
	pendingFor = 24 * time.Hour
	decidedFor = time.Hour

	longest  = 365 * 24 * time.Hour
	shortest = 10 * time.Minute
)

// Decision is what to do about a request. At most one of its fields but After is set.
type Decision struct {
	// Delete says that nobody needs the request any more.
	Delete bool
	// Approve is to be done if its sender may create the subresource named in it.
	Approve *Approval
	// Sign is the certificate to make.
	Sign *Order
	// Fail is why an approved request cannot be signed.
	Fail string
	// After is when the request will be too old.
	After time.Duration
}

// Approval is a kind of request that is approved without anybody looking.
type Approval struct{ Subresource, Message string }

// Order is a certificate to make.
type Order struct {
	Request *x509.CertificateRequest
	Usages  []certificatesv1.KeyUsage
	Life    time.Duration
}

// Decide looks at one request.
func Decide(r *certificatesv1.CertificateSigningRequest, now time.Time) Decision {
	end := expiry(r)
	if !end.IsZero() && !now.Before(end) {
		return Decision{Delete: true}
	}
	d := Decision{}
	if !end.IsZero() {
		d.After = end.Sub(now)
	}
	if len(r.Status.Certificate) > 0 || has(r, certificatesv1.CertificateDenied) || has(r, certificatesv1.CertificateFailed) {
		return d
	}
	check, ours := signers[r.Spec.SignerName]
	if !ours {
		return d
	}
	req, err := parse(r.Spec.Request)
	if err == nil {
		err = check(req, r.Spec.Usages)
	}
	switch approved := has(r, certificatesv1.CertificateApproved); {
	case approved && err != nil:
		d.Fail = err.Error()
	case approved:
		d.Sign = &Order{Request: req, Usages: r.Spec.Usages, Life: life(r.Spec.ExpirationSeconds)}
	case err == nil && r.Spec.SignerName == certificatesv1.KubeAPIServerClientKubeletSignerName:
		d.Approve = &Approval{"nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview."}
		if r.Spec.Username == req.Subject.CommonName {
			d.Approve = &Approval{"selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview."}
		}
	}
	return d
}

// expiry is when a request is of no use any more; zero means never.
func expiry(r *certificatesv1.CertificateSigningRequest) time.Time {
	var end time.Time
	sooner := func(t time.Time) {
		if end.IsZero() || t.Before(end) {
			end = t
		}
	}
	if len(r.Status.Conditions) == 0 {
		sooner(r.CreationTimestamp.Add(pendingFor))
	}
	for _, c := range r.Status.Conditions {
		issued := c.Type == certificatesv1.CertificateApproved && len(r.Status.Certificate) > 0
		if issued || c.Type == certificatesv1.CertificateDenied || c.Type == certificatesv1.CertificateFailed {
			sooner(c.LastUpdateTime.Add(decidedFor))
		}
	}
	if block, _ := pem.Decode(r.Status.Certificate); block != nil {
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
			sooner(cert.NotAfter)
		}
	}
	return end
}

func has(r *certificatesv1.CertificateSigningRequest, t certificatesv1.RequestConditionType) bool {
	return slices.ContainsFunc(r.Status.Conditions, func(c certificatesv1.CertificateSigningRequestCondition) bool {
		return c.Type == t && c.Status != corev1.ConditionFalse
	})
}

func parse(data []byte) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("PEM block type must be CERTIFICATE REQUEST")
	}
	req, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	return req, req.CheckSignature()
}

func life(asked *int32) time.Duration {
	if asked == nil {
		return longest
	}
	return min(max(time.Duration(*asked)*time.Second, shortest), longest)
}

// signers are those of Kubernetes, with what each demands of a request.
var signers = map[string]func(*x509.CertificateRequest, []certificatesv1.KeyUsage) error{
	certificatesv1.KubeAPIServerClientSignerName: func(_ *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
		return onlyUsages(usages, certificatesv1.UsageClientAuth)
	},
	certificatesv1.KubeAPIServerClientKubeletSignerName: func(req *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
		if err := ofNode(req); err != nil {
			return err
		}
		if len(req.DNSNames) > 0 {
			return errors.New("DNS subjectAltNames are not allowed")
		}
		if len(req.IPAddresses) > 0 {
			return errors.New("IP subjectAltNames are not allowed")
		}
		return onlyUsages(usages, certificatesv1.UsageClientAuth, certificatesv1.UsageDigitalSignature)
	},
	certificatesv1.KubeletServingSignerName: func(req *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
		if err := ofNode(req); err != nil {
			return err
		}
		if len(req.DNSNames)+len(req.IPAddresses) == 0 {
			return errors.New("DNS or IP subjectAltName is required")
		}
		return onlyUsages(usages, certificatesv1.UsageServerAuth, certificatesv1.UsageDigitalSignature)
	},
}

// ofNode says why a request is not that of a node.
func ofNode(req *x509.CertificateRequest) error {
	switch {
	case !slices.Equal(req.Subject.Organization, []string{nodesGroup}):
		return fmt.Errorf("subject organization is not %s", nodesGroup)
	case !strings.HasPrefix(req.Subject.CommonName, nodePrefix):
		return fmt.Errorf("subject common name does not begin with %s", nodePrefix)
	case len(req.EmailAddresses) > 0:
		return errors.New("email subjectAltNames are not allowed")
	case len(req.URIs) > 0:
		return errors.New("URI subjectAltNames are not allowed")
	}
	return nil
}

// onlyUsages wants the required usages and allows besides them what any key may do.
func onlyUsages(usages []certificatesv1.KeyUsage, required ...certificatesv1.KeyUsage) error {
	for _, u := range required {
		if !slices.Contains(usages, u) {
			return fmt.Errorf("usages did not match: %q is required", u)
		}
	}
	for _, u := range usages {
		if !slices.Contains(required, u) && u != certificatesv1.UsageDigitalSignature && u != certificatesv1.UsageKeyEncipherment {
			return fmt.Errorf("usages did not match: %q is not allowed", u)
		}
	}
	return nil
}
