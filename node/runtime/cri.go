package runtime

import (
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/troupe-run/troupe/messages"
)

// maxMessage bounds a CRI answer; lists of a full node stay far below.
const maxMessage = 64 << 20

// stopSlack is how much longer than the grace period a stop may take before the call gives up.
const stopSlack = 2 * time.Minute

// CRI is a [Runtime] on the other side of a CRI socket.
type CRI struct {
	conn *grpc.ClientConn
	rt   cri.RuntimeServiceClient
	img  cri.ImageServiceClient
}

// DialCRI returns a client of the runtime that listens on a unix socket. It does not wait: calls
// fail with ErrUnavailable while nobody listens, and the connection comes back by itself.
func DialCRI(socket string) (*CRI, error) {
	target := "unix://" + strings.TrimPrefix(socket, "unix://")
	conn, err := grpc.NewClient(target,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		// A local socket either answers at once or is dead: come back quickly.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
		}))
	if err != nil {
		return nil, fmt.Errorf("dial runtime %s: %w", socket, err)
	}
	return &CRI{conn: conn, rt: cri.NewRuntimeServiceClient(conn), img: cri.NewImageServiceClient(conn)}, nil
}

// Close ends the connection; calls in flight fail.
func (c *CRI) Close() error { return c.conn.Close() }

// Error is a failure a runtime reported: the message of the runtime alone, for users and Events,
// and the class it belongs to for callers.
type Error struct {
	// Op is the CRI call.
	Op string
	// Message is what the runtime said.
	Message string
	// Code is the gRPC code.
	Code  codes.Code
	class error
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s: rpc error: code = %s desc = %s", e.Op, e.Code, e.Message)
}

// Unwrap returns the error class of package messages.
func (e *Error) Unwrap() error { return e.class }

// wrap turns a gRPC error into an [Error].
func wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	s, _ := status.FromError(err)
	e := &Error{Op: op, Message: s.Message(), Code: s.Code()}
	switch s.Code() {
	case codes.NotFound:
		e.class = messages.ErrNotFound
	case codes.Unavailable:
		e.class = messages.ErrUnavailable
	case codes.AlreadyExists:
		e.class = messages.ErrExists
	case codes.InvalidArgument:
		e.class = messages.ErrInvalid
	case codes.DeadlineExceeded:
		e.class = context.DeadlineExceeded
	case codes.Canceled:
		e.class = context.Canceled
	}
	return e
}

// gone drops a not-found error: what was to end has ended.
func gone(err error) error {
	if status.Code(err) == codes.NotFound {
		return nil
	}
	return err
}

func (c *CRI) Version(ctx context.Context) (*cri.VersionResponse, error) {
	r, err := c.rt.Version(ctx, &cri.VersionRequest{Version: "v1"})
	return r, wrap("version", err)
}

func (c *CRI) Status(ctx context.Context) (*cri.RuntimeStatus, error) {
	r, err := c.rt.Status(ctx, &cri.StatusRequest{})
	return r.GetStatus(), wrap("status", err)
}

func (c *CRI) Events(ctx context.Context, fn func(*cri.ContainerEventResponse)) error {
	s, err := c.rt.GetContainerEvents(ctx, &cri.GetEventsRequest{})
	for err == nil {
		var e *cri.ContainerEventResponse
		if e, err = s.Recv(); err == nil {
			fn(e)
		}
	}
	return wrap("container events", err)
}

func (c *CRI) RunPodSandbox(ctx context.Context, config *cri.PodSandboxConfig, handler string) (string, error) {
	r, err := c.rt.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: config, RuntimeHandler: handler})
	return r.GetPodSandboxId(), wrap("run sandbox", err)
}

func (c *CRI) StopPodSandbox(ctx context.Context, id string) error {
	_, err := c.rt.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: id})
	return wrap("stop sandbox", gone(err))
}

func (c *CRI) RemovePodSandbox(ctx context.Context, id string) error {
	_, err := c.rt.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: id})
	return wrap("remove sandbox", gone(err))
}

func (c *CRI) PodSandboxStatus(ctx context.Context, id string) (*cri.PodSandboxStatus, error) {
	r, err := c.rt.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: id})
	return r.GetStatus(), wrap("sandbox status", err)
}

func (c *CRI) ListPodSandbox(ctx context.Context, filter *cri.PodSandboxFilter) ([]*cri.PodSandbox, error) {
	r, err := c.rt.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{Filter: filter})
	return r.GetItems(), wrap("list sandboxes", err)
}

func (c *CRI) CreateContainer(ctx context.Context, sandbox string, config *cri.ContainerConfig, sandboxConfig *cri.PodSandboxConfig) (string, error) {
	r, err := c.rt.CreateContainer(ctx, &cri.CreateContainerRequest{PodSandboxId: sandbox, Config: config, SandboxConfig: sandboxConfig})
	return r.GetContainerId(), wrap("create container", err)
}

func (c *CRI) StartContainer(ctx context.Context, id string) error {
	_, err := c.rt.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: id})
	return wrap("start container", err)
}

func (c *CRI) StopContainer(ctx context.Context, id string, grace time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, grace+stopSlack)
	defer cancel()
	_, err := c.rt.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: id, Timeout: int64(grace / time.Second)})
	return wrap("stop container", gone(err))
}

func (c *CRI) RemoveContainer(ctx context.Context, id string) error {
	_, err := c.rt.RemoveContainer(ctx, &cri.RemoveContainerRequest{ContainerId: id})
	return wrap("remove container", gone(err))
}

func (c *CRI) ContainerStatus(ctx context.Context, id string) (*cri.ContainerStatus, error) {
	r, err := c.rt.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: id})
	return r.GetStatus(), wrap("container status", err)
}

func (c *CRI) ListContainers(ctx context.Context, filter *cri.ContainerFilter) ([]*cri.Container, error) {
	r, err := c.rt.ListContainers(ctx, &cri.ListContainersRequest{Filter: filter})
	return r.GetContainers(), wrap("list containers", err)
}

func (c *CRI) UpdateContainerResources(ctx context.Context, id string, r *cri.LinuxContainerResources) error {
	_, err := c.rt.UpdateContainerResources(ctx, &cri.UpdateContainerResourcesRequest{ContainerId: id, Linux: r})
	return wrap("update container", err)
}

func (c *CRI) ReopenContainerLog(ctx context.Context, id string) error {
	_, err := c.rt.ReopenContainerLog(ctx, &cri.ReopenContainerLogRequest{ContainerId: id})
	return wrap("reopen container log", err)
}

func (c *CRI) ExecSync(ctx context.Context, id string, cmd []string, timeout time.Duration) (stdout, stderr []byte, code int32, err error) {
	if timeout > 0 {
		// The runtime kills the command at its timeout; the call itself gets a little longer to say so.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout+2*time.Second)
		defer cancel()
	}
	r, err := c.rt.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: id, Cmd: cmd, Timeout: int64((timeout + time.Second - 1) / time.Second)})
	return r.GetStdout(), r.GetStderr(), r.GetExitCode(), wrap("exec", err)
}

func (c *CRI) Exec(ctx context.Context, req *cri.ExecRequest) (string, error) {
	r, err := c.rt.Exec(ctx, req)
	return r.GetUrl(), wrap("exec", err)
}

func (c *CRI) Attach(ctx context.Context, req *cri.AttachRequest) (string, error) {
	r, err := c.rt.Attach(ctx, req)
	return r.GetUrl(), wrap("attach", err)
}

func (c *CRI) PortForward(ctx context.Context, req *cri.PortForwardRequest) (string, error) {
	r, err := c.rt.PortForward(ctx, req)
	return r.GetUrl(), wrap("port-forward", err)
}

func (c *CRI) ImageStatus(ctx context.Context, image *cri.ImageSpec) (*cri.Image, error) {
	r, err := c.img.ImageStatus(ctx, &cri.ImageStatusRequest{Image: image})
	return r.GetImage(), wrap("image status", err)
}

func (c *CRI) ListImages(ctx context.Context) ([]*cri.Image, error) {
	r, err := c.img.ListImages(ctx, &cri.ListImagesRequest{})
	return r.GetImages(), wrap("list images", err)
}

// RemoveImage removes an image with all its names; one that is not there is no error.
func (c *CRI) RemoveImage(ctx context.Context, id string) error {
	_, err := c.img.RemoveImage(ctx, &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: id}})
	return wrap("remove image", gone(err))
}

// ImageDir returns the folder that images are unpacked below.
func (c *CRI) ImageDir(ctx context.Context) (string, error) {
	r, err := c.img.ImageFsInfo(ctx, &cri.ImageFsInfoRequest{})
	if err != nil {
		return "", wrap("measure images", err)
	}
	list := r.GetImageFilesystems()
	if len(list) == 0 {
		return "", fmt.Errorf("measure images: the runtime names no disk: %w", messages.ErrUnavailable)
	}
	return list[0].GetFsId().GetMountpoint(), nil
}

// ImageDisk measures the disk that images are unpacked on, in bytes.
func (c *CRI) ImageDisk(ctx context.Context) (capacity, available int64, err error) {
	path, err := c.ImageDir(ctx)
	if err != nil {
		return 0, 0, err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return 0, 0, fmt.Errorf("measure images on %s: %w", path, err)
	}
	return int64(fs.Blocks) * fs.Bsize, int64(fs.Bavail) * fs.Bsize, nil
}

// PodStats returns what each sandbox and the containers in it use.
func (c *CRI) PodStats(ctx context.Context) ([]*cri.PodSandboxStats, error) {
	r, err := c.rt.ListPodSandboxStats(ctx, &cri.ListPodSandboxStatsRequest{})
	return r.GetStats(), wrap("measure pods", err)
}

func (c *CRI) PullImage(ctx context.Context, image *cri.ImageSpec, auth *cri.AuthConfig, sandbox *cri.PodSandboxConfig) (string, error) {
	r, err := c.img.PullImage(ctx, &cri.PullImageRequest{Image: image, Auth: auth, SandboxConfig: sandbox})
	return r.GetImageRef(), err // in the runtime's own words, as users know them from Events
}

var _ Runtime = (*CRI)(nil)
