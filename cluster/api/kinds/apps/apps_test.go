package apps

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kinds/kindtest"
)

var webLabels = map[string]string{"app": "web"}

func webTemplate() corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: webLabels},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "web:1"}, {Name: "log", Image: "log:2"}}},
	}
}

func testDeployment(change ...func(*appsv1.Deployment)) *appsv1.Deployment {
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop"},
		Spec:       appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: webLabels}, Template: webTemplate()},
	}
	for _, c := range change {
		c(d)
	}
	return d
}

func TestDeploymentDefaults(t *testing.T) {
	t.Parallel()
	d := testDeployment(func(d *appsv1.Deployment) { d.Status.Replicas = 7 })
	kindtest.Want(t, kindtest.Create(Deployment(), d))
	want := appsv1.DeploymentSpec{
		Replicas: ptr.To(int32(1)), RevisionHistoryLimit: ptr.To(int32(10)), ProgressDeadlineSeconds: ptr.To(int32(600)),
		Selector: d.Spec.Selector, Template: d.Spec.Template,
		Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{
			MaxUnavailable: ptr.To(intstr.FromString("25%")), MaxSurge: ptr.To(intstr.FromString("25%")),
		}},
	}
	if diff := cmp.Diff(want, d.Spec); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(appsv1.DeploymentStatus{}, d.Status); diff != "" {
		t.Errorf("status set by the user: %s", diff)
	}
	// What belongs to pods alone is left to them.
	if spec := d.Spec.Template.Spec; spec.EnableServiceLinks != nil || spec.RestartPolicy != corev1.RestartPolicyAlways {
		t.Errorf("template: %+v", spec)
	}
}

func TestDeploymentValidation(t *testing.T) {
	t.Parallel()
	rolling := func(unavailable, surge intstr.IntOrString) func(*appsv1.Deployment) {
		return func(d *appsv1.Deployment) {
			d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxUnavailable: &unavailable, MaxSurge: &surge}
		}
	}
	for _, tc := range []struct {
		name   string
		change func(*appsv1.Deployment)
		want   []string
	}{
		{"no selector", func(d *appsv1.Deployment) { d.Spec.Selector = nil }, []string{"FieldValueRequired spec.selector", "FieldValueInvalid spec.template.metadata.labels"}},
		{"empty selector", func(d *appsv1.Deployment) { d.Spec.Selector = &metav1.LabelSelector{} }, []string{"FieldValueInvalid spec.selector"}},
		{"other labels", func(d *appsv1.Deployment) { d.Spec.Template.Labels = nil }, []string{"FieldValueInvalid spec.template.metadata.labels"}},
		{"bad selector", func(d *appsv1.Deployment) {
			d.Spec.Selector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Is"}}
		}, []string{"FieldValueInvalid spec.selector", "FieldValueInvalid spec.selector.matchExpressions[0].operator"}},
		{"template", func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
			d.Spec.Template.Spec.ActiveDeadlineSeconds = ptr.To(int64(1))
			d.Spec.Template.Spec.Containers[1].Image = ""
			d.Spec.Template.Annotations = map[string]string{"a b": ""}
		}, []string{
			"FieldValueNotSupported spec.template.spec.restartPolicy", "FieldValueForbidden spec.template.spec.activeDeadlineSeconds",
			"FieldValueRequired spec.template.spec.containers[1].image", "FieldValueInvalid spec.template.annotations",
		}},
		{"numbers", func(d *appsv1.Deployment) {
			d.Spec.Replicas, d.Spec.RevisionHistoryLimit = ptr.To(int32(-1)), ptr.To(int32(-1))
			d.Spec.MinReadySeconds, d.Spec.ProgressDeadlineSeconds = 10, ptr.To(int32(10))
		}, []string{"FieldValueInvalid spec.replicas", "FieldValueInvalid spec.revisionHistoryLimit", "FieldValueInvalid spec.progressDeadlineSeconds"}},
		{"stuck", rolling(intstr.FromInt32(0), intstr.FromString("0%")), []string{"FieldValueInvalid spec.strategy.rollingUpdate.maxUnavailable"}},
		{"more than all", rolling(intstr.FromString("101%"), intstr.FromString("200%")), []string{"FieldValueInvalid spec.strategy.rollingUpdate.maxUnavailable"}},
		{"no percentage", rolling(intstr.FromString("half"), intstr.FromInt32(-1)), []string{"FieldValueInvalid spec.strategy.rollingUpdate.maxUnavailable", "FieldValueInvalid spec.strategy.rollingUpdate.maxSurge"}},
		{"recreate with rolling update", func(d *appsv1.Deployment) {
			d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{}}
		}, []string{"FieldValueForbidden spec.strategy.rollingUpdate"}},
		{"strategy", func(d *appsv1.Deployment) { d.Spec.Strategy.Type = "BlueGreen" }, []string{"FieldValueNotSupported spec.strategy"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			kindtest.Want(t, kindtest.Create(Deployment(), testDeployment(tc.change)), tc.want...)
		})
	}
}

func TestDeploymentUpdate(t *testing.T) {
	t.Parallel()
	k := Deployment()
	old := testDeployment()
	kindtest.Want(t, kindtest.Create(k, old))
	old.Status.CollisionCount = ptr.To(int32(2))

	d := old.DeepCopy()
	d.Spec.Replicas = ptr.To(int32(5))
	d.Status = appsv1.DeploymentStatus{Replicas: 9}
	kindtest.Want(t, kindtest.Update(k, d, old))
	if d.Status.Replicas != 0 || !k.SpecChanged(d, old) {
		t.Errorf("status %+v", d.Status)
	}
	d = old.DeepCopy()
	d.Annotations = map[string]string{"note": "x"}
	if !k.SpecChanged(d, old) {
		t.Error("a change of annotations is no new generation")
	}
	d.Annotations, d.Labels = nil, map[string]string{"a": "b"}
	if k.SpecChanged(d, old) {
		t.Error("a change of labels is a new generation")
	}
	d = old.DeepCopy()
	d.Spec.Selector.MatchLabels = map[string]string{"app": "web", "tier": "x"}
	d.Spec.Template.Labels = d.Spec.Selector.MatchLabels
	kindtest.Want(t, kindtest.Update(k, d, old), "FieldValueInvalid spec.selector")

	d = old.DeepCopy()
	d.Spec.Paused = true
	d.Status = appsv1.DeploymentStatus{Replicas: 2, UpdatedReplicas: 3, ReadyReplicas: 1, AvailableReplicas: 2, CollisionCount: ptr.To(int32(1))}
	kindtest.Want(t, kindtest.Sub(k.Status, d, old), "FieldValueInvalid status.updatedReplicas", "FieldValueInvalid status.availableReplicas", "FieldValueInvalid status.collisionCount")
	if d.Spec.Paused {
		t.Error("an update of the status changed the spec")
	}
}

func TestReplicaSet(t *testing.T) {
	t.Parallel()
	k := ReplicaSet()
	rs := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       appsv1.ReplicaSetSpec{Selector: &metav1.LabelSelector{MatchLabels: webLabels}, Template: webTemplate()},
	}
	kindtest.Want(t, kindtest.Create(k, rs))
	if *rs.Spec.Replicas != 1 {
		t.Errorf("replicas %d", *rs.Spec.Replicas)
	}
	bad := rs.DeepCopy()
	bad.Spec.Replicas = ptr.To(int32(-1))
	bad.Spec.Selector = nil
	kindtest.Want(t, kindtest.Create(k, bad), "FieldValueInvalid spec.replicas", "FieldValueRequired spec.selector", "FieldValueInvalid spec.template.metadata.labels")
	other := rs.DeepCopy()
	other.Spec.Selector.MatchLabels = map[string]string{"app": "shop"}
	kindtest.Want(t, kindtest.Update(k, other, rs), "FieldValueInvalid spec.selector", "FieldValueInvalid spec.template.metadata.labels")
	status := rs.DeepCopy()
	status.Status = appsv1.ReplicaSetStatus{Replicas: 1, FullyLabeledReplicas: 2, ReadyReplicas: -1}
	kindtest.Want(t, kindtest.Sub(k.Status, status, rs), "FieldValueInvalid status.fullyLabeledReplicas", "FieldValueInvalid status.readyReplicas", "FieldValueInvalid status.availableReplicas")
}

func TestScale(t *testing.T) {
	t.Parallel()
	d := testDeployment(func(d *appsv1.Deployment) { d.Status.Replicas = 2 })
	Deployment().Default(d)
	Deployment().Scale.Set(d, 4)
	if spec, status, selector := Deployment().Scale.Get(d); spec != 4 || status != 2 || selector != "app=web" {
		t.Errorf("%d %d %s", spec, status, selector)
	}
}

func TestRows(t *testing.T) {
	t.Parallel()
	ago := metav1.NewTime(time.Now().Add(-3 * time.Hour))
	d := testDeployment(func(d *appsv1.Deployment) {
		d.CreationTimestamp, d.Spec.Replicas = ago, ptr.To(int32(3))
		d.Status = appsv1.DeploymentStatus{Replicas: 3, ReadyReplicas: 2, UpdatedReplicas: 3, AvailableReplicas: 1}
	})
	if diff := cmp.Diff([]any{"web", "2/3", int64(3), int64(1), "3h", "web,log", "web:1,log:2", "app=web"}, Deployment().Row(d)); diff != "" {
		t.Error(diff)
	}
	rs := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Name: "web-1", CreationTimestamp: ago},
		Spec:       appsv1.ReplicaSetSpec{Replicas: ptr.To(int32(3)), Selector: d.Spec.Selector, Template: webTemplate()},
		Status:     appsv1.ReplicaSetStatus{Replicas: 2, ReadyReplicas: 1},
	}
	if diff := cmp.Diff([]any{"web-1", int64(3), int64(2), int64(1), "3h", "web,log", "web:1,log:2", "app=web"}, ReplicaSet().Row(rs)); diff != "" {
		t.Error(diff)
	}
}
