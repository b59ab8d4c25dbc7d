package bench_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/troupe-run/troupe/testkit/bench"
)

// binary is the program that is measured. It must be built as `make bin/troupe` builds it: without
// cgo the linker leaves out what is never called, with it the program is a third larger.
func binary(b *testing.B) string {
	b.Helper()
	path := os.Getenv("TROUPE_BIN")
	if path == "" {
		path = "../../bin/troupe"
	}
	path, err := filepath.Abs(path)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		b.Skipf("%v: run make bin/troupe, or name the program with TROUPE_BIN", err)
	}
	return path
}

func start(b *testing.B, nodes int) *bench.Process {
	b.Helper()
	p, err := bench.Start(b.Context(), binary(b), b.TempDir(), nodes)
	if err != nil {
		b.Fatal(err)
	}
	return p
}

func stop(b *testing.B, p *bench.Process) {
	b.Helper()
	if err := p.Stop(); err != nil {
		b.Error(err)
	}
}

func usage(b *testing.B, p *bench.Process) bench.Usage {
	b.Helper()
	u, err := p.Usage()
	if err != nil {
		b.Fatal(err)
	}
	return u
}

const megabyte = 1 << 20

// BenchmarkUp is the start of a cluster on an empty folder, from exec until the API is ready and
// until everything is.
func BenchmarkUp(b *testing.B) {
	var api, ready time.Duration
	for b.Loop() {
		p := start(b, 1)
		api, ready = api+p.API, ready+p.Ready
		stop(b, p)
	}
	b.ReportMetric(float64(api.Milliseconds())/float64(b.N), "api-ms")
	b.ReportMetric(float64(ready.Milliseconds())/float64(b.N), "ready-ms")
}

// settle is how long a new cluster is left alone before it counts as idle.
const settle = 15 * time.Second

// BenchmarkIdle is one idle minute of a cluster with one node.
func BenchmarkIdle(b *testing.B) {
	for b.Loop() {
		p := start(b, 1)
		time.Sleep(settle)
		before := usage(b, p)
		begun := time.Now()
		time.Sleep(time.Minute)
		after := usage(b, p)
		b.ReportMetric(100*(after.CPU-before.CPU).Seconds()/time.Since(begun).Seconds(), "%core")
		b.ReportMetric(float64(after.Written-before.Written), "B-written/min")
		b.ReportMetric(float64(after.RSS)/megabyte, "MB-rss")
		b.ReportMetric(float64(after.Private)/megabyte, "MB-private")
		stop(b, p)
	}
}

// BenchmarkDeployments is 10 Deployments of 500 replicas on 100 simulated nodes, from the first
// request until all pods run. State is kept on the disk of the temporary folder (TMPDIR).
func BenchmarkDeployments(b *testing.B) {
	for b.Loop() {
		deployments(b)
	}
}

func deployments(b *testing.B) {
	const nodes = 100
	p := start(b, nodes)
	defer stop(b, p)
	cfg, err := p.Config()
	if err != nil {
		b.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		b.Fatal(err)
	}
	waitNodes(b, client, nodes)
	before := usage(b, p)
	load := bench.Load{Client: client, Deployments: 10, Replicas: 500}
	took, err := load.Run(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	after := usage(b, p)
	b.ReportMetric(float64(load.Pods())/took.Seconds(), "pods/s")
	b.ReportMetric(float64(after.PeakRSS)/megabyte, "MB-peak")
	b.ReportMetric((after.CPU - before.CPU).Seconds(), "cpu-s")
	b.ReportMetric(float64(after.Written-before.Written)/megabyte, "MB-written")
}
