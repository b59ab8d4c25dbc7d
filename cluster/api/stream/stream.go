package stream

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// Config says how nodes are found and reached.
type Config struct {
	// Reader is where pods, services and nodes are looked up. Required.
	Reader objects.Reader
	// Dial opens a connection to a node's HTTP surface. Nil answers every request with
	// ServiceUnavailable.
	Dial func(ctx context.Context, node string) (net.Conn, error)
	// Authorizer is asked whether a GET that opens a stream may do so: it does what a POST does,
	// so it needs the right to create, too. Required.
	Authorizer authorizer.Authorizer
}

// Pods builds the subresources.
type Pods struct{ cfg Config }

// New returns the subresources over the nodes of cfg.
func New(cfg Config) *Pods { return &Pods{cfg} }

func (p *Pods) pod(ctx context.Context, name string) (*corev1.Pod, error) {
	pod, ok := objects.Get[*corev1.Pod](p.cfg.Reader, messages.KeyOf(messages.Pods, request.NamespaceValue(ctx), name))
	if !ok {
		return nil, apierrors.NewNotFound(corev1.Resource("pods"), name)
	}
	return pod, nil
}

// transport reaches one node; it keeps no connections.
func (p *Pods) transport(node string) (*http.Transport, error) {
	if p.cfg.Dial == nil {
		return nil, apierrors.NewServiceUnavailable("this server has no connection to nodes")
	}
	return &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := p.cfg.Dial(ctx, node)
			if err != nil {
				return nil, fmt.Errorf("dial node %s: %w", node, err)
			}
			return conn, nil
		},
	}, nil
}

// location is a place on a node's HTTP surface. The host only names the node: [Pods.transport]
// knows how to get there.
func location(node string, query url.Values, path ...string) *url.URL {
	return &url.URL{Scheme: "http", Host: node, Path: "/" + strings.Join(path, "/"), RawQuery: query.Encode()}
}

// container picks the container that is meant: the one named, or the only one there is.
func container(pod *corev1.Pod, name string) (string, error) {
	if name != "" {
		if !hasContainer(pod, name) {
			return "", apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", name, pod.Name))
		}
		return name, nil
	}
	switch len(pod.Spec.Containers) {
	case 0:
		return "", apierrors.NewBadRequest(fmt.Sprintf("a container name must be specified for pod %s", pod.Name))
	case 1:
		return pod.Spec.Containers[0].Name, nil
	}
	msg := fmt.Sprintf("a container name must be specified for pod %s, choose one of: [%s]",
		pod.Name, strings.Join(names(pod.Spec.Containers), " "))
	if len(pod.Spec.InitContainers) > 0 {
		msg += fmt.Sprintf(" or one of the init containers: [%s]", strings.Join(names(pod.Spec.InitContainers), " "))
	}
	return "", apierrors.NewBadRequest(msg)
}

func names(containers []corev1.Container) []string {
	out := make([]string, len(containers))
	for i := range containers {
		out[i] = containers[i].Name
	}
	return out
}

func hasContainer(pod *corev1.Pod, name string) bool {
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return true
			}
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if pod.Spec.EphemeralContainers[i].Name == name {
			return true
		}
	}
	return false
}
