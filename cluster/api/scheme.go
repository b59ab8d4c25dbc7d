package api

import (
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metainternal "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"

	"github.com/troupe-run/troupe/cluster/api/kind"
)

// codecs are the scheme of a server and what is derived from it.
type codecs struct {
	scheme  *runtime.Scheme
	factory serializer.CodecFactory
	params  runtime.ParameterCodec
}

// newCodecs registers the kinds, each under its version and under the internal one, with their
// defaults, selectable fields and the option types of the generic handlers.
func newCodecs(kinds []kind.Kind) (codecs, error) {
	s := runtime.NewScheme()
	v1 := schema.GroupVersion{Version: "v1"}
	metav1.AddToGroupVersion(s, v1)
	if err := metainternal.AddToScheme(s); err != nil {
		return codecs{}, fmt.Errorf("register meta types: %w", err)
	}
	s.AddUnversionedTypes(v1, &metav1.Status{}, &metav1.APIVersions{}, &metav1.APIGroupList{},
		&metav1.APIGroup{}, &metav1.APIResourceList{})
	seen := map[schema.GroupVersion]bool{v1: true}
	for i := range kinds {
		k := &kinds[i]
		gv := k.GVK.GroupVersion()
		if !seen[gv] {
			seen[gv] = true
			metav1.AddToGroupVersion(s, gv)
		}
		if err := registerKind(s, k); err != nil {
			return codecs{}, fmt.Errorf("register %s: %w", k.GVK, err)
		}
	}
	if err := registerShared(s); err != nil {
		return codecs{}, err
	}
	factory := serializer.NewCodecFactory(s,
		serializer.WithStreamingCollectionEncodingToJSON(), serializer.WithStreamingCollectionEncodingToProtobuf())
	return codecs{scheme: s, factory: factory, params: runtime.NewParameterCodec(s)}, nil
}

func registerKind(s *runtime.Scheme, k *kind.Kind) error {
	gv := k.GVK.GroupVersion()
	internal := schema.GroupVersion{Group: gv.Group, Version: runtime.APIVersionInternal}
	add := func(name string, obj runtime.Object) {
		s.AddKnownTypeWithName(gv.WithKind(name), obj)
		s.AddKnownTypeWithName(internal.WithKind(name), obj)
	}
	add(k.GVK.Kind, k.New())
	if k.NewList != nil {
		add(k.GVK.Kind+"List", k.NewList())
	}
	if k.Default != nil {
		s.AddTypeDefaultingFunc(k.New(), func(obj any) { k.Default(obj.(kind.Object)) })
	}
	known := map[string]string{"metadata.name": "metadata.name", "metadata.namespace": "metadata.namespace"}
	if k.Fields != nil {
		for name := range k.Fields(k.New()) {
			known[name] = name
		}
	}
	if err := registerFields(s, k.GVK, known); err != nil {
		return err
	}
	for i := range k.Versions {
		if err := registerVersion(s, k, &k.Versions[i], known); err != nil {
			return err
		}
	}
	return nil
}

// registerFields makes fields selectable; known maps what clients call them to what the kind does.
func registerFields(s *runtime.Scheme, gvk schema.GroupVersionKind, known map[string]string) error {
	return s.AddFieldLabelConversionFunc(gvk, func(label, value string) (string, string, error) {
		field, ok := known[label]
		if !ok {
			return "", "", fmt.Errorf("%q is not a known field selector: only %s", label, sortedKeys(known))
		}
		return field, value, nil
	})
}

// registerShared adds what subresources and several kinds exchange: options in query parameters,
// bindings, evictions, scales and token requests.
func registerShared(s *runtime.Scheme) error {
	for gv, objs := range map[schema.GroupVersion][]runtime.Object{
		corev1.SchemeGroupVersion: {&corev1.PodLogOptions{}, &corev1.PodExecOptions{}, &corev1.PodAttachOptions{},
			&corev1.PodPortForwardOptions{}, &corev1.PodProxyOptions{}, &corev1.NodeProxyOptions{},
			&corev1.ServiceProxyOptions{}, &corev1.Binding{}, &corev1.SerializedReference{}, &corev1.List{}},
		policyv1.SchemeGroupVersion:         {&policyv1.Eviction{}},
		autoscalingv1.SchemeGroupVersion:    {&autoscalingv1.Scale{}},
		authenticationv1.SchemeGroupVersion: {&authenticationv1.TokenRequest{}},
	} {
		metav1.AddToGroupVersion(s, gv)
		s.AddKnownTypes(gv, objs...)
		s.AddKnownTypes(schema.GroupVersion{Group: gv.Group, Version: runtime.APIVersionInternal}, objs...)
	}
	return registerQueryOptions(s)
}
