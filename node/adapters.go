package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/troupe-run/troupe/node/image"
	"github.com/troupe-run/troupe/node/link"
	"github.com/troupe-run/troupe/node/pod"
	"github.com/troupe-run/troupe/node/volume"
)

// images lets pods get their images by a puller; Events go out by record.
type images struct {
	puller *image.Puller
	record func(link.Event)
}

func (i images) Ensure(ctx context.Context, p *corev1.Pod, c *corev1.Container, secrets []*corev1.Secret, sandbox *cri.PodSandboxConfig) (string, error) {
	ref, err := i.puller.Ensure(ctx, image.Request{
		Image: c.Image, Policy: c.ImagePullPolicy, Secrets: secrets, PodUID: string(p.UID), Sandbox: sandbox,
		Event: func(kind, reason, message string) {
			i.record(link.Event{Pod: p, FieldPath: pod.FieldPath(p, c.Name), Type: kind, Reason: reason, Message: message})
		},
	})
	var e *image.Error
	if errors.As(err, &e) && ctx.Err() == nil {
		return "", &pod.Trouble{Reason: e.Reason, Message: e.Message, After: e.After}
	}
	return ref, err
}

// volumes lets pods get their files by a manager, whose calls for one pod must not overlap.
type volumes struct {
	manager *volume.Manager

	mu   sync.Mutex
	pods map[types.UID]*sync.Mutex
}

func newVolumes(m *volume.Manager) *volumes {
	return &volumes{manager: m, pods: make(map[types.UID]*sync.Mutex)}
}

func (v *volumes) lock(uid types.UID) (unlock func()) {
	v.mu.Lock()
	m := v.pods[uid]
	if m == nil {
		m = &sync.Mutex{}
		v.pods[uid] = m
	}
	v.mu.Unlock()
	m.Lock()
	return m.Unlock
}

func (v *volumes) Setup(ctx context.Context, p *corev1.Pod) error {
	defer v.lock(p.UID)()
	return v.manager.Setup(ctx, p)
}

func (v *volumes) Refresh(ctx context.Context, p *corev1.Pod) error {
	defer v.lock(p.UID)()
	return v.manager.Refresh(ctx, p)
}

// Usage only reads, and long: it holds nobody up.
func (v *volumes) Usage(ctx context.Context, p *corev1.Pod) (map[string]int64, error) {
	return v.manager.Usage(ctx, p)
}

func (v *volumes) Mounts(_ context.Context, m pod.MountRequest) ([]*cri.Mount, error) {
	defer v.lock(m.Pod.UID)()
	out, err := v.manager.Mounts(m.Pod, m.Container, func(name string) (string, error) {
		if value, ok := m.Lookup(name); ok {
			return value, nil
		}
		return "", fmt.Errorf("missing value for %q", name)
	})
	if err != nil {
		return nil, err
	}
	for _, x := range out {
		if x.Image != nil { // a runtime knows imported images by their full names only
			x.Image.Image = image.NormalName(x.Image.UserSpecifiedImage)
		}
	}
	if !mountsAt(out, "/etc/hosts") {
		hosts, err := v.manager.Hosts(m.Pod, m.PodIPs, pod.Hostname(m.Pod), pod.Subdomain(m.Pod, m.Domain))
		if err != nil {
			return nil, err
		}
		out = append(out, hosts)
	}
	termination, err := v.manager.TerminationFile(m.Pod.UID, m.Container, m.Attempt)
	if err != nil {
		return nil, err
	}
	if !mountsAt(out, termination.ContainerPath) {
		out = append(out, termination)
	}
	return out, nil
}

func mountsAt(list []*cri.Mount, path string) bool {
	for _, m := range list {
		if m.ContainerPath == path {
			return true
		}
	}
	return false
}

func (v *volumes) Termination(uid types.UID, container string, attempt uint32) (string, error) {
	return v.manager.Termination(uid, container, attempt)
}

func (v *volumes) Teardown(_ context.Context, uid types.UID) error {
	defer v.lock(uid)()
	err := v.manager.Teardown(uid)
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.pods, uid)
	return err
}

func (v *volumes) Sweep(_ context.Context, alive []types.UID) error { return v.manager.Sweep(alive) }

// desk asks for service account tokens over the link.
type desk struct{ link *link.Link }

func (d desk) Token(ctx context.Context, p *corev1.Pod, audience string, lifetime time.Duration) (string, time.Time, error) {
	req := link.TokenRequest{Pod: p, Expiry: lifetime}
	if audience != "" {
		req.Audiences = []string{audience}
	}
	t, err := d.link.Token(ctx, req)
	return t.Value, t.Expires, err
}

var (
	_ pod.Images    = images{}
	_ pod.Volumes   = (*volumes)(nil)
	_ volume.Tokens = desk{}
	_ pod.Control   = (*link.Link)(nil)
)
