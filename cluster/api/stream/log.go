package stream

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	genericrest "k8s.io/apiserver/pkg/registry/generic/rest"
	"k8s.io/apiserver/pkg/registry/rest"
)

// Log serves pods/log.
func (p *Pods) Log() rest.Storage { return &logs{p} }

type logs struct{ *Pods }

func (*logs) New() runtime.Object { return &corev1.Pod{} }

// Destroy does nothing: there is no storage.
func (*logs) Destroy() {}

// ProducesMIMETypes says that logs are text, whatever the client accepts.
func (*logs) ProducesMIMETypes(string) []string { return []string{"text/plain"} }

// ProducesObject is a string, for the schema.
func (*logs) ProducesObject(string) any { return "" }

// NewGetOptions says which query parameters there are.
func (*logs) NewGetOptions() (runtime.Object, bool, string) {
	return &corev1.PodLogOptions{}, false, ""
}

// OverrideMetricsVerb tells following apart from reading.
func (*logs) OverrideMetricsVerb(verb string) string {
	if verb == "GET" {
		return "CONNECT"
	}
	return verb
}

// Get streams a container's log from its node.
func (l *logs) Get(ctx context.Context, name string, options runtime.Object) (runtime.Object, error) {
	opts, ok := options.(*corev1.PodLogOptions)
	if !ok {
		return nil, fmt.Errorf("invalid options object: %#v", options)
	}
	if errs := validateLogOptions(opts); len(errs) > 0 {
		return nil, apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("PodLogOptions").GroupKind(), name, errs)
	}
	pod, err := l.pod(ctx, name)
	if err != nil {
		return nil, err
	}
	c, err := container(pod, opts.Container)
	if err != nil {
		return nil, err
	}
	if pod.Spec.NodeName == "" { // nothing has been logged yet
		return &genericrest.LocationStreamer{}, nil
	}
	transport, err := l.transport(pod.Spec.NodeName)
	if err != nil {
		return nil, err
	}
	return &genericrest.LocationStreamer{
		Location:        location(pod.Spec.NodeName, logQuery(opts), "containerLogs", pod.Namespace, pod.Name, c),
		Transport:       transport,
		ContentType:     "text/plain",
		Flush:           opts.Follow,
		ResponseChecker: genericrest.NewGenericHttpResponseChecker(corev1.Resource("pods/log"), name),
		RedirectChecker: genericrest.PreventRedirects,
	}, nil
}

func logQuery(opts *corev1.PodLogOptions) url.Values {
	q := url.Values{}
	flag := func(name string, v bool) {
		if v {
			q.Set(name, "true")
		}
	}
	number := func(name string, v *int64) {
		if v != nil {
			q.Set(name, strconv.FormatInt(*v, 10))
		}
	}
	flag("follow", opts.Follow)
	flag("previous", opts.Previous)
	flag("timestamps", opts.Timestamps)
	number("sinceSeconds", opts.SinceSeconds)
	number("tailLines", opts.TailLines)
	number("limitBytes", opts.LimitBytes)
	if opts.SinceTime != nil {
		q.Set("sinceTime", opts.SinceTime.Format(time.RFC3339))
	}
	if opts.Stream != nil {
		q.Set("stream", *opts.Stream)
	}
	return q
}

func validateLogOptions(opts *corev1.PodLogOptions) field.ErrorList {
	var errs field.ErrorList
	if opts.TailLines != nil && *opts.TailLines < 0 {
		errs = append(errs, field.Invalid(field.NewPath("tailLines"), *opts.TailLines, "must be greater than or equal to 0"))
	}
	if opts.LimitBytes != nil && *opts.LimitBytes < 1 {
		errs = append(errs, field.Invalid(field.NewPath("limitBytes"), *opts.LimitBytes, "must be greater than 0"))
	}
	switch {
	case opts.SinceSeconds != nil && opts.SinceTime != nil:
		errs = append(errs, field.Forbidden(field.NewPath(""), "at most one of `sinceTime` or `sinceSeconds` may be specified"))
	case opts.SinceSeconds != nil && *opts.SinceSeconds < 1:
		errs = append(errs, field.Invalid(field.NewPath("sinceSeconds"), *opts.SinceSeconds, "must be greater than 0"))
	}
	if s := opts.Stream; s != nil {
		switch *s {
		case corev1.LogStreamAll:
		case corev1.LogStreamStdout, corev1.LogStreamStderr:
			if opts.TailLines != nil {
				errs = append(errs, field.Forbidden(field.NewPath(""), "`tailLines` and specific `stream` are mutually exclusive for now"))
			}
		default:
			errs = append(errs, field.NotSupported(field.NewPath("stream"), *s,
				[]string{corev1.LogStreamAll, corev1.LogStreamStdout, corev1.LogStreamStderr}))
		}
	}
	return errs
}

var (
	_ rest.GetterWithOptions = (*logs)(nil)
	_ rest.StorageMetadata   = (*logs)(nil)
)
