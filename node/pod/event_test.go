package pod

import (
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func TestEventsNameTheirContainer(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := newTestPod("web")
		p.Spec.InitContainers = []corev1.Container{{Name: "prepare", Image: "example/web:v1"}}
		for name, want := range map[string]string{"web": "spec.containers{web}", "prepare": "spec.initContainers{prepare}", "other": "", "": ""} {
			if got := FieldPath(p, name); got != want {
				t.Errorf("FieldPath(%q) = %q, want %q", name, got, want)
			}
		}
		p.Spec.InitContainers = nil
		b.want(p)
		b.want(deleted(p, 1))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		for _, reason := range []string{eventCreated, eventStarted, eventKilling} {
			if got := b.ctl.parts[reason]; got != "spec.containers{web}" {
				t.Errorf("%s is about %q", reason, got)
			}
		}
	})
}
