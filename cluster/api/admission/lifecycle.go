package admission

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/admission"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// immortal namespaces cannot be deleted.
var immortal = sets.New(metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic)

// lifecycle refuses new objects in namespaces that do not exist or are being emptied.
type lifecycle struct {
	*admission.Handler
	reader objects.Reader
}

func newLifecycle(reader objects.Reader) *lifecycle {
	return &lifecycle{admission.NewHandler(admission.Create, admission.Update, admission.Delete), reader}
}

// Admit is a mutating step, though it changes nothing, so that a request for a namespace that is
// not there ends before other plugins look for things in it.
func (l *lifecycle) Admit(_ context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if a.GetKind().GroupKind() == corev1.SchemeGroupVersion.WithKind("Namespace").GroupKind() {
		if a.GetOperation() == admission.Delete && immortal.Has(a.GetName()) {
			return apierrors.NewForbidden(a.GetResource().GroupResource(), a.GetName(), fmt.Errorf("this namespace may not be deleted"))
		}
		return nil
	}
	if a.GetNamespace() == "" || a.GetOperation() == admission.Delete || reviewsAccess(a) {
		return nil
	}
	ns, ok := objects.Get[*corev1.Namespace](l.reader, messages.KeyOf(messages.Namespaces, "", a.GetNamespace()))
	if !ok {
		return apierrors.NewNotFound(corev1.Resource("namespaces"), a.GetNamespace())
	}
	if a.GetOperation() != admission.Create || ns.Status.Phase != corev1.NamespaceTerminating && ns.DeletionTimestamp == nil {
		return nil
	}
	err := admission.NewForbidden(a, fmt.Errorf("unable to create new content in namespace %s because it is being terminated", a.GetNamespace()))
	if status, ok := err.(apierrors.APIStatus); ok {
		s := status.Status()
		s.Details.Causes = append(s.Details.Causes, metav1.StatusCause{
			Type:    corev1.NamespaceTerminatingCause,
			Message: fmt.Sprintf("namespace %s is being terminated", a.GetNamespace()),
			Field:   "metadata.namespace",
		})
		return &apierrors.StatusError{ErrStatus: s}
	}
	return err
}

// reviewsAccess lets a user ask about a namespace that does not exist.
func reviewsAccess(a admission.Attributes) bool {
	return a.GetResource().Group == "authorization.k8s.io" && a.GetResource().Resource == "localsubjectaccessreviews"
}

var _ admission.MutationInterface = (*lifecycle)(nil)
