package image

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/distribution/reference"
	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// dockerHub is how configuration files name the registry that image names call docker.io.
const dockerHub = "index.docker.io"

// registryAuth is one entry of a docker configuration file.
type registryAuth struct {
	Username      string `json:"username"`
	Password      string `json:"password"`
	Auth          string `json:"auth"` // base64 of user:password
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

// credentials picks from pull secrets what fits an image, the most special place first. Secrets
// that cannot be read are reported and skipped: another may fit.
func credentials(secrets []*corev1.Secret, image string) (out []*runtimeapi.AuthConfig, bad []error) {
	type candidate struct {
		place string
		auth  *runtimeapi.AuthConfig
	}
	var fits []candidate
	repository := repositoryOf(image)
	for _, s := range secrets {
		auths, err := parseSecret(s)
		if err != nil {
			bad = append(bad, fmt.Errorf("pull secret %q: %w", s.Name, err))
			continue
		}
		for place, a := range auths {
			place = normalPlace(place)
			if !matches(place, repository) {
				continue
			}
			auth, err := a.config()
			if err != nil {
				bad = append(bad, fmt.Errorf("pull secret %q: registry %s: %w", s.Name, place, err))
				continue
			}
			fits = append(fits, candidate{place, auth})
		}
	}
	slices.SortStableFunc(fits, func(a, b candidate) int {
		if n := len(b.place) - len(a.place); n != 0 {
			return n
		}
		return strings.Compare(a.place, b.place) // two spellings of one place come in a fixed order
	})
	for _, f := range fits {
		out = append(out, f.auth)
	}
	return out, bad
}

func parseSecret(s *corev1.Secret) (map[string]registryAuth, error) {
	switch {
	case s.Data[corev1.DockerConfigJsonKey] != nil:
		var file struct {
			Auths map[string]registryAuth `json:"auths"`
		}
		if json.Unmarshal(s.Data[corev1.DockerConfigJsonKey], &file) != nil {
			return nil, fmt.Errorf("%s is no docker configuration", corev1.DockerConfigJsonKey) // its text is secret
		}
		return file.Auths, nil
	case s.Data[corev1.DockerConfigKey] != nil:
		var auths map[string]registryAuth
		if json.Unmarshal(s.Data[corev1.DockerConfigKey], &auths) != nil {
			return nil, fmt.Errorf("%s is no docker configuration", corev1.DockerConfigKey)
		}
		return auths, nil
	}
	return nil, fmt.Errorf("it has neither %s nor %s", corev1.DockerConfigJsonKey, corev1.DockerConfigKey)
}

func (a registryAuth) config() (*runtimeapi.AuthConfig, error) {
	// No ServerAddress: the entry was matched already, and containerd would match it by other rules.
	out := &runtimeapi.AuthConfig{Username: a.Username, Password: a.Password,
		IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken}
	if a.Auth == "" {
		return out, nil
	}
	plain, err := base64.StdEncoding.DecodeString(a.Auth)
	user, password, ok := strings.Cut(strings.TrimRight(string(plain), "\x00\n"), ":")
	if err != nil || !ok {
		return nil, fmt.Errorf("auth is not the base64 of user:password")
	}
	out.Username, out.Password = user, password
	return out, nil
}

// repositoryOf is host and path of an image, as configuration files write them.
func repositoryOf(image string) string {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return image
	}
	host := reference.Domain(named)
	if host == "docker.io" {
		host = dockerHub
	}
	return host + "/" + reference.Path(named)
}

// normalPlace strips what configuration files add to a registry's name: scheme and API version.
func normalPlace(place string) string {
	place = strings.TrimPrefix(strings.TrimPrefix(place, "https://"), "http://")
	place = strings.TrimSuffix(place, "/")
	for _, version := range []string{"/v1", "/v2"} {
		place = strings.TrimSuffix(place, version)
	}
	host, rest, _ := strings.Cut(place, "/")
	if host == "docker.io" || host == "registry-1.docker.io" {
		host = dockerHub
	}
	return strings.TrimSuffix(host+"/"+rest, "/")
}

// matches says whether a place covers a repository: its host by the parts between dots, each of
// which may be a pattern, and its path as a prefix.
func matches(place, repository string) bool {
	placeHost, placePath, _ := strings.Cut(place, "/")
	host, repoPath, _ := strings.Cut(repository, "/")
	want, have := strings.Split(placeHost, "."), strings.Split(host, ".")
	if len(want) != len(have) {
		return false
	}
	for i := range want {
		if ok, err := path.Match(want[i], have[i]); err != nil || !ok {
			return false
		}
	}
	return placePath == "" || repoPath == placePath || strings.HasPrefix(repoPath, placePath+"/")
}

// fingerprint tells sets of credentials apart without holding them.
func fingerprint(auths []*runtimeapi.AuthConfig) string {
	h := sha256.New()
	for _, a := range auths {
		for _, s := range []string{a.Username, a.Password, a.IdentityToken, a.RegistryToken} {
			_, _ = fmt.Fprintf(h, "%q,", s)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}
