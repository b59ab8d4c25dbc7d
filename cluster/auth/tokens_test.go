package auth_test

import (
	"context"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	testingclock "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/auth"
	"github.com/troupe-run/troupe/messages"
)

// world is a reader over a map.
type world map[messages.Key]objects.Object

func (w world) Get(key messages.Key) (objects.Object, bool)   { o, ok := w[key]; return o, ok }
func (world) List(messages.Resource, string) []objects.Object { return nil }
func (w world) Index(res messages.Resource, index, value string) (out []objects.Object) {
	for key, obj := range w {
		if pod, ok := obj.(*corev1.Pod); ok && key.Resource == res && index == objects.IndexNode && pod.Spec.NodeName == value {
			out = append(out, obj)
		}
	}
	return out
}
func (world) Resources() []messages.Resource { return nil }

func TestTokens(t *testing.T) {
	t.Parallel()
	clock := testingclock.NewFakePassiveClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	authority, err := auth.Open(auth.Config{Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "sa", UID: "1"}}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "2"}}
	state := func() world {
		return world{
			messages.KeyOf(messages.ServiceAccounts, "ns", "sa"): sa,
			messages.KeyOf(messages.Pods, "ns", "p"):             pod,
		}
	}
	issuer, err := auth.NewTokens(authority, "", state())
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := issuer.Issue(sa, auth.Bound{Pod: pod}, nil, auth.Life{For: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(token, ".")
	forged := parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"`+auth.DefaultIssuer+`","sub":"system:serviceaccount:ns:other"}`)) + "." + parts[2]
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + "."
	stranger, _ := auth.Open(auth.Config{Clock: clock})
	strangers, _ := auth.NewTokens(stranger, "", state())
	foreign, _, _ := strangers.Issue(sa, auth.Bound{}, nil, auth.Life{For: time.Hour})

	without := func(key messages.Key) world { w := state(); delete(w, key); return w }
	reborn := state()
	reborn[messages.KeyOf(messages.ServiceAccounts, "ns", "sa")] = &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "sa", UID: "9"}}
	for name, tc := range map[string]struct {
		token string
		world world
		after time.Duration
		ctx   context.Context
		ok    bool
	}{
		"good":             {token: token, world: state(), ok: true},
		"expired":          {token: token, world: state(), after: 2 * time.Hour},
		"account gone":     {token: token, world: without(messages.KeyOf(messages.ServiceAccounts, "ns", "sa"))},
		"account reborn":   {token: token, world: reborn},
		"pod gone":         {token: token, world: without(messages.KeyOf(messages.Pods, "ns", "p"))},
		"other audience":   {token: token, world: state(), ctx: authenticator.WithAudiences(t.Context(), authenticator.Audiences{"vault"})},
		"forged":           {token: forged, world: state()},
		"unsigned":         {token: unsigned, world: state()},
		"by another":       {token: foreign, world: state()},
		"no token":         {token: "x", world: state()},
		"opaque with dots": {token: "a.b.c", world: state()},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.ctx == nil {
				tc.ctx = t.Context()
			}
			clock.SetTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(tc.after))
			tokens, err := auth.NewTokens(authority, "", tc.world)
			if err != nil {
				t.Fatal(err)
			}
			resp, ok, err := tokens.AuthenticateToken(tc.ctx, tc.token)
			if ok != tc.ok {
				t.Fatalf("accepted: %v (%v), want %v", ok, err, tc.ok)
			}
			if ok && resp.User.GetName() != "system:serviceaccount:ns:sa" {
				t.Errorf("user %q", resp.User.GetName())
			}
		})
	}
}

func TestTokenOfAPodOutlivesItsWarning(t *testing.T) {
	t.Parallel()
	issuer := newTokens(t, world{})
	pod := &authenticationv1.BoundObjectReference{Kind: "Pod", Name: "p"}
	for name, tc := range map[string]struct {
		spec authenticationv1.TokenRequestSpec
		want auth.Life
	}{
		"nothing asked":  {want: auth.Life{For: time.Hour}},
		"short":          {authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To[int64](60)}, auth.Life{For: 10 * time.Minute}},
		"long":           {authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To[int64](1 << 31)}, auth.Life{For: 365 * 24 * time.Hour}},
		"injected":       {authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To[int64](3607), BoundObjectRef: pod}, auth.Life{For: 365 * 24 * time.Hour, WarnAfter: 3607 * time.Second}},
		"for another":    {authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To[int64](3607), BoundObjectRef: pod, Audiences: []string{"vault"}}, auth.Life{For: 3607 * time.Second}},
		"not of any pod": {authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To[int64](3607)}, auth.Life{For: 3607 * time.Second}},
	} {
		if got := issuer.LifeOf(tc.spec); got != tc.want {
			t.Errorf("%s: %+v, want %+v", name, got, tc.want)
		}
	}
}

func TestTokenInASecret(t *testing.T) {
	t.Parallel()
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "sa", UID: "1"}}
	state := world{messages.KeyOf(messages.ServiceAccounts, "ns", "sa"): sa}
	tokens := newTokens(t, state)
	token, err := tokens.IssueLegacy(sa, "robot")
	if err != nil {
		t.Fatal(err)
	}
	key := messages.KeyOf(messages.Secrets, "ns", "robot")
	secret := func(token string, labels map[string]string) *corev1.Secret {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "robot", Labels: labels},
			Type: corev1.SecretTypeServiceAccountToken, Data: map[string][]byte{"token": []byte(token)}}
	}
	var used []string
	tokens.OnLegacyUse(func(_ context.Context, s *corev1.Secret) { used = append(used, s.Name) })
	for _, step := range []struct {
		name   string
		change func()
		ok     bool
	}{
		{"without its secret", func() {}, false},
		{"good", func() { state[key] = secret(token, nil) }, true},
		{"seen today", func() { state[key] = secret(token, map[string]string{auth.LegacyLastUsed: tokens.Today()}) }, true},
		{"another token is there", func() { state[key] = secret("other", nil) }, false},
		{"switched off", func() {
			state[key] = secret(token, map[string]string{"kubernetes.io/legacy-token-invalid-since": "2026-01-01"})
		}, false},
		{"account gone", func() {
			state[key] = secret(token, nil)
			delete(state, messages.KeyOf(messages.ServiceAccounts, "ns", "sa"))
		}, false},
	} {
		step.change()
		resp, ok, err := tokens.AuthenticateToken(t.Context(), token)
		if ok != step.ok {
			t.Errorf("%s: accepted %v (%v), want %v", step.name, ok, err, step.ok)
		} else if ok && resp.User.GetName() != "system:serviceaccount:ns:sa" {
			t.Errorf("%s: user %q", step.name, resp.User.GetName())
		}
	}
	if len(used) != 1 {
		t.Errorf("use was noted %d times, want once", len(used))
	}
	if _, ok, _ := tokens.AuthenticateToken(authenticator.WithAudiences(t.Context(), authenticator.Audiences{"vault"}), token); ok {
		t.Error("good for another audience")
	}
}

func newTokens(t *testing.T, state world) *auth.Tokens {
	t.Helper()
	authority, err := auth.Open(auth.Config{})
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := auth.NewTokens(authority, "", state)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}
