package podspec

import (
	corev1 "k8s.io/api/core/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kinds/check"
)

// The life of a projected token, in seconds.
const (
	minTokenSeconds = 10 * 60
	maxTokenSeconds = 1 << 32
)

// The life of a projected certificate, in seconds.
const (
	minCertificateSeconds = 60 * 60
	maxCertificateSeconds = 91 * 24 * 60 * 60
)

var certificateKeyTypes = sets.New("RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519")

// projection checks the sources of a projected volume; paths collects the files they make.
type projection struct {
	paths sets.Set[string]
	errs  field.ErrorList
}

func validateProjected(s *corev1.ProjectedVolumeSource, path *field.Path) field.ErrorList {
	p := projection{paths: sets.New[string]()}
	p.errs = fileMode(s.DefaultMode, path.Child("defaultMode"))
	for i := range s.Sources {
		// In Kubernetes, too, conflicts are told of the volume, not of the source.
		p.source(&s.Sources[i], path.Child("sources").Index(i), path)
	}
	return p.errs
}

func (p *projection) claim(file, owner string, path *field.Path) {
	if file == "" {
		return
	}
	if p.paths.Has(file) {
		p.errs = append(p.errs, field.Invalid(path, owner, "conflicting duplicate paths"))
	}
	p.paths.Insert(file)
}

func (p *projection) source(s *corev1.VolumeProjection, path, volume *field.Path) {
	n := 0
	if s.Secret != nil {
		n++
		p.keys(s.Secret.Name, s.Secret.Items, path.Child("secret"), volume)
	}
	if s.ConfigMap != nil {
		n++
		p.keys(s.ConfigMap.Name, s.ConfigMap.Items, path.Child("configMap"), volume)
	}
	if s.DownwardAPI != nil {
		n++
		for i := range s.DownwardAPI.Items {
			item := &s.DownwardAPI.Items[i]
			p.errs = append(p.errs, downwardFile(item, path.Child("downwardAPI"))...)
			p.claim(item.Path, item.Path, volume)
		}
	}
	if s.ServiceAccountToken != nil {
		n++
		p.token(s.ServiceAccountToken, path.Child("serviceAccountToken"), volume)
	}
	if s.ClusterTrustBundle != nil {
		n++
		p.bundle(s.ClusterTrustBundle, path.Child("clusterTrustBundle"), volume)
	}
	if s.PodCertificate != nil {
		n++
		p.certificate(s.PodCertificate, path.Child("podCertificate"), volume)
	}
	if n > 1 {
		p.errs = append(p.errs, field.Forbidden(path, "may not specify more than 1 volume type per source"))
	}
}

func (p *projection) keys(name string, items []corev1.KeyToPath, path, volume *field.Path) {
	p.errs = append(p.errs, required(name, path.Child("name"))...)
	p.errs = append(p.errs, keysToPaths(items, path.Child("items"))...)
	for _, item := range items {
		p.claim(item.Path, name, volume)
	}
}

func (p *projection) token(t *corev1.ServiceAccountTokenProjection, path, volume *field.Path) {
	at := path.Child("expirationSeconds")
	switch n := t.ExpirationSeconds; {
	case n == nil:
		p.errs = append(p.errs, field.Required(at, ""))
	case *n < minTokenSeconds:
		p.errs = append(p.errs, field.Invalid(at, *n, "may not specify a duration less than 10 minutes"))
	case *n > maxTokenSeconds:
		p.errs = append(p.errs, field.Invalid(at, *n, "may not specify a duration larger than 2^32 seconds"))
	}
	// In Kubernetes, too, a token's path is told of the volume, and may be one that is taken.
	if t.Path == "" {
		p.errs = append(p.errs, field.Required(volume.Child("path"), ""))
		return
	}
	p.errs = append(p.errs, localFile(t.Path, volume.Child("path"))...)
}

func (p *projection) bundle(b *corev1.ClusterTrustBundleProjection, path, volume *field.Path) {
	switch {
	case b.Name != nil && b.SignerName != nil:
		p.errs = append(p.errs, field.Invalid(path, b, "only one of name and signerName may be used"))
	case b.Name != nil:
		p.errs = append(p.errs, requiredSubdomain(*b.Name, path.Child("name"))...)
		if b.LabelSelector != nil {
			p.errs = append(p.errs, field.Invalid(path.Child("labelSelector"), b.LabelSelector, "labelSelector must be unset if name is specified"))
		}
	case b.SignerName != nil:
		p.errs = append(p.errs, required(*b.SignerName, path.Child("signerName"))...)
		p.errs = append(p.errs, metavalidation.ValidateLabelSelector(b.LabelSelector, metavalidation.LabelSelectorValidationOptions{}, path.Child("labelSelector"))...)
	default:
		p.errs = append(p.errs, field.Required(path, "either name or signerName must be specified"))
	}
	if b.Path == "" {
		p.errs = append(p.errs, field.Required(path.Child("path"), ""))
		return
	}
	p.errs = append(p.errs, localFile(b.Path, path.Child("path"))...)
	p.claim(b.Path, "clusterTrustBundle", volume)
}

func (p *projection) certificate(c *corev1.PodCertificateProjection, path, volume *field.Path) {
	p.errs = append(p.errs, required(c.SignerName, path.Child("signerName"))...)
	p.errs = append(p.errs, check.OneOfOrBad(c.KeyType, certificateKeyTypes, path.Child("keyType"))...)
	if n := c.MaxExpirationSeconds; n != nil && *n < minCertificateSeconds {
		p.errs = append(p.errs, field.Invalid(path.Child("maxExpirationSeconds"), *n, "if provided, maxExpirationSeconds must be >= 3600"))
	} else if n != nil && *n > maxCertificateSeconds {
		p.errs = append(p.errs, field.Invalid(path.Child("maxExpirationSeconds"), *n, "if provided, maxExpirationSeconds must be <= 7862400"))
	}
	if c.CredentialBundlePath == "" && c.KeyPath == "" && c.CertificateChainPath == "" {
		p.errs = append(p.errs, field.Required(path, "specify at least one of credentialBundlePath, keyPath, and certificateChainPath"))
	}
	for _, file := range []struct{ child, path string }{
		{"credentialBundlePath", c.CredentialBundlePath}, {"keyPath", c.KeyPath}, {"certificateChainPath", c.CertificateChainPath},
	} {
		if file.path != "" {
			p.errs = append(p.errs, localFile(file.path, path.Child(file.child))...)
			p.claim(file.path, "podCertificate", volume)
		}
	}
}
