package auth

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"

	"gopkg.in/go-jose/go-jose.v2/jwt"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// legacyIssuer is in tokens that live in a Secret of type kubernetes.io/service-account-token.
const legacyIssuer = "kubernetes/serviceaccount"

const (
	// LegacyLastUsed is the label of such a Secret with the day its token was last seen.
	LegacyLastUsed = "kubernetes.io/legacy-token-last-used"
	// legacyInvalidSince is the label that switches the token off.
	legacyInvalidSince = "kubernetes.io/legacy-token-invalid-since"
)

// legacyClaims are what Kubernetes puts in tokens that are kept in a Secret and never end.
type legacyClaims struct {
	Account    string `json:"kubernetes.io/serviceaccount/service-account.name,omitempty"`
	AccountUID string `json:"kubernetes.io/serviceaccount/service-account.uid,omitempty"`
	SecretName string `json:"kubernetes.io/serviceaccount/secret.name,omitempty"`
	Namespace  string `json:"kubernetes.io/serviceaccount/namespace,omitempty"`
}

// IssueLegacy makes the token that is kept in a Secret. It has no end: deleting the Secret or the
// account ends it.
func (t *Tokens) IssueLegacy(sa *corev1.ServiceAccount, secret string) (string, error) {
	token, err := jwt.Signed(t.signer).Claims(claims{
		Claims: jwt.Claims{Issuer: legacyIssuer, Subject: serviceaccount.MakeUsername(sa.Namespace, sa.Name)},
		legacyClaims: legacyClaims{
			Account: sa.Name, AccountUID: string(sa.UID), SecretName: secret, Namespace: sa.Namespace,
		},
	}).CompactSerialize()
	if err != nil {
		return "", fmt.Errorf("sign token of %s/%s: %w", sa.Namespace, sa.Name, err)
	}
	return token, nil
}

// OnLegacyUse sets who is told of each Secret whose token came in on a day that it does not show
// yet. It must be called before the first request.
func (t *Tokens) OnLegacyUse(fn func(context.Context, *corev1.Secret)) { t.legacyUsed = fn }

// checkLegacy compares a token of a Secret with the Secret and its account as they are.
func (t *Tokens) checkLegacy(ctx context.Context, c *claims, token string) (*serviceaccount.ServiceAccountInfo, error) {
	l := c.legacyClaims
	if l.Namespace == "" || l.Account == "" || l.AccountUID == "" || l.SecretName == "" ||
		c.Subject != serviceaccount.MakeUsername(l.Namespace, l.Account) {
		return nil, errors.New("service account token lacks its claims")
	}
	secret, ok := objects.Get[*corev1.Secret](t.reader, messages.KeyOf(messages.Secrets, l.Namespace, l.SecretName))
	if !ok || secret.DeletionTimestamp != nil {
		return nil, errStale
	}
	if subtle.ConstantTimeCompare(secret.Data[corev1.ServiceAccountTokenKey], []byte(token)) != 1 {
		return nil, errors.New("token does not match server's copy")
	}
	if !t.lives(messages.KeyOf(messages.ServiceAccounts, l.Namespace, l.Account), l.AccountUID) {
		return nil, errStale
	}
	if since := secret.Labels[legacyInvalidSince]; since != "" {
		return nil, fmt.Errorf("the token in secret %s/%s for service account %s/%s has been marked invalid. Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the '%s' label from the secret to temporarily allow use of this token",
			l.Namespace, l.SecretName, l.Namespace, l.Account, legacyInvalidSince)
	}
	if t.legacyUsed != nil && secret.Labels[LegacyLastUsed] != t.Today() {
		t.legacyUsed(ctx, secret)
	}
	return &serviceaccount.ServiceAccountInfo{Namespace: l.Namespace, Name: l.Account, UID: l.AccountUID}, nil
}

// Today is the day as the label [LegacyLastUsed] spells it.
func (t *Tokens) Today() string { return t.clock.Now().UTC().Format("2006-01-02") }
