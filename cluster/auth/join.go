package auth

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"slices"

	"github.com/troupe-run/troupe/messages"
)

// JoinTLS is what a member is reached with by one that has no keys yet: the authority's certificate goes
// along, for who joins knows its hash only.
func (a *Authority) JoinTLS() (*tls.Config, error) {
	crt, err := a.leaf(&x509.Certificate{
		Subject:     pkix.Name{CommonName: "troupe:join"},
		DNSNames:    []string{memberName},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return nil, err
	}
	crt.Certificate = append(crt.Certificate, a.ca.Raw)
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{crt}}, nil
}

// PinnedTLS is the other side of JoinTLS: it trusts the authority with that CAHash and nobody else.
func PinnedTLS(caHash string) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		ServerName:         memberName,
		InsecureSkipVerify: true, // nothing is trusted yet: VerifyConnection does it by the hash
		VerifyConnection: func(state tls.ConnectionState) error {
			at := slices.IndexFunc(state.PeerCertificates, func(c *x509.Certificate) bool {
				return c.IsCA && fmt.Sprintf("sha256:%x", sha256.Sum256(c.RawSubjectPublicKeyInfo)) == caHash
			})
			if at < 0 {
				return fmt.Errorf("the server is not of the cluster that the token is for: %w", messages.ErrInvalid)
			}
			pool := x509.NewCertPool()
			pool.AddCert(state.PeerCertificates[at])
			_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: pool, DNSName: memberName, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
			return err
		},
	}
}
