package auth_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	jose "gopkg.in/go-jose/go-jose.v2"
	"gopkg.in/go-jose/go-jose.v2/jwt"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	testingclock "k8s.io/utils/clock/testing"

	"github.com/troupe-run/troupe/cluster/auth"
	"github.com/troupe-run/troupe/messages"
)

// issuer is an OpenID provider on loopback.
type issuer struct {
	*httptest.Server
	ca     string
	signer jose.Signer
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{}
	mux := http.NewServeMux()
	answer := func(path string, v func() any) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(v()) })
	}
	answer("/.well-known/openid-configuration", func() any {
		return map[string]any{"issuer": i.URL, "jwks_uri": i.URL + "/keys", "id_token_signing_alg_values_supported": []string{"ES256"}}
	})
	answer("/keys", func() any {
		return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}}
	})
	i.Server = httptest.NewTLSServer(mux)
	t.Cleanup(i.Close)
	i.ca = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.Certificate().Raw}))
	i.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "k"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func (i *issuer) token(t *testing.T, claims map[string]any) string {
	t.Helper()
	all := map[string]any{"iss": i.URL, "aud": "troupe", "exp": time.Now().Add(time.Hour).Unix()}
	for k, v := range claims {
		all[k] = v
	}
	token, err := jwt.Signed(i.signer).Claims(all).CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// config is an AuthenticationConfiguration that names the issuer.
func (i *issuer) config(prefix string) string {
	return fmt.Sprintf(`
apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
anonymous: {enabled: true, conditions: [{path: /livez}]}
jwt:
- issuer:
    url: %s
    audiences: [troupe]
    certificateAuthority: |
      %s
  claimMappings:
    username: {claim: email, prefix: %q}
    groups: {expression: "claims.teams"}
  claimValidationRules: [{expression: "claims.hd == 'example.org'", message: only our own people}]
`, i.URL, strings.ReplaceAll(strings.TrimSpace(i.ca), "\n", "\n      "), prefix)
}

// gate is an authenticator that runs and follows one file.
type gate struct {
	*auth.Authenticator
	clock *testingclock.FakeClock
	file  string
}

func newGate(t *testing.T, config string, state world, change ...func(*auth.AuthnConfig)) *gate {
	t.Helper()
	g := &gate{clock: testingclock.NewFakeClock(time.Now())}
	authority, err := auth.Open(auth.Config{Clock: g.clock})
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := auth.NewTokens(authority, "", state)
	if err != nil {
		t.Fatal(err)
	}
	cfg := auth.AuthnConfig{Authority: authority, Tokens: tokens, Reader: state, Clock: g.clock, Log: slog.New(slog.DiscardHandler)}
	if config != "" {
		g.file = filepath.Join(t.TempDir(), "authentication.yaml")
		g.write(t, config)
		cfg.File = g.file
	}
	for _, fn := range change {
		fn(&cfg)
	}
	if g.Authenticator, err = auth.NewAuthenticator(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); g.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	return g
}

func (g *gate) write(t *testing.T, config string) {
	t.Helper()
	if err := os.WriteFile(g.file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
}

// who returns the user of a request with a token, "" when there is none, and the user's groups.
func (g *gate) who(path, token string) (name string, groups []string) {
	req := httptest.NewRequest(http.MethodGet, path, nil)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, ok, err := g.AuthenticateRequest(req)
	if !ok || err != nil {
		return "", nil
	}
	return resp.User.GetName(), resp.User.GetGroups()
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, time.Minute, true,
		func(context.Context) (bool, error) { return ok(), nil })
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func TestIssuersOfTheConfiguration(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	g := newGate(t, i.config("oidc:"), world{})
	good := i.token(t, map[string]any{"email": "ann", "hd": "example.org", "teams": []string{"dev"}})
	eventually(t, "the issuer's keys", func() bool { name, _ := g.who("/api", good); return name != "" })
	if name, groups := g.who("/api", good); name != "oidc:ann" || fmt.Sprint(groups) != "[dev system:authenticated]" {
		t.Errorf("good token: %s %v", name, groups)
	}
	for what, claims := range map[string]map[string]any{
		"not our own":    {"email": "ann", "hd": "example.com", "teams": []string{}},
		"other audience": {"email": "ann", "hd": "example.org", "teams": []string{}, "aud": "other"},
		"expired":        {"email": "ann", "hd": "example.org", "teams": []string{}, "exp": time.Now().Add(-time.Hour).Unix()},
		"other issuer":   {"email": "ann", "hd": "example.org", "teams": []string{}, "iss": "https://example.com"},
	} {
		if name, _ := g.who("/api", i.token(t, claims)); name != "" {
			t.Errorf("%s: let in as %s", what, name)
		}
	}

	// Strangers get as far as the file says.
	for path, want := range map[string]string{"/livez": "system:anonymous", "/version": ""} {
		if name, _ := g.who(path, ""); name != want {
			t.Errorf("stranger at %s: %q, want %q", path, name, want)
		}
	}

	// What is written later counts too, unless it is wrong.
	g.write(t, "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt: [{}]")
	g.clock.Step(time.Minute)
	if name, _ := g.who("/api", good); name != "oidc:ann" {
		t.Errorf("after a wrong file: %q", name)
	}
	g.write(t, strings.Replace(i.config("new:"), "path: /livez", "path: /version", 1))
	eventually(t, "the new file", func() bool {
		g.clock.Step(time.Minute)
		name, _ := g.who("/api", good)
		return name == "new:ann"
	})
	if name, _ := g.who("/version", ""); name != "system:anonymous" {
		t.Errorf("stranger at /version: %q", name)
	}
}

func TestConfigurationThatIsWrong(t *testing.T) {
	t.Parallel()
	authority, err := auth.Open(auth.Config{})
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := auth.NewTokens(authority, "", world{})
	if err != nil {
		t.Fatal(err)
	}
	head := "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n"
	for config, want := range map[string]string{
		"":                 "is missing",
		head + "jwtt: []":  `unknown field "jwtt"`,
		head + "jwt: [{}]": "jwt[0].issuer.url: Required value",
		head + "jwt: [{issuer: {url: https://kubernetes.default.svc.cluster.local, audiences: [a]}, claimMappings: {username: {claim: sub, prefix: ''}}}]": "must not overlap with disallowed issuers",
		"apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration":                                                                         "want an AuthenticationConfiguration",
	} {
		file := filepath.Join(t.TempDir(), "c")
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := auth.NewAuthenticator(auth.AuthnConfig{Authority: authority, Tokens: tokens, Reader: world{}, File: file,
			Clock: testingclock.NewFakeClock(time.Now()), Log: slog.New(slog.DiscardHandler)})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", config, err, want)
		}
	}
}

func TestBootstrapTokens(t *testing.T) {
	t.Parallel()
	key := messages.KeyOf(messages.Secrets, "kube-system", "bootstrap-token-abcdef")
	secret := func(change map[string]string) *corev1.Secret {
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}, Type: "bootstrap.kubernetes.io/token", Data: map[string][]byte{
			"token-id": []byte("abcdef"), "token-secret": []byte("0123456789abcdef"), "usage-bootstrap-authentication": []byte("true"),
			"expiration": []byte(time.Now().Add(time.Hour).Format(time.RFC3339)), "auth-extra-groups": []byte("system:bootstrappers:workers"),
		}}
		for k, v := range change {
			s.Data[k] = []byte(v)
		}
		return s
	}
	opaque := secret(nil)
	opaque.Type = corev1.SecretTypeOpaque
	going := secret(nil)
	going.DeletionTimestamp = &metav1.Time{Time: time.Now()}
	for name, tc := range map[string]struct {
		secret *corev1.Secret
		token  string
		want   string
	}{
		"good":           {secret(nil), "abcdef.0123456789abcdef", "system:bootstrap:abcdef"},
		"wrong secret":   {secret(nil), "abcdef.0123456789abcdee", ""},
		"expired":        {secret(map[string]string{"expiration": "2020-01-01T00:00:00Z"}), "abcdef.0123456789abcdef", ""},
		"to sign only":   {secret(map[string]string{"usage-bootstrap-authentication": "false"}), "abcdef.0123456789abcdef", ""},
		"another id":     {secret(map[string]string{"token-id": "abcdeg"}), "abcdef.0123456789abcdef", ""},
		"mighty group":   {secret(map[string]string{"auth-extra-groups": "system:masters"}), "abcdef.0123456789abcdef", ""},
		"opaque secret":  {opaque, "abcdef.0123456789abcdef", ""},
		"being deleted":  {going, "abcdef.0123456789abcdef", ""},
		"not in the way": {secret(nil), "something else", ""},
	} {
		g := newGate(t, "", world{key: tc.secret})
		name2, groups := g.who("/api", tc.token)
		if name2 != tc.want {
			t.Errorf("%s: user %q, want %q", name, name2, tc.want)
		}
		if tc.want != "" && fmt.Sprint(groups) != "[system:bootstrappers system:bootstrappers:workers system:authenticated]" {
			t.Errorf("%s: groups %v", name, groups)
		}
	}
}
