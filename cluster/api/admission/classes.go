package admission

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

var (
	storageClasses   = messages.Resource{Group: storagev1.GroupName, Resource: "storageclasses"}
	ingressClasses   = messages.Resource{Group: networkingv1.GroupName, Resource: "ingressclasses"}
	ingressResource  = networkingv1.Resource("ingresses")
	defaultStorage   = []string{"storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"}
	ingressClassName = "kubernetes.io/ingress.class"
)

// defaultClass returns the name of the class that one of the annotations makes the default. Of
// several it is the newest, then the first by name.
func defaultClass(reader objects.Reader, res messages.Resource, annotations ...string) (string, bool) {
	var found objects.Object
	for _, class := range reader.List(res, "") {
		for _, name := range annotations {
			if class.GetAnnotations()[name] == "true" && (found == nil || before(class, found)) {
				found = class
			}
		}
	}
	if found == nil {
		return "", false
	}
	return found.GetName(), true
}

// before orders default classes.
func before(a, b objects.Object) bool {
	at, bt := a.GetCreationTimestamp(), b.GetCreationTimestamp()
	if at.UnixNano() == bt.UnixNano() {
		return strings.Compare(a.GetName(), b.GetName()) < 0
	}
	return bt.Before(&at)
}

// storageClass gives claims that name no class the default one.
type storageClass struct {
	*admission.Handler
	reader objects.Reader
}

func newStorageClass(reader objects.Reader) *storageClass {
	return &storageClass{admission.NewHandler(admission.Create), reader}
}

// Admit fills in spec.storageClassName. An empty one is a wish for none.
func (s *storageClass) Admit(_ context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if !is(a, claimsResource, "") {
		return nil
	}
	claim, ok := a.GetObject().(*corev1.PersistentVolumeClaim)
	if !ok || claim.Spec.StorageClassName != nil {
		return nil
	}
	if _, named := claim.Annotations[corev1.BetaStorageClassAnnotation]; named {
		return nil
	}
	if name, ok := defaultClass(s.reader, storageClasses, defaultStorage...); ok {
		claim.Spec.StorageClassName = ptr.To(name)
	}
	return nil
}

// ingressClass gives ingresses that name no class the default one.
type ingressClass struct {
	*admission.Handler
	reader objects.Reader
}

func newIngressClass(reader objects.Reader) *ingressClass {
	return &ingressClass{admission.NewHandler(admission.Create), reader}
}

// Admit fills in spec.ingressClassName.
func (c *ingressClass) Admit(_ context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if !is(a, ingressResource, "") {
		return nil
	}
	ingress, ok := a.GetObject().(*networkingv1.Ingress)
	if !ok || ingress.Spec.IngressClassName != nil {
		return nil
	}
	if _, named := ingress.Annotations[ingressClassName]; named {
		return nil
	}
	if name, ok := defaultClass(c.reader, ingressClasses, networkingv1.AnnotationIsDefaultIngressClass); ok {
		ingress.Spec.IngressClassName = ptr.To(name)
	}
	return nil
}

var (
	_ admission.MutationInterface = (*storageClass)(nil)
	_ admission.MutationInterface = (*ingressClass)(nil)
)
