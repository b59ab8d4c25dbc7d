package auth_test

import (
	"context"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	testingclock "k8s.io/utils/clock/testing"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/auth"
	"github.com/troupe-run/troupe/messages"
)

// world is a reader over a map.
type world map[messages.Key]objects.Object

func (w world) Get(key messages.Key) (objects.Object, bool)            { o, ok := w[key]; return o, ok }
func (world) List(messages.Resource, string) []objects.Object          { return nil }
func (world) Index(messages.Resource, string, string) []objects.Object { return nil }
func (world) Resources() []messages.Resource                           { return nil }

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
	token, _, err := issuer.Issue(sa, auth.Bound{Pod: pod}, nil, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(token, ".")
	forged := parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"`+auth.DefaultIssuer+`","sub":"system:serviceaccount:ns:other"}`)) + "." + parts[2]
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + "."
	stranger, _ := auth.Open(auth.Config{Clock: clock})
	strangers, _ := auth.NewTokens(stranger, "", state())
	foreign, _, _ := strangers.Issue(sa, auth.Bound{}, nil, time.Hour)

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
