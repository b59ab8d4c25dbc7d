package certificates

import (
	"context"
	"fmt"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/actors/controller"
	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

var resource = messages.Resource{Group: certificatesv1.GroupName, Resource: "certificatesigningrequests"}

// askAgain is how long after somebody might not join it is asked again whether they may now.
const askAgain = time.Minute

// Config of the controller.
type Config struct {
	// May says whether the sender of a request may create a subresource of certificatesigningrequests,
	// which is how roles say whose requests are approved without anybody looking. Required.
	May func(ctx context.Context, sender certificatesv1.CertificateSigningRequestSpec, subresource string) (bool, error)
	// Sign makes a certificate, in PEM. Required.
	Sign func(Order) ([]byte, error)
}

type requests struct {
	controller.Deps
	cfg Config
}

// Spec returns the controller of signing requests.
func Spec(d controller.Deps, cfg Config) controller.Spec {
	c := &requests{d, cfg}
	return controller.Spec{Name: "certificate", Watches: []controller.Watch{{Resource: resource}}, Reconcile: c.reconcile}
}

func (c *requests) reconcile(ctx context.Context, key messages.Key) (controller.Result, error) {
	r, ok := objects.Get[*certificatesv1.CertificateSigningRequest](c.Reader, key)
	if !ok || r.DeletionTimestamp != nil {
		return controller.Result{}, nil
	}
	d := Decide(r, c.Clock.Now())
	result := controller.Result{After: d.After}
	var err error
	switch {
	case d.Delete:
		err = c.Writer.Delete(ctx, key, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: ptr.To(r.UID)}})
	case d.Approve != nil:
		var may bool
		if may, err = c.cfg.May(ctx, r.Spec, d.Approve.Subresource); err != nil || may {
			break
		}
		result.After = min(d.After, askAgain)
		return result, nil
	}
	if err == nil {
		err = c.settle(ctx, key, r, d)
	}
	if apierrors.IsNotFound(err) {
		err = nil // it went meanwhile
	}
	if err != nil {
		return controller.Result{}, fmt.Errorf("settle %s: %w", key, err)
	}
	return result, nil
}

// settle writes what was decided.
func (c *requests) settle(ctx context.Context, key messages.Key, was *certificatesv1.CertificateSigningRequest, d Decision) error {
	sub := "status"
	var change func(*certificatesv1.CertificateSigningRequest)
	switch {
	case d.Approve != nil:
		sub = "approval"
		change = c.condition(certificatesv1.CertificateApproved, "AutoApproved", d.Approve.Message)
	case d.Fail != "":
		change = c.condition(certificatesv1.CertificateFailed, "SignerValidationFailure", d.Fail)
	case d.Sign != nil:
		pem, err := c.cfg.Sign(*d.Sign)
		if err != nil {
			return fmt.Errorf("sign: %w", err)
		}
		change = func(r *certificatesv1.CertificateSigningRequest) { r.Status.Certificate = pem }
	default:
		return nil
	}
	_, err := c.Writer.Mutate(ctx, key, sub, func(o objects.Object) (objects.Object, error) {
		r := o.(*certificatesv1.CertificateSigningRequest)
		if r.UID == was.UID && len(r.Status.Certificate) == 0 && len(r.Status.Conditions) == len(was.Status.Conditions) {
			change(r) // otherwise somebody decided, which brings the next look
		}
		return r, nil
	})
	return err
}

func (c *requests) condition(t certificatesv1.RequestConditionType, reason, message string) func(*certificatesv1.CertificateSigningRequest) {
	return func(r *certificatesv1.CertificateSigningRequest) {
		now := metav1.NewTime(c.Clock.Now())
		r.Status.Conditions = append(r.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
			Type: t, Status: corev1.ConditionTrue, Reason: reason, Message: message, LastUpdateTime: now, LastTransitionTime: now,
		})
	}
}
