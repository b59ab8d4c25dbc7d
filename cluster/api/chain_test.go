package api_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"k8s.io/apiserver/pkg/warning"
	"k8s.io/client-go/rest"

	"github.com/troupe-run/troupe/cluster/api"
)

// TestSlowBodies are given up when the time of their request is over, over either protocol.
func TestSlowBodies(t *testing.T) {
	t.Parallel()
	c := start(t)
	for _, protocol := range []string{"http/1.1", "h2"} {
		cfg := c.as(t, "admin", "system:masters")
		cfg.NextProtos = []string{protocol}
		client := must(rest.HTTPClientFor(cfg))
		body, slowly := io.Pipe()
		begun := time.Now()
		go func() {
			_, _ = io.WriteString(slowly, `{"apiVersion":"v1","kind":"ConfigMap","metadata":`)
			<-t.Context().Done()
			_ = slowly.Close()
		}()
		resp, err := client.Post(c.url+"/api/v1/namespaces/default/configmaps?timeout=1s", "application/json", body)
		if err != nil {
			t.Fatalf("%s: %v", protocol, err)
		}
		answer, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusGatewayTimeout || !strings.Contains(string(answer), `"reason":"Timeout"`) {
			t.Errorf("%s: %s %s", protocol, resp.Status, answer)
		}
		if took := time.Since(begun); took < time.Second || took > 20*time.Second {
			t.Errorf("%s: answered after %s", protocol, took)
		}
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	answer := func(handle http.HandlerFunc) []string {
		w := httptest.NewRecorder()
		api.WithWarnings(handle).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		return w.Result().Header["Warning"]
	}
	got := answer(func(w http.ResponseWriter, r *http.Request) {
		for _, text := range []string{"one", "two", "one", ""} {
			warning.AddWarning(r.Context(), "", text)
		}
		_, _ = w.Write(nil)
		warning.AddWarning(r.Context(), "", "too late")
	})
	if want := `[299 - "one" 299 - "two"]`; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
	got = answer(func(w http.ResponseWriter, r *http.Request) {
		for i := range 50 {
			warning.AddWarning(r.Context(), "", fmt.Sprint(i, strings.Repeat("ä", 400)))
		}
		w.WriteHeader(http.StatusOK)
	})
	if len(got) != 16 || utf8.RuneCountInString(got[0]) != len(`299 - ""`)+256 {
		t.Errorf("%d warnings, the first of %d characters", len(got), utf8.RuneCountInString(got[0]))
	}
	// A write whose request was given up may warn while the answer is sent.
	for range 100 {
		var late sync.WaitGroup
		answer(func(w http.ResponseWriter, r *http.Request) {
			late.Go(func() { warning.AddWarning(r.Context(), "", "late") })
			w.WriteHeader(http.StatusGatewayTimeout)
			w.Header().Set("After", "all")
		})
		late.Wait()
	}
}
