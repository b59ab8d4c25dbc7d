package runtime

import (
	"context"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Runtime runs sandboxes, containers and images. Errors wrap the classes of package messages:
// ErrNotFound for a thing that is not there (stop and remove of such a thing succeed instead),
// ErrUnavailable when the runtime does not answer.
type Runtime interface {
	Sandboxes
	Containers
	Streams
	Images

	// Version returns the runtime's name and version.
	Version(ctx context.Context) (*cri.VersionResponse, error)
	// Status returns the runtime's conditions (RuntimeReady, NetworkReady).
	Status(ctx context.Context) (*cri.RuntimeStatus, error)
	// Events calls fn for each container event until ctx ends or the stream breaks, and returns
	// why. Events may be lost: list now and then.
	Events(ctx context.Context, fn func(*cri.ContainerEventResponse)) error
}

// Sandboxes runs pod sandboxes.
type Sandboxes interface {
	// RunPodSandbox creates and starts a sandbox with its network and returns its ID.
	RunPodSandbox(ctx context.Context, config *cri.PodSandboxConfig, handler string) (string, error)
	// StopPodSandbox kills what runs in the sandbox and gives its network back.
	StopPodSandbox(ctx context.Context, id string) error
	// RemovePodSandbox removes the sandbox and every container in it.
	RemovePodSandbox(ctx context.Context, id string) error
	// PodSandboxStatus returns one sandbox with its addresses.
	PodSandboxStatus(ctx context.Context, id string) (*cri.PodSandboxStatus, error)
	// ListPodSandbox returns the sandboxes that match; a nil filter means all.
	ListPodSandbox(ctx context.Context, filter *cri.PodSandboxFilter) ([]*cri.PodSandbox, error)
}

// Containers runs containers in sandboxes.
type Containers interface {
	// CreateContainer prepares a container and returns its ID; it does not run yet.
	CreateContainer(ctx context.Context, sandbox string, config *cri.ContainerConfig, sandboxConfig *cri.PodSandboxConfig) (string, error)
	// StartContainer starts a created container.
	StartContainer(ctx context.Context, id string) error
	// StopContainer sends the stop signal, and SIGKILL after the grace period; it returns when the
	// container has ended.
	StopContainer(ctx context.Context, id string, grace time.Duration) error
	// RemoveContainer removes a container, killing it when it runs.
	RemoveContainer(ctx context.Context, id string) error
	// ContainerStatus returns one container.
	ContainerStatus(ctx context.Context, id string) (*cri.ContainerStatus, error)
	// ListContainers returns the containers that match; a nil filter means all.
	ListContainers(ctx context.Context, filter *cri.ContainerFilter) ([]*cri.Container, error)
	// UpdateContainerResources changes what a running container may use.
	UpdateContainerResources(ctx context.Context, id string, r *cri.LinuxContainerResources) error
	// ReopenContainerLog makes the runtime open the container's log file anew, after a rotation.
	ReopenContainerLog(ctx context.Context, id string) error
}

// Streams runs commands in containers. The URLs lead to the runtime's own streaming server.
type Streams interface {
	// ExecSync runs a command to its end; zero timeout means none. A command that ran and failed
	// is no error but an exit code.
	ExecSync(ctx context.Context, id string, cmd []string, timeout time.Duration) (stdout, stderr []byte, code int32, err error)
	// Exec prepares a streaming endpoint for a command.
	Exec(ctx context.Context, req *cri.ExecRequest) (url string, err error)
	// Attach prepares a streaming endpoint for a running container.
	Attach(ctx context.Context, req *cri.AttachRequest) (url string, err error)
	// PortForward prepares a streaming endpoint for ports of a sandbox.
	PortForward(ctx context.Context, req *cri.PortForwardRequest) (url string, err error)
}

// Images keeps container images.
type Images interface {
	// ImageStatus returns an image, nil when it is not present.
	ImageStatus(ctx context.Context, image *cri.ImageSpec) (*cri.Image, error)
	// ListImages returns all images.
	ListImages(ctx context.Context) ([]*cri.Image, error)
	// PullImage pulls an image and returns its reference.
	PullImage(ctx context.Context, image *cri.ImageSpec, auth *cri.AuthConfig, sandbox *cri.PodSandboxConfig) (string, error)
}
