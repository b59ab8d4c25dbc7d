package auth

import (
	"context"
	"crypto/subtle"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	bootstrap "k8s.io/cluster-bootstrap/token/api"
	"k8s.io/cluster-bootstrap/util/secrets"
	"k8s.io/cluster-bootstrap/util/tokens"
	"k8s.io/utils/clock"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// bootstrapTokens knows the tokens by which machines join: Secrets of kube-system that are named
// bootstrap-token-<id>.
type bootstrapTokens struct {
	reader objects.Reader
	clock  clock.PassiveClock
}

// AuthenticateToken implements authenticator.Token. A token that is not one, or is not good, is
// somebody else's to judge.
func (b *bootstrapTokens) AuthenticateToken(_ context.Context, token string) (*authenticator.Response, bool, error) {
	id, pass, err := tokens.ParseToken(token)
	if err != nil {
		return nil, false, nil
	}
	secret, ok := objects.Get[*corev1.Secret](b.reader,
		messages.KeyOf(messages.Secrets, metav1.NamespaceSystem, bootstrap.BootstrapTokenSecretPrefix+id))
	if !ok || secret.DeletionTimestamp != nil || secret.Type != bootstrap.SecretTypeBootstrapToken {
		return nil, false, nil
	}
	good := subtle.ConstantTimeCompare([]byte(secrets.GetData(secret, bootstrap.BootstrapTokenSecretKey)), []byte(pass)) == 1 &&
		secrets.GetData(secret, bootstrap.BootstrapTokenIDKey) == id &&
		secrets.GetData(secret, bootstrap.BootstrapTokenUsageAuthentication) == "true" &&
		!secrets.HasExpired(secret, b.clock.Now())
	if !good {
		return nil, false, nil
	}
	groups, err := secrets.GetGroups(secret)
	if err != nil {
		return nil, false, nil
	}
	return &authenticator.Response{User: &user.DefaultInfo{Name: bootstrap.BootstrapUserPrefix + id, Groups: groups}}, true, nil
}

var _ authenticator.Token = (*bootstrapTokens)(nil)
