package aggregator

import (
	"context"
	"fmt"
	"net/http"
	"sync"

	"k8s.io/apiserver/pkg/server/mux"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kube-aggregator/pkg/controllers/openapi"
	v2 "k8s.io/kube-aggregator/pkg/controllers/openapi/aggregator"
	"k8s.io/kube-aggregator/pkg/controllers/openapiv3"
	v3 "k8s.io/kube-aggregator/pkg/controllers/openapiv3/aggregator"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// schemas gathers the schemas of remote APIs.
type schemas struct {
	v2, v3 *mux.PathRecorderMux
	older  *openapi.AggregationController
	newer  *openapiv3.AggregationController

	mu    sync.Mutex
	names map[string]bool
}

func newSchemas() (*schemas, error) {
	s := &schemas{v2: mux.NewPathRecorderMux("openapi-v2-remote"), v3: mux.NewPathRecorderMux("openapi-v3-remote"), names: map[string]bool{}}
	downloader := v2.NewDownloader()
	nothing := &common.Config{Info: &spec.Info{},
		GetDefinitions: func(common.ReferenceCallback) map[string]common.OpenAPIDefinition { return nil }}
	specs, err := v2.BuildAndRegisterAggregator(&downloader, nil, nil, nothing, s.v2)
	if err != nil {
		return nil, fmt.Errorf("assemble schemas of remote APIs: %w", err)
	}
	s.older = openapi.NewAggregationController(&downloader, specs)
	proxier, err := v3.BuildAndRegisterAggregator(v3.NewDownloader(), nil, nil, nil, s.v3)
	if err != nil {
		return nil, fmt.Errorf("assemble schemas of remote APIs: %w", err)
	}
	s.newer = openapiv3.NewAggregationController(proxier)
	return s, nil
}

func (s *schemas) run(ctx context.Context) {
	var running sync.WaitGroup
	running.Go(func() { s.older.RunWithContext(ctx) })
	running.Go(func() { s.newer.RunWithContext(ctx) })
	running.Wait()
}

func (s *schemas) set(svc *apiregistrationv1.APIService, h http.Handler) {
	s.mu.Lock()
	known := s.names[svc.Name]
	s.names[svc.Name] = true
	s.mu.Unlock()
	if known {
		s.older.UpdateAPIService(h, svc)
		s.newer.UpdateAPIService(h, svc)
		return
	}
	s.older.AddAPIService(h, svc)
	s.newer.AddAPIService(h, svc)
}

func (s *schemas) remove(name string) {
	s.mu.Lock()
	delete(s.names, name)
	s.mu.Unlock()
	s.older.RemoveAPIService(name)
	s.newer.RemoveAPIService(name)
}

// Schemas returns what serves /openapi/v2 and /openapi/v3 of all remote APIs together; ok is false
// when there are none.
func (s *Server) Schemas() (older, newer http.Handler, ok bool) {
	all := s.schemas.Load()
	if all == nil {
		return nil, nil, false
	}
	all.mu.Lock()
	defer all.mu.Unlock()
	return all.v2, all.v3, len(all.names) > 0
}
