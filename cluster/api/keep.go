package api

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/messages"
)

// keepRetry is the pause after an attempt that failed, such as one in a namespace that is going.
const keepRetry = 5 * time.Second

// keep brings back what every cluster has when somebody deletes or changes it: the namespaces,
// the Service by which pods reach the API and the range of Services. It runs until ctx ends.
func (s *Server) keep(ctx context.Context) {
	missing := make(chan struct{}, 1)
	again := func() {
		select {
		case missing <- struct{}{}:
		default: // one look sees all that happened until then
		}
	}
	watched := []messages.Resource{messages.Namespaces, messages.Services, messages.Endpoints, messages.EndpointSlices, messages.ServiceCIDRs, flowSchemas, priorityLevels}
	stop := s.cfg.Store.Follow(watched,
		func(c objects.Change) {
			gone := c.New == nil && (c.Key.Resource == messages.Namespaces || isDefaultCIDR(c.Key) || c.Key.Resource == flowSchemas || c.Key.Resource == priorityLevels)
			if c.Old != nil && (gone || isAPIService(c.Key)) {
				again()
			}
		})
	defer stop()
	w := s.Local(user.APIServerUser)
	for {
		select {
		case <-ctx.Done():
			return
		case <-missing:
		}
		err := errors.Join(s.bootNamespaces(ctx, w), s.bootService(ctx, w), s.bootServiceCIDR(ctx, w), s.keepFlows(ctx, w))
		if err == nil || ctx.Err() != nil {
			continue
		}
		s.log.Debug("what every cluster has is not back yet", "err", err)
		pause := s.cfg.Clock.NewTimer(keepRetry)
		select {
		case <-ctx.Done():
		case <-pause.C():
			again()
		}
		pause.Stop()
	}
}

func (s *Server) keepFlows(ctx context.Context, w objects.Writer) error {
	g, ctx := errgroup.WithContext(ctx)
	s.bootFlows(ctx, g, w)
	return g.Wait()
}

func isAPIService(key messages.Key) bool {
	return key.Namespace == metav1.NamespaceDefault && key.Name == kind.APIService
}

func isDefaultCIDR(key messages.Key) bool {
	return key.Resource == messages.ServiceCIDRs && key.Name == defaultServiceCIDRName
}
