package node

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/troupe-run/troupe/cluster/api/kinds/kindtest"
)

func TestRuntimeClass(t *testing.T) {
	t.Parallel()
	k := RuntimeClass()
	c := &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: "gvisor"}, Handler: "runsc"}
	kindtest.Want(t, kindtest.Create(k, c))
	if diff := cmp.Diff([]any{"gvisor", "runsc", "<unknown>"}, k.Row(c)); diff != "" {
		t.Error(diff)
	}
	same := corev1.Toleration{Key: "a", Operator: "Exists"}
	kindtest.Want(t, kindtest.Create(k, &nodev1.RuntimeClass{Handler: "Run",
		Overhead:   &nodev1.Overhead{PodFixed: corev1.ResourceList{"cpu": resource.MustParse("-1")}},
		Scheduling: &nodev1.Scheduling{NodeSelector: map[string]string{"a b": "c"}, Tolerations: []corev1.Toleration{same, same}}}),
		"FieldValueInvalid handler", "FieldValueInvalid overhead.limits[cpu]", "FieldValueInvalid scheduling.nodeSelector", "FieldValueDuplicate scheduling.tolerations[1]")
	changed := c.DeepCopy()
	changed.Handler = "kata"
	kindtest.Want(t, kindtest.Update(k, changed, c), "FieldValueInvalid handler")
}
