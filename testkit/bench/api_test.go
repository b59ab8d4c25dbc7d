package bench_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/troupe-run/troupe/testkit/bench"
)

const (
	apiClients = 16
	apiObjects = 4000
	apiPods    = 10_000
)

// BenchmarkAPI is what requests a second the API answers: HTTPS and JSON, no compression, 16 clients
// with a connection each in this process, the server in its own. ConfigMaps hold 1 KB of data; pods
// ask for a scheduler that does not exist, so that nothing but the API works on them. Answers are
// read whole and not decoded. Each figure comes with the server's processor time for one request.
func BenchmarkAPI(b *testing.B) {
	for b.Loop() {
		apiRates(b)
	}
}

// against names another API server that BenchmarkAPI measures, for comparison on the same machine.
var against = flag.String("against", "", "kubeconfig of an API server that runs already, for BenchmarkAPI to measure instead of troupe")

func apiRates(b *testing.B) {
	var p *bench.Process // nil for another one
	var cfg *rest.Config
	var err error
	if *against == "" {
		p = start(b, 1)
		defer stop(b, p)
		cfg, err = p.Config()
	} else {
		cfg, err = clientcmd.BuildConfigFromFlags("", *against)
	}
	if err != nil {
		b.Fatal(err)
	}
	clients := apiClientsOf(b, cfg)
	maps := func(name string) string { return "/api/v1/namespaces/default/configmaps/" + name }
	// What is sent is made beforehand.
	bodies := func(n int, of func(i int) any) [][]byte {
		out := make([][]byte, n)
		for i := range out {
			out[i] = encoded(b, of(i))
		}
		return out
	}
	creates := bodies(apiObjects, func(i int) any { return configMap(i, 0) })
	updates := bodies(2*apiObjects, func(i int) any { return configMap(i%apiObjects, 1+i) })
	podCreates := bodies(apiPods, func(i int) any { return lonelyPod(i) })

	apiPhase(b, p, "creates", apiObjects, func(ctx context.Context, c rest.Interface, i int) error {
		return c.Post().AbsPath(maps("")).Body(creates[i]).Do(ctx).Error()
	}, clients)
	apiPhase(b, p, "updates", 2*apiObjects, func(ctx context.Context, c rest.Interface, i int) error {
		return c.Put().AbsPath(maps(configMapName(i % apiObjects))).Body(updates[i]).Do(ctx).Error()
	}, clients)
	apiPhase(b, p, "gets", 5*apiObjects, func(ctx context.Context, c rest.Interface, i int) error {
		return read(ctx, c.Get().AbsPath(maps(configMapName(i%apiObjects))), 1<<10)
	}, clients)
	apiPhase(b, p, "lists", 10*apiClients, func(ctx context.Context, c rest.Interface, i int) error {
		return read(ctx, c.Get().AbsPath(maps("")), apiObjects<<10)
	}, clients)
	pods := "/api/v1/namespaces/default/pods"
	apiPhase(b, p, "pod-creates", apiPods, func(ctx context.Context, c rest.Interface, i int) error {
		return c.Post().AbsPath(pods).Body(podCreates[i]).Do(ctx).Error()
	}, clients)
	apiPhase(b, p, "pod-lists", 2*apiClients, func(ctx context.Context, c rest.Interface, i int) error {
		return read(ctx, c.Get().AbsPath(pods), apiPods<<10)
	}, clients)
}

// apiPhase has the clients do n requests together and reports their rate and cost.
func apiPhase(b *testing.B, p *bench.Process, name string, n int, do func(context.Context, rest.Interface, int) error, clients []rest.Interface) {
	b.Helper()
	served := func() (cpu time.Duration) {
		if p != nil {
			cpu = usage(b, p).CPU
		}
		return cpu
	}
	before, begun := served(), time.Now()
	ownBefore := ownCPU(b)
	var next atomic.Int64
	var all sync.WaitGroup
	for _, c := range clients {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				if err := do(b.Context(), c, int(i)); err != nil {
					b.Errorf("%s: %v", name, err)
					return
				}
			}
		})
	}
	all.Wait()
	took, cpu := time.Since(begun), served()-before
	if b.Failed() {
		b.FailNow()
	}
	b.ReportMetric(float64(n)/took.Seconds(), name+"/s")
	if p != nil {
		b.ReportMetric(float64(cpu.Microseconds())/float64(n), "us-"+name[:len(name)-1])
	}
	b.ReportMetric(float64((ownCPU(b)-ownBefore).Microseconds())/float64(n), "us-client-"+name[:len(name)-1])
}

// apiClientsOf returns clients that do not share connections.
func apiClientsOf(b *testing.B, cfg *rest.Config) []rest.Interface {
	cfg.QPS, cfg.ContentType, cfg.DisableCompression = -1, "application/json", true
	clients := make([]rest.Interface, apiClients)
	for i := range clients {
		own := rest.CopyConfig(cfg)
		own.Dial = (&net.Dialer{}).DialContext
		set, err := kubernetes.NewForConfig(own)
		if err != nil {
			b.Fatal(err)
		}
		clients[i] = set.CoreV1().RESTClient()
	}
	return clients
}

// read takes a whole answer, which must not be shorter than least.
func read(ctx context.Context, r *rest.Request, least int) error {
	data, err := r.DoRaw(ctx)
	if err == nil && len(data) < least {
		err = fmt.Errorf("an answer of %d bytes, less than %d", len(data), least)
	}
	return err
}

func encoded(b *testing.B, obj any) []byte {
	data, err := json.Marshal(obj)
	if err != nil {
		b.Error(err)
	}
	return data
}

func configMapName(i int) string { return fmt.Sprintf("load-%05d", i) }

func configMap(i, value int) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Name: configMapName(i), Labels: map[string]string{loadLabel: "true"}},
		Data:       map[string]string{"value": fmt.Sprint(value), "content": strings.Repeat("0123456789abcdef", 64)},
	}
}

const loadLabel = "troupe.run/load"

// lonelyPod is like a pod of bench.Load, but nobody schedules it.
func lonelyPod(i int) *corev1.Pod {
	return &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("load-%05d", i), Labels: map[string]string{loadLabel: "true"}},
		Spec: corev1.PodSpec{
			SchedulerName: "nobody",
			Containers: []corev1.Container{{
				Name: "web", Image: "registry.example/web:v1",
				Env:   []corev1.EnvVar{{Name: "MODE", Value: "load"}},
				Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
			}},
		},
	}
}

// ownCPU is the processor time this process, the clients, has used.
func ownCPU(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
