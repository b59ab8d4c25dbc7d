package auth

import (
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
)

// Derive makes a secret of 32 bytes for one purpose out of the authority's key (HKDF, RFC 5869): whoever has the
// keys of the cluster has it, and nobody else.
func (a *Authority) Derive(purpose string) ([]byte, error) {
	key, err := x509.MarshalPKCS8PrivateKey(a.caKey)
	if err != nil {
		return nil, fmt.Errorf("derive a secret for %s: %w", purpose, err)
	}
	out, err := hkdf.Key(sha256.New, key, nil, "troupe "+purpose, 32)
	if err != nil {
		return nil, fmt.Errorf("derive a secret for %s: %w", purpose, err)
	}
	return out, nil
}
