package nodes

import (
	"context"
	"fmt"

	"github.com/asynkron/protoactor-go/actor"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/proto/nodepb"
)

// token answers a request for a service account token, for pods of this node only.
func (n *node) token(c actor.Context, r *nodepb.TokenRequest) {
	work(c, n, func(ctx context.Context) (*authenticationv1.TokenRequest, error) {
		return issue(ctx, n.cfg, n.name, r)
	}, func(out *authenticationv1.TokenRequest, err error) {
		reply := &nodepb.TokenReply{Id: r.GetId()}
		if err != nil {
			n.log.Warn("token refused", "key", r.GetNamespace()+"/"+r.GetPod(), "err", err)
			reply.Error = err.Error()
		} else {
			reply.Token, reply.ExpiresUnix = out.Status.Token, out.Status.ExpirationTimestamp.Unix()
		}
		n.say(&nodepb.Down{Body: &nodepb.Down_Token{Token: reply}})
	})
}

func issue(ctx context.Context, cfg Config, node string, r *nodepb.TokenRequest) (*authenticationv1.TokenRequest, error) {
	pod, ok := objects.Get[*corev1.Pod](cfg.Reader, messages.KeyOf(messages.Pods, r.GetNamespace(), r.GetPod()))
	if !ok || !bound(pod, node, r.GetPodUid()) {
		return nil, fmt.Errorf("pod %s/%s is not on node %s: %w", r.GetNamespace(), r.GetPod(), node, messages.ErrNotFound)
	}
	account := first(pod.Spec.ServiceAccountName, "default")
	if r.GetServiceAccount() != "" && r.GetServiceAccount() != account {
		return nil, fmt.Errorf("pod %s/%s has service account %s: %w", pod.Namespace, pod.Name, account, messages.ErrInvalid)
	}
	seconds := r.GetExpiresSeconds()
	return cfg.Tokens.Token(ctx, pod.Namespace, account, &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{
			Audiences: r.GetAudiences(), ExpirationSeconds: &seconds,
			BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
		},
	})
}
