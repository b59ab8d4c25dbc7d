package auth

import (
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/client-go/util/cert"
)

var keyUsages = map[certificatesv1.KeyUsage]x509.KeyUsage{
	certificatesv1.UsageSigning:           x509.KeyUsageDigitalSignature,
	certificatesv1.UsageDigitalSignature:  x509.KeyUsageDigitalSignature,
	certificatesv1.UsageContentCommitment: x509.KeyUsageContentCommitment,
	certificatesv1.UsageKeyEncipherment:   x509.KeyUsageKeyEncipherment,
	certificatesv1.UsageKeyAgreement:      x509.KeyUsageKeyAgreement,
	certificatesv1.UsageDataEncipherment:  x509.KeyUsageDataEncipherment,
}

var extKeyUsages = map[certificatesv1.KeyUsage]x509.ExtKeyUsage{
	certificatesv1.UsageServerAuth: x509.ExtKeyUsageServerAuth,
	certificatesv1.UsageClientAuth: x509.ExtKeyUsageClientAuth,
}

// SignRequest makes the certificate that a request asks for, in PEM. What may be asked for is the
// caller's to judge; no request makes an authority of its sender.
func (a *Authority) SignRequest(req *x509.CertificateRequest, usages []certificatesv1.KeyUsage, life time.Duration) ([]byte, error) {
	now := a.clock.Now()
	tmpl := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      req.Subject,
		DNSNames:     req.DNSNames, IPAddresses: req.IPAddresses, EmailAddresses: req.EmailAddresses, URIs: req.URIs,
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(life),
		BasicConstraintsValid: true,
	}
	if tmpl.NotAfter.After(a.ca.NotAfter) {
		tmpl.NotAfter = a.ca.NotAfter
	}
	for _, u := range usages {
		if key, ok := keyUsages[u]; ok {
			tmpl.KeyUsage |= key
		} else if ext, ok := extKeyUsages[u]; ok {
			tmpl.ExtKeyUsage = append(tmpl.ExtKeyUsage, ext)
		} else {
			return nil, fmt.Errorf("sign request of %s: unrecognized usage %q", req.Subject.CommonName, u)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.ca, req.PublicKey, a.caKey)
	if err != nil {
		return nil, fmt.Errorf("sign request of %s: %w", req.Subject.CommonName, err)
	}
	crt, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse certificate of %s: %w", req.Subject.CommonName, err)
	}
	return cert.EncodeCertificates(crt)
}
