package pod

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/troupe-run/troupe/node/eviction"
	"github.com/troupe-run/troupe/node/runtime"
)

// callLimit bounds a runtime call that nobody can wait for longer.
const callLimit = 2 * time.Minute

// effects does what decide asked for. Its methods run off the actor, several at a time, and touch
// nothing of it.
type effects struct {
	cfg   *Config
	views *views
}

// input is what work knows of the pod when it begins.
type input struct {
	pod            *corev1.Pod // nil for an orphan
	uid            types.UID
	ips            []string
	sandboxAttempt uint32
	image          string
	crash          crash
	container      container
	target         target
	all            bool
}

// outcome is what work found out.
type outcome struct {
	sandboxes  []sandbox
	containers []container
	gone       string // ID of what was removed
	image      string
	crash      crash
	usage      map[string]int64
	disk       *eviction.Usage
	all        bool
}

func (fx *effects) do(ctx context.Context, a action, in input) (outcome, error) {
	switch a.kind {
	case setUpVolumes:
		return outcome{}, fx.setUp(ctx, in)
	case refreshVolumes:
		return fx.refresh(ctx, in)
	case runSandbox:
		return fx.runSandbox(ctx, a, in)
	case stopSandbox:
		return fx.stopSandbox(ctx, a, in)
	case removeSandbox:
		if err := fx.cfg.Runtime.RemovePodSandbox(ctx, a.id); err != nil {
			return outcome{}, err
		}
		return outcome{gone: a.id}, nil
	case ensureImage:
		return fx.ensureImage(ctx, a, in)
	case startContainer:
		return fx.startContainer(ctx, a, in)
	case stopContainer:
		return fx.stopContainer(ctx, a, in)
	case removeContainer:
		return fx.removeContainer(ctx, a, in)
	case readContainer:
		x, err := fx.read(ctx, in.uid, in.container)
		return outcome{containers: []container{x}}, err
	case updateContainer:
		return fx.updateContainer(ctx, a, in)
	case fitPod:
		return outcome{}, fx.fitPod(in)
	case sweepPod:
		return outcome{all: in.all}, fx.sweep(ctx, in)
	}
	panic(fmt.Sprintf("unknown action %d", a.kind)) // decide makes no others
}

// enter takes a place among the calls that create or remove something.
func (fx *effects) enter(ctx context.Context) (leave func(), err error) {
	if fx.cfg.starts == nil {
		return func() {}, ctx.Err()
	}
	select {
	case fx.cfg.starts <- struct{}{}:
		return func() { <-fx.cfg.starts }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (fx *effects) setUp(ctx context.Context, in input) error {
	err := fx.cfg.Volumes.Setup(ctx, in.pod)
	if err != nil && ctx.Err() == nil {
		fx.cfg.record(in.pod, corev1.EventTypeWarning, eventFailedMount, "%s", asTrouble(err).Message)
	}
	return err
}

// asTrouble gives every error a waiting reason and the words a user sees.
func asTrouble(err error) *Trouble {
	var t *Trouble
	if errors.As(err, &t) {
		return t
	}
	return &Trouble{Message: words(err)}
}

// words is what the runtime itself said, where the error came from it.
func words(err error) string {
	var e *runtime.Error
	if errors.As(err, &e) {
		return e.Message
	}
	return err.Error()
}

func (fx *effects) environment(p *corev1.Pod) environment {
	facts := fx.cfg.Facts()
	env := environment{
		node:   fx.cfg.Node,
		dns:    dnsFacts{server: facts.Cluster.DNS, domain: facts.Cluster.Domain, host: fx.cfg.Resolver},
		limits: machine{memory: fx.cfg.Memory, minOOMScore: fx.cfg.MinOOMScore},
	}
	if fx.cfg.LogRoot != "" {
		env.logs = logDir(fx.cfg.LogRoot, p)
	}
	return env
}

func (fx *effects) runSandbox(ctx context.Context, a action, in input) (outcome, error) {
	leave, err := fx.enter(ctx)
	if err != nil {
		return outcome{}, err
	}
	defer leave()
	fail := func(err error) (outcome, error) {
		fx.cfg.record(in.pod, corev1.EventTypeWarning, eventFailedSandbox, "Failed to create pod sandbox: %s", err)
		// The runtime may have got half the way: look, so that the next attempt clears it away.
		rest, listErr := fx.list(ctx, in.uid)
		if listErr != nil {
			return outcome{}, err
		}
		return outcome{sandboxes: rest.sandboxes, containers: rest.containers}, err
	}
	if u := in.pod.Spec.HostUsers; u != nil && !*u && !fx.cfg.UserNamespaces {
		// Without users of its own it would run as the machine's, which it asks not to.
		return fail(errors.New("user namespaces (hostUsers: false) are not supported on this node"))
	}
	env := fx.environment(in.pod)
	if fx.cfg.Cgroups != nil {
		if env.cgroup, err = fx.cfg.Cgroups.Ensure(in.pod); err != nil {
			return fail(fmt.Errorf("make cgroup: %w", err))
		}
	}
	if env.logs != "" {
		if err := os.MkdirAll(env.logs, 0o755); err != nil {
			return fail(fmt.Errorf("make log folder: %w", err))
		}
	}
	handler := ""
	if in.pod.Spec.RuntimeClassName != nil {
		handler = *in.pod.Spec.RuntimeClassName
	}
	call, cancel := context.WithTimeout(ctx, 2*callLimit)
	defer cancel()
	id, err := fx.cfg.Runtime.RunPodSandbox(call, sandboxConfig(in.pod, a.attempt, env), handler)
	if err != nil {
		return fail(err)
	}
	st, err := fx.cfg.Runtime.PodSandboxStatus(call, id)
	if err != nil {
		return fail(err)
	}
	return outcome{sandboxes: []sandbox{sandboxStatus(st)}}, nil
}

func (fx *effects) stopSandbox(ctx context.Context, a action, in input) (outcome, error) {
	leave, err := fx.enter(ctx)
	if err != nil {
		return outcome{}, err
	}
	defer leave()
	if err := fx.cfg.Runtime.StopPodSandbox(ctx, a.id); err != nil {
		fx.cfg.record(in.pod, corev1.EventTypeWarning, eventFailedKill, "error killing pod: %s", words(err))
		return outcome{}, err
	}
	// What ran in it has been killed; say so, also when the sandbox itself is gone from the records.
	rest, err := fx.list(ctx, in.uid)
	if err != nil {
		return outcome{}, err
	}
	o := outcome{containers: rest.containers}
	for _, b := range rest.sandboxes {
		if b.id == a.id {
			b.ready = false
			o.sandboxes = append(o.sandboxes, b)
		}
	}
	if len(o.sandboxes) == 0 {
		o.gone = a.id
	}
	return o, nil
}

func (fx *effects) ensureImage(ctx context.Context, a action, in input) (outcome, error) {
	ref, err := fx.pull(ctx, in, findContainer(in.pod, a.name))
	return outcome{image: ref}, err
}

// pullVolumes gets the images onto the node that a container mounts as volumes, on its behalf: it
// waits for them.
func (fx *effects) pullVolumes(ctx context.Context, in input, c *corev1.Container) error {
	for _, m := range c.VolumeMounts {
		i := slices.IndexFunc(in.pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name })
		if i < 0 || in.pod.Spec.Volumes[i].Image == nil {
			continue
		}
		source := in.pod.Spec.Volumes[i].Image
		if _, err := fx.pull(ctx, in, &corev1.Container{Name: c.Name, Image: source.Reference, ImagePullPolicy: source.PullPolicy}); err != nil {
			return err
		}
	}
	return nil
}

// pull gets the image of a container onto the node.
func (fx *effects) pull(ctx context.Context, in input, c *corev1.Container) (ref string, err error) {
	var secrets []*corev1.Secret
	for _, ref := range in.pod.Spec.ImagePullSecrets {
		if s, ok := fx.cfg.Control.Secret(in.pod.Namespace, ref.Name); ok {
			secrets = append(secrets, s)
		}
	}
	// Only the identity and the annotations of the sandbox matter to a pull.
	sb := &cri.PodSandboxConfig{
		Metadata:    &cri.PodSandboxMetadata{Name: in.pod.Name, Namespace: in.pod.Namespace, Uid: string(in.uid)},
		Annotations: in.pod.Annotations,
	}
	return fx.cfg.Images.Ensure(ctx, in.pod, c, secrets, sb)
}

func (fx *effects) removeContainer(ctx context.Context, a action, in input) (outcome, error) {
	if err := fx.cfg.Runtime.RemoveContainer(ctx, a.id); err != nil {
		return outcome{}, err
	}
	if p := in.container.logPath; p != "" {
		old, _ := filepath.Glob(p + ".*") // the only error is a bad pattern
		for _, f := range append(old, p) {
			if err := os.Remove(f); err != nil && !errors.Is(err, os.ErrNotExist) {
				return outcome{gone: a.id}, fmt.Errorf("remove log: %w", err)
			}
		}
	}
	return outcome{gone: a.id}, nil
}

// sweep takes down what is outside the runtime.
func (fx *effects) sweep(ctx context.Context, in input) error {
	errs := []error{fx.cfg.Volumes.Teardown(ctx, in.uid)}
	if fx.cfg.Cgroups != nil {
		errs = append(errs, fx.cfg.Cgroups.Remove(in.uid))
	}
	if in.all && fx.cfg.LogRoot != "" {
		dirs, _ := filepath.Glob(filepath.Join(fx.cfg.LogRoot, "*_"+string(in.uid)))
		for _, d := range dirs {
			errs = append(errs, os.RemoveAll(d))
		}
	}
	return errors.Join(errs...)
}

// list reads everything the runtime has of one pod. It works also when ctx has just ended, for it
// is how the outcome of an interrupted call is found out.
func (fx *effects) list(ctx context.Context, uid types.UID) (observed, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callLimit)
	defer cancel()
	return inventory(ctx, fx.cfg, map[string]string{labelPodUID: string(uid)}, fx.cfg.Clock.Now(), nil)
}

// inventory reads this node's sandboxes and containers with the labels given; others may share the
// runtime. Of containers in known, with the state the list shows, no status is asked for.
func inventory(ctx context.Context, cfg *Config, labels map[string]string, since time.Time, known func(id string, st cri.ContainerState) bool) (observed, error) {
	out, rt := observed{all: true, since: since}, cfg.Runtime
	ours := make(map[string]bool)
	boxes, err := rt.ListPodSandbox(ctx, &cri.PodSandboxFilter{LabelSelector: labels})
	if err != nil {
		return out, err
	}
	list, err := rt.ListContainers(ctx, &cri.ContainerFilter{LabelSelector: labels})
	if err != nil {
		return out, err
	}
	for _, b := range boxes {
		if b.GetAnnotations()[noteNode] != cfg.Node {
			continue
		}
		ours[b.GetId()] = true
		x := sandboxOf(b.GetId(), b.GetMetadata(), b.GetState(), b.GetCreatedAt())
		x.uid = types.UID(b.GetMetadata().GetUid())
		if known == nil {
			st, err := rt.PodSandboxStatus(ctx, b.GetId())
			if err != nil {
				continue // went meanwhile
			}
			uid := x.uid
			x = sandboxStatus(st)
			x.uid = uid
		}
		out.sandboxes = append(out.sandboxes, x)
	}
	for _, c := range list {
		if !ours[c.GetPodSandboxId()] {
			continue
		}
		uid := types.UID(c.GetLabels()[labelPodUID])
		if known != nil && known(c.GetId(), c.GetState()) {
			out.containers = append(out.containers, container{id: c.GetId(), uid: uid, name: c.GetMetadata().GetName(), unchanged: true})
			continue
		}
		st, err := rt.ContainerStatus(ctx, c.GetId())
		if err != nil {
			continue
		}
		x := containerStatus(st, c.GetPodSandboxId())
		x.uid = uid
		out.containers = append(out.containers, x)
	}
	return out, nil
}
