package auth

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	jose "gopkg.in/go-jose/go-jose.v2"
	"gopkg.in/go-jose/go-jose.v2/jwt"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/utils/clock"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// DefaultIssuer is the issuer of service account tokens, and where in the cluster its discovery
// document is served. It is also the audience of the API itself.
const DefaultIssuer = "https://kubernetes.default.svc.cluster.local"

// Tokens makes and checks service account tokens.
type Tokens struct {
	issuer string
	keyID  string
	signer jose.Signer
	public *jose.JSONWebKey
	reader objects.Reader
	clock  clock.PassiveClock
	// legacyUsed is told of each Secret whose token came in, see [Tokens.OnLegacyUse].
	legacyUsed func(context.Context, *corev1.Secret)
}

// claims are what Kubernetes puts in a token bound to a pod.
type claims struct {
	jwt.Claims
	Kubernetes *boundClaims `json:"kubernetes.io,omitempty"`
	legacyClaims
}

type boundClaims struct {
	Namespace      string           `json:"namespace,omitempty"`
	ServiceAccount ref              `json:"serviceaccount"`
	Pod            *ref             `json:"pod,omitempty"`
	Secret         *ref             `json:"secret,omitempty"`
	Node           *ref             `json:"node,omitempty"`
	WarnAfter      *jwt.NumericDate `json:"warnafter,omitempty"`
}

type ref struct {
	Name string `json:"name,omitempty"`
	UID  string `json:"uid,omitempty"`
}

// NewTokens signs with the authority's key; reader is where bound accounts, pods and secrets are
// looked up when a token comes back. An empty issuer means [DefaultIssuer].
func NewTokens(a *Authority, issuer string, reader objects.Reader) (*Tokens, error) {
	if issuer == "" {
		issuer = DefaultIssuer
	}
	der, err := x509.MarshalPKIXPublicKey(a.signing.Public())
	if err != nil {
		return nil, fmt.Errorf("encode token key: %w", err)
	}
	sum := sha256.Sum256(der)
	id := base64.RawURLEncoding.EncodeToString(sum[:])
	signer, err := jose.NewSigner(jose.SigningKey{
		Algorithm: jose.ES256,
		Key:       jose.JSONWebKey{Algorithm: string(jose.ES256), Key: a.signing, KeyID: id, Use: "sig"},
	}, nil)
	if err != nil {
		return nil, fmt.Errorf("make token signer: %w", err)
	}
	return &Tokens{
		issuer: issuer, keyID: id, signer: signer, reader: reader, clock: a.clock,
		public: &jose.JSONWebKey{Algorithm: string(jose.ES256), Key: a.signing.Public(), KeyID: id, Use: "sig"},
	}, nil
}

// Issuer returns the issuer in every token.
func (t *Tokens) Issuer() string { return t.issuer }

// Bound names the object a token lives and dies with.
type Bound struct {
	Pod    *corev1.Pod
	Secret *corev1.Secret
	Node   *corev1.Node
}

// Issue makes a token for a service account. Without audiences it is good for the API itself. The
// time that is returned is when the holder should have asked for another one.
func (t *Tokens) Issue(sa *corev1.ServiceAccount, bound Bound, audiences []string, life Life) (token string, renew time.Time, err error) {
	if len(audiences) == 0 {
		audiences = []string{t.issuer}
	}
	now := t.clock.Now()
	renew = now.Add(life.For)
	c := claims{
		Claims: jwt.Claims{
			Issuer:    t.issuer,
			Subject:   serviceaccount.MakeUsername(sa.Namespace, sa.Name),
			Audience:  audiences,
			ID:        uuid.NewString(),
			IssuedAt:  jwt.NewNumericDate(now),
			NotBefore: jwt.NewNumericDate(now),
			Expiry:    jwt.NewNumericDate(now.Add(life.For)),
		},
		Kubernetes: &boundClaims{
			Namespace:      sa.Namespace,
			ServiceAccount: ref{sa.Name, string(sa.UID)},
		},
	}
	if p := bound.Pod; p != nil {
		c.Kubernetes.Pod = &ref{p.Name, string(p.UID)}
	}
	if s := bound.Secret; s != nil {
		c.Kubernetes.Secret = &ref{s.Name, string(s.UID)}
	}
	if n := bound.Node; n != nil {
		c.Kubernetes.Node = &ref{n.Name, string(n.UID)}
	}
	if life.WarnAfter > 0 {
		renew = now.Add(life.WarnAfter)
		c.Kubernetes.WarnAfter = jwt.NewNumericDate(renew)
	}
	token, err = jwt.Signed(t.signer).Claims(c).CompactSerialize()
	if err != nil {
		return "", time.Time{}, fmt.Errorf("sign token of %s/%s: %w", sa.Namespace, sa.Name, err)
	}
	return token, renew, nil
}

// errStale is why a token that was good is refused: what it was bound to is gone.
var errStale = errors.New("service account token has been invalidated")

// AuthenticateToken implements authenticator.Token. ok is false for tokens of other issuers.
func (t *Tokens) AuthenticateToken(ctx context.Context, token string) (*authenticator.Response, bool, error) {
	if strings.Count(token, ".") != 2 {
		return nil, false, nil
	}
	parsed, err := jwt.ParseSigned(token)
	if err != nil {
		return nil, false, nil // not a JWT
	}
	var c claims
	if err := parsed.UnsafeClaimsWithoutVerification(&c); err != nil || c.Issuer != t.issuer && c.Issuer != legacyIssuer {
		return nil, false, nil
	}
	if len(parsed.Headers) != 1 || parsed.Headers[0].Algorithm != string(jose.ES256) {
		return nil, false, errors.New("token is signed in a way that is not accepted")
	}
	if err := parsed.Claims(t.public.Key, &c); err != nil {
		return nil, false, errors.New("invalid token signature")
	}
	if err := c.ValidateWithLeeway(jwt.Expected{Time: t.clock.Now()}, 0); err != nil {
		return nil, false, fmt.Errorf("service account token: %w", err)
	}
	wanted, ok := authenticator.AudiencesFrom(ctx)
	if !ok {
		wanted = authenticator.Audiences{t.issuer}
	}
	carried := authenticator.Audiences(c.Audience)
	if c.Issuer == legacyIssuer && len(carried) == 0 {
		carried = authenticator.Audiences{t.issuer} // such tokens name none and are for the API
	}
	audiences := wanted.Intersect(carried)
	if len(audiences) == 0 {
		return nil, false, fmt.Errorf("token audiences %q are invalid for the target audiences %q", carried, wanted)
	}
	check := t.check
	if c.Issuer == legacyIssuer {
		check = func(ctx context.Context, c *claims) (*serviceaccount.ServiceAccountInfo, error) {
			return t.checkLegacy(ctx, c, token)
		}
	}
	info, err := check(ctx, &c)
	if err != nil {
		return nil, false, err
	}
	return &authenticator.Response{User: info.UserInfo(), Audiences: audiences}, true, nil
}

// check compares what the token is bound to with the cluster as it is.
func (t *Tokens) check(ctx context.Context, c *claims) (*serviceaccount.ServiceAccountInfo, error) {
	k := c.Kubernetes
	if k == nil || c.Subject != serviceaccount.MakeUsername(k.Namespace, k.ServiceAccount.Name) {
		return nil, errors.New("service account token lacks its claims")
	}
	if !t.lives(messages.KeyOf(messages.ServiceAccounts, k.Namespace, k.ServiceAccount.Name), k.ServiceAccount.UID) {
		return nil, errStale
	}
	info := &serviceaccount.ServiceAccountInfo{
		Namespace: k.Namespace, Name: k.ServiceAccount.Name, UID: k.ServiceAccount.UID,
	}
	if c.ID != "" {
		info.CredentialID = "JTI=" + c.ID
	}
	if k.Pod != nil {
		if !t.lives(messages.KeyOf(messages.Pods, k.Namespace, k.Pod.Name), k.Pod.UID) {
			return nil, errStale
		}
		info.PodName, info.PodUID = k.Pod.Name, k.Pod.UID
	}
	if k.Secret != nil && !t.lives(messages.KeyOf(messages.Secrets, k.Namespace, k.Secret.Name), k.Secret.UID) {
		return nil, errStale
	}
	if k.Node != nil {
		if k.Pod == nil && !t.lives(messages.KeyOf(messages.Nodes, "", k.Node.Name), k.Node.UID) {
			return nil, errStale
		}
		info.NodeName, info.NodeUID = k.Node.Name, k.Node.UID
	}
	if k.WarnAfter != nil && t.clock.Now().After(k.WarnAfter.Time()) {
		// A client that does not read its token anew will be refused one day.
		audit.AddAuditAnnotation(ctx, "authentication.k8s.io/stale-token",
			fmt.Sprintf("subject: %s, seconds after warning threshold: %.0f", c.Subject, t.clock.Since(k.WarnAfter.Time()).Seconds()))
	}
	return info, nil
}

// deadline is how long after its deletion time an object still vouches for tokens.
const deadline = 60 * time.Second

func (t *Tokens) lives(key messages.Key, uid string) bool {
	obj, ok := t.reader.Get(key)
	if !ok || obj.GetUID() != types.UID(uid) {
		return false
	}
	gone := obj.GetDeletionTimestamp()
	return gone == nil || t.clock.Now().Before(gone.Add(deadline))
}

// KeySet returns the public keys as relying parties read them (JWKS).
func (t *Tokens) KeySet() jose.JSONWebKeySet {
	return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{*t.public}}
}

// Discovery is the OpenID Connect discovery document of the issuer.
type Discovery struct {
	Issuer        string   `json:"issuer"`
	JWKSURI       string   `json:"jwks_uri"`
	ResponseTypes []string `json:"response_types_supported"`
	SubjectTypes  []string `json:"subject_types_supported"`
	SigningAlgs   []string `json:"id_token_signing_alg_values_supported"`
}

// Discovery returns the issuer's discovery document.
func (t *Tokens) Discovery() Discovery {
	return Discovery{
		Issuer:        t.issuer,
		JWKSURI:       strings.TrimSuffix(t.issuer, "/") + "/openid/v1/jwks",
		ResponseTypes: []string{"id_token"},
		SubjectTypes:  []string{"public"},
		SigningAlgs:   []string{string(jose.ES256)},
	}
}

// Bounds on the life of a token that is asked for.
const (
	MinTokenLife     = 10 * time.Minute
	MaxTokenLife     = 24 * time.Hour * 365
	DefaultTokenLife = time.Hour
	// injectedTokenLife is what the token that every pod gets asks for. Old clients never read
	// theirs again, so such a token lives on beyond it, for MaxTokenLife.
	injectedTokenLife = time.Hour + 7*time.Second
)

// Life is how long a token lives.
type Life struct {
	For time.Duration
	// WarnAfter is when its holder should have a new one; 0 means that the end is all there is.
	WarnAfter time.Duration
}

// LifeOf returns how long a token asked for with spec lives.
func (t *Tokens) LifeOf(spec authenticationv1.TokenRequestSpec) Life {
	if spec.ExpirationSeconds == nil {
		return Life{For: DefaultTokenLife}
	}
	asked := time.Duration(*spec.ExpirationSeconds) * time.Second
	ref := spec.BoundObjectRef
	if asked == injectedTokenLife && ref != nil && ref.Kind == "Pod" && t.ForAPI(spec.Audiences) {
		return Life{For: MaxTokenLife, WarnAfter: asked}
	}
	return Life{For: min(max(asked, MinTokenLife), MaxTokenLife)}
}

// ForAPI says whether audiences contain the API's own.
func (t *Tokens) ForAPI(audiences []string) bool {
	return len(audiences) == 0 || slices.Contains(audiences, t.issuer)
}

var _ authenticator.Token = (*Tokens)(nil)
