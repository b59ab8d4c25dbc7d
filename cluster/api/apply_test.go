package api_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"
)

// TestKindsApply applies an object of every kind that users write twice: schemas know all of its
// fields, and what the server adds is nobody's conflict.
func TestKindsApply(t *testing.T) {
	t.Parallel()
	c := start(t)
	client, err := dynamic.NewForConfig(c.LoopbackConfig())
	if err != nil {
		t.Fatal(err)
	}
	for gvr, manifest := range map[string]string{
		"batch/v1/jobs":                              `{kind: Job, spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}`,
		"batch/v1/cronjobs":                          `{kind: CronJob, spec: {schedule: "* * * * *", jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}}}`,
		"policy/v1/poddisruptionbudgets":             `{kind: PodDisruptionBudget, spec: {minAvailable: 50%, selector: {matchLabels: {a: b}}}}`,
		"scheduling.k8s.io/v1/priorityclasses/":      `{kind: PriorityClass, value: 7}`,
		"networking.k8s.io/v1/ingresses":             `{kind: Ingress, spec: {rules: [{host: a.b, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: s, port: {number: 80}}}}]}}]}}`,
		"networking.k8s.io/v1/ingressclasses/":       `{kind: IngressClass, spec: {controller: a.b/c}}`,
		"networking.k8s.io/v1/networkpolicies":       `{kind: NetworkPolicy, spec: {podSelector: {}, ingress: [{ports: [{port: 80}]}]}}`,
		"storage.k8s.io/v1/storageclasses/":          `{kind: StorageClass, provisioner: a.b/c}`,
		"storage.k8s.io/v1/csidrivers/":              `{kind: CSIDriver, spec: {podInfoOnMount: true}}`,
		"storage.k8s.io/v1/csinodes/":                `{kind: CSINode, spec: {drivers: [{name: d, nodeID: n1, topologyKeys: [zone]}]}}`,
		"storage.k8s.io/v1/csistoragecapacities":     `{kind: CSIStorageCapacity, storageClassName: s, capacity: 5Gi}`,
		"storage.k8s.io/v1/volumeattachments/":       `{kind: VolumeAttachment, spec: {attacher: a, nodeName: n1, source: {persistentVolumeName: v}}}`,
		"storage.k8s.io/v1/volumeattributesclasses/": `{kind: VolumeAttributesClass, driverName: d, parameters: {a: b}}`,
		"/v1/persistentvolumes/":                     `{kind: PersistentVolume, spec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /srv}}}`,
		"autoscaling/v2/horizontalpodautoscalers":    `{kind: HorizontalPodAutoscaler, spec: {maxReplicas: 3, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: d}}}`,
		"node.k8s.io/v1/runtimeclasses/":             `{kind: RuntimeClass, handler: runsc}`,
	} {
		t.Run(gvr, func(t *testing.T) {
			t.Parallel()
			part := strings.Split(gvr, "/")
			res := schema.GroupVersionResource{Group: part[0], Version: part[1], Resource: part[2]}
			obj := &unstructured.Unstructured{}
			if err := yaml.Unmarshal([]byte(manifest), &obj.Object); err != nil {
				t.Fatal(err)
			}
			obj.SetAPIVersion(res.GroupVersion().String())
			obj.SetName("x")
			var to dynamic.ResourceInterface = client.Resource(res)
			if len(part) == 3 { // a slash at the end says that the kind has no namespace
				obj.SetNamespace("default")
				to = client.Resource(res).Namespace("default")
			}
			var seen []map[string]any
			for range 2 {
				out, err := to.Apply(t.Context(), "x", obj, metav1.ApplyOptions{FieldManager: "test"})
				if err != nil {
					t.Fatal(err)
				}
				// The times of managed fields may move on when nothing else does.
				out.SetManagedFields(nil)
				out.SetResourceVersion("")
				seen = append(seen, out.Object)
			}
			if diff := cmp.Diff(seen[0], seen[1]); diff != "" {
				t.Errorf("applying the same again changed the object:\n%s", diff)
			}
		})
	}
}
