package auth

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"slices"
)

// membersGroup is the organization in the certificates of control planes: only who has it may be a
// server among the others, whatever else the authority has signed.
const membersGroup = "troupe:members"

// memberName is what members call each other in TLS, so that they may have any address.
const memberName = "member.troupe"

// MemberTLS returns what a member secures its connections with others with, both ways.
func (a *Authority) MemberTLS(name string) (*tls.Config, error) {
	crt, err := a.leaf(&x509.Certificate{
		Subject:     pkix.Name{CommonName: "troupe:member:" + name, Organization: []string{membersGroup}},
		DNSNames:    []string{memberName},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{crt},
		ServerName:   memberName,
		RootCAs:      a.Pool(),
		ClientCAs:    a.Pool(),
		ClientAuth:   tls.RequireAndVerifyClientCert,
		VerifyConnection: func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) == 0 || !slices.Contains(state.PeerCertificates[0].Subject.Organization, membersGroup) {
				return errors.New("the peer is no member of the control plane")
			}
			return nil
		},
	}, nil
}
