package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// startWithin is far longer than a start takes.
const startWithin = 2 * time.Minute

// troupe is a running cluster.
type troupe struct {
	dir, addr string
	proc      *exec.Cmd
	out       *output
	ended     chan struct{}
}

// shared is the cluster of the tests that keep to a namespace of their own.
var (
	binary string
	shared *troupe
)

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "conformance-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if binary = os.Getenv("TROUPE"); binary == "" {
		if binary, err = filepath.Abs("../../bin/troupe"); err != nil {
			return 0, err
		}
		if out, err := exec.Command("make", "-C", "../..", "bin/troupe").CombinedOutput(); err != nil {
			return 0, fmt.Errorf("build troupe: %w\n%s", err, out)
		}
	}
	if shared, err = start(filepath.Join(dir, "shared"), ""); err != nil {
		return 0, err
	}
	defer func() {
		err = errors.Join(err, shared.stop())
		if code != 0 {
			fmt.Fprintf(os.Stderr, "troupe said:\n%s\n", shared.out)
		}
	}()
	return m.Run(), nil
}

// start runs troupe up on a data folder, at an address or, if that is empty, at any.
func start(dir, addr string) (*troupe, error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	t := &troupe{dir: dir, out: newOutput("ready in"), ended: make(chan struct{})}
	t.proc = exec.Command(binary, "up", "--runtime", "sim", "--nodes", "2", "--data-dir", dir, "--api-addr", addr, "--nats-addr", "")
	t.proc.Stdout, t.proc.Stderr = t.out, t.out
	if err := t.proc.Start(); err != nil {
		return nil, err
	}
	go func() { _ = t.proc.Wait(); close(t.ended) }()
	select {
	case <-t.out.said:
	case <-t.ended:
		return nil, fmt.Errorf("troupe ended early:\n%s", t.out)
	case <-time.After(startWithin):
		return nil, errors.Join(fmt.Errorf("troupe is not ready:\n%s", t.out), t.kill())
	}
	cfg, err := t.config()
	if err != nil {
		return nil, errors.Join(err, t.kill())
	}
	t.addr = strings.TrimPrefix(cfg.Host, "https://")
	_, _, err = net.SplitHostPort(t.addr)
	return t, err
}

// stop ends troupe as a user would, kill as a power cut.
func (t *troupe) stop() error { return t.end(os.Interrupt) }
func (t *troupe) kill() error { return t.end(os.Kill) }

func (t *troupe) end(sig os.Signal) error {
	if err := t.proc.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-t.ended:
		return nil
	case <-time.After(time.Minute):
		return errors.Join(fmt.Errorf("troupe does not end on %v", sig), t.proc.Process.Kill())
	}
}

func (t *troupe) kubeconfig() string { return filepath.Join(t.dir, "kubeconfig") }

func (t *troupe) config() (*rest.Config, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", t.kubeconfig())
	if err == nil {
		cfg.QPS = -1
	}
	return cfg, err
}

func (t *troupe) client(tb testing.TB) *kubernetes.Clientset {
	tb.Helper()
	cfg, err := t.config()
	if err != nil {
		tb.Fatal(err)
	}
	return kubernetes.NewForConfigOrDie(cfg)
}

// output keeps what a program prints, and tells when it has printed something.
type output struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	want string
	said chan struct{}
}

func newOutput(want string) *output { return &output{want: want, said: make(chan struct{})} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf.Write(p)
	if o.want != "" && strings.Contains(o.buf.String(), o.want) {
		o.want = ""
		close(o.said)
	}
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// within is a context for what has to be done soon.
func within(tb testing.TB, d time.Duration) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), d)
	tb.Cleanup(cancel)
	return ctx
}

// until calls fn until it gives no error.
func until(ctx context.Context, t *testing.T, what string, fn func(context.Context) error) {
	t.Helper()
	var last error
	if err := wait.PollUntilContextCancel(ctx, 20*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		last = fn(ctx)
		return last == nil, nil
	}); err != nil {
		t.Fatalf("%s: %v (%v)", what, err, last)
	}
}
