package core

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kinds/kindtest"
)

// TestPodRareRules has what is met less often than the rules of TestPodValidation.
func TestPodRareRules(t *testing.T) {
	t.Parallel()
	container := func(change func(*corev1.Container)) func(*corev1.Pod) {
		return func(p *corev1.Pod) { change(&p.Spec.Containers[0]) }
	}
	annotate := func(pairs ...string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Annotations = make(map[string]string)
			for i := 0; i < len(pairs); i += 2 {
				p.Annotations[pairs[i]] = pairs[i+1]
			}
		}
	}
	claims := func(uses ...corev1.ResourceClaim) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "gpu", ResourceClaimName: ptr.To("my-gpu")}}
			p.Spec.Containers[0].Resources.Claims = uses
		}
	}
	const c0 = "spec.containers[0]"
	for _, tc := range []struct {
		name   string
		change func(*corev1.Pod)
		want   []string
	}{
		{"subscripts", container(func(c *corev1.Container) {
			for _, path := range []string{"metadata.labels['a b']", "metadata.name['a']"} {
				c.Env = append(c.Env, corev1.EnvVar{Name: "E", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}})
			}
		}), []string{"FieldValueInvalid " + c0 + ".env[0].valueFrom.fieldRef", "FieldValueInvalid " + c0 + ".env[1].valueFrom.fieldRef"}},
		{"env from a file", func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "s", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s"}}}}
			for _, v := range []string{"s", "t"} {
				p.Spec.Containers[0].Env = append(p.Spec.Containers[0].Env, corev1.EnvVar{Name: "E", ValueFrom: &corev1.EnvVarSource{FileKeyRef: &corev1.FileKeySelector{VolumeName: v, Path: "a/../b", Key: "k"}}})
			}
		}, []string{
			"FieldValueInvalid " + c0 + ".env[0].valueFrom.fileKeyRef.path", "FieldValueInvalid " + c0 + ".env[0].valueFrom.fileKeyRef.volumeName",
			"FieldValueInvalid " + c0 + ".env[1].valueFrom.fileKeyRef.path", "FieldValueNotFound " + c0 + ".env[1].valueFrom.fileKeyRef.volumeName",
		}},
		{"devices", func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "d", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}}}, {Name: "e"}}
			p.Spec.Containers[0].VolumeDevices = []corev1.VolumeDevice{{Name: "d", DevicePath: "/dev/../a"}, {Name: "e", DevicePath: "/b"}}
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "d", MountPath: "/b"}}
		}, []string{
			"FieldValueInvalid " + c0 + ".volumeDevices[0].devicePath", "FieldValueInvalid " + c0 + ".volumeDevices[0].name", "FieldValueInvalid " + c0 + ".volumeDevices[1].devicePath",
			"FieldValueInvalid " + c0 + ".volumeDevices[1].name", "FieldValueInvalid " + c0 + ".volumeMounts[0].name", "FieldValueInvalid " + c0 + ".volumeMounts[0].mountPath",
		}},
		{"mount of a bad volume", func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "V"}}
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "V", MountPath: "/v"}}
		}, []string{"FieldValueInvalid spec.volumes[0].name", "FieldValueNotFound " + c0 + ".volumeMounts[0].name"}},
		{"claim of an ephemeral volume", func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{
				{Name: "e", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{
					ObjectMeta: metav1.ObjectMeta{Name: "mine"}, Spec: testClaim().Spec}}}},
				{Name: "c", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "web-e"}}},
			}
		}, []string{"FieldValueForbidden spec.volumes[0].ephemeral.volumeClaimTemplate.metadata.name", "FieldValueInvalid spec.volumes[1].persistentVolumeClaim.claimName"}},
		{"token", func(p *corev1.Pod) {
			p.Spec.ServiceAccountName = "robot"
			p.Spec.Volumes = []corev1.Volume{{Name: "t", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{}}, {ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "../a"}}}}}}}
		}, []string{"FieldValueRequired spec.volumes[0].projected.path", "FieldValueInvalid spec.volumes[0].projected.path"}},
		{"claims", claims(corev1.ResourceClaim{Name: "gpu", Request: "a"}, corev1.ResourceClaim{Name: "gpu", Request: "b"}), nil},
		{"claims twice", claims(corev1.ResourceClaim{Name: "gpu", Request: "a"}, corev1.ResourceClaim{Name: "gpu", Request: "a"}, corev1.ResourceClaim{Name: "gpu"}, corev1.ResourceClaim{Name: "fpga"}),
			[]string{"FieldValueDuplicate " + c0 + ".resources.claims[1]", "FieldValueDuplicate " + c0 + ".resources.claims[2]", "FieldValueNotFound " + c0 + ".resources.claims[3]"}},
		{"resize policies", func(p *corev1.Pod) {
			p.Spec.RestartPolicy = corev1.RestartPolicyNever
			p.Spec.Containers[0].ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: "cpu", RestartPolicy: "RestartContainer"}, {ResourceName: "cpu", RestartPolicy: "NotRequired"}, {ResourceName: "gpu", RestartPolicy: "NotRequired"}}
			p.Spec.InitContainers = []corev1.Container{{Name: "i", Image: "i", ResizePolicy: []corev1.ContainerResizePolicy{{ResourceName: "cpu", RestartPolicy: "NotRequired"}}}}
		}, []string{"FieldValueDuplicate " + c0 + ".resizePolicy[1]", "FieldValueInvalid " + c0 + ".resizePolicy", "FieldValueNotSupported " + c0 + ".resizePolicy"}},
		{"resize of an init container", func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "i", Image: "i", ResizePolicy: []corev1.ContainerResizePolicy{{ResourceName: "cpu", RestartPolicy: "RestartContainer"}}}}
		}, []string{"FieldValueInvalid spec.initContainers[0].resizePolicy[0].restartPolicy"}},
		{"pod resources", func(p *corev1.Pod) {
			p.Spec.Resources = &corev1.ResourceRequirements{Limits: amounts("cpu", "1"), Requests: amounts("cpu", "1")}
			p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Limits: amounts("cpu", "3"), Requests: amounts("cpu", "2")}
		}, []string{"FieldValueInvalid spec.resources.containers[0][cpu].limits", "FieldValueInvalid spec.resources.requests[cpu]"}},
		{"overhead", func(p *corev1.Pod) { p.Spec.Overhead = amounts("cpu", "-1", "cars", "1") },
			[]string{"FieldValueInvalid spec.overhead.limits[cars]", "FieldValueInvalid spec.overhead.limits[cars]", "FieldValueInvalid spec.overhead.limits[cpu]"}},
		{"signals", func(p *corev1.Pod) {
			p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{StopSignal: ptr.To(corev1.SIGUSR1)}
		}, []string{"FieldValueForbidden " + c0 + ".lifecycle.stopSignal"}},
		{"signals of an OS", func(p *corev1.Pod) {
			p.Spec.OS = &corev1.PodOS{Name: corev1.Linux}
			p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{StopSignal: ptr.To(corev1.Signal("SIGHELLO"))}
		}, []string{"FieldValueNotSupported " + c0 + ".lifecycle.stopSignal"}},
		{"users of its own", func(p *corev1.Pod) {
			p.Spec.HostUsers, p.Spec.HostPID, p.Spec.ShareProcessNamespace = ptr.To(false), true, ptr.To(true)
		}, []string{"FieldValueForbidden spec.HostPID", "FieldValueInvalid spec.shareProcessNamespace"}},
		{"label keys", func(p *corev1.Pod) {
			p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{
				{MaxSkew: 1, TopologyKey: "a b", WhenUnsatisfiable: corev1.DoNotSchedule, MatchLabelKeys: []string{"app"}},
				{MaxSkew: 1, TopologyKey: "zone", WhenUnsatisfiable: corev1.DoNotSchedule, MatchLabelKeys: []string{"app"}, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}},
			}
		}, []string{"FieldValueForbidden spec.topologySpreadConstraints[0].matchLabelKeys", "FieldValueInvalid spec.topologySpreadConstraints[1][0]"}},
		{"preferred nodes", func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{
				Weight: 1, Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "a", Operator: corev1.NodeSelectorOpIn, Values: []string{"b c"}}}}}}}}
		}, nil},
		{"deletion cost", annotate(corev1.PodDeletionCost, "-5"), nil},
		{"deletion cost, bad", annotate(corev1.PodDeletionCost, "+5"), []string{"FieldValueInvalid metadata.annotations[controller.kubernetes.io/pod-deletion-cost]"}},
		{"profiles by annotation", annotate(corev1.SeccompPodAnnotationKey, "strict", corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix+"db", "strict"), []string{
			"FieldValueInvalid metadata.annotations.seccomp.security.alpha.kubernetes.io/pod", "FieldValueInvalid metadata.annotations[container.apparmor.security.beta.kubernetes.io/db]",
			"FieldValueInvalid metadata.annotations[container.apparmor.security.beta.kubernetes.io/db]",
		}},
		{"profiles twice", func(p *corev1.Pod) {
			annotate(corev1.SeccompPodAnnotationKey, "unconfined", corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix+"web", "localhost/a")(p)
			p.Spec.SecurityContext = &corev1.PodSecurityContext{
				SeccompProfile:  &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
				AppArmorProfile: &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeLocalhost, LocalhostProfile: ptr.To("b")},
			}
		}, []string{"FieldValueForbidden spec.securityContext.seccompProfile.type", "FieldValueForbidden " + c0 + ".securityContext.appArmorProfile.localhostProfile"}},
		{"pull secret without name", func(p *corev1.Pod) { p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{}} }, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			kindtest.Want(t, kindtest.Create(Pod(), testPod(tc.change)), tc.want...)
		})
	}
}

func TestPodResize(t *testing.T) {
	t.Parallel()
	cpu := func(c *corev1.Container, amount string) {
		c.Resources.Requests = c.Resources.Requests.DeepCopy()
		c.Resources.Requests["cpu"] = resource.MustParse(amount)
	}
	for _, tc := range []struct {
		name        string
		old, change func(*corev1.Pod)
		want        []string
	}{
		{"container", nil, func(p *corev1.Pod) { cpu(&p.Spec.Containers[0], "2") }, nil},
		{"sidecar", nil, func(p *corev1.Pod) { cpu(&p.Spec.InitContainers[0], "2") }, nil},
		{"init container", nil, func(p *corev1.Pod) { cpu(&p.Spec.InitContainers[1], "2") }, []string{"FieldValueForbidden spec"}},
		{"policy", nil, func(p *corev1.Pod) {
			p.Spec.Containers[0].ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: "cpu", RestartPolicy: "NotRequired"}}
		}, []string{"FieldValueForbidden spec"}},
		{"storage", nil, func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Requests = amounts("cpu", "1", "ephemeral-storage", "1Gi")
		}, []string{"FieldValueForbidden spec"}},
		{"old node", func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "web", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
		}, func(p *corev1.Pod) { cpu(&p.Spec.Containers[0], "2") }, []string{"FieldValueForbidden spec"}},
		{"pod", func(p *corev1.Pod) { p.Spec.Resources = &corev1.ResourceRequirements{Requests: amounts("cpu", "5")} },
			func(p *corev1.Pod) { p.Spec.Resources.Requests = amounts("cpu", "6") }, nil},
		{"pod, less", func(p *corev1.Pod) {
			p.Spec.Resources = &corev1.ResourceRequirements{Requests: amounts("cpu", "5", "memory", "1Gi")}
		},
			func(p *corev1.Pod) { p.Spec.Resources.Requests = amounts("cpu", "5") }, []string{"FieldValueForbidden spec.resources.requests"}},
		{"static", func(p *corev1.Pod) {
			p.Annotations, p.Spec.NodeName = map[string]string{corev1.MirrorPodAnnotationKey: "x"}, "n"
		},
			func(p *corev1.Pod) { cpu(&p.Spec.Containers[0], "2") }, []string{"FieldValueForbidden []"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			old := testPod(func(p *corev1.Pod) {
				p.Spec.Containers[0].Resources.Requests = amounts("cpu", "1")
				p.Spec.InitContainers = []corev1.Container{
					{Name: "side", Image: "i", RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways), Resources: corev1.ResourceRequirements{Requests: amounts("cpu", "1")}},
					{Name: "init", Image: "i", Resources: corev1.ResourceRequirements{Requests: amounts("cpu", "1")}},
				}
			})
			kindtest.Create(Pod(), old)
			if tc.old != nil {
				tc.old(old)
			}
			pod := old.DeepCopy()
			tc.change(pod)
			kindtest.Want(t, kindtest.Sub(Pod().Subresources["resize"], pod, old), tc.want...)
		})
	}
}
