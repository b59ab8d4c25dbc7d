package certificates

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/troupe-run/troupe/actors/controller/controllertest"
	"github.com/troupe-run/troupe/actors/objects/objectstest"
	"github.com/troupe-run/troupe/messages"
)

const (
	client  = certificatesv1.KubeAPIServerClientSignerName
	kubelet = certificatesv1.KubeAPIServerClientKubeletSignerName
	serving = certificatesv1.KubeletServingSignerName
)

var now = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// csr is a request of sender to a signer for the subject "name" or "name/group".
func csr(t *testing.T, signer, sender, subject string, change ...func(*x509.CertificateRequest)) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	name, group, _ := strings.Cut(subject, "/")
	tmpl := &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}
	if group != "" {
		tmpl.Subject.Organization = []string{group}
	}
	for _, fn := range change {
		fn(tmpl)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, tmpl, key)
	if err != nil {
		t.Fatal(err)
	}
	usages := []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth}
	if signer == serving {
		usages[1] = certificatesv1.UsageServerAuth
	}
	return &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: "r", UID: "1", CreationTimestamp: metav1.NewTime(now)},
		Spec: certificatesv1.CertificateSigningRequestSpec{SignerName: signer, Username: sender, Usages: usages,
			Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})},
	}
}

func decided(r *certificatesv1.CertificateSigningRequest, t certificatesv1.RequestConditionType) *certificatesv1.CertificateSigningRequest {
	r.Status.Conditions = append(r.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: t, Status: corev1.ConditionTrue, LastUpdateTime: metav1.NewTime(now)})
	return r
}

func TestDecide(t *testing.T) {
	t.Parallel()
	approved := func(r *certificatesv1.CertificateSigningRequest) *certificatesv1.CertificateSigningRequest {
		return decided(r, certificatesv1.CertificateApproved)
	}
	names := func(r *x509.CertificateRequest) { r.DNSNames = []string{"n1"} }
	addresses := func(r *x509.CertificateRequest) { r.IPAddresses = []net.IP{net.IPv4(10, 0, 0, 1)} }
	usages := func(r *certificatesv1.CertificateSigningRequest, u ...certificatesv1.KeyUsage) *certificatesv1.CertificateSigningRequest {
		r.Spec.Usages = u
		return r
	}
	for name, tc := range map[string]struct {
		r    *certificatesv1.CertificateSigningRequest
		want string // approve <subresource>, sign, fail <why>, delete or nothing
		at   time.Duration
	}{
		"a node joins":               {r: csr(t, kubelet, "system:bootstrap:abcdef", "system:node:n1/system:nodes"), want: "approve nodeclient"},
		"a node renews":              {r: csr(t, kubelet, "system:node:n1", "system:node:n1/system:nodes"), want: "approve selfnodeclient"},
		"not of a node":              {r: csr(t, kubelet, "eve", "eve/system:nodes"), want: "nothing"},
		"in another group":           {r: csr(t, kubelet, "eve", "system:node:n1/system:masters"), want: "nothing"},
		"with names":                 {r: csr(t, kubelet, "eve", "system:node:n1/system:nodes", names), want: "nothing"},
		"a client waits":             {r: csr(t, client, "ann", "ann"), want: "nothing"},
		"a client, approved":         {r: approved(csr(t, client, "ann", "ann/team")), want: "sign"},
		"approved and denied":        {r: decided(approved(csr(t, client, "ann", "ann")), certificatesv1.CertificateDenied), want: "nothing"},
		"a server as client":         {r: approved(usages(csr(t, client, "ann", "ann"), certificatesv1.UsageServerAuth)), want: `fail usages did not match: "client auth" is required`},
		"an authority as client":     {r: approved(usages(csr(t, client, "ann", "ann"), certificatesv1.UsageClientAuth, certificatesv1.UsageCertSign)), want: `fail usages did not match: "cert sign" is not allowed`},
		"a node, approved":           {r: approved(csr(t, kubelet, "system:node:n1", "system:node:n1/system:nodes")), want: "sign"},
		"a wrong node, approved":     {r: approved(csr(t, kubelet, "eve", "eve/system:nodes")), want: "fail subject common name does not begin with system:node:"},
		"serving waits":              {r: csr(t, serving, "system:node:n1", "system:node:n1/system:nodes", names), want: "nothing"},
		"serving, approved":          {r: approved(csr(t, serving, "system:node:n1", "system:node:n1/system:nodes", addresses)), want: "sign"},
		"serving nobody":             {r: approved(csr(t, serving, "system:node:n1", "system:node:n1/system:nodes")), want: "fail DNS or IP subjectAltName is required"},
		"another signer's, approved": {r: approved(csr(t, "example.com/own", "ann", "ann")), want: "nothing"},
		"nobody decided for a day":   {r: csr(t, client, "ann", "ann"), at: 24 * time.Hour, want: "delete"},
		"approved for a day":         {r: approved(csr(t, "example.com/own", "ann", "ann")), at: 24 * time.Hour, want: "nothing"},
		"denied an hour ago":         {r: decided(csr(t, client, "ann", "ann"), certificatesv1.CertificateDenied), at: time.Hour, want: "delete"},
	} {
		d := Decide(tc.r, now.Add(tc.at))
		got := "nothing"
		switch {
		case d.Delete:
			got = "delete"
		case d.Approve != nil:
			got = "approve " + d.Approve.Subresource
		case d.Sign != nil:
			got = "sign"
		case d.Fail != "":
			got = "fail " + d.Fail
		}
		if got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

func TestARequestIsApprovedSignedAndCleanedUp(t *testing.T) {
	t.Parallel()
	key := messages.KeyOf(resource, "", "r")
	for name, may := range map[string]bool{"who may join": true, "who may not": false} {
		t.Run(name, func(t *testing.T) {
			controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
				r := csr(t, kubelet, "system:bootstrap:abcdef", "system:node:n1/system:nodes")
				r.CreationTimestamp = metav1.Now()
				w.Start(Spec(w.Deps(), Config{
					May: func(_ context.Context, sender certificatesv1.CertificateSigningRequestSpec, sub string) (bool, error) {
						return may && sender.Username == "system:bootstrap:abcdef" && sub == "nodeclient", nil
					},
					Sign: func(o Order) ([]byte, error) { return []byte("for " + o.Request.Subject.CommonName), nil },
				}))
				w.Put(r)
				w.Settle()
				got := objectstest.Must[*certificatesv1.CertificateSigningRequest](t, w.Store, key)
				want := ""
				if may {
					want = "for system:node:n1"
				}
				if string(got.Status.Certificate) != want || (len(got.Status.Conditions) == 1) != may {
					t.Errorf("status %+v", got.Status)
				}
				wait := 23 * time.Hour
				if may {
					wait = 50 * time.Minute
				}
				time.Sleep(wait)
				w.Settle()
				objectstest.Must[*certificatesv1.CertificateSigningRequest](t, w.Store, key)
				time.Sleep(2 * time.Hour)
				w.Settle()
				if _, ok := w.Get(key); ok {
					t.Error("the request is still there")
				}
			})
		})
	}
}
