package certificates

import (
	"context"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

type csr = certificatesv1.CertificateSigningRequest

// CertificateSigningRequest describes certificates.k8s.io/v1 CertificateSigningRequest.
func CertificateSigningRequest() kind.Kind {
	beta := certificatesv1beta1.CertificateSigningRequestSpec{}.SwaggerDoc() // whose words the columns still have
	return kind.Kind{
		GVK:        certificatesv1.SchemeGroupVersion.WithKind("CertificateSigningRequest"),
		Resource:   "certificatesigningrequests",
		Singular:   "certificatesigningrequest",
		ShortNames: []string{"csr"},
		New:        func() kind.Object { return &csr{} },
		NewList:    func() runtime.Object { return &certificatesv1.CertificateSigningRequestList{} },

		// Clients may call their requests as they like.
		ValidateName: func(string, bool) []string { return nil },
		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return validateRequest(obj.(*csr))
		},
		ValidateUpdate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
			return validateUpdate(obj.(*csr), old.(*csr))
		},
		PrepareForCreate: func(ctx context.Context, obj kind.Object) { sign(ctx, obj.(*csr)) },
		PrepareForUpdate: func(_ context.Context, obj, old kind.Object) {
			r, was := obj.(*csr), old.(*csr)
			r.Spec, r.Status = was.Spec, was.Status
		},
		Status: &kind.Subresource{
			Prepare: func(_ context.Context, obj, old kind.Object) {
				r, was := obj.(*csr), old.(*csr)
				r.Spec = was.Spec
				// Who approves and who signs need not be the same.
				r.Status.Conditions = mergeConditions(r.Status.Conditions, was.Status.Conditions, isFailure)
				stamp(r, was)
			},
			Validate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
				return validateStatusUpdate(obj.(*csr), old.(*csr))
			},
		},
		Subresources: map[string]*kind.Subresource{"approval": {
			Prepare: func(_ context.Context, obj, old kind.Object) {
				r, was := obj.(*csr), old.(*csr)
				r.Spec, r.Status.Certificate = was.Spec, was.Status.Certificate
				r.Status.Conditions = mergeConditions(r.Status.Conditions, was.Status.Conditions, isDecision)
				stamp(r, was)
			},
			Validate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
				return validateApproval(obj.(*csr), old.(*csr))
			},
		}},

		Fields: func(obj kind.Object) fields.Set {
			return fields.Set{"spec.signerName": obj.(*csr).Spec.SignerName}
		},
		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Age(),
			table.Col("SignerName", beta["signerName"]),
			table.Col("Requestor", beta["request"]),
			table.Col("RequestedDuration", beta["expirationSeconds"]),
			table.Col("Condition", certificatesv1beta1.CertificateSigningRequestStatus{}.SwaggerDoc()["conditions"]),
		},
		Row: func(obj kind.Object) []any {
			r := obj.(*csr)
			lasts := table.None
			if s := r.Spec.ExpirationSeconds; s != nil {
				lasts = duration.HumanDuration(time.Duration(*s) * time.Second)
			}
			return []any{r.Name, table.Since(r.CreationTimestamp), r.Spec.SignerName, r.Spec.Username, lasts, state(r)}
		},
	}
}

// sign writes into a new request who made it.
func sign(ctx context.Context, r *csr) {
	r.Spec.Username, r.Spec.UID, r.Spec.Groups, r.Spec.Extra = "", "", nil, nil
	if who, ok := request.UserFrom(ctx); ok {
		r.Spec.Username, r.Spec.UID, r.Spec.Groups = who.GetName(), who.GetUID(), who.GetGroups()
		for key, values := range who.GetExtra() {
			if r.Spec.Extra == nil {
				r.Spec.Extra = make(map[string]certificatesv1.ExtraValue)
			}
			r.Spec.Extra[key] = values
		}
	}
	r.Status = certificatesv1.CertificateSigningRequestStatus{}
}

func isFailure(t certificatesv1.RequestConditionType) bool {
	return t == certificatesv1.CertificateFailed
}

func isDecision(t certificatesv1.RequestConditionType) bool {
	return t == certificatesv1.CertificateApproved || t == certificatesv1.CertificateDenied
}

// mergeConditions takes the conditions that the writer may set from now and the others from was.
// Conditions that nobody knows are anybody's.
func mergeConditions(now, was []certificatesv1.CertificateSigningRequestCondition, mine func(certificatesv1.RequestConditionType) bool) []certificatesv1.CertificateSigningRequestCondition {
	foreign := func(t certificatesv1.RequestConditionType) bool { return !mine(t) && (isFailure(t) || isDecision(t)) }
	var out []certificatesv1.CertificateSigningRequestCondition
	for _, c := range was {
		if foreign(c.Type) {
			out = append(out, c)
		}
	}
	for _, c := range now {
		if !foreign(c.Type) {
			out = append(out, c)
		}
	}
	return out
}

// stamp fills in when conditions were written and when they last changed.
func stamp(r, was *csr) {
	now := metav1.Now()
	before := make(map[certificatesv1.RequestConditionType]certificatesv1.CertificateSigningRequestCondition)
	for _, c := range was.Status.Conditions {
		before[c.Type] = c
	}
	for i := range r.Status.Conditions {
		c := &r.Status.Conditions[i]
		if c.LastUpdateTime.IsZero() {
			c.LastUpdateTime = now
		}
		if c.LastTransitionTime.IsZero() {
			c.LastTransitionTime = now
			if old, ok := before[c.Type]; ok && old.Status == c.Status && !old.LastTransitionTime.IsZero() {
				c.LastTransitionTime = old.LastTransitionTime
			}
		}
	}
}

func has(r *csr, t certificatesv1.RequestConditionType) bool {
	for _, c := range r.Status.Conditions {
		if c.Type == t {
			return c.Status == corev1.ConditionTrue || c.Status == ""
		}
	}
	return false
}

func state(r *csr) string {
	var out []string
	switch {
	case has(r, certificatesv1.CertificateDenied):
		out = append(out, "Denied")
	case has(r, certificatesv1.CertificateApproved):
		out = append(out, "Approved")
	default:
		out = append(out, "Pending")
	}
	if has(r, certificatesv1.CertificateFailed) {
		out = append(out, "Failed")
	}
	if len(r.Status.Certificate) > 0 {
		out = append(out, "Issued")
	}
	return strings.Join(out, ",")
}
