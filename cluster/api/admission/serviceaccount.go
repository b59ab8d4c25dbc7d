package admission

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/storage/names"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

const (
	defaultAccount = "default"
	tokenFolder    = "/var/run/secrets/kubernetes.io/serviceaccount"
	tokenVolume    = "kube-api-access-"
	// tokenSeconds is one hour and seven seconds, by which the volume's token is told apart from
	// one that a user asked for.
	tokenSeconds = 3607
	// RootCAConfigMap holds the certificate that pods trust the API server by, in each namespace.
	RootCAConfigMap = "kube-root-ca.crt"
)

// A pod may follow its namespace so closely that the default account is not there yet.
const (
	accountTries = 10
	accountPause = 100 * time.Millisecond
)

// serviceAccounts gives each pod an account and mounts its token.
type serviceAccounts struct {
	*admission.Handler
	reader objects.Reader
	clock  clock.WithTicker
}

func newServiceAccounts(cfg Config) *serviceAccounts {
	return &serviceAccounts{admission.NewHandler(admission.Create), cfg.Reader, cfg.Clock}
}

// Admit sets the account of a new pod, its token volume and its image pull secrets.
func (s *serviceAccounts) Admit(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	pod, ok := a.GetObject().(*corev1.Pod)
	if !ok || !is(a, podsResource, "") {
		return nil
	}
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return s.checkMirror(a, pod)
	}
	if pod.Spec.ServiceAccountName == "" {
		pod.Spec.ServiceAccountName = defaultAccount
	}
	pod.Spec.DeprecatedServiceAccount = pod.Spec.ServiceAccountName
	sa, err := s.account(ctx, a.GetNamespace(), pod.Spec.ServiceAccountName)
	if err != nil {
		return admission.NewForbidden(a, fmt.Errorf("error looking up service account %s/%s: %w", a.GetNamespace(), pod.Spec.ServiceAccountName, err))
	}
	if automount(sa, pod) {
		mountToken(pod)
	}
	if len(pod.Spec.ImagePullSecrets) == 0 {
		for _, ref := range sa.ImagePullSecrets {
			pod.Spec.ImagePullSecrets = append(pod.Spec.ImagePullSecrets, corev1.LocalObjectReference{Name: ref.Name})
		}
	}
	return nil
}

// checkMirror refuses mirror pods that would read what their node's static pods cannot have.
func (s *serviceAccounts) checkMirror(a admission.Attributes, pod *corev1.Pod) error {
	if pod.Spec.ServiceAccountName != "" {
		return admission.NewForbidden(a, fmt.Errorf("a mirror pod may not reference service accounts"))
	}
	for _, v := range pod.Spec.Volumes {
		if v.Projected == nil {
			continue
		}
		for _, src := range v.Projected.Sources {
			if src.ServiceAccountToken != nil {
				return admission.NewForbidden(a, fmt.Errorf("a mirror pod may not use ServiceAccountToken volume projections"))
			}
		}
	}
	return nil
}

func (s *serviceAccounts) account(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error) {
	tries := 1
	if name == defaultAccount {
		tries = accountTries
	}
	for i := range tries {
		if i > 0 {
			timer := s.clock.NewTimer(accountPause)
			select {
			case <-timer.C():
			case <-ctx.Done():
				timer.Stop()
				return nil, ctx.Err()
			}
		}
		if sa, ok := objects.Get[*corev1.ServiceAccount](s.reader, messages.KeyOf(messages.ServiceAccounts, namespace, name)); ok {
			return sa, nil
		}
	}
	return nil, apierrors.NewNotFound(corev1.Resource("serviceaccount"), name)
}

func automount(sa *corev1.ServiceAccount, pod *corev1.Pod) bool {
	switch {
	case pod.Spec.AutomountServiceAccountToken != nil:
		return *pod.Spec.AutomountServiceAccountToken
	case sa.AutomountServiceAccountToken != nil:
		return *sa.AutomountServiceAccountToken
	}
	return true
}

// mountToken mounts a projected volume with token, CA and namespace in each container that has
// nothing at that place.
func mountToken(pod *corev1.Pod) {
	volume, exists := "", false
	for _, v := range pod.Spec.Volumes {
		if v.Projected != nil && strings.HasPrefix(v.Name, tokenVolume) {
			volume, exists = v.Name, true
			break
		}
	}
	if !exists {
		volume = names.SimpleNameGenerator.GenerateName(tokenVolume)
	}
	needed := false
	mount := func(containers []corev1.Container) {
		for i := range containers {
			if mountsAt(containers[i].VolumeMounts, tokenFolder) {
				continue
			}
			containers[i].VolumeMounts = append(containers[i].VolumeMounts,
				corev1.VolumeMount{Name: volume, ReadOnly: true, MountPath: tokenFolder})
			needed = true
		}
	}
	mount(pod.Spec.InitContainers)
	mount(pod.Spec.Containers)
	if needed && !exists {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{
			Name:         volume,
			VolumeSource: corev1.VolumeSource{Projected: tokenProjection()},
		})
	}
}

func mountsAt(mounts []corev1.VolumeMount, path string) bool {
	for i := range mounts {
		if mounts[i].MountPath == path {
			return true
		}
	}
	return false
}

func tokenProjection() *corev1.ProjectedVolumeSource {
	return &corev1.ProjectedVolumeSource{
		DefaultMode: ptr.To(corev1.ProjectedVolumeSourceDefaultMode),
		Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: ptr.To[int64](tokenSeconds)}},
			{ConfigMap: &corev1.ConfigMapProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: RootCAConfigMap},
				Items:                []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}},
			}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
				{Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"}},
			}}},
		},
	}
}

var _ admission.MutationInterface = (*serviceAccounts)(nil)
