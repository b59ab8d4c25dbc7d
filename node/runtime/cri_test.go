package runtime

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/troupe-run/troupe/messages"
)

// fakeService knows no container, sends one event and hangs up.
type fakeService struct {
	cri.UnimplementedRuntimeServiceServer
}

func (fakeService) StopContainer(context.Context, *cri.StopContainerRequest) (*cri.StopContainerResponse, error) {
	return nil, status.Error(codes.NotFound, "no such container")
}

func (fakeService) ContainerStatus(context.Context, *cri.ContainerStatusRequest) (*cri.ContainerStatusResponse, error) {
	return nil, status.Error(codes.NotFound, "no such container")
}

func (fakeService) CreateContainer(context.Context, *cri.CreateContainerRequest) (*cri.CreateContainerResponse, error) {
	return nil, status.Error(codes.Unknown, "no space left on device")
}

func (fakeService) GetContainerEvents(_ *cri.GetEventsRequest, s grpc.ServerStreamingServer[cri.ContainerEventResponse]) error {
	if err := s.Send(&cri.ContainerEventResponse{ContainerId: "c1"}); err != nil {
		return err
	}
	return status.Error(codes.Unavailable, "bye")
}

func TestErrorsHaveTheirClass(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "cri.sock")
	c, err := DialCRI(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := c.Version(ctx); !errors.Is(err, messages.ErrUnavailable) {
		t.Errorf("nobody listens: %v", err)
	}

	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	cri.RegisterRuntimeServiceServer(srv, fakeService{})
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(srv.Stop)
	for { // the connection comes back by itself
		if err = c.StopContainer(ctx, "c1", time.Second); !errors.Is(err, messages.ErrUnavailable) {
			break
		}
	}
	if err != nil {
		t.Errorf("stop of what is gone: %v", err)
	}
	if _, err := c.ContainerStatus(ctx, "c1"); !errors.Is(err, messages.ErrNotFound) {
		t.Errorf("status of what is gone: %v", err)
	}
	var e *Error
	if _, err := c.CreateContainer(ctx, "s", nil, nil); !errors.As(err, &e) || e.Message != "no space left on device" {
		t.Errorf("create: %v", err)
	}
	var got []string
	err = c.Events(ctx, func(e *cri.ContainerEventResponse) { got = append(got, e.GetContainerId()) })
	if !errors.Is(err, messages.ErrUnavailable) || len(got) != 1 {
		t.Errorf("events = %v, then %v", got, err)
	}
}
