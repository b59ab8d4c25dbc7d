package pod

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/troupe-run/troupe/node/link"
)

// pass lets fake time go by and everything settle.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func tcpProbe(period, failures int32) *corev1.Probe {
	return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{}}, PeriodSeconds: period, FailureThreshold: failures, SuccessThreshold: 1, TimeoutSeconds: 1}
}

func isReady(st corev1.PodStatus) bool {
	return findCondition(st.Conditions, corev1.PodReady).Status == corev1.ConditionTrue
}

func TestReadinessFollowsItsProbe(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.want(newTestPod("web", annotate("probe-readiness", "after=7s"), func(p *corev1.Pod) {
			p.Spec.Containers[0].ReadinessProbe = tcpProbe(5, 3)
		}))
		st := b.status()
		if c := findCondition(st.Conditions, corev1.ContainersReady); st.Phase != corev1.PodRunning || isReady(st) || c.Reason != "ContainersNotReady" ||
			c.Message != "containers with unready status: [web]" {
			t.Fatalf("at first: %s %+v", st.Phase, c)
		}
		pass(6 * time.Second)
		if isReady(b.status()) {
			t.Error("ready before the probe passed")
		}
		pass(5 * time.Second)
		if !isReady(b.status()) {
			t.Error("not ready after the probe passed")
		}
		if n := b.ctl.count(eventUnhealthy); n != 1 { // at 5 s, when the first period is over
			t.Errorf("%d Unhealthy events, want 1: %v", n, b.ctl.events)
		}
	})
}

func TestAContainerThatIsUpSoonIsReadySoon(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.want(newTestPod("web", annotate("probe-readiness", "after=500ms"), func(p *corev1.Pod) {
			p.Spec.Containers[0].ReadinessProbe = tcpProbe(10, 1)
		}))
		pass(time.Second) // tries at 0, 100, 300 and 700 ms
		if !isReady(b.status()) {
			t.Error("not ready after a second")
		}
		if n := b.ctl.count(eventUnhealthy); n != 0 {
			t.Errorf("%d Unhealthy events: early tries must not count", n)
		}
	})
}

func TestLivenessRestarts(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		grace := int64(5)
		b.want(newTestPod("web", annotate("probe-liveness", "until=9s", "stop-after", "1h"), func(p *corev1.Pod) {
			p.Spec.Containers[0].LivenessProbe = tcpProbe(10, 2)
			p.Spec.Containers[0].LivenessProbe.TerminationGracePeriodSeconds = &grace
		}))
		pass(29 * time.Second) // probes at 5, 15 and 25 s; killed 5 s later
		if st := b.status(); st.ContainerStatuses[0].RestartCount != 0 {
			t.Error("restarted before its grace was over")
		}
		pass(2 * time.Second)
		c := b.status().ContainerStatuses[0]
		if c.RestartCount != 1 || c.LastTerminationState.Terminated == nil || c.LastTerminationState.Terminated.ExitCode != 137 || c.State.Running == nil {
			t.Errorf("status = %+v\n%s", c, strings.Join(b.ctl.events, "\n"))
		}
		if b.ctl.count(eventKilling) != 1 {
			t.Errorf("events = %v", b.ctl.events)
		}
	})
}

func TestStartupHoldsTheOthersBack(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.want(newTestPod("web", annotate("probe-startup", "after=25s", "probe-liveness", "after=25s"), func(p *corev1.Pod) {
			c := &p.Spec.Containers[0]
			c.StartupProbe, c.LivenessProbe, c.ReadinessProbe = tcpProbe(10, 10), tcpProbe(1, 1), tcpProbe(1, 1)
		}))
		pass(26 * time.Second)
		if c := b.status().ContainerStatuses[0]; *c.Started || c.Ready || c.RestartCount != 0 {
			t.Errorf("while starting: %+v", c)
		}
		pass(5 * time.Second)
		if c := b.status().ContainerStatuses[0]; !*c.Started || !c.Ready || c.RestartCount != 0 {
			t.Errorf("once started: %+v", c)
		}
	})
}

func TestInitContainersRunInOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.want(newTestPod("web", withInit("a", "b"), annotate("exit-after.a", "3s", "exit-after.b", "3s")))
		pass(time.Second)
		st := b.status()
		if c := findCondition(st.Conditions, corev1.PodInitialized); st.Phase != corev1.PodPending || c.Reason != "ContainersNotInitialized" ||
			c.Message != "containers with incomplete status: [a b]" || st.ContainerStatuses[0].State.Waiting.Reason != "PodInitializing" {
			t.Errorf("during a: %s %+v %+v", st.Phase, c, st.ContainerStatuses[0].State)
		}
		pass(4 * time.Second)
		if st := b.status(); st.InitContainerStatuses[0].State.Terminated == nil || st.InitContainerStatuses[1].State.Running == nil {
			t.Errorf("during b: %+v", st.InitContainerStatuses)
		}
		pass(2 * time.Second)
		if st := b.status(); st.Phase != corev1.PodRunning || !isReady(st) {
			t.Errorf("after: %s %+v", st.Phase, st.Conditions)
		}
	})
}

func TestJobPodSucceeds(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.want(newTestPod("job", policy(corev1.RestartPolicyNever), withInit("s+"), annotate("exit-after.web", "5s")))
		pass(6 * time.Second)
		st := b.status()
		if c := findCondition(st.Conditions, corev1.PodReady); st.Phase != corev1.PodSucceeded || c.Reason != "PodCompleted" {
			t.Fatalf("%s %+v\n%s", st.Phase, c, strings.Join(b.ctl.events, "\n"))
		}
		pass(time.Second)
		if n := b.rt.Containers(); n[cri.ContainerState_CONTAINER_EXITED] != 2 || len(n) != 1 {
			t.Errorf("containers = %v, want two that ended, kept for their logs", n)
		}
		if len(b.vols.up) != 0 {
			t.Error("volumes are still there")
		}
		if b.ctl.last(t).Finished {
			t.Error("finished though its object is not marked")
		}
	})
}

func TestDeadlineFailsThePod(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		limit := int64(20)
		b.want(newTestPod("job", policy(corev1.RestartPolicyNever), func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = &limit }))
		pass(25 * time.Second)
		if st := b.status(); st.Phase != corev1.PodFailed || st.Reason != "DeadlineExceeded" {
			t.Errorf("%s %s", st.Phase, st.Reason)
		}
	})
}

func TestMissingObjectsShowAndHeal(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.want(newTestPod("web", func(p *corev1.Pod) {
			p.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "app"}}}}
		}))
		pass(10 * time.Minute)
		w := b.status().ContainerStatuses[0].State.Waiting
		if w == nil || w.Reason != "CreateContainerConfigError" || w.Message != `configmap "app" not found` {
			t.Fatalf("waiting = %+v", w)
		}
		b.ctl.mu.Lock()
		b.ctl.cms["default/app"] = &corev1.ConfigMap{}
		b.ctl.mu.Unlock()
		b.pods.Deliver(link.ObjectChanged{Kind: "ConfigMap", Namespace: "default", Name: "app"})
		pass(0)
		if st := b.status(); st.Phase != corev1.PodRunning {
			t.Errorf("after it appeared: %s", st.Phase)
		}
	})
}

func TestFailedVolumesShowAndHeal(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.vols.fail = errors.New(`MountVolume.SetUp failed for volume "v" : no`)
		b.want(newTestPod("web"))
		pass(5 * time.Second)
		if st := b.status(); st.Phase != corev1.PodPending || st.ContainerStatuses[0].State.Waiting.Reason != "ContainerCreating" || b.ctl.count(eventFailedMount) == 0 {
			t.Errorf("%s %v", st.Phase, b.ctl.events)
		}
		b.vols.mu.Lock()
		b.vols.fail = nil
		b.vols.mu.Unlock()
		pass(10 * time.Second)
		if st := b.status(); st.Phase != corev1.PodRunning {
			t.Errorf("after healing: %s", st.Phase)
		}
	})
}

func TestImageTroubleShows(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.want(newTestPod("web", func(p *corev1.Pod) { p.Spec.Containers[0].Image = "registry.invalid/web" }))
		if w := b.status().ContainerStatuses[0].State.Waiting; w == nil || w.Reason != "ErrImagePull" {
			t.Errorf("waiting = %+v", w)
		}
	})
}

func TestHooksTakePartOfTheGrace(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := newTestPod("web", annotate("stop-after", "1h"), func(p *corev1.Pod) {
			p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{
				PostStart: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 5}},
				PreStop:   &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 8}},
			}
		})
		b.want(p)
		pass(4 * time.Second)
		if st := b.status(); st.Phase != corev1.PodPending {
			t.Errorf("%s before postStart has returned", st.Phase)
		}
		pass(2 * time.Second)
		if st := b.status(); st.Phase != corev1.PodRunning {
			t.Errorf("%s after postStart", st.Phase)
		}
		b.want(deleted(p, 20))
		pass(19 * time.Second)
		if b.ctl.last(t).Finished {
			t.Error("killed before the grace period was over")
		}
		pass(2 * time.Second)
		if !b.ctl.last(t).Finished {
			t.Error("not killed after the grace period")
		}
	})
}

func TestFailedPostStartHookRestarts(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.want(newTestPod("web", annotate("exec-code", "1"), func(p *corev1.Pod) {
			p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"x"}}}}
		}))
		pass(5 * time.Second)
		c := b.status().ContainerStatuses[0]
		if w := c.State.Waiting; w == nil || w.Reason != "PostStartHookError" && w.Reason != "CrashLoopBackOff" || b.ctl.count(eventFailedPostStart) == 0 {
			t.Errorf("status = %+v", c)
		}
	})
}

func TestForcedDeletionCutsTheGraceShort(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := newTestPod("web", annotate("stop-after", "1h"))
		b.want(p)
		b.want(deleted(p, 3600))
		pass(10 * time.Second)
		b.want(deleted(p, 0))
		pass(time.Second)
		if r := b.ctl.last(t); !r.Finished || r.Status.ContainerStatuses[0].State.Terminated.ExitCode != 137 {
			t.Errorf("report = %+v", r)
		}
	})
}

func TestDeadSandboxIsReplaced(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.want(newTestPod("web"))
		before := b.status()
		v, _ := b.pods.Find("default", "web")
		if err := b.rt.StopPodSandbox(t.Context(), v.Sandbox); err != nil {
			t.Fatal(err)
		}
		pass(5 * time.Second)
		st := b.status()
		if st.Phase != corev1.PodRunning || st.PodIP == before.PodIP || st.ContainerStatuses[0].RestartCount != 1 || b.ctl.count(eventSandboxChanged) != 1 {
			t.Errorf("%s %s %+v\n%s", st.Phase, st.PodIP, st.ContainerStatuses[0], strings.Join(b.ctl.events, "\n"))
		}
	})
}

func TestLostEventsAreFoundByListing(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.want(newTestPod("web"))
		b.rt.Down(errors.New("gone"))
		pass(2 * time.Second)
		b.rt.Down(nil)
		b.rt.Exit("default", "web", "web", 1) // nobody follows events yet
		pass(5 * time.Second)
		if c := b.status().ContainerStatuses[0]; c.RestartCount != 1 || c.State.Running == nil {
			t.Errorf("status = %+v", c)
		}
	})
}

func TestAnotherLifeAdopts(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		kept := newTestPod("kept", annotate("exit-after", "5s", "exit-code", "1"), func(p *corev1.Pod) { p.Spec.Containers[0].ReadinessProbe = tcpProbe(3600, 1) })
		orphan := newTestPod("orphan")
		b.want(kept)
		b.want(orphan)
		pass(40 * time.Second) // crashed at 5, 10 and 25 s; waits until 45 s
		var restarts int32
		for _, r := range b.ctl.said() {
			if r.Name == "kept" {
				kept.Status = r.Status
				restarts = r.Status.ContainerStatuses[0].RestartCount
			}
		}
		b.stop()
		b.start()
		b.want(kept)
		b.synced()
		pass(4 * time.Second)
		if n := b.rt.Containers()[cri.ContainerState_CONTAINER_RUNNING]; n != 0 {
			t.Errorf("%d containers run: the orphan should be gone, the other in back-off", n)
		}
		pass(2 * time.Second)
		if c := b.status().ContainerStatuses[0]; c.State.Running == nil || c.RestartCount != restarts+1 {
			t.Errorf("%d restarts before, then %+v", restarts, c)
		}
	})
}

// TestCrashesAtAnyMoment ends the agent again and again while pods start, crash and are deleted,
// and then expects exactly what is wanted: one sandbox and one running container for each pod.
func TestCrashesAtAnyMoment(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				rnd := rand.New(rand.NewPCG(seed, 1))
				want := map[types.UID]*corev1.Pod{}
				for i := range 8 {
					p := newTestPod(fmt.Sprintf("web-%d", i), annotate("start-delay", fmt.Sprintf("%dms", rnd.IntN(3000)), "stop-after", fmt.Sprintf("%dms", rnd.IntN(3000))))
					if i%3 == 0 {
						p.Annotations["troupe.run/sim-exit-after"] = "4s"
					}
					want[p.UID] = p
				}
				for range 6 {
					for _, p := range want {
						b.pods.Deliver(link.Wanted{Pod: p})
					}
					b.pods.Deliver(link.Synced{Confirmed: true})
					time.Sleep(time.Duration(rnd.IntN(4000)) * time.Millisecond)
					for uid, p := range want {
						if rnd.IntN(5) == 0 && p.DeletionTimestamp == nil {
							want[uid] = deleted(p, 10)
							b.pods.Deliver(link.Wanted{Pod: want[uid]})
						}
					}
					time.Sleep(time.Duration(rnd.IntN(1500)) * time.Millisecond)
					b.stop()
					b.start()
				}
				alive := 0
				for uid, p := range want {
					if p.DeletionTimestamp != nil {
						if rnd.IntN(2) == 0 {
							continue // its object went meanwhile
						}
					} else {
						delete(p.Annotations, "troupe.run/sim-exit-after")
						alive++
					}
					b.pods.Deliver(link.Wanted{Pod: want[uid]})
				}
				b.synced()
				pass(20 * time.Minute)
				boxes, err := b.rt.ListPodSandbox(context.Background(), &cri.PodSandboxFilter{State: &cri.PodSandboxStateValue{}})
				if err != nil || len(boxes) != alive {
					t.Errorf("%d ready sandboxes, want %d (%v)", len(boxes), alive, err)
				}
				seen := map[string]int{}
				list, _ := b.rt.ListContainers(context.Background(), nil)
				for _, c := range list {
					if want[types.UID(c.Labels[labelPodUID])].DeletionTimestamp != nil {
						t.Errorf("container of a deleted pod: %v", c)
					}
					if c.State == cri.ContainerState_CONTAINER_RUNNING || c.State == cri.ContainerState_CONTAINER_CREATED {
						seen[c.Labels[labelPodUID]]++
					}
				}
				for uid, n := range seen {
					if n > 1 {
						t.Errorf("%s has %d containers at a time", uid, n)
					}
				}
				if len(b.vols.up) != alive {
					t.Errorf("volumes of %d pods, want %d", len(b.vols.up), alive)
				}
			})
		})
	}
}

func TestImagesOfVolumesArePulled(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := newTestPod("web", second, func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{
				{Name: "model", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "example/model:1"}}},
				{Name: "gone", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "registry.invalid/model:1"}}},
			}
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "model", MountPath: "/m"}}
			p.Spec.Containers[1].VolumeMounts = []corev1.VolumeMount{{Name: "gone", MountPath: "/m"}}
		})
		b.want(p)
		pass(time.Second)
		st := b.status()
		if got := stands(st.ContainerStatuses[0].State); got != "running" {
			t.Errorf("with an image that is there: %s\n%s", got, strings.Join(b.ctl.events, "\n"))
		}
		if w := st.ContainerStatuses[1].State.Waiting; w == nil || w.Reason != "ErrImagePull" {
			t.Errorf("with one that is not: %+v", st.ContainerStatuses[1].State)
		}
		if img, err := b.rt.ImageStatus(t.Context(), &cri.ImageSpec{Image: "example/model:1"}); img == nil || err != nil {
			t.Errorf("the image of a volume: %v %v", img, err)
		}
	})
}
