package pod

import (
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func TestPodRuns(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.want(newTestPod("web"))
		st := b.status()
		if st.Phase != corev1.PodRunning || st.PodIP != "10.244.0.2" || st.HostIP != "192.0.2.1" || len(b.ctl.reports) != 1 {
			t.Fatalf("phase %s, ip %s, host %s after %d reports\n%+v", st.Phase, st.PodIP, st.HostIP, len(b.ctl.reports), b.ctl.events)
		}
		if c := findCondition(st.Conditions, corev1.PodReady); c.Status != corev1.ConditionTrue {
			t.Errorf("ready = %+v", c)
		}
	})
}

func TestCrashLoopBackOff(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		begin := time.Now()
		b.want(newTestPod("web", annotate("exit-after", "0s", "exit-code", "3")))
		var starts []time.Duration
		last := int32(-1)
		for time.Since(begin) < 20*time.Minute {
			synctest.Wait()
			if st := b.status(); len(st.ContainerStatuses) == 1 {
				if n := st.ContainerStatuses[0].RestartCount; n != last {
					last = n
					starts = append(starts, time.Since(begin).Round(time.Second))
				}
			}
			time.Sleep(time.Second)
		}
		want := []time.Duration{0, 10, 30, 70, 150, 310, 610, 910}
		for i, w := range want {
			// The first restart is at once, so that the second run is the first one seen.
			if i >= len(starts) || starts[i] != w*time.Second {
				t.Fatalf("starts = %v, want %v s", starts, want)
			}
		}
		st := b.status()
		if w := st.ContainerStatuses[0].State.Waiting; st.Phase != corev1.PodRunning || w == nil || w.Reason != "CrashLoopBackOff" ||
			w.Message != "back-off 5m0s restarting failed container=web pod=web_default(web-uid)" {
			t.Errorf("status = %s %+v", st.Phase, w)
		}
	})
}

func TestDeletionLeavesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := newTestPod("web", annotate("stop-after", "5s"))
		b.want(p)
		b.want(deleted(p, 30))
		time.Sleep(4 * time.Second)
		if b.ctl.last(t).Finished {
			t.Error("finished before the container ended")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if r := b.ctl.last(t); !r.Finished || r.Status.Phase != corev1.PodSucceeded {
			t.Fatalf("last report = %+v", r)
		}
		if n := len(b.rt.Containers()); n != 0 {
			t.Errorf("%v left", b.rt.Containers())
		}
		if len(b.vols.up) != 0 {
			t.Errorf("volumes left: %v", b.vols.up)
		}
	})
}
