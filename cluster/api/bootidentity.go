package api

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	bootstrap "k8s.io/cluster-bootstrap/token/api"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/auth"
	"github.com/troupe-run/troupe/messages"
)

// legacyTracking is the ConfigMap that says since when the use of tokens in Secrets is noted.
const legacyTracking = "kube-apiserver-legacy-service-account-token-tracking"

// bootIdentity publishes how to reach the cluster and know it, for machines that join, and since
// when the use of tokens in Secrets is noted.
func (s *Server) bootIdentity(ctx context.Context, g *errgroup.Group, w objects.Writer) {
	if !s.serves(messages.ConfigMaps) {
		return
	}
	g.Go(func() error { return s.bootClusterInfo(ctx, w) })
	g.Go(func() error {
		return s.ensure(ctx, w, messages.KeyOf(messages.ConfigMaps, metav1.NamespaceSystem, legacyTracking), &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: legacyTracking},
			Data:       map[string]string{"since": s.tokens.Today()},
		}, nil)
	})
}

// bootClusterInfo keeps the kubeconfig without credentials in kube-public; the controller of
// bootstrap tokens signs it with each of them.
func (s *Server) bootClusterInfo(ctx context.Context, w objects.Writer) error {
	config, err := clientcmd.Write(clientcmdapi.Config{Clusters: map[string]*clientcmdapi.Cluster{
		"": {Server: "https://" + s.cfg.Advertise.String(), CertificateAuthorityData: s.cfg.Authority.CAPEM()},
	}})
	if err != nil {
		return fmt.Errorf("encode %s: %w", bootstrap.ConfigMapClusterInfo, err)
	}
	key := messages.KeyOf(messages.ConfigMaps, metav1.NamespacePublic, bootstrap.ConfigMapClusterInfo)
	return s.ensure(ctx, w, key, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name},
		Data:       map[string]string{bootstrap.KubeConfigKey: string(config)},
	}, func(o objects.Object) (objects.Object, bool) {
		have := o.(*corev1.ConfigMap)
		if have.Data[bootstrap.KubeConfigKey] == string(config) {
			return have, false
		}
		if have.Data == nil {
			have.Data = make(map[string]string)
		}
		have.Data[bootstrap.KubeConfigKey] = string(config)
		return have, true
	})
}

// legacyTokenUsed notes the day on a Secret whose token came in, as Kubernetes does to tell which
// of them are needed. That the note could not be written is no reason to refuse the token.
func (s *Server) legacyTokenUsed(ctx context.Context, secret *corev1.Secret) {
	key := messages.KeyOf(messages.Secrets, secret.Namespace, secret.Name)
	_, err := s.Local(user.APIServerUser).Mutate(ctx, key, "", func(o objects.Object) (objects.Object, error) {
		if o.GetUID() == secret.UID {
			labels := o.GetLabels()
			if labels == nil {
				labels = make(map[string]string)
			}
			labels[auth.LegacyLastUsed] = s.tokens.Today()
			o.SetLabels(labels)
		}
		return o, nil
	})
	if err != nil {
		s.log.Warn("the use of a token in a secret is not noted", "key", key, "err", err)
	}
}
