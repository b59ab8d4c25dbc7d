package pod

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// startContainer creates and starts one run of a container and runs its postStart hook.
func (fx *effects) startContainer(ctx context.Context, a action, in input) (outcome, error) {
	p, c := in.pod, findContainer(in.pod, a.name)
	next := in.crash
	if a.attempt > 0 && !a.fresh {
		next = in.crash.after(a.delay)
	}
	id, err := fx.create(ctx, a, in, c, next)
	if err != nil {
		if ctx.Err() == nil {
			fx.cfg.recordOf(p, a.name, corev1.EventTypeWarning, eventFailed, "Error: %s", asTrouble(err).Message)
		}
		rest, listErr := fx.list(ctx, in.uid)
		if listErr != nil {
			return outcome{crash: next}, err
		}
		return outcome{containers: rest.containers, crash: next}, err
	}
	fx.cfg.recordOf(p, c.Name, corev1.EventTypeNormal, eventCreated, "Created container: %s", c.Name)
	err = fx.cfg.Runtime.StartContainer(ctx, id)
	x, readErr := fx.status(ctx, id, a.id)
	o := outcome{crash: next}
	if readErr == nil {
		o.containers = []container{x}
	}
	if err != nil {
		if ctx.Err() == nil {
			fx.cfg.recordOf(p, c.Name, corev1.EventTypeWarning, eventFailed, "Error: %s", words(err))
		}
		return o, &Trouble{Reason: reasonRun, Message: words(err)}
	}
	fx.cfg.recordOf(p, c.Name, corev1.EventTypeNormal, eventStarted, "Started container %s", c.Name)
	if readErr != nil {
		return o, readErr
	}
	if c.Lifecycle == nil || c.Lifecycle.PostStart == nil {
		return o, nil
	}
	if err := fx.hook(ctx, c, c.Lifecycle.PostStart, x.id, podHost(p, in.ips, fx.cfg.Facts().HostIPs)); err != nil && ctx.Err() == nil {
		fx.cfg.recordOf(p, c.Name, corev1.EventTypeWarning, eventFailedPostStart, "PostStartHook failed")
		fx.cfg.recordOf(p, c.Name, corev1.EventTypeNormal, eventKilling, "FailedPostStartHook")
		killErr := fx.cfg.Runtime.StopContainer(ctx, x.id, grace(p))
		if killErr != nil {
			return o, killErr
		}
		if x, readErr = fx.read(ctx, in.uid, x); readErr == nil {
			o.containers = []container{x}
		}
		return o, &Trouble{Reason: reasonPostStart, Message: err.Error()}
	}
	return o, nil
}

// create resolves everything a run needs and creates its container.
func (fx *effects) create(ctx context.Context, a action, in input, c *corev1.Container, next crash) (string, error) {
	p, facts := in.pod, fx.cfg.Facts()
	if in.target.name != "" && in.target.id == "" {
		return "", errNoTarget(in.target.name)
	}
	ips := in.ips
	if p.Spec.HostNetwork {
		ips = facts.HostIPs
	}
	vars, err := environ(p, c, envSource{
		objects: fx.cfg.Control, services: fx.services(p.Namespace, facts), podIPs: ips, hostIPs: facts.HostIPs,
		node: fx.cfg.Node, capacity: facts.Capacity,
	})
	if err != nil {
		return "", &Trouble{Reason: reasonConfig, Message: err.Error()}
	}
	if err := fx.pullVolumes(ctx, in, c); err != nil {
		return "", err
	}
	mounts, err := fx.cfg.Volumes.Mounts(ctx, MountRequest{
		Pod: p, Container: c, Attempt: a.attempt, Lookup: lookup(vars), PodIPs: ips, Domain: facts.Cluster.Domain,
	})
	if err != nil {
		t := asTrouble(err)
		return "", &Trouble{Reason: reasonConfig, Message: t.Message}
	}
	env := fx.environment(p)
	if fx.cfg.Cgroups != nil {
		if env.cgroup, err = fx.cfg.Cgroups.Ensure(p); err != nil {
			return "", &Trouble{Reason: reasonCreate, Message: err.Error()}
		}
	}
	cfg := containerConfig(p, c, run{attempt: a.attempt, round: a.round, image: in.image, env: vars, mounts: mounts, backoff: next.delay, target: in.target.id}, env)
	if wantsNonRoot(p, c) {
		image, err := fx.cfg.Runtime.ImageStatus(ctx, &cri.ImageSpec{Image: in.image})
		if err == nil {
			err = checkNonRoot(cfg.Linux.SecurityContext, image)
		}
		if err != nil {
			return "", &Trouble{Reason: reasonConfig, Message: fmt.Sprintf("%s (pod: %q, container: %s)", err, fullName(p), c.Name)}
		}
	}
	if env.logs != "" {
		if err := os.MkdirAll(filepath.Join(env.logs, c.Name), 0o755); err != nil {
			return "", &Trouble{Reason: reasonCreate, Message: err.Error()}
		}
	}
	leave, err := fx.enter(ctx)
	if err != nil {
		return "", err
	}
	defer leave()
	// Once begun, a creation is seen through: what an interrupted one leaves is harder to find.
	call, cancel := context.WithTimeout(context.WithoutCancel(ctx), callLimit)
	defer cancel()
	id, err := fx.cfg.Runtime.CreateContainer(call, a.id, cfg, sandboxConfig(p, in.sandboxAttempt, env))
	if err != nil {
		return "", &Trouble{Reason: reasonCreate, Message: words(err)}
	}
	return id, nil
}

// services returns what becomes variables: the namespace's services and the API's.
func (fx *effects) services(namespace string, facts Facts) []*corev1.Service {
	var out []*corev1.Service
	if fx.cfg.Services != nil {
		out = fx.cfg.Services(namespace)
	}
	for _, s := range out {
		if s.Namespace == metav1.NamespaceDefault && s.Name == "kubernetes" {
			return out
		}
	}
	if facts.Cluster.APIHost == "" {
		return out
	}
	return append(out[:len(out):len(out)], &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "kubernetes"},
		Spec: corev1.ServiceSpec{
			ClusterIP: facts.Cluster.APIHost,
			Ports:     []corev1.ServicePort{{Name: "https", Protocol: corev1.ProtocolTCP, Port: facts.Cluster.APIPort}},
		},
	})
}

// podHost is the address probes and hooks of a pod go to.
func podHost(p *corev1.Pod, ips, hostIPs []string) string {
	if p.Spec.HostNetwork {
		return first(hostIPs)
	}
	return first(ips)
}

// status reads one container.
func (fx *effects) status(ctx context.Context, id, sandbox string) (container, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callLimit)
	defer cancel()
	st, err := fx.cfg.Runtime.ContainerStatus(ctx, id)
	if err != nil {
		return container{}, err
	}
	return containerStatus(st, sandbox), nil
}
