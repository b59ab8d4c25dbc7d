package api

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/server/mux"
	"k8s.io/apiserver/pkg/server/routes"
	"k8s.io/apiserver/pkg/util/responsewriter"
	"k8s.io/kube-openapi/pkg/aggregator"
	"k8s.io/kube-openapi/pkg/cached"
	"k8s.io/kube-openapi/pkg/handler"
	"k8s.io/kube-openapi/pkg/handler3"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// documents serves the schemas of everything: what is built in, custom resources and remote APIs.
// Each part is made when it is first asked for, and anew only when what it is about has changed.
type documents struct {
	s  *Server
	v2 func() (http.Handler, *spec.Swagger) // of what is built in
	v3 func() http.Handler

	mu     sync.Mutex
	whole  http.Handler // /openapi/v2 of everything, as it was at stamp
	stamp  string
	custom map[schema.GroupVersion]*customDocument
}

// customDocument is /openapi/v3 of one version of custom resources, as it was at stamp.
type customDocument struct {
	stamp   string
	service *handler3.OpenAPIService
}

func newDocuments(s *Server, version string) *documents {
	return &documents{s: s, custom: map[schema.GroupVersion]*customDocument{},
		v2: sync.OnceValues(func() (http.Handler, *spec.Swagger) {
			sub := mux.NewPathRecorderMux("openapi-v2")
			_, swagger := routes.OpenAPI{Config: openAPIv2(s.codecs.scheme, version)}.InstallV2(s.generic.Handler.GoRestfulContainer, sub)
			return sub, swagger
		}),
		v3: sync.OnceValue(func() http.Handler {
			sub := mux.NewPathRecorderMux("openapi-v3")
			routes.OpenAPI{V3Config: openAPIv3(s.codecs.scheme, version)}.InstallV3(s.generic.Handler.GoRestfulContainer, sub)
			return sub
		}),
	}
}

// install serves /openapi/v2 and /openapi/v3.
func (d *documents) install(m *mux.PathRecorderMux) {
	m.UnlistedHandle("/openapi/v2", http.HandlerFunc(d.serveV2))
	m.Handle("/openapi/v3", http.HandlerFunc(d.serveRoot))
	m.HandlePrefix("/openapi/v3/", http.HandlerFunc(d.serveV3))
}

// fetch has a handler answer a request and returns what it wrote.
func fetch(h http.Handler, r *http.Request, path string) ([]byte, error) {
	in := r.Clone(r.Context())
	in.URL, in.Header = &url.URL{Path: path}, http.Header{"Accept": {"application/json"}}
	out := responsewriter.NewInMemoryResponseWriter()
	h.ServeHTTP(out, in)
	if out.RespCode() != http.StatusOK {
		return nil, fmt.Errorf("%s: %d %s", path, out.RespCode(), out.Data())
	}
	return out.Data(), nil
}

// remote returns what serves the schemas of remote APIs, if there are any.
func (d *documents) remote() (v2, v3 http.Handler, ok bool) {
	if e := d.s.extensions.Load(); e != nil {
		return e.remote.Schemas()
	}
	return nil, nil, false
}

// stamps names the schemas of custom resources.
func (d *documents) stamps() map[schema.GroupVersion]string {
	if e := d.s.extensions.Load(); e != nil {
		return e.custom.Stamps()
	}
	return nil
}

// serveV2 answers /openapi/v2.
func (d *documents) serveV2(w http.ResponseWriter, r *http.Request) {
	stamps := d.stamps()
	theirs, _, hasRemote := d.remote()
	builtin, static := d.v2()
	if len(stamps) == 0 && !hasRemote {
		builtin.ServeHTTP(w, r)
		return
	}
	var parts []string
	for gv, stamp := range stamps {
		parts = append(parts, gv.String()+" "+stamp)
	}
	slices.Sort(parts)
	var foreign []byte
	if hasRemote {
		body, err := fetch(theirs, r, "/openapi/v2")
		if err != nil {
			d.s.log.Debug("schemas of remote APIs are left out", "err", err)
		}
		foreign = body
	}
	h := sha256.New()
	_, _ = h.Write([]byte(strings.Join(parts, "\n")))
	_, _ = h.Write(foreign)
	stamp := fmt.Sprintf("%X", h.Sum(nil))
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.whole == nil || d.stamp != stamp {
		merged, err := d.merge(static, foreign)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		sub := mux.NewPathRecorderMux("openapi-v2-whole")
		handler.NewOpenAPIServiceLazy(cached.Static(merged, stamp)).RegisterOpenAPIVersionedService("/openapi/v2", sub)
		d.whole, d.stamp = sub, stamp
	}
	d.whole.ServeHTTP(w, r)
}

// merge puts the document of everything together.
func (d *documents) merge(static *spec.Swagger, foreign []byte) (*spec.Swagger, error) {
	merged, err := d.s.extensions.Load().custom.SchemasV2(static)
	if err != nil || len(foreign) == 0 {
		return merged, err
	}
	theirs := &spec.Swagger{}
	if err := json.Unmarshal(foreign, theirs); err != nil {
		return nil, fmt.Errorf("schemas of remote APIs: %w", err)
	}
	if theirs.Paths == nil { // none has answered yet
		return merged, nil
	}
	out := *merged
	out.Paths, out.Definitions, out.Parameters = nil, nil, nil
	for _, part := range []*spec.Swagger{merged, theirs} {
		if err := aggregator.MergeSpecsIgnorePathConflictRenamingDefinitionsAndParameters(&out, part); err != nil {
			return nil, fmt.Errorf("schemas of remote APIs: %w", err)
		}
	}
	return &out, nil
}

// serveRoot answers /openapi/v3, which says where the document of each version is.
func (d *documents) serveRoot(w http.ResponseWriter, r *http.Request) {
	all := handler3.OpenAPIV3Discovery{Paths: map[string]handler3.OpenAPIV3DiscoveryGroupVersion{}}
	sources := []http.Handler{d.v3()}
	if _, theirs, ok := d.remote(); ok {
		sources = append(sources, theirs)
	}
	for _, source := range sources {
		body, err := fetch(source, r, "/openapi/v3")
		var part handler3.OpenAPIV3Discovery
		if err == nil {
			err = json.Unmarshal(body, &part)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		for path, at := range part.Paths {
			if _, ok := all.Paths[path]; !ok {
				all.Paths[path] = at
			}
		}
	}
	for gv, stamp := range d.stamps() {
		path := "apis/" + gv.String()
		if _, ok := all.Paths[path]; !ok {
			all.Paths[path] = handler3.OpenAPIV3DiscoveryGroupVersion{ServerRelativeURL: schemaURL(gv, stamp)}
		}
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(all); err != nil {
		d.s.log.Debug("schemas not answered", "err", err)
	}
}

func schemaURL(gv schema.GroupVersion, stamp string) string {
	return "/openapi/v3/apis/" + gv.String() + "?hash=" + stamp
}

// serveV3 answers /openapi/v3/<path of a version>.
func (d *documents) serveV3(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/openapi/v3/")
	if gv, err := schema.ParseGroupVersion(strings.TrimPrefix(path, "apis/")); err == nil {
		if stamp, ok := d.stamps()[gv]; ok && !slices.Contains(d.s.versions, gv) {
			d.serveCustom(w, r, gv, stamp)
			return
		}
	}
	if _, theirs, ok := d.remote(); ok {
		body, err := fetch(theirs, r, "/openapi/v3")
		var part handler3.OpenAPIV3Discovery
		if err == nil && json.Unmarshal(body, &part) == nil {
			if _, ok := part.Paths[path]; ok {
				theirs.ServeHTTP(w, r)
				return
			}
		}
	}
	d.v3().ServeHTTP(w, r)
}

// serveCustom answers for one version of custom resources. The hash that clients have from the root
// is the stamp, so that none has to be made for it.
func (d *documents) serveCustom(w http.ResponseWriter, r *http.Request, gv schema.GroupVersion, stamp string) {
	if hash := r.URL.Query().Get("hash"); hash != "" {
		if hash != stamp {
			http.Redirect(w, r, schemaURL(gv, stamp), http.StatusMovedPermanently)
			return
		}
		w.Header().Set("Cache-Control", "public, immutable")
	}
	doc, err := d.customDocument(gv, stamp)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	in := r.Clone(r.Context())
	in.URL.RawQuery = ""
	doc.HandleGroupVersion(w, in)
}

func (d *documents) customDocument(gv schema.GroupVersion, stamp string) (*handler3.OpenAPIService, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if have, ok := d.custom[gv]; ok && have.stamp == stamp {
		return have.service, nil
	}
	made, err := d.s.extensions.Load().custom.SchemasV3(gv)
	if err != nil {
		return nil, err
	}
	service := handler3.NewOpenAPIService()
	service.UpdateGroupVersionLazy("apis/"+gv.String(), cached.Static[*spec3.OpenAPI](made, stamp))
	d.custom[gv] = &customDocument{stamp, service}
	return service, nil
}
