package stream

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/proxy"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	translator "k8s.io/apiserver/pkg/util/proxy"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// Exec serves pods/exec.
func (p *Pods) Exec() rest.Storage {
	return &connect{p, "exec", func() runtime.Object { return &corev1.PodExecOptions{} }}
}

// Attach serves pods/attach.
func (p *Pods) Attach() rest.Storage {
	return &connect{p, "attach", func() runtime.Object { return &corev1.PodAttachOptions{} }}
}

// PortForward serves pods/portforward.
func (p *Pods) PortForward() rest.Storage {
	return &connect{p, "portforward", func() runtime.Object { return &corev1.PodPortForwardOptions{} }}
}

// connect is a subresource that upgrades to a stream.
type connect struct {
	*Pods
	sub     string
	options func() runtime.Object
}

func (*connect) New() runtime.Object { return &corev1.Pod{} }

// Destroy does nothing: there is no storage.
func (*connect) Destroy() {}

// NewConnectOptions says which query parameters there are.
func (c *connect) NewConnectOptions() (runtime.Object, bool, string) { return c.options(), false, "" }

// ConnectMethods are those of SPDY clients and of WebSocket clients.
func (*connect) ConnectMethods() []string { return []string{http.MethodGet, http.MethodPost} }

// Connect returns the handler that joins the client with the node.
func (c *connect) Connect(ctx context.Context, name string, options runtime.Object, responder rest.Responder) (http.Handler, error) {
	if err := c.mayCreate(ctx, name); err != nil {
		return nil, err
	}
	pod, err := c.pod(ctx, name)
	if err != nil {
		return nil, err
	}
	if pod.Spec.NodeName == "" {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("pod %s does not have a host assigned", name))
	}
	transport, err := c.transport(pod.Spec.NodeName)
	if err != nil {
		return nil, err
	}
	if opts, ok := options.(*corev1.PodPortForwardOptions); ok {
		q := url.Values{}
		for _, port := range opts.Ports {
			q.Add("port", strconv.Itoa(int(port)))
		}
		direct := upgrade(location(pod.Spec.NodeName, q, "portForward", pod.Namespace, pod.Name, string(pod.UID)), transport, responder)
		return translator.NewTranslatingHandler(direct, translator.NewTunnelingHandler(direct),
			wsstream.IsWebSocketRequestWithTunnelingProtocol), nil
	}
	streams, command, wanted, err := streamOptions(options)
	if err != nil {
		return nil, err
	}
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("cannot %s into a container in a completed pod; current phase is %s", c.sub, pod.Status.Phase))
	}
	target, err := container(pod, wanted)
	if err != nil {
		return nil, err
	}
	loc := location(pod.Spec.NodeName, streamQuery(streams, command), c.sub, pod.Namespace, pod.Name, string(pod.UID), target)
	return translator.NewTranslatingHandler(upgrade(loc, transport, responder),
		translator.NewStreamTranslatorHandler(loc, transport, 0, streams), wsstream.IsWebSocketRequestWithStreamCloseProtocol), nil
}

func upgrade(loc *url.URL, transport http.RoundTripper, responder rest.Responder) http.Handler {
	return proxy.NewUpgradeAwareHandler(loc, transport, false, true, proxy.NewErrorResponder(responder))
}

// mayCreate asks again about a GET: the chain of filters has only asked about reading.
func (c *connect) mayCreate(ctx context.Context, name string) error {
	info, ok := request.RequestInfoFrom(ctx)
	if !ok || info.Verb == "create" {
		return nil
	}
	u, _ := request.UserFrom(ctx)
	decision, reason, err := c.cfg.Authorizer.Authorize(ctx, authorizer.AttributesRecord{
		User: u, Verb: "create", Namespace: request.NamespaceValue(ctx), APIVersion: "v1",
		Resource: "pods", Subresource: c.sub, Name: name, ResourceRequest: true,
	})
	if decision == authorizer.DecisionAllow {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("user %q cannot create resource \"pods/%s\": %s", u.GetName(), c.sub, reason)
	}
	return apierrors.NewForbidden(corev1.Resource("pods/"+c.sub), name, err)
}

// streamOptions reads what exec and attach have in common.
func streamOptions(options runtime.Object) (streams translator.Options, command []string, container string, err error) {
	switch o := options.(type) {
	case *corev1.PodExecOptions:
		if len(o.Command) == 0 {
			return streams, nil, "", apierrors.NewBadRequest("you must specify at least 1 command for the container")
		}
		streams = translator.Options{Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr, Tty: o.TTY}
		command, container = o.Command, o.Container
	case *corev1.PodAttachOptions:
		streams = translator.Options{Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr, Tty: o.TTY}
		container = o.Container
	default:
		return streams, nil, "", fmt.Errorf("invalid options object: %#v", options)
	}
	if !streams.Stdin && !streams.Stdout && !streams.Stderr {
		return streams, nil, "", apierrors.NewBadRequest("you must specify at least one of stdin, stdout, stderr")
	}
	if streams.Tty {
		streams.Stderr = false // a terminal has one output
	}
	return streams, command, container, nil
}

func streamQuery(s translator.Options, command []string) url.Values {
	q := url.Values{}
	for name, on := range map[string]bool{"input": s.Stdin, "output": s.Stdout, "error": s.Stderr, "tty": s.Tty} {
		if on {
			q.Set(name, "1")
		}
	}
	if len(command) > 0 {
		q["command"] = command
	}
	return q
}

var _ rest.Connecter = (*connect)(nil)
