package image

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/distribution/reference"
	"golang.org/x/sync/singleflight"
	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/clock"
)

// Service is what a Puller asks of the container runtime; CRI's image service is one.
type Service interface {
	// ImageStatus returns an image, nil when it is not present.
	ImageStatus(ctx context.Context, image *runtimeapi.ImageSpec) (*runtimeapi.Image, error)
	// PullImage pulls an image and returns the reference to run it by.
	PullImage(ctx context.Context, image *runtimeapi.ImageSpec, auth *runtimeapi.AuthConfig, sandbox *runtimeapi.PodSandboxConfig) (string, error)
}

// PullerConfig is what a Puller works with.
type PullerConfig struct {
	// Service has the images. Required.
	Service Service
	// Parallel bounds pulls at the same time. Zero means 4.
	Parallel int
	// FirstBackOff and LastBackOff are the delays after the first failed pull and at most. Zero
	// means 10 s and 5 min, as in Kubernetes.
	FirstBackOff, LastBackOff time.Duration
	// Pulled is called after each image that was pulled; it must not block. Nil ignores.
	Pulled func()
	// Clock times back-off. Nil means the real one.
	Clock clock.PassiveClock
	// Log gets what users do not see. Required.
	Log *slog.Logger
}

// Check reports all that is wrong with the configuration at once.
func (c PullerConfig) Check() error {
	var errs []error
	if c.Service == nil {
		errs = append(errs, errors.New("image: Service is missing"))
	}
	if c.Parallel < 0 || c.FirstBackOff < 0 || c.LastBackOff < 0 {
		errs = append(errs, errors.New("image: Parallel, FirstBackOff and LastBackOff must not be negative"))
	}
	if c.Log == nil {
		errs = append(errs, errors.New("image: Log is missing"))
	}
	return errors.Join(errs...)
}

const (
	// recheck is how often a waiting pod looks whether its image has come by another way, such as
	// an import, before the next pull is due.
	recheck = 10 * time.Second
	// forgetAfter lets the memory of failures go that nobody asked about.
	forgetAfter = time.Hour
)

// Puller gets images for pods. See [Puller.Ensure].
type Puller struct {
	cfg   PullerConfig
	once  singleflight.Group
	slots chan struct{}

	mu     sync.Mutex
	failed map[string]*failure // by pod and image
}

// failure is what is known of an image that could not be pulled.
type failure struct {
	delay time.Duration
	until time.Time // no pull before
	cause error
	told  bool // the BackOff Event of this wait has been written
}

// NewPuller returns a Puller, or what is wrong with the configuration.
func NewPuller(cfg PullerConfig) (*Puller, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if cfg.Parallel == 0 {
		cfg.Parallel = 4
	}
	if cfg.FirstBackOff == 0 {
		cfg.FirstBackOff = 10 * time.Second
	}
	if cfg.LastBackOff == 0 {
		cfg.LastBackOff = 5 * time.Minute
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	return &Puller{cfg: cfg, slots: make(chan struct{}, cfg.Parallel), failed: map[string]*failure{}}, nil
}

// Request asks for one container's image.
type Request struct {
	// Image is what the manifest says.
	Image string
	// Policy is the container's; empty means IfNotPresent.
	Policy corev1.PullPolicy
	// Secrets are the pod's imagePullSecrets, in order.
	Secrets []*corev1.Secret
	// PodUID tells pods apart: each waits for its own back-off.
	PodUID string
	// Sandbox is handed to the runtime with a pull; it may be nil.
	Sandbox *runtimeapi.PodSandboxConfig
	// Event writes an Event about the pod; nil writes none.
	Event func(eventType, reason, message string)
}

func (r Request) event(eventType, reason, format string, args ...any) {
	if r.Event != nil {
		r.Event(eventType, reason, fmt.Sprintf(format, args...))
	}
}

// Ensure returns the reference to run an image by, pulling it first when the policy asks for it.
// It blocks while the image is pulled, until ctx ends; the pull itself then goes on for the next
// who asks. The error is an [*Error] whose Reason is the container's waiting reason.
func (p *Puller) Ensure(ctx context.Context, r Request) (ref string, err error) {
	name, err := withTag(r.Image)
	if err != nil {
		r.event(corev1.EventTypeWarning, "InspectFailed", "Failed to apply default image tag %q: %v", r.Image, err)
		return "", &Error{Reason: ReasonInvalidName, Message: fmt.Sprintf("Failed to apply default image tag %q: %v", r.Image, err)}
	}
	spec := &runtimeapi.ImageSpec{Image: name, UserSpecifiedImage: r.Image}
	have, err := p.cfg.Service.ImageStatus(ctx, spec)
	if err != nil {
		r.event(corev1.EventTypeWarning, "Failed", "Failed to inspect image %q: %v", r.Image, err)
		return "", &Error{Reason: ReasonInspect, Message: fmt.Sprintf("Failed to inspect image %q: %v", r.Image, err), Err: err}
	}
	if have != nil && r.Policy != corev1.PullAlways {
		r.event(corev1.EventTypeNormal, "Pulled", "Container image %q already present on machine", r.Image)
		p.forget(r, name)
		return have.Id, nil
	}
	if r.Policy == corev1.PullNever {
		message := fmt.Sprintf("Container image %q is not present with pull policy of Never", r.Image)
		r.event(corev1.EventTypeWarning, ReasonNeverPull, "%s", message)
		return "", &Error{Reason: ReasonNeverPull, Message: message, After: recheck}
	}
	if err := p.waiting(r, name); err != nil {
		return "", err
	}
	return p.pull(ctx, r, spec)
}

// waiting returns the error of a pod that must not pull yet.
func (p *Puller) waiting(r Request, name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.failed[r.PodUID+"/"+name]
	if f == nil {
		return nil
	}
	left := f.until.Sub(p.cfg.Clock.Now())
	if left <= 0 {
		return nil
	}
	if !f.told {
		f.told = true
		r.event(corev1.EventTypeNormal, "BackOff", "Back-off pulling image %q", r.Image)
		r.event(corev1.EventTypeWarning, "Failed", "Error: %s", ReasonPullBackOff)
	}
	return &Error{Reason: ReasonPullBackOff, Err: f.cause, After: min(left, recheck),
		Message: fmt.Sprintf("Back-off pulling image %q: %s: %v", r.Image, ReasonPull, f.cause)}
}

// pull pulls an image once for all that ask for it with the same credentials at the same time.
func (p *Puller) pull(ctx context.Context, r Request, spec *runtimeapi.ImageSpec) (string, error) {
	auths, bad := credentials(r.Secrets, spec.Image)
	for _, err := range bad {
		r.event(corev1.EventTypeWarning, "FailedToRetrieveImagePullSecret", "%v", err)
	}
	begin := p.cfg.Clock.Now()
	r.event(corev1.EventTypeNormal, "Pulling", "Pulling image %q", r.Image)
	// The first to ask may go away while others wait: the pull does not end with its context.
	detached := context.WithoutCancel(ctx)
	answer := p.once.DoChan(spec.Image+"\n"+fingerprint(auths), func() (any, error) {
		p.slots <- struct{}{}
		defer func() { <-p.slots }()
		return p.pullWithAny(detached, spec, auths, r.Sandbox)
	})
	var got singleflight.Result
	select {
	case <-ctx.Done():
		return "", &Error{Reason: ReasonPull, Message: ctx.Err().Error(), Err: ctx.Err()}
	case got = <-answer:
	}
	if got.Err != nil {
		return "", p.fail(r, spec.Image, got.Err)
	}
	p.forget(r, spec.Image)
	done := got.Val.(pulled)
	r.event(corev1.EventTypeNormal, "Pulled", "Successfully pulled image %q in %s (%s including waiting). Image size: %d bytes.",
		r.Image, done.took.Round(time.Millisecond), p.cfg.Clock.Since(begin).Round(time.Millisecond), done.size)
	return done.ref, nil
}

type pulled struct {
	ref  string
	size uint64
	took time.Duration
}

// pullWithAny tries the credentials that fit, in order; without any the pull is anonymous.
func (p *Puller) pullWithAny(ctx context.Context, spec *runtimeapi.ImageSpec, auths []*runtimeapi.AuthConfig, sandbox *runtimeapi.PodSandboxConfig) (pulled, error) {
	begin := p.cfg.Clock.Now()
	if len(auths) == 0 {
		auths = []*runtimeapi.AuthConfig{nil}
	}
	var errs []error
	for _, auth := range auths {
		ref, err := p.cfg.Service.PullImage(ctx, spec, auth, sandbox)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out := pulled{ref: ref, took: p.cfg.Clock.Since(begin)}
		if img, err := p.cfg.Service.ImageStatus(ctx, spec); err == nil && img != nil {
			out.size = img.Size
		}
		if p.cfg.Pulled != nil {
			p.cfg.Pulled()
		}
		return out, nil
	}
	return pulled{}, errors.Join(errs...)
}

// fail remembers a failed pull, doubles the delay until the next, and tells the user.
func (p *Puller) fail(r Request, name string, cause error) error {
	now := p.cfg.Clock.Now()
	p.mu.Lock()
	for key, f := range p.failed {
		if now.Sub(f.until) > forgetAfter {
			delete(p.failed, key)
		}
	}
	f := p.failed[r.PodUID+"/"+name]
	if f == nil {
		f = &failure{delay: p.cfg.FirstBackOff / 2}
		p.failed[r.PodUID+"/"+name] = f
	}
	f.delay = min(2*f.delay, p.cfg.LastBackOff)
	f.until, f.cause, f.told = now.Add(f.delay), cause, false
	after := min(f.delay, recheck)
	p.mu.Unlock()

	reason := ReasonPull
	if strings.Contains(cause.Error(), ReasonRegistryUnavailable) {
		reason = ReasonRegistryUnavailable
	}
	message := fmt.Sprintf("failed to pull image %q: %v", r.Image, cause)
	r.event(corev1.EventTypeWarning, "Failed", "Failed to pull image %q: %v", r.Image, cause)
	r.event(corev1.EventTypeWarning, "Failed", "Error: %s", reason)
	p.cfg.Log.Debug("image not pulled", "image", name, "err", cause, "retry", f.delay)
	return &Error{Reason: reason, Message: message, Err: cause, After: after}
}

func (p *Puller) forget(r Request, name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.failed, r.PodUID+"/"+name)
}

// withTag adds the tag "latest" to a name that has neither tag nor digest, as CRI wants it.
func withTag(image string) (string, error) {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return "", fmt.Errorf("couldn't parse image name %q: %w", image, err)
	}
	if reference.IsNameOnly(named) {
		return image + ":latest", nil
	}
	return image, nil
}
