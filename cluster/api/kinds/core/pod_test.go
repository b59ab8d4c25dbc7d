package core

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kinds/kindtest"
)

func testPod(change ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "example.com/web:1"}}},
	}
	for _, c := range change {
		c(pod)
	}
	return pod
}

func TestPodDefaults(t *testing.T) {
	t.Parallel()
	pod := testPod(func(p *corev1.Pod) {
		p.Spec.HostNetwork = true
		p.Spec.DeprecatedServiceAccount = "robot"
		c := &p.Spec.Containers[0]
		c.Ports = []corev1.ContainerPort{{ContainerPort: 80}}
		c.LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromInt32(80)}}}
		c.ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: 80}}}
		c.Env = []corev1.EnvVar{{Name: "NODE", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "spec.nodeName"}}}}
		c.Resources.Limits = corev1.ResourceList{"cpu": resource.MustParse("100.5m"), "memory": resource.MustParse("1Gi")}
		p.Spec.Volumes = []corev1.Volume{
			{Name: "empty"},
			{Name: "secret", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s"}}},
			{Name: "token", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}},
			}}}},
			{Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/var/lib"}}},
		}
	})
	kindtest.Want(t, kindtest.Create(Pod(), pod))

	want := testPod()
	want.Status = corev1.PodStatus{Phase: corev1.PodPending, QOSClass: corev1.PodQOSGuaranteed}
	want.Spec = corev1.PodSpec{
		Volumes: []corev1.Volume{
			{Name: "empty", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
			{Name: "secret", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s", DefaultMode: ptr.To(int32(0o644))}}},
			{Name: "token", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{DefaultMode: ptr.To(int32(0o644)), Sources: []corev1.VolumeProjection{
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: ptr.To(int64(3600))}},
			}}}},
			{Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/var/lib", Type: ptr.To(corev1.HostPathUnset)}}},
		},
		Containers: []corev1.Container{{
			Name: "web", Image: "example.com/web:1", ImagePullPolicy: corev1.PullIfNotPresent,
			TerminationMessagePath: "/dev/termination-log", TerminationMessagePolicy: corev1.TerminationMessageReadFile,
			Ports: []corev1.ContainerPort{{ContainerPort: 80, HostPort: 80, Protocol: corev1.ProtocolTCP}},
			Env:   []corev1.EnvVar{{Name: "NODE", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "spec.nodeName"}}}},
			Resources: corev1.ResourceRequirements{
				Limits:   corev1.ResourceList{"cpu": resource.MustParse("101m"), "memory": resource.MustParse("1Gi")},
				Requests: corev1.ResourceList{"cpu": resource.MustParse("101m"), "memory": resource.MustParse("1Gi")},
			},
			LivenessProbe: &corev1.Probe{
				ProbeHandler:   corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/", Port: intstr.FromInt32(80), Scheme: corev1.URISchemeHTTP}},
				TimeoutSeconds: 1, PeriodSeconds: 10, SuccessThreshold: 1, FailureThreshold: 3,
			},
			ReadinessProbe: &corev1.Probe{
				ProbeHandler:   corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: 80, Service: ptr.To("")}},
				TimeoutSeconds: 1, PeriodSeconds: 10, SuccessThreshold: 1, FailureThreshold: 3,
			},
		}},
		RestartPolicy: corev1.RestartPolicyAlways, TerminationGracePeriodSeconds: ptr.To(int64(30)),
		DNSPolicy: corev1.DNSClusterFirst, ServiceAccountName: "robot", DeprecatedServiceAccount: "robot", HostNetwork: true,
		SecurityContext: &corev1.PodSecurityContext{}, SchedulerName: "default-scheduler", EnableServiceLinks: ptr.To(true),
	}
	if diff := cmp.Diff(want, pod); diff != "" {
		t.Errorf("defaulted pod (-want +got):\n%s", diff)
	}
}

func TestPodPullPolicy(t *testing.T) {
	t.Parallel()
	for image, want := range map[string]corev1.PullPolicy{
		"web": corev1.PullAlways, "web:latest": corev1.PullAlways, "web:1": corev1.PullIfNotPresent,
		"localhost:5000/web": corev1.PullAlways, "localhost:5000/web:1": corev1.PullIfNotPresent,
		"web@sha256:" + strings.Repeat("0a", 32): corev1.PullIfNotPresent, "NOT AN IMAGE": corev1.PullIfNotPresent,
	} {
		pod := testPod(func(p *corev1.Pod) { p.Spec.Containers[0].Image = image })
		defaultPod(pod)
		if got := pod.Spec.Containers[0].ImagePullPolicy; got != want {
			t.Errorf("%s: %s, want %s", image, got, want)
		}
	}
}

func TestPodValidation(t *testing.T) {
	t.Parallel()
	container := func(change func(*corev1.Container)) func(*corev1.Pod) {
		return func(p *corev1.Pod) { change(&p.Spec.Containers[0]) }
	}
	volume := func(source corev1.VolumeSource) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: source}} }
	}
	const c0 = "spec.containers[0]"
	for _, tc := range []struct {
		name   string
		change func(*corev1.Pod)
		want   []string
	}{
		{"good", func(*corev1.Pod) {}, nil},
		{"no containers", func(p *corev1.Pod) { p.Spec.Containers = nil }, []string{"FieldValueRequired spec.containers"}},
		{"no name, no image", container(func(c *corev1.Container) { c.Name, c.Image = "", "" }),
			[]string{"FieldValueRequired " + c0 + ".name", "FieldValueRequired " + c0 + ".image"}},
		{"bad name", container(func(c *corev1.Container) { c.Name = "Web_1" }), []string{"FieldValueInvalid " + c0 + ".name"}},
		{"image with spaces", container(func(c *corev1.Container) { c.Image = " web" }), []string{"FieldValueInvalid " + c0 + ".image"}},
		{"two of a name", func(p *corev1.Pod) { p.Spec.Containers = append(p.Spec.Containers, p.Spec.Containers[0]) },
			[]string{"FieldValueDuplicate spec.containers[1].name"}},
		{"init of a container's name", func(p *corev1.Pod) { p.Spec.InitContainers = p.Spec.Containers[:1:1] },
			[]string{"FieldValueDuplicate spec.initContainers[0].name"}},
		{"init with probe", func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "init", Image: "i:1", LivenessProbe: &corev1.Probe{}, Lifecycle: &corev1.Lifecycle{}}}
		}, []string{"FieldValueForbidden spec.initContainers[0].lifecycle", "FieldValueForbidden spec.initContainers[0].livenessProbe"}},
		{"sidecar with probe", func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "side", Image: "i:1", RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways),
				StartupProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString("http")}}}}}
		}, nil},
		{"ports", container(func(c *corev1.Container) {
			c.Ports = []corev1.ContainerPort{
				{Name: "a", ContainerPort: 80, HostPort: 8080}, {Name: "a", ContainerPort: 81, HostPort: 8080},
				{Name: "-", ContainerPort: 0}, {ContainerPort: 70000, Protocol: "tcp"},
			}
		}), []string{
			"FieldValueDuplicate " + c0 + ".ports[1].name", "FieldValueDuplicate " + c0 + ".ports[1].hostPort", "FieldValueInvalid " + c0 + ".ports[2].name",
			"FieldValueInvalid " + c0 + ".ports[2].name", "FieldValueRequired " + c0 + ".ports[2].containerPort",
			"FieldValueInvalid " + c0 + ".ports[3].containerPort", "FieldValueNotSupported " + c0 + ".ports[3].protocol",
		}},
		{"host network with another host port", func(p *corev1.Pod) {
			p.Spec.HostNetwork = true
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 81}}
		}, []string{"FieldValueInvalid " + c0 + ".ports[0].hostPort"}},
		{"env", container(func(c *corev1.Container) {
			c.Env = []corev1.EnvVar{
				{Name: ""}, {Name: "a=b"},
				{Name: "none", ValueFrom: &corev1.EnvVarSource{}},
				{Name: "both", Value: "x", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}, Key: "k"}}},
				{Name: "field", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.phase"}}},
				{Name: "unknown", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.color"}}},
				{Name: "label", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels['app']"}}},
				{Name: "divisor", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.cpu", Divisor: resource.MustParse("2")}}},
				{Name: "resource", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.gpu"}}},
				{Name: "key", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "c"}}}},
			}
		}), []string{
			"FieldValueRequired " + c0 + ".env[0].name", "FieldValueInvalid " + c0 + ".env[1].name", "FieldValueInvalid " + c0 + ".env[2].valueFrom",
			"FieldValueInvalid " + c0 + ".env[3].valueFrom", "FieldValueNotSupported " + c0 + ".env[4].valueFrom.fieldRef.fieldPath",
			"FieldValueInvalid " + c0 + ".env[5].valueFrom.fieldRef.fieldPath", "FieldValueInvalid " + c0 + ".env[7].valueFrom.resourceFieldRef.divisor",
			"FieldValueNotSupported " + c0 + ".env[8].valueFrom.resourceFieldRef.resource", "FieldValueRequired " + c0 + ".env[9].valueFrom.configMapKeyRef.key",
		}},
		{"envFrom", container(func(c *corev1.Container) {
			c.EnvFrom = []corev1.EnvFromSource{{}, {ConfigMapRef: &corev1.ConfigMapEnvSource{}}}
		}), []string{"FieldValueInvalid " + c0 + ".envFrom", "FieldValueRequired " + c0 + ".envFrom[1].configMapRef.name"}},
		{"mounts", func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "v"}}
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{
				{Name: "v", MountPath: "/a"}, {Name: "v", MountPath: "/a"}, {Name: "w", MountPath: "/b"}, {Name: "v"},
				{Name: "v", MountPath: "/c", SubPath: "/etc"}, {Name: "v", MountPath: "/d", SubPath: "a/../b"}, {Name: "v", MountPath: "/e", SubPath: "a..b"},
				{Name: "v", MountPath: "/f", MountPropagation: ptr.To(corev1.MountPropagationBidirectional)},
			}
		}, []string{
			"FieldValueInvalid " + c0 + ".volumeMounts[1].mountPath", "FieldValueNotFound " + c0 + ".volumeMounts[2].name",
			"FieldValueRequired " + c0 + ".volumeMounts[3].mountPath", "FieldValueInvalid " + c0 + ".volumeMounts.subPath",
			"FieldValueInvalid " + c0 + ".volumeMounts.subPath", "FieldValueForbidden " + c0 + ".volumeMounts.mountPropagation",
		}},
		{"two sources", volume(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}, Secret: &corev1.SecretVolumeSource{SecretName: "s"}}),
			[]string{"FieldValueForbidden spec.volumes[0].secret"}},
		{"host path", volume(corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/a/../b", Type: ptr.To(corev1.HostPathType("Hole"))}}),
			[]string{"FieldValueInvalid spec.volumes[0].hostPath.path", "FieldValueNotSupported spec.volumes[0].hostPath.type"}},
		{"config map", volume(corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{DefaultMode: ptr.To(int32(0o1000)), Items: []corev1.KeyToPath{{Key: "k", Path: "..x"}}}}),
			[]string{"FieldValueRequired spec.volumes[0].configMap.name", "FieldValueInvalid spec.volumes[0].configMap.defaultMode", "FieldValueInvalid spec.volumes[0].configMap.items[0].path"}},
		{"projected", volume(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "a", ExpirationSeconds: ptr.To(int64(10))}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{Path: "a", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}}}},
			{ConfigMap: &corev1.ConfigMapProjection{}, DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{Path: "a", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.uid"}}}}},
			{},
		}}}), []string{
			"FieldValueInvalid spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds",
			"FieldValueForbidden spec.volumes[0].projected.sources[0].serviceAccountToken", "FieldValueInvalid spec.volumes[0].projected",
			"FieldValueForbidden spec.volumes[0].projected.sources[2]", "FieldValueRequired spec.volumes[0].projected.sources[2].configMap.name",
		}},
		{"ephemeral claim", volume(corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{}}}),
			[]string{"FieldValueRequired spec.volumes[0].ephemeral.volumeClaimTemplate.spec.accessModes", "FieldValueRequired spec.volumes[0].ephemeral.volumeClaimTemplate.spec.resources[storage]"}},
		{"resources", container(func(c *corev1.Container) {
			c.Resources = corev1.ResourceRequirements{
				Limits:   corev1.ResourceList{"cpu": resource.MustParse("1"), "gpu": resource.MustParse("1"), "example.com/gpu": resource.MustParse("1500m")},
				Requests: corev1.ResourceList{"cpu": resource.MustParse("2"), "memory": resource.MustParse("-1"), "hugepages-2Mi": resource.MustParse("3Mi")},
			}
		}), []string{
			"FieldValueInvalid " + c0 + ".resources.requests", "FieldValueInvalid " + c0 + ".resources.limits[gpu]", "FieldValueInvalid " + c0 + ".resources.limits[gpu]",
			"FieldValueInvalid " + c0 + ".resources.limits[example.com/gpu]", "FieldValueInvalid " + c0 + ".resources.requests[memory]",
			"FieldValueInvalid " + c0 + ".resources.requests[hugepages-2Mi]", "FieldValueRequired " + c0 + ".resources.limits",
			"FieldValueInvalid " + c0 + ".resources.requests[example.com/gpu]", "FieldValueInvalid " + c0 + ".resources.requests[gpu]", "FieldValueInvalid " + c0 + ".resources.requests[gpu]",
		}},
		{"probes", container(func(c *corev1.Container) {
			c.LivenessProbe = &corev1.Probe{SuccessThreshold: 2, ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{}}}
			c.ReadinessProbe = &corev1.Probe{PeriodSeconds: -1, ProbeHandler: corev1.ProbeHandler{
				HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromInt32(0), Scheme: "FTP"}, TCPSocket: &corev1.TCPSocketAction{}}}
			c.StartupProbe = &corev1.Probe{}
			c.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 31}}}
		}), []string{
			"FieldValueRequired " + c0 + ".livenessProbe.exec.command", "FieldValueInvalid " + c0 + ".livenessProbe.successThreshold",
			"FieldValueInvalid " + c0 + ".readinessProbe.httpGet.port", "FieldValueNotSupported " + c0 + ".readinessProbe.httpGet.scheme",
			"FieldValueForbidden " + c0 + ".readinessProbe.tcpSocket", "FieldValueInvalid " + c0 + ".readinessProbe.periodSeconds",
			"FieldValueRequired " + c0 + ".startupProbe", "FieldValueInvalid " + c0 + ".lifecycle.preStop.sleep",
		}},
		{"security", func(p *corev1.Pod) {
			p.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: ptr.To(int64(-1)), Sysctls: []corev1.Sysctl{{Name: "a.b"}, {Name: "a.b"}, {Name: "A"}}}
			p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{RunAsUser: ptr.To(int64(-1)), Privileged: ptr.To(true), AllowPrivilegeEscalation: ptr.To(false),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeLocalhost}}
		}, []string{
			"FieldValueInvalid spec.securityContext.fsGroup", "FieldValueDuplicate spec.securityContext.sysctls[1].name", "FieldValueInvalid spec.securityContext.sysctls[2].name",
			"FieldValueInvalid " + c0 + ".securityContext.runAsUser", "FieldValueInvalid " + c0 + ".securityContext", "FieldValueRequired " + c0 + ".securityContext.seccompProfile.localhostProfile",
		}},
		{"affinity", func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{
				NodeAffinity: &corev1.NodeAffinity{
					RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
						MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "a", Operator: corev1.NodeSelectorOpIn}, {Key: "b", Operator: "Is"}},
						MatchFields:      []corev1.NodeSelectorRequirement{{Key: "spec.x", Operator: corev1.NodeSelectorOpIn, Values: []string{"n"}}},
					}}},
					PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{Weight: 101}},
				},
				PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{}}},
			}
		}, []string{
			"FieldValueRequired spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].values",
			"FieldValueInvalid spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[1].operator",
			"FieldValueInvalid spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchFields[0].key",
			"FieldValueInvalid spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight",
			"FieldValueRequired spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey",
			"FieldValueInvalid spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey",
			"FieldValueInvalid spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey",
		}},
		{"spread", func(p *corev1.Pod) {
			p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{
				{MaxSkew: 1, TopologyKey: "zone", WhenUnsatisfiable: corev1.ScheduleAnyway, MinDomains: ptr.To(int32(1))},
				{MaxSkew: 0, TopologyKey: "zone", WhenUnsatisfiable: corev1.ScheduleAnyway},
			}
		}, []string{
			"FieldValueInvalid spec.topologySpreadConstraints[0].minDomains", "FieldValueInvalid spec.topologySpreadConstraints[1].maxSkew",
			"FieldValueDuplicate spec.topologySpreadConstraints[0].{topologyKey, whenUnsatisfiable}",
		}},
		{"tolerations", func(p *corev1.Pod) {
			p.Spec.Tolerations = []corev1.Toleration{
				{Operator: corev1.TolerationOpExists}, {Value: "x"}, {Key: "a", Operator: corev1.TolerationOpExists, Value: "x"}, {Key: "a", Effect: "Never"},
				{Key: "a", TolerationSeconds: ptr.To(int64(1))},
			}
		}, []string{
			"FieldValueInvalid spec.tolerations[1].operator", "FieldValueInvalid spec.tolerations[2].operator", "FieldValueNotSupported spec.tolerations[3].effect",
			"FieldValueInvalid spec.tolerations[4].effect",
		}},
		{"dns", func(p *corev1.Pod) {
			p.Spec.DNSPolicy = corev1.DNSNone
			p.Spec.DNSConfig = &corev1.PodDNSConfig{Searches: []string{".", "a.b.", "-"}, Options: []corev1.PodDNSConfigOption{{}}}
			p.Spec.HostAliases = []corev1.HostAlias{{IP: "1.2.3", Hostnames: []string{"a_b"}}}
		}, []string{
			"FieldValueRequired spec.dnsConfig.nameservers", "FieldValueInvalid spec.dnsConfig.searches[2]", "FieldValueRequired spec.dnsConfig.options[0]",
			"FieldValueInvalid spec.hostAliases[0].ip", "FieldValueInvalid spec.hostAliases[0].hostnames[0]",
		}},
		{"policies", func(p *corev1.Pod) {
			p.Spec.RestartPolicy, p.Spec.DNSPolicy, p.Spec.PreemptionPolicy = "Maybe", "Local", ptr.To(corev1.PreemptionPolicy("x"))
			p.Spec.ActiveDeadlineSeconds = ptr.To(int64(0))
			p.Spec.NodeSelector = map[string]string{"a": "b c"}
			p.Spec.Hostname, p.Spec.NodeName = "a.b", "N"
			p.Spec.OS = &corev1.PodOS{Name: "beos"}
		}, []string{
			"FieldValueNotSupported spec.restartPolicy", "FieldValueNotSupported spec.dnsPolicy", "FieldValueNotSupported spec.preemptionPolicy", "FieldValueInvalid spec.activeDeadlineSeconds",
			"FieldValueInvalid spec.nodeSelector", "FieldValueInvalid spec.hostname", "FieldValueInvalid spec.nodeName", "FieldValueNotSupported spec.os",
		}},
		{"gates", func(p *corev1.Pod) {
			p.Spec.NodeName = "n"
			p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "g"}, {Name: "g"}}
			p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "e", Image: "e"}}}
		}, []string{"FieldValueForbidden spec.nodeName", "FieldValueDuplicate spec.schedulingGates[1]", "FieldValueForbidden spec.ephemeralContainers"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			kindtest.Want(t, kindtest.Create(Pod(), testPod(tc.change)), tc.want...)
		})
	}
}

func TestPodUpdate(t *testing.T) {
	t.Parallel()
	const required = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
	requiredNodes := func(labels ...string) *corev1.Affinity {
		var term corev1.NodeSelectorTerm
		for _, label := range labels {
			term.MatchExpressions = append(term.MatchExpressions, corev1.NodeSelectorRequirement{Key: label, Operator: corev1.NodeSelectorOpExists})
		}
		return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{term}}}}
	}
	gated := func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "g"}} }
	for _, tc := range []struct {
		name        string
		old, change func(*corev1.Pod)
		want        []string
	}{
		{"nothing", nil, func(*corev1.Pod) {}, nil},
		{"image", nil, func(p *corev1.Pod) { p.Spec.Containers[0].Image = "other:2" }, nil},
		{"image lost", nil, func(p *corev1.Pod) { p.Spec.Containers[0].Image = "" }, []string{"FieldValueRequired spec.containers[0].image"}},
		{"command", nil, func(p *corev1.Pod) { p.Spec.Containers[0].Command = []string{"sh"} }, []string{"FieldValueForbidden spec"}},
		{"node", nil, func(p *corev1.Pod) { p.Spec.NodeName = "n" }, []string{"FieldValueForbidden spec"}},
		{"container more", nil, func(p *corev1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "b", Image: "b"})
		},
			[]string{"FieldValueForbidden spec.containers"}},
		{"deadline", nil, func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To(int64(5)) }, nil},
		{"deadline later", func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To(int64(5)) },
			func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To(int64(6)) }, []string{"FieldValueInvalid spec.activeDeadlineSeconds"}},
		{"toleration more", nil, func(p *corev1.Pod) {
			p.Spec.Tolerations = append(p.Spec.Tolerations, corev1.Toleration{Operator: corev1.TolerationOpExists})
		}, nil},
		{"toleration less", func(p *corev1.Pod) { p.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}} },
			func(p *corev1.Pod) { p.Spec.Tolerations = nil }, []string{"FieldValueForbidden spec.tolerations"}},
		{"gate gone", gated, func(p *corev1.Pod) { p.Spec.SchedulingGates = nil }, nil},
		{"gate new", nil, gated, []string{"FieldValueForbidden spec.schedulingGates[0].name"}},
		{"gated pod narrowed", gated, func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"a": "b"} }, nil},
		{"gated pod's nodes wanted less", func(p *corev1.Pod) {
			gated(p)
			p.Spec.Affinity = requiredNodes("a")
			p.Spec.Affinity.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution = []corev1.PreferredSchedulingTerm{{Weight: 1}}
		}, func(p *corev1.Pod) {
			p.Spec.Affinity.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution = nil
		}, nil},
		{"gated pod's nodes chosen", gated, func(p *corev1.Pod) { p.Spec.Affinity = requiredNodes("a") }, nil},
		{"gated pod's nodes narrowed", func(p *corev1.Pod) { gated(p); p.Spec.Affinity = requiredNodes("a") },
			func(p *corev1.Pod) { p.Spec.Affinity = requiredNodes("a", "b") }, nil},
		{"gated pod's nodes others", func(p *corev1.Pod) { gated(p); p.Spec.Affinity = requiredNodes("a") },
			func(p *corev1.Pod) { p.Spec.Affinity = requiredNodes("b") }, []string{"FieldValueInvalid " + required + "[0]"}},
		{"gated pod's nodes forgotten", func(p *corev1.Pod) { gated(p); p.Spec.Affinity = requiredNodes("a") },
			func(p *corev1.Pod) { p.Spec.Affinity = nil }, []string{"FieldValueInvalid " + required}},
		{"gated pod's selector loosened", func(p *corev1.Pod) { gated(p); p.Spec.NodeSelector = map[string]string{"a": "b"} },
			func(p *corev1.Pod) { p.Spec.NodeSelector = nil }, []string{"FieldValueInvalid spec.nodeSelector"}},
		{"mirror", nil, func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"} },
			[]string{"FieldValueInvalid metadata.annotations[kubernetes.io/config.mirror]", "FieldValueForbidden metadata.annotations[kubernetes.io/config.mirror]"}},
		{"grace mended", func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = ptr.To(int64(-1)) },
			func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = ptr.To(int64(1)) }, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			old := testPod()
			if tc.old != nil {
				tc.old(old)
			}
			kindtest.Want(t, kindtest.Create(Pod(), old))
			pod := old.DeepCopy()
			tc.change(pod)
			pod.Status.Phase = corev1.PodFailed // not the user's to write
			kindtest.Want(t, kindtest.Update(Pod(), pod, old), tc.want...)
			if pod.Status.Phase != corev1.PodPending {
				t.Errorf("an update of the pod changed its status")
			}
		})
	}
	t.Run("wording", func(t *testing.T) {
		t.Parallel()
		old := testPod()
		kindtest.Create(Pod(), old)
		pod := old.DeepCopy()
		pod.Spec.NodeName = "n"
		text := kindtest.Update(Pod(), pod, old).ToAggregate().Error()
		if !strings.HasPrefix(text, "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,") {
			t.Error(text)
		}
	})
}

func TestPodStatus(t *testing.T) {
	t.Parallel()
	ended := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1}}
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	for _, tc := range []struct {
		name   string
		policy corev1.RestartPolicy
		change func(*corev1.PodStatus)
		want   []string
	}{
		{"restarted", corev1.RestartPolicyAlways, func(s *corev1.PodStatus) { s.ContainerStatuses[0].State = running }, nil},
		{"risen", corev1.RestartPolicyNever, func(s *corev1.PodStatus) { s.ContainerStatuses[0].State = running }, []string{"FieldValueForbidden status.containerStatuses[0].state"}},
		{"other class", corev1.RestartPolicyAlways, func(s *corev1.PodStatus) { s.QOSClass = corev1.PodQOSBurstable }, []string{"FieldValueInvalid status.qosClass"}},
		{"condition", corev1.RestartPolicyAlways, func(s *corev1.PodStatus) {
			s.Conditions = append(s.Conditions, corev1.PodCondition{Type: "example.com/ok"}, corev1.PodCondition{Type: "not ok", ObservedGeneration: -1})
		}, []string{"FieldValueInvalid status.conditions[1].Type", "FieldValueInvalid status.conditions[1].observedGeneration"}},
		{"claims", corev1.RestartPolicyAlways, func(s *corev1.PodStatus) {
			s.ResourceClaimStatuses = []corev1.PodResourceClaimStatus{{Name: "gpu", ResourceClaimName: ptr.To("A")}}
		}, []string{"FieldValueInvalid status.resourceClaimStatuses[0].name", "FieldValueInvalid status.resourceClaimStatuses[0].resourceClaimName"}},
		{"host", corev1.RestartPolicyAlways, func(s *corev1.PodStatus) { s.HostIP, s.HostIPs = "10.0.0.1", []corev1.HostIP{{IP: "10.0.0.2"}} },
			[]string{"FieldValueInvalid status.hostIPs[0].ip"}},
		{"user", corev1.RestartPolicyAlways, func(s *corev1.PodStatus) {
			s.ContainerStatuses[0].User = &corev1.ContainerUser{Linux: &corev1.LinuxContainerUser{UID: -1, SupplementalGroups: []int64{0, -1}}}
		}, []string{"FieldValueInvalid status.containerStatuses[0].user.linux.uid", "FieldValueInvalid status.containerStatuses[0].user.linux.supplementalGroups[1]"}},
		{"two addresses", corev1.RestartPolicyAlways, func(s *corev1.PodStatus) { s.PodIPs = []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "10.0.0.2"}} }, []string{"FieldValueInvalid status.podIPs"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			old := testPod(func(p *corev1.Pod) { p.Spec.RestartPolicy = tc.policy })
			kindtest.Want(t, kindtest.Create(Pod(), old))
			old.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "web", State: ended}}
			pod := old.DeepCopy()
			pod.Spec.NodeName = "sneaked-in"
			tc.change(&pod.Status)
			kindtest.Want(t, kindtest.Sub(Pod().Status, pod, old), tc.want...)
			if pod.Spec.NodeName != "" {
				t.Error("an update of the status changed the spec")
			}
		})
	}
	t.Run("restart of all", func(t *testing.T) {
		t.Parallel()
		never := corev1.ContainerRestartPolicyNever
		old := testPod(func(p *corev1.Pod) {
			p.Spec.RestartPolicy = corev1.RestartPolicyNever
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "watcher", RestartPolicy: &never, RestartPolicyRules: []corev1.ContainerRestartRule{{
				Action: corev1.ContainerRestartRuleActionRestartAllContainers, ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: "In", Values: []int32{42}},
			}}})
		})
		old.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "web", State: ended}}
		pod := old.DeepCopy()
		pod.Status.ContainerStatuses[0].State = running
		kindtest.Want(t, kindtest.Sub(Pod().Status, pod, old))
	})
	t.Run("addresses agree", func(t *testing.T) {
		t.Parallel()
		old := testPod()
		kindtest.Create(Pod(), old)
		pod := old.DeepCopy()
		pod.Status.PodIP = "10.0.0.1"
		kindtest.Want(t, kindtest.Sub(Pod().Status, pod, old))
		if diff := cmp.Diff([]corev1.PodIP{{IP: "10.0.0.1"}}, pod.Status.PodIPs); diff != "" {
			t.Error(diff)
		}
	})
}

func TestPodSubresources(t *testing.T) {
	t.Parallel()
	old := testPod(func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{"cpu": resource.MustParse("1")}
	})
	kindtest.Want(t, kindtest.Create(Pod(), old))
	debug := corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug", Image: "sh:1"}}

	pod := old.DeepCopy()
	pod.Spec.EphemeralContainers = []corev1.EphemeralContainer{debug}
	pod.Spec.Containers[0].Image = "sneaked-in"
	defaultPod(pod)
	kindtest.Want(t, kindtest.Sub(Pod().Subresources["ephemeralcontainers"], pod, old))
	if pod.Spec.Containers[0].Image != "example.com/web:1" || len(pod.Spec.EphemeralContainers) != 1 {
		t.Errorf("ephemeral containers: %+v", pod.Spec)
	}
	again := pod.DeepCopy()
	again.Spec.EphemeralContainers[0].Image = "sh:2"
	kindtest.Want(t, kindtest.Sub(Pod().Subresources["ephemeralcontainers"], again, pod), "FieldValueForbidden spec.ephemeralContainers")

	pod = old.DeepCopy()
	pod.Spec.Containers[0].Resources.Requests["cpu"] = resource.MustParse("2")
	kindtest.Want(t, kindtest.Sub(Pod().Subresources["resize"], pod, old))
	pod = old.DeepCopy()
	pod.Spec.Containers[0].Resources.Requests["ephemeral-storage"] = resource.MustParse("2Gi")
	kindtest.Want(t, kindtest.Sub(Pod().Subresources["resize"], pod, old), "FieldValueForbidden spec")
	pod = old.DeepCopy()
	pod.Spec.Containers[0].Resources.Requests = nil
	kindtest.Want(t, kindtest.Sub(Pod().Subresources["resize"], pod, old), "FieldValueForbidden spec.containers[0].resources.requests", "FieldValueInvalid spec")
}

func TestPodGrace(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		change func(*corev1.Pod)
		asked  *int64
		want   int64
	}{
		{"its own", func(p *corev1.Pod) { p.Spec.NodeName = "n" }, nil, 30},
		{"asked for", func(p *corev1.Pod) { p.Spec.NodeName = "n" }, ptr.To(int64(5)), 5},
		{"by force", func(p *corev1.Pod) { p.Spec.NodeName = "n" }, ptr.To(int64(0)), 0},
		{"not scheduled", func(*corev1.Pod) {}, nil, 0},
		{"finished", func(p *corev1.Pod) { p.Spec.NodeName, p.Status.Phase = "n", corev1.PodSucceeded }, nil, 0},
		{"negative", func(p *corev1.Pod) {
			p.Spec.NodeName, p.Spec.TerminationGracePeriodSeconds = "n", ptr.To(int64(-3))
		}, nil, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			pod := testPod()
			defaultPod(pod)
			tc.change(pod)
			options := &metav1.DeleteOptions{GracePeriodSeconds: tc.asked}
			if !podGrace(context.Background(), pod, options) || *options.GracePeriodSeconds != tc.want {
				t.Errorf("grace %d, want %d", *options.GracePeriodSeconds, tc.want)
			}
		})
	}
}

func TestPodRow(t *testing.T) {
	t.Parallel()
	ago := metav1.NewTime(time.Now().Add(-5 * time.Minute))
	waiting := func(reason string) corev1.ContainerState {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}
	}
	ended := func(code int32, reason string) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason, FinishedAt: ago}}
	}
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	withInit := func(p *corev1.Pod) { p.Spec.InitContainers = []corev1.Container{{Name: "i0"}, {Name: "i1"}} }
	for _, tc := range []struct {
		name   string
		change func(*corev1.Pod)
		want   []any // Ready, Status, Restarts
	}{
		{"pending", func(*corev1.Pod) {}, []any{"0/1", "Pending", "0"}},
		{"creating", func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "web", State: waiting("ContainerCreating")}}
		}, []any{"0/1", "ContainerCreating", "0"}},
		{"running", func(p *corev1.Pod) {
			p.Status.Phase = corev1.PodRunning
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "web", Ready: true, State: running}}
		}, []any{"1/1", "Running", "0"}},
		{"crashing", func(p *corev1.Pod) {
			p.Status.Phase = corev1.PodRunning
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "web", RestartCount: 3, State: waiting("CrashLoopBackOff"), LastTerminationState: ended(1, "Error")}}
		}, []any{"0/1", "CrashLoopBackOff", "3 (5m ago)"}},
		{"completed", func(p *corev1.Pod) {
			p.Status.Phase = corev1.PodSucceeded
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "web", State: ended(0, "Completed")}}
		}, []any{"0/1", "Completed", "0"}},
		{"one completed", func(p *corev1.Pod) {
			p.Status.Phase = corev1.PodRunning
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "a", State: ended(0, "Completed")}, {Name: "b", Ready: true, State: running}}
		}, []any{"1/1", "NotReady", "0"}},
		{"exit code", func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "web", State: ended(137, "")}}
		}, []any{"0/1", "ExitCode:137", "0"}},
		{"init", func(p *corev1.Pod) {
			withInit(p)
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "i0", State: ended(0, "Completed")}, {Name: "i1", State: running}}
		}, []any{"0/1", "Init:1/2", "0"}},
		{"init failed", func(p *corev1.Pod) {
			withInit(p)
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "i0", State: ended(1, "Error"), RestartCount: 1}}
		}, []any{"0/1", "Init:Error", "1"}},
		{"init crashing", func(p *corev1.Pod) {
			withInit(p)
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "i0", State: waiting("CrashLoopBackOff")}}
		}, []any{"0/1", "Init:CrashLoopBackOff", "0"}},
		{"sidecar", func(p *corev1.Pod) {
			p.Status.Phase = corev1.PodRunning
			p.Spec.InitContainers = []corev1.Container{{Name: "side", RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways)}}
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "side", Ready: true, Started: ptr.To(true), State: running}}
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "web", Ready: true, State: running}}
		}, []any{"2/2", "Running", "0"}},
		{"evicted", func(p *corev1.Pod) { p.Status.Phase, p.Status.Reason = corev1.PodFailed, "Evicted" }, []any{"0/1", "Evicted", "0"}},
		{"terminating", func(p *corev1.Pod) { p.DeletionTimestamp = &ago }, []any{"0/1", "Terminating", "0"}},
		{"gated", func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Reason: corev1.PodReasonSchedulingGated}}
		}, []any{"0/1", "SchedulingGated", "0"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			pod := testPod(func(p *corev1.Pod) { p.Status.Phase = corev1.PodPending }, tc.change)
			if diff := cmp.Diff(tc.want, podRow(pod)[1:4]); diff != "" {
				t.Error(diff)
			}
		})
	}
	wide := testPod(func(p *corev1.Pod) {
		p.CreationTimestamp = ago
		p.Spec.NodeName, p.Status.PodIP = "node-1", "10.0.0.7"
		p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "a"}, {ConditionType: "b"}}
		p.Status.Conditions = []corev1.PodCondition{{Type: "a", Status: corev1.ConditionTrue}}
	})
	if diff := cmp.Diff([]any{"5m", "10.0.0.7", "node-1", "<none>", "1/2"}, podRow(wide)[4:]); diff != "" {
		t.Error(diff)
	}
}

func TestPodLabelKeys(t *testing.T) {
	t.Parallel()
	pod := testPod(func(p *corev1.Pod) {
		p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: "zone", WhenUnsatisfiable: corev1.DoNotSchedule,
			LabelSelector: &metav1.LabelSelector{}, MatchLabelKeys: []string{"app", "absent"}}}
	})
	kindtest.Want(t, kindtest.Create(Pod(), pod))
	want := []metav1.LabelSelectorRequirement{{Key: "app", Operator: metav1.LabelSelectorOpIn, Values: []string{"web"}}}
	if diff := cmp.Diff(want, pod.Spec.TopologySpreadConstraints[0].LabelSelector.MatchExpressions); diff != "" {
		t.Error(diff)
	}
}

func BenchmarkPodCreate(b *testing.B) {
	pod := testPod(func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80}}
		p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{"cpu": resource.MustParse("1"), "memory": resource.MustParse("1Gi")}
	})
	k := Pod()
	b.ReportAllocs()
	for b.Loop() {
		if errs := kindtest.Create(k, pod.DeepCopy()); len(errs) > 0 {
			b.Fatal(errs)
		}
	}
}
