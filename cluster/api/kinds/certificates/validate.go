package certificates

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kinds/check"
)

// minSeconds is the shortest life of a certificate that may be asked for.
const minSeconds = 600

// legacySigner signed whatever the first version of this API asked for.
const legacySigner = "kubernetes.io/legacy-unknown"

var (
	specPath       = field.NewPath("spec")
	conditionsPath = field.NewPath("status", "conditions")

	usages = sets.New(
		certificatesv1.UsageSigning, certificatesv1.UsageDigitalSignature, certificatesv1.UsageContentCommitment, certificatesv1.UsageKeyEncipherment,
		certificatesv1.UsageKeyAgreement, certificatesv1.UsageDataEncipherment, certificatesv1.UsageCertSign, certificatesv1.UsageCRLSign,
		certificatesv1.UsageEncipherOnly, certificatesv1.UsageDecipherOnly, certificatesv1.UsageAny, certificatesv1.UsageServerAuth,
		certificatesv1.UsageClientAuth, certificatesv1.UsageCodeSigning, certificatesv1.UsageEmailProtection, certificatesv1.UsageSMIME,
		certificatesv1.UsageIPsecEndSystem, certificatesv1.UsageIPsecTunnel, certificatesv1.UsageIPsecUser, certificatesv1.UsageTimestamping,
		certificatesv1.UsageOCSPSigning, certificatesv1.UsageMicrosoftSGC, certificatesv1.UsageNetscapeSGC,
	)
	statuses = sets.New(corev1.ConditionTrue, corev1.ConditionFalse, corev1.ConditionUnknown)
)

// parse reads a request for a certificate in PEM.
func parse(data []byte) error {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return errors.New("PEM block type must be CERTIFICATE REQUEST")
	}
	if len(strings.TrimSpace(string(rest))) > 0 {
		return errors.New("trailing data after the PEM block")
	}
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return err
	}
	return r.CheckSignature()
}

func validateRequest(r *csr) field.ErrorList {
	var errs field.ErrorList
	if err := parse(r.Spec.Request); err != nil {
		errs = append(errs, field.Invalid(specPath.Child("request"), r.Spec.Request, fmt.Sprintf("%v", err)))
	}
	at := specPath.Child("usages")
	if len(r.Spec.Usages) == 0 {
		errs = append(errs, field.Required(at, ""))
	}
	seen := sets.New[certificatesv1.KeyUsage]()
	for i, usage := range r.Spec.Usages {
		errs = append(errs, check.OneOfOrBad(usage, usages, at.Index(i))...)
		if seen.Has(usage) {
			errs = append(errs, field.Duplicate(at.Index(i), usage))
		}
		seen.Insert(usage)
	}
	if r.Spec.SignerName == legacySigner {
		errs = append(errs, field.Invalid(specPath.Child("signerName"), r.Spec.SignerName, "the legacy signerName is not allowed via this API version"))
	} else {
		errs = append(errs, validateSigner(r.Spec.SignerName, specPath.Child("signerName"))...)
	}
	if s := r.Spec.ExpirationSeconds; s != nil && *s < minSeconds {
		errs = append(errs, field.Invalid(specPath.Child("expirationSeconds"), *s, fmt.Sprintf("may not specify a duration less than %d seconds (10 minutes)", minSeconds)))
	}
	return append(errs, validateConditions(r, nil)...)
}

// validateSigner checks a name such as example.com/signer: a domain and a path.
func validateSigner(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	domain, rest, ok := strings.Cut(name, "/")
	if !ok || strings.Contains(rest, "/") || rest == "" {
		return field.ErrorList{field.Invalid(path, name, "must be a fully qualified domain and path of the form 'example.com/signer-name'")}
	}
	errs := check.Invalid(domain, validation.IsDNS1123Subdomain(domain), path)
	if len(strings.Split(domain, ".")) < 2 {
		errs = append(errs, field.Invalid(path, domain, "should be a domain with at least two segments separated by dots"))
	}
	return append(errs, check.Invalid(rest, validation.IsDNS1123Subdomain(rest), path)...)
}

// validateConditions checks the conditions; what an old object has may stay.
func validateConditions(r, was *csr) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[certificatesv1.RequestConditionType]()
	for i, c := range r.Status.Conditions {
		at := conditionsPath.Index(i)
		switch {
		case c.Type == "":
			errs = append(errs, field.Required(at.Child("type"), ""))
		case seen.Has(c.Type):
			errs = append(errs, field.Duplicate(at.Child("type"), c.Type))
		}
		seen.Insert(c.Type)
		switch {
		case (isDecision(c.Type) || isFailure(c.Type)) && c.Status != corev1.ConditionTrue:
			errs = append(errs, check.OneOf(c.Status, sets.New(corev1.ConditionTrue), at.Child("status"))...)
		default:
			errs = append(errs, check.OneOf(c.Status, statuses, at.Child("status"))...)
		}
	}
	if seen.HasAll(certificatesv1.CertificateApproved, certificatesv1.CertificateDenied) && (was == nil || !has(was, certificatesv1.CertificateApproved) || !has(was, certificatesv1.CertificateDenied)) {
		errs = append(errs, field.Invalid(conditionsPath, certificatesv1.CertificateDenied, "Approved and Denied conditions are mutually exclusive"))
	}
	return errs
}

// validateUpdate checks that decisions, once made, stand.
func validateUpdate(r, was *csr) field.ErrorList {
	errs := validateConditions(r, was)
	for _, t := range []certificatesv1.RequestConditionType{certificatesv1.CertificateApproved, certificatesv1.CertificateDenied, certificatesv1.CertificateFailed} {
		if has(was, t) && !has(r, t) {
			errs = append(errs, field.Forbidden(conditionsPath, fmt.Sprintf("updates may not remove a condition of type %q", t)))
		}
	}
	return errs
}

func validateApproval(r, was *csr) field.ErrorList {
	errs := validateUpdate(r, was)
	for _, t := range []certificatesv1.RequestConditionType{certificatesv1.CertificateApproved, certificatesv1.CertificateDenied} {
		if len(was.Status.Certificate) > 0 && has(r, t) != has(was, t) {
			errs = append(errs, field.Forbidden(conditionsPath, fmt.Sprintf("updates may not add a condition of type %q to an issued request", t)))
		}
	}
	return errs
}

func validateStatusUpdate(r, was *csr) field.ErrorList {
	errs := validateUpdate(r, was)
	at := field.NewPath("status", "certificate")
	if len(was.Status.Certificate) > 0 && !apiequality.Semantic.DeepEqual(r.Status.Certificate, was.Status.Certificate) {
		return append(errs, field.Forbidden(at, "updates may not modify certificate once set"))
	}
	if len(r.Status.Certificate) == 0 {
		return errs
	}
	if err := parseChain(r.Status.Certificate); err != nil {
		errs = append(errs, field.Invalid(at, "<certificate data>", err.Error()))
	}
	return errs
}

// parseChain reads one or more certificates in PEM.
func parseChain(data []byte) error {
	n := 0
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("only CERTIFICATE PEM blocks are allowed, found %q", block.Type)
		}
		if len(block.Headers) > 0 {
			return errors.New("no PEM block headers are permitted")
		}
		if _, err := x509.ParseCertificates(block.Bytes); err != nil {
			return err
		}
		n++
	}
	if n == 0 {
		return errors.New("must contain at least one CERTIFICATE PEM block")
	}
	return nil
}
