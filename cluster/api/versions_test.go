package api_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applyautoscalingv1 "k8s.io/client-go/applyconfigurations/autoscaling/v1"
	"k8s.io/utils/ptr"
)

func TestAutoscalersAreServedInBothVersions(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	v1, v2 := c.client.AutoscalingV1().HorizontalPodAutoscalers("default"), c.client.AutoscalingV2().HorizontalPodAutoscalers("default")
	w, err := v1.Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if _, err := v1.Create(ctx, &autoscalingv1.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: autoscalingv1.HorizontalPodAutoscalerSpec{
		ScaleTargetRef: autoscalingv1.CrossVersionObjectReference{Kind: "Deployment", Name: "web", APIVersion: "apps/v1"}, MaxReplicas: 4, TargetCPUUtilizationPercentage: ptr.To[int32](50),
	}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	newer, err := v2.Get(ctx, "a", metav1.GetOptions{})
	if err != nil || *newer.Spec.MinReplicas != 1 || len(newer.Spec.Metrics) != 1 || *newer.Spec.Metrics[0].Resource.Target.AverageUtilization != 50 {
		t.Fatalf("as v2: %+v, %v", newer.Spec, err)
	}
	newer.Spec.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleDown: &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: ptr.To[int32](7)}}
	if newer, err = v2.Update(ctx, newer, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	older, err := v1.Get(ctx, "a", metav1.GetOptions{})
	if err != nil || !strings.Contains(older.Annotations["autoscaling.alpha.kubernetes.io/behavior"], `"stabilizationWindowSeconds":7`) {
		t.Fatalf("as v1: %v, %v", older.Annotations, err)
	}
	older.Labels = map[string]string{"k": "v"}
	if _, err := v1.Update(ctx, older, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	again, err := v2.Get(ctx, "a", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(newer.Spec, again.Spec); diff != "" || len(again.Annotations) != 0 || again.Labels["k"] != "v" {
		t.Errorf("through v1 and back: %v %s", again.ObjectMeta, diff)
	}
	if _, err := v1.Apply(ctx, applyautoscalingv1.HorizontalPodAutoscaler("a", "default").WithSpec(applyautoscalingv1.HorizontalPodAutoscalerSpec().WithMaxReplicas(9)),
		metav1.ApplyOptions{FieldManager: "t", Force: true}); err != nil {
		t.Fatal(err)
	}
	list, err := v1.List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=a"})
	if err != nil || len(list.Items) != 1 || list.Items[0].Spec.MaxReplicas != 9 || list.ResourceVersion == "" {
		t.Errorf("list as v1: %+v, %v", list, err)
	}
	if ev := <-w.ResultChan(); ev.Object.(*autoscalingv1.HorizontalPodAutoscaler).Spec.MaxReplicas != 4 {
		t.Errorf("watched as v1: %+v", ev)
	}
	groups, err := c.client.Discovery().ServerGroups()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(groups.Groups, func(g metav1.APIGroup) bool { return g.Name == "autoscaling" })
	if i < 0 || groups.Groups[i].PreferredVersion.Version != "v2" || len(groups.Groups[i].Versions) != 2 {
		t.Errorf("discovery: %+v", groups.Groups)
	}
}

func TestEventsAreServedInBothGroups(t *testing.T) {
	t.Parallel()
	c, ctx := start(t), t.Context()
	newer, older := c.client.EventsV1().Events("default"), c.client.CoreV1().Events("default")
	good := eventsv1.Event{ObjectMeta: metav1.ObjectMeta{Name: "a"}, EventTime: metav1.NewMicroTime(time.Now()), ReportingController: "example.com/c", ReportingInstance: "i",
		Action: "Act", Reason: "Because", Type: "Normal", Note: "words", Regarding: corev1.ObjectReference{Kind: "Pod", Name: "web", Namespace: "default"}}
	if _, err := newer.Create(ctx, &good, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	same, err := older.Get(ctx, "a", metav1.GetOptions{})
	if err != nil || same.Message != "words" || same.InvolvedObject.Name != "web" || same.ReportingController != "example.com/c" {
		t.Errorf("as core/v1: %+v, %v", same, err)
	}
	list, err := newer.List(ctx, metav1.ListOptions{FieldSelector: "regarding.name=web,reason=Because"})
	if err != nil || len(list.Items) != 1 || list.Items[0].Note != "words" {
		t.Errorf("list by fields: %+v, %v", list, err)
	}
	for name, change := range map[string]func(*eventsv1.Event){
		"eventTime":           func(e *eventsv1.Event) { e.EventTime = metav1.MicroTime{} },
		"type":                func(e *eventsv1.Event) { e.Type = "Loud" },
		"reportingController": func(e *eventsv1.Event) { e.ReportingController = "" },
		"series.count": func(e *eventsv1.Event) {
			e.Series = &eventsv1.EventSeries{Count: 1, LastObservedTime: metav1.NewMicroTime(time.Now())}
		},
		"count": func(e *eventsv1.Event) { e.DeprecatedCount = 2 },
	} {
		bad := good
		bad.Name = "bad"
		change(&bad)
		if _, err := newer.Create(ctx, &bad, metav1.CreateOptions{}); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Clients of the older group may still send events without a time.
	if _, err := older.Create(ctx, &corev1.Event{ObjectMeta: metav1.ObjectMeta{Name: "Old_Name"}, InvolvedObject: corev1.ObjectReference{Namespace: "default"}}, metav1.CreateOptions{}); err != nil {
		t.Error(err)
	}
	changed := list.Items[0]
	changed.Reason = "Other"
	if _, err := newer.Update(ctx, &changed, metav1.UpdateOptions{}); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "reason") {
		t.Errorf("change of reason: %v", err)
	}
}

func TestComponentStatuses(t *testing.T) {
	t.Parallel()
	c, ctx := start(t, withComponents), t.Context()
	list, err := c.client.CoreV1().ComponentStatuses().List(ctx, metav1.ListOptions{})
	if err != nil || len(list.Items) != 2 {
		t.Fatalf("list: %+v, %v", list, err)
	}
	if one := list.Items[0]; one.Name != "etcd-0" || one.Conditions[0].Type != "Healthy" || one.Conditions[0].Status != "True" {
		t.Errorf("first: %+v", one)
	}
	bad, err := c.client.CoreV1().ComponentStatuses().Get(ctx, "scheduler", metav1.GetOptions{})
	if err != nil || bad.Conditions[0].Status != "False" || bad.Conditions[0].Message != "gone" {
		t.Errorf("one: %+v, %v", bad, err)
	}
	if _, err := c.client.CoreV1().ComponentStatuses().Get(ctx, "none", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("none: %v", err)
	}
	some, err := c.client.CoreV1().ComponentStatuses().List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=scheduler"})
	if err != nil || len(some.Items) != 1 {
		t.Errorf("selected: %+v, %v", some, err)
	}
}
