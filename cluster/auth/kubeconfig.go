package auth

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

// AdminUser is the name in the administrator's certificate; what makes it powerful is its group.
const AdminUser = "kubernetes-admin"

// Admin returns the administrator's certificate and key in PEM, kept in the authority's folder and
// made anew when it nears its end.
func (a *Authority) Admin() (certPEM, keyPEM []byte, err error) {
	if certPEM, err = a.read("admin.crt"); err != nil {
		return nil, nil, err
	}
	if keyPEM, err = a.read("admin.key"); err != nil {
		return nil, nil, err
	}
	if certPEM != nil && keyPEM != nil {
		if pair, err := tls.X509KeyPair(certPEM, keyPEM); err == nil &&
			pair.Leaf.NotAfter.Sub(a.clock.Now()) > renewBefore && pair.Leaf.CheckSignatureFrom(a.ca) == nil {
			return certPEM, keyPEM, nil
		}
	}
	crt, err := a.Client(AdminUser, user.SystemPrivilegedGroup)
	if err != nil {
		return nil, nil, err
	}
	if certPEM, keyPEM, err = EncodePair(crt); err != nil {
		return nil, nil, err
	}
	// The key goes first: a crash between the two leaves a pair that does not match and is remade.
	if err := a.write("admin.key", keyPEM); err != nil {
		return nil, nil, err
	}
	return certPEM, keyPEM, a.write("admin.crt", certPEM)
}

// EncodePair returns a certificate and its key in PEM.
func EncodePair(crt tls.Certificate) (certPEM, keyPEM []byte, err error) {
	if certPEM, err = cert.EncodeCertificates(crt.Leaf); err != nil {
		return nil, nil, fmt.Errorf("encode certificate of %s: %w", crt.Leaf.Subject.CommonName, err)
	}
	if keyPEM, err = keyutil.MarshalPrivateKeyToPEM(crt.PrivateKey); err != nil {
		return nil, nil, fmt.Errorf("encode key of %s: %w", crt.Leaf.Subject.CommonName, err)
	}
	return certPEM, keyPEM, nil
}

// Kubeconfig returns an administrator's kubeconfig for the API server at the URL.
func (a *Authority) Kubeconfig(server string) ([]byte, error) {
	certPEM, keyPEM, err := a.Admin()
	if err != nil {
		return nil, err
	}
	const name = "troupe"
	b, err := clientcmd.Write(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{name: {Server: server, CertificateAuthorityData: a.caPEM}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{name: {ClientCertificateData: certPEM, ClientKeyData: keyPEM}},
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: name}},
		CurrentContext: name,
	})
	if err != nil {
		return nil, fmt.Errorf("encode kubeconfig: %w", err)
	}
	return b, nil
}

// WriteKubeconfig puts the administrator's kubeconfig at path, readable by its owner alone.
func (a *Authority) WriteKubeconfig(path, server string) error {
	b, err := a.Kubeconfig(server)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	return WriteSecret(path, b)
}
