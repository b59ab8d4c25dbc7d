package admission

import (
	"context"
	"errors"
	"fmt"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/warning"
	podsecurityadmission "k8s.io/pod-security-admission/admission"
	podsecurityconfig "k8s.io/pod-security-admission/admission/api"
	podsecurityapi "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/metrics"
	"k8s.io/pod-security-admission/policy"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// podSecurityLabels begin the labels by which a namespace asks for a level.
const podSecurityLabels = "pod-security.kubernetes.io/"

var namespacesResource = corev1.Resource("namespaces")

// podSecurity holds pods to the level of their namespace, and tells of workloads whose pods would
// not be let in.
type podSecurity struct {
	*admission.Handler
	library   *podsecurityadmission.Admission
	reader    objects.Reader
	workloads podsecurityadmission.DefaultPodSpecExtractor
}

func newPodSecurity(reader objects.Reader) (*podSecurity, error) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return nil, fmt.Errorf("collect the checks of pod security: %w", err)
	}
	privileged := string(podsecurityapi.LevelPrivileged)
	p := &podSecurity{Handler: admission.NewHandler(admission.Create, admission.Update), reader: reader,
		library: &podsecurityadmission.Admission{
			Configuration: &podsecurityconfig.PodSecurityConfiguration{Defaults: podsecurityconfig.PodSecurityDefaults{
				Enforce: privileged, EnforceVersion: podsecurityapi.VersionLatest,
				Audit: privileged, AuditVersion: podsecurityapi.VersionLatest,
				Warn: privileged, WarnVersion: podsecurityapi.VersionLatest,
			}},
			Evaluator: evaluator, Metrics: unmeasured{}, NamespaceGetter: podSecurityReader{reader}, PodLister: podSecurityReader{reader},
		}}
	if err := p.library.CompleteConfiguration(); err != nil {
		return nil, fmt.Errorf("configure pod security: %w", err)
	}
	if err := p.library.ValidateConfiguration(); err != nil {
		return nil, fmt.Errorf("configure pod security: %w", err)
	}
	return p, nil
}

// asks says whether the namespace has a level. Without one everything goes, and nothing is computed.
func (p *podSecurity) asks(namespace string) bool {
	ns, ok := objects.Get[*corev1.Namespace](p.reader, messages.KeyOf(messages.Namespaces, "", namespace))
	if !ok {
		return false
	}
	for name := range ns.Labels {
		if strings.HasPrefix(name, podSecurityLabels) {
			return true
		}
	}
	return false
}

// wants says whether the plugin looks at finished objects of the resource.
func (p *podSecurity) wants(res schema.GroupResource, namespace string) bool {
	return res == namespacesResource || p.workloads.HasPodSpec(res) && p.asks(namespace)
}

// Validate asks the library.
func (p *podSecurity) Validate(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if !p.wants(a.GetResource().GroupResource(), a.GetNamespace()) {
		return nil
	}
	answer := p.library.Validate(ctx, &podsecurityapi.AttributesRecord{
		Name: a.GetName(), Namespace: a.GetNamespace(), Kind: a.GetKind(), Resource: a.GetResource(), Subresource: a.GetSubresource(),
		Operation: admissionv1.Operation(a.GetOperation()), Object: a.GetObject(), OldObject: a.GetOldObject(), Username: a.GetUserInfo().GetName(),
	})
	for _, text := range answer.Warnings {
		warning.AddWarning(ctx, "", text)
	}
	for key, value := range answer.AuditAnnotations {
		if err := a.AddAnnotation(podsecurityapi.AuditAnnotationPrefix+key, value); err != nil {
			return apierrors.NewInternalError(fmt.Errorf("annotate the audit event with %s: %w", key, err))
		}
	}
	if answer.Allowed {
		return nil
	}
	err := admission.NewForbidden(a, errors.New("Not allowed by PodSecurity")) //nolint:staticcheck // Kubernetes' words
	var status *apierrors.StatusError
	if r := answer.Result; r != nil && errors.As(err, &status) {
		if r.Message != "" {
			status.ErrStatus.Message = r.Message
		}
		if r.Reason != "" {
			status.ErrStatus.Reason = r.Reason
		}
		if r.Details != nil {
			status.ErrStatus.Details = r.Details
		}
		if r.Code != 0 {
			status.ErrStatus.Code = r.Code
		}
	}
	return err
}

// podSecurityReader reads the replica for the library.
type podSecurityReader struct{ objects.Reader }

func (r podSecurityReader) GetNamespace(_ context.Context, name string) (*corev1.Namespace, error) {
	ns, ok := objects.Get[*corev1.Namespace](r, messages.KeyOf(messages.Namespaces, "", name))
	if !ok {
		return nil, apierrors.NewNotFound(namespacesResource, name)
	}
	return ns, nil
}

func (r podSecurityReader) ListPods(_ context.Context, namespace string) ([]*corev1.Pod, error) {
	return objects.List[*corev1.Pod](r, messages.Pods, namespace), nil
}

// unmeasured drops what the library counts: the API server's own metrics tell of refused requests.
type unmeasured struct{}

func (unmeasured) RecordEvaluation(metrics.Decision, podsecurityapi.LevelVersion, metrics.Mode, podsecurityapi.Attributes) {
}
func (unmeasured) RecordExemption(podsecurityapi.Attributes)   {}
func (unmeasured) RecordError(bool, podsecurityapi.Attributes) {}

var _ admission.ValidationInterface = (*podSecurity)(nil)
