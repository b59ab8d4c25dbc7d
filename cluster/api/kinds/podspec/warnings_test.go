package podspec

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"
)

func TestWarnings(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		pod  string
		want []string
	}{
		"nothing": {`{spec: {nodeSelector: {kubernetes.io/arch: amd64}, containers: [{name: a, env: [{name: X, value: a}, {name: X, value: "$(X)b"}], ports: [{containerPort: 80}, {containerPort: 81}]}]}}`, nil},
		"labels of nodes": {`
spec:
  nodeSelector: {beta.kubernetes.io/os: linux, failure-domain.beta.kubernetes.io/zone: a}
  affinity:
    nodeAffinity:
      requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: beta.kubernetes.io/arch, operator: Exists}]}]}
      preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, preference: {matchExpressions: [{key: a, operator: Exists}, {key: beta.kubernetes.io/instance-type, operator: Exists}]}}]
  topologySpreadConstraints: [{topologyKey: failure-domain.beta.kubernetes.io/region, labelSelector: {}}]`, []string{
			`spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead`,
			`spec.nodeSelector[failure-domain.beta.kubernetes.io/zone]: deprecated since v1.17; use "topology.kubernetes.io/zone" instead`,
			`spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].key: beta.kubernetes.io/arch is deprecated since v1.14; use "kubernetes.io/arch" instead`,
			`spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[1].key: beta.kubernetes.io/instance-type is deprecated since v1.17; use "node.kubernetes.io/instance-type" instead`,
			`spec.topologySpreadConstraints[0].topologyKey: failure-domain.beta.kubernetes.io/region is deprecated since v1.17; use "topology.kubernetes.io/region" instead`,
		}},
		"selectors of nothing": {`
spec:
  affinity:
    podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: a}]}
    podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, podAffinityTerm: {topologyKey: a, labelSelector: {}}}, {weight: 1, podAffinityTerm: {topologyKey: a}}]}
  topologySpreadConstraints: [{topologyKey: a}]`, []string{
			"spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
			"spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector: a null labelSelector results in matching no pod",
			"spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[1].podAffinityTerm.labelSelector: a null labelSelector results in matching no pod",
		}},
		"annotations": {`
metadata: {annotations: {scheduler.alpha.kubernetes.io/critical-pod: "", seccomp.security.alpha.kubernetes.io/pod: a, container.seccomp.security.alpha.kubernetes.io/a: a,
  container.seccomp.security.alpha.kubernetes.io/b: a, container.apparmor.security.beta.kubernetes.io/b: a}}
spec: {containers: [{name: a, securityContext: {seccompProfile: {type: Unconfined}}}, {name: b}]}`, []string{
			`metadata.annotations[scheduler.alpha.kubernetes.io/critical-pod]: non-functional in v1.16+; use the "priorityClassName" field instead`,
			`metadata.annotations[seccomp.security.alpha.kubernetes.io/pod]: non-functional in v1.27+; use the "seccompProfile" field instead`,
			`metadata.annotations[container.seccomp.security.alpha.kubernetes.io/b]: non-functional in v1.27+; use the "seccompProfile" field instead`,
			`metadata.annotations[container.apparmor.security.beta.kubernetes.io/b]: deprecated since v1.30; use the "appArmorProfile" field instead`,
		}},
		"volumes": {`
spec:
  volumes:
  - {name: a, gitRepo: {repository: a}}
  - {name: b, glusterfs: {path: a}}
  - {name: c, rbd: {image: a}}
  - {name: d, ephemeral: {volumeClaimTemplate: {spec: {resources: {requests: {storage: 100m}}}}}}
  - {name: e, projected: {sources: [{serviceAccountToken: {path: token}}, {configMap: {items: [{key: a, path: other}, {key: a, path: token}]}}, {clusterTrustBundle: {path: token}}]}}`, []string{
			"spec.volumes[0].gitRepo: deprecated in v1.11",
			"spec.volumes[1].glusterfs: deprecated in v1.25, non-functional in v1.26+",
			"spec.volumes[2].rbd: deprecated in v1.28, non-functional in v1.31+",
			`spec.volumes[3].ephemeral.volumeClaimTemplate.spec.resources.requests[storage]: fractional byte value "100m" is invalid, must be an integer`,
			`spec.volumes[4].projected.sources.configMap[1]: has duplicated path with ServiceAccountToken "token"`,
			`spec.volumes[4].projected.sources.ClusterTrustBundle: has duplicated path with ServiceAccountToken "token"`,
			`volume "e" (Projected): overlapping paths: "token" (ConfigMap "") with "token" (ServiceAccountToken)`,
			`volume "e" (Projected): overlapping paths: "token" (ClusterTrustBundle "") with "token" (ServiceAccountToken)`,
			`volume "e" (Projected): overlapping paths: "token" (ClusterTrustBundle "") with "token" (ConfigMap "")`,
		}},
		"files over files": {`
spec:
  volumes:
  - {name: a, configMap: {name: c, items: [{key: a, path: d/}, {key: b, path: d/e}, {key: c, path: de}]}}
  - {name: b, secret: {secretName: s, items: [{key: a, path: x}, {key: b, path: z}]}}
  - {name: c, projected: {sources: [{}]}}`, []string{
			`volume "a" (ConfigMap "c"): overlapping paths: "d/e" with "d"`,
			`volume "c" (Projected) has no sources provided`,
		}},
		"twice or not at all": {`{spec: {hostAliases: [{ip: 1.1.1.1}, {ip: 1.1.1.1}], imagePullSecrets: [{name: a}, {name: a}, {}]}}`, []string{
			`spec.hostAliases[1].ip: duplicate ip "1.1.1.1"`, `spec.imagePullSecrets[1].name: duplicate name "a"`, `spec.imagePullSecrets[2].name: invalid empty name ""`,
		}},
		"amounts": {`{spec: {terminationGracePeriodSeconds: -1, overhead: {memory: 1500m}, initContainers: [{name: a, resources: {limits: {memory: 100m}, requests: {ephemeral-storage: 200m, cpu: 100m}}}]}}`, []string{
			`spec.overhead[memory]: fractional byte value "1500m" is invalid, must be an integer`,
			`spec.initContainers[0].resources.limits[memory]: fractional byte value "100m" is invalid, must be an integer`,
			`spec.initContainers[0].resources.requests[ephemeral-storage]: fractional byte value "200m" is invalid, must be an integer`,
			"spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
		}},
		"environment": {`{spec: {containers: [{name: a, env: [{name: X, value: a}, {name: X, value: b}, {name: X, value: "$(X)"}, {name: X, valueFrom: {fieldRef: {fieldPath: metadata.name}}}, {name: X, value: "$(X)c"}]}]}}`, []string{
			`spec.containers[0].env[1]: hides previous definition of "X", which may be dropped when using apply`,
			`spec.containers[0].env[2]: hides previous definition of "X", which may be dropped when using apply`,
			`spec.containers[0].env[3]: hides previous definition of "X", which may be dropped when using apply`,
		}},
		"ports": {`
spec:
  containers:
  - {name: a, ports: [{containerPort: 80, protocol: TCP}, {containerPort: 80, protocol: UDP}, {containerPort: 80, protocol: TCP}]}
  - {name: b, ports: [{containerPort: 80, protocol: UDP, hostPort: 8080}, {containerPort: 81, protocol: TCP, hostPort: 81}, {containerPort: 81, protocol: TCP, hostPort: 81, hostIP: 10.0.0.1}]}`, []string{
			"spec.containers[0].ports[2]: duplicate port definition with spec.containers[0].ports[0]",
			"spec.containers[1].ports[0]: overlapping port definition with spec.containers[0].ports[1]",
			"spec.containers[1].ports[2]: dangerously ambiguous port definition with spec.containers[1].ports[1]",
		}},
	} {
		pod := &corev1.Pod{}
		if err := yaml.UnmarshalStrict([]byte(tc.pod), pod); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(tc.want, Warnings(&pod.ObjectMeta, &pod.Spec, nil)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		for _, w := range Warnings(&pod.ObjectMeta, &pod.Spec, field.NewPath("spec", "template")) {
			if !strings.HasPrefix(w, "spec.template.spec.") && !strings.HasPrefix(w, "spec.template.metadata.") && !strings.HasPrefix(w, "volume ") {
				t.Errorf("%s: in a template %q", name, w)
			}
		}
	}
}
