package api_test

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/troupe-run/troupe/cluster/api"
	"github.com/troupe-run/troupe/cluster/api/kinds"
	"github.com/troupe-run/troupe/cluster/auth"
	"github.com/troupe-run/troupe/cluster/bus"
	"github.com/troupe-run/troupe/cluster/state"
)

// cluster is a server on a loopback port over a store in memory.
type cluster struct {
	*api.Server
	auth       *auth.Authority
	store      *state.Store
	url        string
	kubeconfig string
	client     *kubernetes.Clientset
	stop       func()
	cfg        api.Config
}

func start(t testing.TB, change ...func(*api.Config)) *cluster {
	t.Helper()
	ctx := context.Background()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	b, err := bus.Start(ctx, bus.Config{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close(ctx) })
	resources, events := api.Resources(kinds.All())
	store, err := state.Open(ctx, state.Config{Bus: b, Resources: resources, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close(ctx) })
	eventStore, err := state.Open(ctx, state.Config{Bus: b, Bucket: "events", Async: true, Resources: events, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = eventStore.Close(ctx) })
	authority, err := auth.Open(auth.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := api.Config{Store: store, Events: eventStore, Kinds: kinds.All(), Authority: authority, Listener: ln, Log: log}
	cfg.Advertise = netip.MustParseAddrPort("192.0.2.1:6443") // not where it listens, which pods could not reach
	cfg.Dial = func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", ln.Addr().String())
	}
	for _, fn := range change {
		fn(&cfg)
	}
	srv, err := api.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	run, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- srv.Run(run) }()
	end := sync.OnceFunc(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(end)
	select {
	case <-srv.Ready():
	case err := <-done:
		t.Fatalf("server ended early: %v", err)
	}
	c := &cluster{Server: srv, stop: end, cfg: cfg, auth: authority, store: store, url: "https://" + ln.Addr().String(),
		kubeconfig: filepath.Join(t.TempDir(), "kubeconfig")}
	if err := authority.WriteKubeconfig(c.kubeconfig, c.url); err != nil {
		t.Fatal(err)
	}
	if c.client, err = kubernetes.NewForConfig(srv.LoopbackConfig()); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *cluster) as(t testing.TB, user string, groups ...string) *rest.Config {
	t.Helper()
	crt, err := c.auth.Client(user, groups...)
	if err != nil {
		t.Fatal(err)
	}
	certPEM, keyPEM, err := auth.EncodePair(crt)
	if err != nil {
		t.Fatal(err)
	}
	return &rest.Config{Host: c.url, QPS: -1, TLSClientConfig: rest.TLSClientConfig{
		CAData: c.auth.CAPEM(), CertData: certPEM, KeyData: keyPEM,
	}}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
