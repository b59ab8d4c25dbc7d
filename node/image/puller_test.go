package image_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/troupe-run/troupe/node/image"
)

// registry is a runtime with a registry behind it.
type registry struct {
	mu      sync.Mutex
	present map[string]bool
	offers  map[string]bool
	users   map[string]bool // who may pull; nil means everybody
	pulls   int
	slow    time.Duration
}

func (r *registry) ImageStatus(_ context.Context, spec *runtimeapi.ImageSpec) (*runtimeapi.Image, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.present[spec.Image] {
		return &runtimeapi.Image{Id: "id of " + spec.Image, Size: 7}, nil
	}
	return nil, nil
}

func (r *registry) PullImage(_ context.Context, spec *runtimeapi.ImageSpec, auth *runtimeapi.AuthConfig, _ *runtimeapi.PodSandboxConfig) (string, error) {
	time.Sleep(r.slow) // on the bubble's clock
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pulls++
	switch {
	case !r.offers[spec.Image]:
		return "", errors.New("no such host")
	case r.users != nil && (auth == nil || !r.users[auth.Username+":"+auth.Password]):
		return "", errors.New("unauthorized")
	}
	r.present[spec.Image] = true
	return "id of " + spec.Image, nil
}

func newPuller(t *testing.T, r *registry) *image.Puller {
	t.Helper()
	if r.present == nil {
		r.present = map[string]bool{}
	}
	p, err := image.NewPuller(image.PullerConfig{Service: r, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ensure returns "reference" or "reason", and the reasons of Events.
func ensure(t *testing.T, p *image.Puller, r image.Request) (string, []string) {
	t.Helper()
	var events []string
	r.Event = func(_, reason, _ string) { events = append(events, reason) }
	ref, err := p.Ensure(t.Context(), r)
	var e *image.Error
	if errors.As(err, &e) {
		return e.Reason, events
	}
	if err != nil {
		t.Errorf("not an image.Error: %v", err)
	}
	return ref, events
}

func TestPoliciesDecide(t *testing.T) {
	for _, c := range []struct {
		name            string
		image           string
		policy          corev1.PullPolicy
		present, offers bool
		want            string
		pulls           int
		events          []string
	}{
		{"absent", "app:1", corev1.PullIfNotPresent, false, true, "id of app:1", 1, []string{"Pulling", "Pulled"}},
		{"present", "app:1", corev1.PullIfNotPresent, true, true, "id of app:1", 0, []string{"Pulled"}},
		{"present, always", "app:1", corev1.PullAlways, true, true, "id of app:1", 1, []string{"Pulling", "Pulled"}},
		{"present, always, registry away", "app:1", corev1.PullAlways, true, false, "ErrImagePull", 1, []string{"Pulling", "Failed", "Failed"}},
		{"never", "app:1", corev1.PullNever, false, true, "ErrImageNeverPull", 0, []string{"ErrImageNeverPull"}},
		{"present, never", "app:1", corev1.PullNever, true, false, "id of app:1", 0, []string{"Pulled"}},
		{"no tag", "app", corev1.PullIfNotPresent, false, false, "ErrImagePull", 1, []string{"Pulling", "Failed", "Failed"}},
		{"bad name", "App::x", corev1.PullIfNotPresent, false, false, "InvalidImageName", 0, []string{"InspectFailed"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &registry{present: map[string]bool{c.image: c.present}, offers: map[string]bool{c.image: c.offers}}
			got, events := ensure(t, newPuller(t, r), image.Request{Image: c.image, Policy: c.policy})
			if got != c.want || r.pulls != c.pulls {
				t.Errorf("got %q after %d pulls, want %q after %d", got, r.pulls, c.want, c.pulls)
			}
			if diff := cmp.Diff(c.events, events); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPullsBackOffAndHeal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &registry{}
		p := newPuller(t, r)
		ask := image.Request{Image: "app:1", PodUID: "a"}
		var trace []string
		begin := time.Now()
		last := ""
		for time.Since(begin) < 15*time.Minute {
			got, _ := ensure(t, p, ask)
			if got == "ErrImagePull" || got != last {
				trace = append(trace, time.Since(begin).String()+" "+got)
			}
			last = got
			time.Sleep(time.Second)
		}
		want := []string{"0s ErrImagePull", "1s ImagePullBackOff", "10s ErrImagePull", "11s ImagePullBackOff",
			"30s ErrImagePull", "31s ImagePullBackOff", "1m10s ErrImagePull", "1m11s ImagePullBackOff",
			"2m30s ErrImagePull", "2m31s ImagePullBackOff", "5m10s ErrImagePull", "5m11s ImagePullBackOff",
			"10m10s ErrImagePull", "10m11s ImagePullBackOff"}
		if diff := cmp.Diff(want, trace); diff != "" {
			t.Errorf("trace (-want +got):\n%s", diff)
		}
		// Another pod does not inherit the wait; an import ends it at once.
		if got, _ := ensure(t, p, image.Request{Image: "app:1", PodUID: "b"}); got != "ErrImagePull" {
			t.Errorf("another pod gets %s", got)
		}
		r.present["app:1"] = true
		if got, _ := ensure(t, p, ask); got != "id of app:1" {
			t.Errorf("after an import: %s", got)
		}
	})
}

func TestOneImageIsPulledOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &registry{offers: map[string]bool{"app:1": true}, slow: time.Minute}
		p := newPuller(t, r)
		first, giveUp := context.WithCancel(t.Context())
		go func() {
			if _, err := p.Ensure(first, image.Request{Image: "app:1"}); !errors.Is(err, context.Canceled) {
				t.Errorf("the one who gave up got %v", err)
			}
		}()
		synctest.Wait()
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if _, err := p.Ensure(t.Context(), image.Request{Image: "app:1"}); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		giveUp() // the pull goes on for the others
		wg.Wait()
		if r.pulls != 1 {
			t.Errorf("%d pulls, want 1", r.pulls)
		}
	})
}

func TestPullSecrets(t *testing.T) {
	secret := func(key, text string) *corev1.Secret {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Data: map[string][]byte{key: []byte(text)}}
	}
	config := func(text string) *corev1.Secret { return secret(corev1.DockerConfigJsonKey, text) }
	for _, c := range []struct {
		name, image string
		secrets     []*corev1.Secret
		user        string // who may pull
		want        string // "" means success
	}{
		{"auth", "reg.io/a/b:1", []*corev1.Secret{config(`{"auths":{"reg.io":{"auth":"dTpw"}}}`)}, "u:p", ""},
		{"user and password", "reg.io/a/b:1", []*corev1.Secret{config(`{"auths":{"https://reg.io/v2/":{"username":"u","password":"p"}}}`)}, "u:p", ""},
		{"old form", "reg.io/a/b:1", []*corev1.Secret{secret(corev1.DockerConfigKey, `{"reg.io":{"auth":"dTpw"}}`)}, "u:p", ""},
		{"hub", "nginx:1", []*corev1.Secret{config(`{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"}}}`)}, "u:p", ""},
		{"pattern", "eu.reg.io/b:1", []*corev1.Secret{config(`{"auths":{"*.reg.io":{"auth":"dTpw"}}}`)}, "u:p", ""},
		{"pattern of too few parts", "eu.x.reg.io/b:1", []*corev1.Secret{config(`{"auths":{"*.reg.io":{"auth":"dTpw"}}}`)}, "u:p", "ErrImagePull"},
		{"path", "reg.io/team/b:1", []*corev1.Secret{config(`{"auths":{"reg.io/team":{"auth":"dTpw"}}}`)}, "u:p", ""},
		{"part of a path", "reg.io/teams/b:1", []*corev1.Secret{config(`{"auths":{"reg.io/team":{"auth":"dTpw"}}}`)}, "u:p", "ErrImagePull"},
		{"second fits", "reg.io/a:1", []*corev1.Secret{config(`{"auths":{"reg.io":{"auth":"eDp5"}}}`), config(`{"auths":{"reg.io":{"auth":"dTpw"}}}`)}, "u:p", ""},
		{"broken one is skipped", "reg.io/a:1", []*corev1.Secret{config(`nonsense`), config(`{"auths":{"reg.io":{"auth":"dTpw"}}}`)}, "u:p", ""},
		{"none", "reg.io/a:1", nil, "u:p", "ErrImagePull"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &registry{offers: map[string]bool{c.image: true}, users: map[string]bool{c.user: true}}
			got, _ := ensure(t, newPuller(t, r), image.Request{Image: c.image, Secrets: c.secrets})
			if c.want == "" && !strings.HasPrefix(got, "id of") || c.want != "" && got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
