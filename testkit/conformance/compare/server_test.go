package compare

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// server is one of the two that are compared.
type server struct {
	host string
	http *http.Client
}

func newServer(t *testing.T, kubeconfig string) *server {
	t.Helper()
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Timeout = 20 * time.Second
	client, err := rest.HTTPClientFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &server{host: cfg.Host, http: client}
}

// answer is what a server says, without what differs from one server to another by nature.
type answer struct {
	Code     int
	Warnings []string
	Body     map[string]any
}

// ask sends one request; body may be nil.
func (s *server) ask(method, path, accept string, body any) (answer, error) {
	var content io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return answer{}, err
		}
		content = bytes.NewReader(data)
	}
	req, err := http.NewRequest(method, s.host+path, content)
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch {
		req.Header.Set("Content-Type", "application/merge-patch+json")
	}
	if accept == "" {
		accept = "application/json"
	}
	req.Header.Set("Accept", accept)
	resp, err := s.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, err
	}
	out := answer{Code: resp.StatusCode, Warnings: resp.Header.Values("Warning")}
	slices.Sort(out.Warnings)
	if err := json.Unmarshal(data, &out.Body); err != nil {
		return answer{}, fmt.Errorf("%s %s: %d %.200s: %w", method, path, resp.StatusCode, data, err)
	}
	return out, nil
}
