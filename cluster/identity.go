package cluster

import (
	"context"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/troupe-run/troupe/actors/certificates"
	"github.com/troupe-run/troupe/actors/serviceaccount"
)

// identity gives controllers the authority's signatures and the API's opinion on who may have them.
func (c *Cluster) identity() identity {
	ca := c.authority.CAPEM()
	return identity{
		ca:       ca,
		accounts: serviceaccount.SecretConfig{CA: ca, Issue: c.api.Tokens().IssueLegacy},
		certificate: certificates.Config{
			May: func(ctx context.Context, sender certificatesv1.CertificateSigningRequestSpec, subresource string) (bool, error) {
				return may(ctx, c.api.Authorizer(), sender, subresource)
			},
			Sign: func(o certificates.Order) ([]byte, error) {
				return c.authority.SignRequest(o.Request, o.Usages, o.Life)
			},
		},
	}
}

// may asks whether the sender of a signing request may create one of its subresources.
func may(ctx context.Context, auth authorizer.Authorizer, sender certificatesv1.CertificateSigningRequestSpec, subresource string) (bool, error) {
	u := &user.DefaultInfo{Name: sender.Username, UID: sender.UID, Groups: sender.Groups, Extra: make(map[string][]string)}
	for key, values := range sender.Extra {
		u.Extra[key] = values
	}
	decision, _, err := auth.Authorize(ctx, authorizer.AttributesRecord{
		User: u, Verb: "create", APIGroup: certificatesv1.GroupName, APIVersion: "*",
		Resource: "certificatesigningrequests", Subresource: subresource, ResourceRequest: true,
	})
	return decision == authorizer.DecisionAllow, err
}
