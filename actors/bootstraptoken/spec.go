package bootstraptoken

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	bootstrap "k8s.io/cluster-bootstrap/token/api"
	"k8s.io/cluster-bootstrap/token/jws"
	util "k8s.io/cluster-bootstrap/util/secrets"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/actors/controller"
	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

var clusterInfo = messages.KeyOf(messages.ConfigMaps, metav1.NamespacePublic, bootstrap.ConfigMapClusterInfo)

type tokens struct{ controller.Deps }

// Spec returns the controller; its keys are those of the tokens' Secrets and cluster-info.
func Spec(d controller.Deps) controller.Spec {
	t := &tokens{d}
	return controller.Spec{
		Name: "bootstraptoken",
		Watches: []controller.Watch{
			{Resource: messages.Secrets, Keys: func(ch objects.Change) []messages.Key {
				if isToken(ch.Old) || isToken(ch.New) {
					return []messages.Key{ch.Key, clusterInfo}
				}
				return nil
			}},
			{Resource: messages.ConfigMaps, Keys: func(ch objects.Change) []messages.Key {
				if ch.Key == clusterInfo {
					return []messages.Key{clusterInfo}
				}
				return nil
			}},
		},
		Reconcile: t.reconcile,
	}
}

func isToken(o objects.Object) bool {
	s, ok := o.(*corev1.Secret)
	return ok && s.Namespace == metav1.NamespaceSystem && s.Type == bootstrap.SecretTypeBootstrapToken
}

func (t *tokens) reconcile(ctx context.Context, key messages.Key) (controller.Result, error) {
	if key == clusterInfo {
		return controller.Result{}, t.sign(ctx)
	}
	return t.clean(ctx, key)
}

// clean removes a token that has ended.
func (t *tokens) clean(ctx context.Context, key messages.Key) (controller.Result, error) {
	secret, ok := objects.Get[*corev1.Secret](t.Reader, key)
	if !ok || !isToken(secret) || secret.DeletionTimestamp != nil {
		return controller.Result{}, nil
	}
	left, ended := util.GetExpiration(secret, t.Clock.Now())
	if !ended {
		return controller.Result{After: max(left, 0)}, nil
	}
	err := t.Writer.Delete(ctx, key, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: ptr.To(secret.UID)}})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return controller.Result{}, fmt.Errorf("delete %s: %w", key, err)
	}
	return controller.Result{}, nil
}

// sign brings the signatures of cluster-info up to date.
func (t *tokens) sign(ctx context.Context) error {
	info, ok := objects.Get[*corev1.ConfigMap](t.Reader, clusterInfo)
	if !ok || info.DeletionTimestamp != nil {
		return nil
	}
	content, ok := info.Data[bootstrap.KubeConfigKey]
	if !ok {
		return nil
	}
	signed, err := signatures(content, objects.List[*corev1.Secret](t.Reader, messages.Secrets, metav1.NamespaceSystem), t.Clock.Now())
	if err != nil {
		return fmt.Errorf("sign %s: %w", clusterInfo, err)
	}
	if maps.Equal(withSignatures(info.Data, signed), info.Data) {
		return nil
	}
	_, err = t.Writer.Mutate(ctx, clusterInfo, "", func(o objects.Object) (objects.Object, error) {
		now := o.(*corev1.ConfigMap)
		if now.Data[bootstrap.KubeConfigKey] == content { // otherwise its change brings the next look
			now.Data = withSignatures(now.Data, signed)
		}
		return now, nil
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("sign %s: %w", clusterInfo, err)
	}
	return nil
}

// signatures signs content with each token that is good for it, by the keys of cluster-info.
func signatures(content string, secrets []*corev1.Secret, now time.Time) (map[string]string, error) {
	out := make(map[string]string)
	for _, s := range secrets {
		id, pass := util.GetData(s, bootstrap.BootstrapTokenIDKey), util.GetData(s, bootstrap.BootstrapTokenSecretKey)
		good := isToken(s) && s.DeletionTimestamp == nil && s.Name == bootstrap.BootstrapTokenSecretPrefix+id && pass != "" &&
			util.GetData(s, bootstrap.BootstrapTokenUsageSigningKey) == "true" && !util.HasExpired(s, now)
		if !good {
			continue
		}
		signature, err := jws.ComputeDetachedSignature(content, id, pass)
		if err != nil {
			return nil, err
		}
		out[bootstrap.JWSSignatureKeyPrefix+id] = signature
	}
	return out, nil
}

// withSignatures returns data with these signatures and no others.
func withSignatures(data, signed map[string]string) map[string]string {
	out := maps.Clone(data)
	maps.DeleteFunc(out, func(key, _ string) bool { return strings.HasPrefix(key, bootstrap.JWSSignatureKeyPrefix) })
	maps.Copy(out, signed)
	return out
}
