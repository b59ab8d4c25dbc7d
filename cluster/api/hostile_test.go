package api_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/troupe-run/troupe/cluster/api"
)

// hostile is a request that no server should do anything for.
type hostile struct {
	name, method, path, mime, encoding string
	body                               []byte
}

const deployment = `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","labels":{"app":"web"}},"spec":{"replicas":1,` +
	`"selector":{"matchLabels":{"app":"web"}},"template":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"c","image":"i",` +
	`"ports":[{"containerPort":80}],"resources":{"limits":{"cpu":"1"}}}]}}}}`

const (
	deployments = "/apis/apps/v1/namespaces/default/deployments"
	configMaps  = "/api/v1/namespaces/default/configmaps"
	victim      = configMaps + "/victim"
	jsonMIME    = "application/json"
	jsonPatch   = "application/json-patch+json"
	mergePatch  = "application/merge-patch+json"
	strategic   = "application/strategic-merge-patch+json"
	applyPatch  = "application/apply-patch+yaml"
)

// rawConfigMap is the JSON of one with the members given besides its kind.
func rawConfigMap(members string) []byte {
	return []byte(`{"apiVersion":"v1","kind":"ConfigMap",` + members + `}`)
}

// attacks make hostile requests of one sort each, from random numbers.
var attacks = []func(r *rand.Rand) hostile{
	func(r *rand.Rand) hostile { // deep
		n := 1001 + r.IntN(100_000)
		open, end := "[", "]"
		if r.IntN(2) == 0 {
			open, end = `{"a":`, `}`
		}
		return hostile{name: "deep", method: http.MethodPost, path: configMaps, mime: jsonMIME,
			body: rawConfigMap(`"metadata":` + strings.Repeat(open, n) + "1" + strings.Repeat(end, n*r.IntN(2)))}
	},
	func(r *rand.Rand) hostile { // huge
		return hostile{name: "huge", method: http.MethodPost, path: configMaps, mime: jsonMIME,
			body: rawConfigMap(`"metadata":{"name":"a"},"data":{"a":"` + strings.Repeat("x", 3<<20+r.IntN(1<<20)) + `"}`)}
	},
	func(r *rand.Rand) hostile { // many: each element is far larger in memory
		element := []string{"{}", "null", `{"name":"a"}`}[r.IntN(3)]
		n := 20_001 + r.IntN(3<<20/(len(element)+1)-20_001)
		return hostile{name: "many", method: http.MethodPost, path: deployments, mime: jsonMIME,
			body: []byte(strings.Replace(deployment, `{"name":"c"`, strings.Repeat(element+",", n)+`{"name":"c"`, 1))}
	},
	func(r *rand.Rand) hostile { // many maps in each other's neighbourhood
		return hostile{name: "many maps", method: http.MethodPatch, path: victim, mime: mergePatch,
			body: []byte(`{"data":{` + strings.Repeat(`"a":{},`, 320_000) + `"b":"c"}}`)}
	},
	func(r *rand.Rand) hostile { // a value of another type
		types := []string{"[]", "{}", "true", "1.5", `"text"`, "-1", "1e400", "[[]]"}
		fields := map[string]string{`"replicas":1`: `"replicas":`, `"selector":{"matchLabels":{"app":"web"}}`: `"selector":`,
			`"containers":[{"name":"c"`: `"containers":[{"name":`, `"containerPort":80`: `"containerPort":`, `"labels":{"app":"web"}`: `"labels":`}
		names := make([]string, 0, len(fields))
		for f := range fields {
			names = append(names, f)
		}
		slices.Sort(names)
		f := names[r.IntN(len(names))]
		good := map[string][]string{`"replicas":1`: {"-1"}, `"containers":[{"name":"c"`: {`"text"`}, `"labels":{"app":"web"}`: {"{}"}}
		v := types[r.IntN(len(types))]
		for slices.Contains(good[f], v) {
			v = types[r.IntN(len(types))]
		}
		return hostile{name: "type of " + f + " " + v, method: http.MethodPost, path: deployments, mime: jsonMIME,
			body: []byte(strings.Replace(deployment, f, fields[f]+v, 1))}
	},
	func(r *rand.Rand) hostile { // cut off
		return hostile{name: "cut", method: http.MethodPost, path: deployments, mime: jsonMIME, body: []byte(deployment[:r.IntN(len(deployment)-1)])}
	},
	func(r *rand.Rand) hostile { // bytes flipped until it is no JSON
		b := []byte(deployment)
		b[r.IntN(len(b))] = byte(1 + r.IntN(8))
		return hostile{name: "flipped", method: http.MethodPost, path: deployments, mime: jsonMIME, body: append(b, '}')}
	},
	func(r *rand.Rand) hostile { // what is no text where text is checked
		bad := string([]byte{byte(0x80 + r.IntN(0x40)), 0xff})
		members := []string{`"metadata":{"name":"` + bad + `"}`, `"metadata":{"name":"a","labels":{"` + bad + `":""}}`,
			`"metadata":{"name":"a","labels":{"a":"` + bad + `"}}`, `"metadata":{"name":"a"},"data":{"` + bad + `":""}`}
		return hostile{name: "encoding", method: http.MethodPost, path: configMaps, mime: jsonMIME, body: rawConfigMap(members[r.IntN(len(members))])}
	},
	func(r *rand.Rand) hostile { // UTF-16
		var b []byte
		for _, c := range deployment {
			b = append(b, byte(c), 0)
		}
		return hostile{name: "UTF-16", method: http.MethodPost, path: deployments, mime: jsonMIME, body: b}
	},
	func(r *rand.Rand) hostile { // the same key twice, a key that is not known
		members := []string{`"metadata":{"name":"a","name":"b"}`, `"metadata":{"name":"a"},"data":{"a":"1","a":"2"}`, `"metadata":{"name":"a"},"date":{}`}
		return hostile{name: "strict", method: http.MethodPost, path: configMaps + "?fieldValidation=Strict", mime: jsonMIME,
			body: rawConfigMap(members[r.IntN(len(members))])}
	},
	func(r *rand.Rand) hostile { // names
		names := []string{"../../etc", strings.Repeat("a", 254+r.IntN(10_000)), "A", "a b", "-a", "a/b", "\u202e", ""}
		name, _ := json.Marshal(names[r.IntN(len(names))])
		return hostile{name: "name", method: http.MethodPost, path: configMaps, mime: jsonMIME, body: rawConfigMap(`"metadata":{"name":` + string(name) + `}`)}
	},
	func(r *rand.Rand) hostile { // something else than it says
		mimes := []string{"application/vnd.kubernetes.protobuf", "application/cbor", "application/xml", "text/plain", "image/png", ";", "application/yaml"}
		b := make([]byte, 1+r.IntN(4000))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		if r.IntN(2) == 0 {
			b = append([]byte("k8s\x00"), b...)
		}
		return hostile{name: "noise", method: http.MethodPost, path: configMaps, mime: mimes[r.IntN(len(mimes))], body: b}
	},
	func(r *rand.Rand) hostile { // compressed, which no body may be
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = w.Write(make([]byte, 1<<20+r.IntN(4<<20)))
		_ = w.Close()
		return hostile{name: "gzip", method: http.MethodPost, path: configMaps, mime: jsonMIME, encoding: "gzip", body: b.Bytes()}
	},
	func(r *rand.Rand) hostile { // a thousand million laughs
		var b strings.Builder
		b.WriteString("a0: &a0 [lol,lol,lol,lol,lol,lol,lol,lol,lol]\n")
		for i := 1; i < 8+r.IntN(20); i++ {
			fmt.Fprintf(&b, "a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), 9), ","))
		}
		b.WriteString("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: victim}\n")
		if r.IntN(2) == 0 {
			return hostile{name: "YAML bomb", method: http.MethodPatch, path: victim + "?fieldManager=m", mime: applyPatch, body: []byte(b.String())}
		}
		return hostile{name: "YAML bomb", method: http.MethodPost, path: configMaps, mime: "application/yaml", body: []byte(b.String())}
	},
	func(r *rand.Rand) hostile { // a list in few bytes
		text := strings.Repeat("- \n", 300_000+r.IntN(100_000))
		if r.IntN(2) == 0 {
			text = "[" + strings.Repeat("~,", 400_000) + "~]"
		}
		return hostile{name: "YAML list", method: http.MethodPost, path: deployments, mime: "application/yaml",
			body: []byte("apiVersion: apps/v1\nkind: Deployment\nspec:\n template:\n  spec:\n   containers:\n" + text)}
	},
	func(r *rand.Rand) hostile { // too many steps
		return hostile{name: "JSON patch", method: http.MethodPatch, path: victim, mime: jsonPatch,
			body: []byte("[" + strings.Repeat(`{"op":"test","path":"/kind","value":"ConfigMap"},`, 10_000+r.IntN(5000)) + `{"op":"test","path":"/kind","value":"ConfigMap"}]`)}
	},
	func(r *rand.Rand) hostile { // each step doubles it
		return hostile{name: "copy bomb", method: http.MethodPatch, path: victim, mime: jsonPatch,
			body: []byte(`[{"op":"add","path":"/data/a","value":{"x":"` + strings.Repeat("x", 1000) + `"}},` +
				strings.Repeat(`{"op":"copy","from":"/data","path":"/data/a/x"},`, 20+r.IntN(60)) + `{"op":"test","path":"/kind","value":"ConfigMap"}]`)}
	},
	func(r *rand.Rand) hostile { // patches that are none
		mimes := []string{jsonPatch, mergePatch, strategic, applyPatch}
		bodies := []string{"", "[", `"text"`, "1", "true", `[{"op":"boo"}]`, `{"metadata":{"name":"other"}}`, `{"metadata":1}`,
			`[{"op":"replace","path":"/metadata/name","value":1}]`, `[{"op":"remove","path":"/nothing"}]`, `{"data":["a"]}`}
		return hostile{name: "patch", method: http.MethodPatch, path: victim + "?fieldManager=m&fieldValidation=Strict", mime: mimes[r.IntN(len(mimes))],
			body: []byte(bodies[r.IntN(len(bodies))])}
	},
	func(r *rand.Rand) hostile { // questions
		queries := []string{"labelSelector=a+in+(", "labelSelector=" + url.QueryEscape(strings.Repeat("!", 1+r.IntN(5000))), "fieldSelector=status.nope%3D1",
			"limit=x", "resourceVersion=abc", "continue=%00%00", "watch=1&resourceVersion=abc", "sendInitialEvents=true",
			"resourceVersionMatch=Sometimes&resourceVersion=1", "labelSelector=a%3D" + strings.Repeat("b", 64+r.IntN(5000))}
		return hostile{name: "query", method: http.MethodGet, path: configMaps + "?" + queries[r.IntN(len(queries))]}
	},
	func(r *rand.Rand) hostile { // numbers and quantities
		values := []string{`"1e1000000000000"`, `1e-1000000000000`, `"0.0000000000000000000000000000x"`, `"` + strings.Repeat("9", 1+r.IntN(5000)) + `x"`, `"--1"`, `"1Qi"`, `{"a":1}`}
		return hostile{name: "quantity", method: http.MethodPost, path: deployments, mime: jsonMIME,
			body: []byte(strings.Replace(deployment, `"cpu":"1"`, `"cpu":`+values[r.IntN(len(values))], 1))}
	},
}

// hostileRequests is how many there are, costlyRequests how many of a costly sort.
const (
	hostileRequests = 10_000
	costlyRequests  = 10
)

var costly = map[string]bool{"huge": true, "many": true, "many maps": true, "YAML list": true, "JSON patch": true, "gzip": true, "deep": true,
	"definition wide": true, "definition rules": true, "definition patterns": true, "definition deep": true, "custom size": true, "policy large": true}

// TestHostileBodies sends ten thousand requests that mean harm. Each is refused for what it is, and
// the server is no larger afterwards.
func TestHostileBodies(t *testing.T) {
	c, ctx := start(t), t.Context()
	must(c.client.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "victim"},
		Data: map[string]string{"a": "b"}}, metav1.CreateOptions{}))
	c.define(t, widgets)
	must(c.dynamic(t).Resource(widgetsResource).Namespace("default").Create(ctx, widget("victim", map[string]any{"size": int64(1)}), metav1.CreateOptions{}))
	client := must(rest.HTTPClientFor(c.as(t, "admin", "system:masters")))
	attacks := slices.Concat(attacks, customAttacks)

	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	jobs := make(chan hostile)
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for h := range jobs {
				if code, answer := send(ctx, client, c.url, h); code < 400 || code > 499 {
					t.Errorf("%s: %d %.300s\n%s %s %.900q", h.name, code, answer, h.method, h.path, h.body)
				}
			}
		})
	}
	r := rand.New(rand.NewPCG(4, 0))
	peak, made := uint64(0), make([]int, len(attacks))
	for i := 0; i < hostileRequests; {
		n := r.IntN(len(attacks))
		if made[n] == costlyRequests {
			continue
		}
		h := attacks[n](r)
		if costly[h.name] {
			made[n]++
		}
		jobs <- h
		if i++; i%250 == 0 {
			runtime.ReadMemStats(&after)
			peak = max(peak, after.HeapAlloc)
		}
	}
	close(jobs)
	workers.Wait()
	client.CloseIdleConnections()
	runtime.GC()
	runtime.ReadMemStats(&after)
	t.Logf("heap before %d MB, at most %d MB, after %d MB", before.HeapAlloc>>20, peak>>20, after.HeapAlloc>>20)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 32<<20 {
		t.Errorf("the heap is %d MB larger", grown>>20)
	}
	if peak > before.HeapAlloc+512<<20 {
		t.Errorf("the heap was up to %d MB", peak>>20)
	}
	if cm := must(c.client.CoreV1().ConfigMaps("default").List(ctx, metav1.ListOptions{})); len(cm.Items) != 1 {
		t.Errorf("something was stored: %d config maps", len(cm.Items))
	}
	if crds := must(c.extensions(t).ApiextensionsV1().CustomResourceDefinitions().List(ctx, metav1.ListOptions{})); len(crds.Items) != 1 {
		t.Errorf("something was stored: %d definitions", len(crds.Items))
	}
	if list := must(c.dynamic(t).Resource(widgetsResource).List(ctx, metav1.ListOptions{})); len(list.Items) != 1 || list.Items[0].GetGeneration() != 1 {
		t.Errorf("something was stored: %d custom resources", len(list.Items))
	}
}

func send(ctx context.Context, client *http.Client, base string, h hostile) (code int, answer string) {
	req, err := http.NewRequestWithContext(ctx, h.method, base+h.path, bytes.NewReader(h.body))
	if err != nil {
		return 0, err.Error()
	}
	if h.mime != "" {
		req.Header.Set("Content-Type", h.mime)
	}
	if h.encoding != "" {
		req.Header.Set("Content-Encoding", h.encoding)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, string(b)
}

func TestLimitsOfOneClient(t *testing.T) {
	t.Parallel()
	c := start(t, func(cfg *api.Config) { cfg.MaxWatches = 2 })
	ctx := t.Context()

	t.Run("too large, in Kubernetes' words", func(t *testing.T) {
		client := must(rest.HTTPClientFor(c.as(t, "admin", "system:masters")))
		code, answer := send(ctx, client, c.url, hostile{method: http.MethodPost, path: configMaps, mime: jsonMIME, body: make([]byte, 3<<20+1)})
		if code != http.StatusRequestEntityTooLarge || !strings.Contains(answer, "Request entity too large: limit is 3145728") {
			t.Errorf("%d %s", code, answer)
		}
	})
	t.Run("watches", func(t *testing.T) {
		ann, bob := c.clientAs(t, "ann", "system:masters"), c.clientAs(t, "bob", "system:masters")
		first := must(ann.CoreV1().Pods("").Watch(ctx, metav1.ListOptions{}))
		second := must(ann.CoreV1().Secrets("").Watch(ctx, metav1.ListOptions{}))
		defer second.Stop()
		third := func() (int, string) { // client-go would wait as it is told, and try again
			ctx, stop := context.WithCancel(ctx)
			defer stop()
			return send(ctx, must(rest.HTTPClientFor(c.as(t, "ann", "system:masters"))), c.url,
				hostile{method: http.MethodGet, path: "/api/v1/nodes?watch=1&timeoutSeconds=1"})
		}
		if code, answer := third(); code != http.StatusTooManyRequests || !strings.Contains(answer, "has 2 watches already") {
			t.Errorf("third watch: %d %s", code, answer)
		}
		must(bob.CoreV1().Pods("").Watch(ctx, metav1.ListOptions{})).Stop()
		first.Stop()
		eventually(t, func() bool { code, _ := third(); return code == http.StatusOK })
	})
	t.Run("a body that never ends", func(t *testing.T) {
		client := must(rest.HTTPClientFor(c.as(t, "admin", "system:masters")))
		body, w := io.Pipe()
		defer w.Close()
		req := must(http.NewRequestWithContext(ctx, http.MethodPost, c.url+configMaps+"?timeout=1s", body))
		req.Header.Set("Content-Type", jsonMIME)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusGatewayTimeout {
			t.Errorf("answered %d", resp.StatusCode)
		}
	})
	t.Run("headers", func(t *testing.T) {
		client := must(rest.HTTPClientFor(c.as(t, "admin", "system:masters")))
		req := must(http.NewRequestWithContext(ctx, http.MethodGet, c.url+"/version", nil))
		req.Header.Set("X-Large", strings.Repeat("x", 2<<20))
		if resp, err := client.Do(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
				t.Errorf("answered %d", resp.StatusCode)
			}
		}
	})
	t.Run("TLS", func(t *testing.T) {
		addr := strings.TrimPrefix(c.url, "https://")
		dial := func(cfg *tls.Config) error {
			cfg.InsecureSkipVerify = true
			conn, err := tls.Dial("tcp", addr, cfg)
			if err == nil {
				_ = conn.Close()
			}
			return err
		}
		if err := dial(&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil {
			t.Error("TLS 1.1 is good enough")
		}
		for _, suite := range tls.InsecureCipherSuites() {
			if err := dial(&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite.ID}}); err == nil {
				t.Errorf("%s is good enough", suite.Name)
			}
		}
		if err := dial(&tls.Config{}); err != nil {
			t.Errorf("a plain client: %v", err)
		}
	})
}
