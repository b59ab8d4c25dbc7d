package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/troupe-run/troupe/messages"
)

// pollServing is how often a starting containerd is asked; it is up in a fraction of a second.
const pollServing = 20 * time.Millisecond

// connect makes a client without waiting for the server: the socket may not exist yet. The short
// back-off makes it find a restarted containerd at once.
func connect(socket string) (*link, error) {
	params := grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: pollServing, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
		MinConnectTimeout: 5 * time.Second,
	}
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(params),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return call(inNamespace(ctx), method, req, reply, cc, opts...)
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			return open(inNamespace(ctx), desc, cc, method, opts...)
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20), grpc.MaxCallSendMsgSize(16<<20)))
	if err != nil {
		return nil, fmt.Errorf("connect to containerd at %s: %w", socket, err)
	}
	c, err := containerd.NewWithConn(conn, containerd.WithDefaultNamespace(Namespace))
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("connect to containerd at %s: %w", socket, err)
	}
	return &link{conn: conn, client: c}, nil
}

// inNamespace puts calls that name no namespace into ours; the client does so only for connections
// it made itself.
func inNamespace(ctx context.Context) context.Context {
	if _, ok := namespaces.Namespace(ctx); ok {
		return ctx
	}
	return namespaces.WithNamespace(ctx, Namespace)
}

// link is one connection to containerd and the two things spoken over it.
type link struct {
	conn   *grpc.ClientConn
	client *containerd.Client // closes conn
}

func (l *link) runtime() runtimeapi.RuntimeServiceClient {
	return runtimeapi.NewRuntimeServiceClient(l.conn)
}

func (l *link) close() error {
	if err := l.client.Close(); err != nil {
		return fmt.Errorf("close connection to containerd: %w", err)
	}
	return nil
}

// awaitServing waits until containerd serves both its API and CRI. It gives up when p, if any, has
// ended, when timeout is over or ctx ends.
func awaitServing(ctx context.Context, l *link, p *process, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		err := serving(ctx, l)
		if err == nil {
			return nil
		}
		if p != nil && !p.alive() {
			return fmt.Errorf("it ended: %w", messages.ErrUnavailable)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no answer: %w", errors.Join(messages.ErrUnavailable, err))
		case <-time.After(pollServing):
		}
	}
}

func serving(ctx context.Context, l *link) error {
	health, err := l.client.HealthService().Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		return err
	}
	if health.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("health is %s", health.Status)
	}
	_, err = l.runtime().Version(ctx, &runtimeapi.VersionRequest{})
	return err
}

// forgetLastBoot removes running state that a reboot made meaningless where /run survives one.
func (c Config) forgetLastBoot() error {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return fmt.Errorf("prepare containerd: %w", err)
	}
	file := filepath.Join(c.RunDir, "boot")
	if have, err := os.ReadFile(file); err == nil && string(have) == string(boot) {
		return nil
	}
	if err := os.RemoveAll(c.RunDir); err != nil {
		return fmt.Errorf("clear state of the last boot: %w", err)
	}
	if err := os.MkdirAll(c.RunDir, 0o711); err != nil {
		return fmt.Errorf("prepare containerd: %w", err)
	}
	if err := os.WriteFile(file, boot, 0o600); err != nil {
		return fmt.Errorf("prepare containerd: %w", err)
	}
	return nil
}
