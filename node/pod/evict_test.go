package pod

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// withScratch adds an emptyDir of at most 1 MiB.
func withScratch(p *corev1.Pod) {
	limit := resource.MustParse("1Mi")
	p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{
		Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &limit}},
	})
}

func TestOverLimit(t *testing.T) {
	t.Parallel()
	unlimited := func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	}
	for _, tt := range []struct {
		name string
		edit func(*corev1.Pod)
		used int64
		want string
	}{
		{"empty", withScratch, 0, ""},
		{"full", withScratch, 1 << 20, ""},
		{"too much", withScratch, 1<<20 + 1, "FAIL Evicted"},
		{"without a limit", unlimited, 1 << 40, ""},
	} {
		s := up(newTestPod("web", tt.edit), runs("web"))
		s.usage = map[string]int64{"scratch": tt.used}
		if got := spell(decide(s, t0)); got != tt.want {
			t.Errorf("%s: decide = %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestAPodThatOutgrowsItsScratchIsEvicted(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.want(newTestPod("web", withScratch, annotate("stop-after", "1h")))
		pass(2 * time.Minute)
		if st := b.status(); st.Phase != corev1.PodRunning {
			t.Fatalf("within its limit: %+v", st)
		}
		b.vols.mu.Lock()
		b.vols.used = map[string]int64{"scratch": 2 << 20}
		b.vols.mu.Unlock()
		pass(65 * time.Second)
		st := b.status()
		if st.Phase != corev1.PodFailed || st.Reason != "Evicted" || st.Message != `Usage of EmptyDir volume "scratch" exceeds the limit "1Mi". ` {
			t.Errorf("over its limit: %s %s %q", st.Phase, st.Reason, st.Message)
		}
		if c := findCondition(st.Conditions, corev1.PodReady); c.Status != corev1.ConditionFalse || c.Reason != "PodFailed" {
			t.Errorf("ready: %+v", c)
		}
		if c := findCondition(st.Conditions, corev1.DisruptionTarget); c == nil || c.Status != corev1.ConditionTrue || c.Reason != "TerminationByKubelet" {
			t.Errorf("disruption: %+v", c)
		}
		if b.ctl.count("Evicted") != 1 {
			t.Errorf("events = %v", b.ctl.events)
		}
	})
}
