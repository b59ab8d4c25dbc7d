package pod

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/troupe-run/troupe/node/eviction"
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

// mayTake limits the disk that the containers of a pod take, each by its own limit.
func mayTake(limits ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		for i, l := range limits {
			if l != "" {
				p.Spec.Containers[i].Resources.Limits = corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse(l)}
			}
		}
	}
}

func TestOverDiskLimit(t *testing.T) {
	t.Parallel()
	uses := func(volumes, web, log int64) *eviction.Usage {
		return &eviction.Usage{Volumes: eviction.Disk{Bytes: volumes << 20}, Containers: []eviction.ContainerUsage{
			{Name: "web", Files: eviction.Disk{Bytes: web << 19}, Logs: eviction.Disk{Bytes: web << 19}}, {Name: "log", Files: eviction.Disk{Bytes: log << 20}},
		}}
	}
	const pod, web = "Pod ephemeral local storage usage exceeds the total limit of containers ", `Container web exceeded its local ephemeral storage limit `
	for _, tt := range []struct {
		name   string
		limits func(*corev1.Pod)
		used   *eviction.Usage
		want   string
	}{
		{"not measured", mayTake("5Mi", "5Mi"), nil, ""},
		{"within", mayTake("5Mi", "5Mi"), uses(0, 5, 5), ""},
		{"a container too much", mayTake("5Mi", "5Mi"), uses(0, 6, 1), web + `"5Mi". `},
		{"all together too much", mayTake("5Mi", "5Mi"), uses(4, 4, 3), pod + "10Mi. "},
		{"one is not limited, but counts", mayTake("5Mi", ""), uses(0, 1, 5), pod + "5Mi. "},
		{"no limits", mayTake(), uses(1<<20, 1<<20, 1<<20), ""},
	} {
		p := newTestPod("web", second, tt.limits)
		s := up(p, runs("web"), runs("log"))
		s.disk = tt.used
		want := ""
		if tt.want != "" {
			want = "FAIL Evicted"
		}
		if got, f := spell(decide(s, t0)), decide(s, t0).fail; got != want || f.message != tt.want {
			t.Errorf("%s: %s %q, want %s %q", tt.name, got, f.message, want, tt.want)
		}
		if got := limitsDisk(&p.Spec); got != (tt.name != "no limits") {
			t.Errorf("%s: limited: %v", tt.name, got)
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
		if c := findCondition(st.Conditions, corev1.DisruptionTarget); c != nil {
			t.Errorf("the pod's own fault is no disruption: %+v", c)
		}
		if b.ctl.count("Evicted") != 1 {
			t.Errorf("events = %v", b.ctl.events)
		}
	})
}

func TestANodeInNeedEndsAPod(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := newTestPod("web", annotate("stop-after", "1h"))
		b.want(p)
		begin := time.Now()
		b.pods.Evict(p.UID, "The node was low on resource: memory. ")
		b.pods.Evict("nobody", "")
		pass(10 * time.Second)
		st := b.status()
		if st.Phase != corev1.PodFailed || st.Reason != "Evicted" || st.Message != "The node was low on resource: memory. " {
			t.Errorf("%s %s %q", st.Phase, st.Reason, st.Message)
		}
		if c := findCondition(st.Conditions, corev1.DisruptionTarget); c == nil || c.Status != corev1.ConditionTrue || c.Reason != "TerminationByKubelet" ||
			c.Message != st.Message {
			t.Errorf("disruption: %+v", c)
		}
		x := st.ContainerStatuses[0].State.Terminated
		if x == nil || x.ExitCode != 137 || x.FinishedAt.Sub(begin) > 3*time.Second {
			t.Errorf("its container: %+v", x)
		}
		if b.ctl.count("Evicted") != 1 {
			t.Errorf("events = %v", b.ctl.events)
		}
		b.pods.Evict(p.UID, "once more")
		pass(time.Minute)
		if again := b.status(); again.Message != st.Message || b.ctl.count("Evicted") != 1 {
			t.Errorf("a pod that has ended is evicted: %q %v", again.Message, b.ctl.events)
		}
	})
}

func TestEndedContainersAreReleased(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		done := newTestPod("done", policy(corev1.RestartPolicyNever), annotate("exit-after", "1s", "exit-code", "3"))
		b.want(done)
		b.want(newTestPod("web"))
		pass(5 * time.Second)
		if err := b.pods.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]int{"done": 0, "web": 1} {
			if v, ok := b.pods.Find("default", name); !ok || len(v.Runs) != want {
				t.Errorf("%s: %d runs are left, want %d", name, len(v.Runs), want)
			} else if name == "done" && (v.Status.Phase != corev1.PodFailed || v.Status.ContainerStatuses[0].State.Terminated.ExitCode != 3) {
				t.Errorf("%s: %+v", name, v.Status)
			}
		}
		b.want(deleted(done, 0))
		pass(time.Second)
		if r := b.ctl.last(t); r.Name != "done" || !r.Finished {
			t.Errorf("report = %+v", r)
		}
	})
}

func TestWhoIsNotLetIn(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		refused := ""
		b.stop()
		b.admit = func(p *corev1.Pod) (string, string) {
			if p.Name == refused {
				return "Evicted", "The node had condition: [DiskPressure]. "
			}
			return "", ""
		}
		b.start()
		web := newTestPod("web")
		b.want(web)
		pass(time.Second)
		web.Status = b.status()

		refused = "late"
		late := newTestPod("late")
		b.want(late)
		pass(time.Second)
		st := b.status()
		if st.Phase != corev1.PodFailed || st.Reason != "Evicted" || st.Message != "Pod was rejected: The node had condition: [DiskPressure]. " ||
			len(st.ContainerStatuses) != 0 || findCondition(st.Conditions, corev1.DisruptionTarget) != nil {
			t.Errorf("status = %+v", st)
		}
		if b.ctl.count("Evicted") != 1 || b.ctl.count(eventCreated) != 1 {
			t.Errorf("events = %v", b.ctl.events)
		}
		late.Status = st
		b.stop()
		b.start()
		b.want(late)
		pass(time.Minute)
		if diff := cmp.Diff(st, b.status()); diff != "" {
			t.Errorf("after a restart (-was +is):\n%s", diff)
		}
		b.want(deleted(late, 0))
		pass(time.Second)
		if r := b.ctl.last(t); r.Name != "late" || !r.Finished {
			t.Errorf("report = %+v", r)
		}

		// Whoever was here before the agent came to life stays.
		b.stop()
		refused = "web"
		b.start()
		b.want(web)
		b.synced()
		pass(time.Minute)
		if st := b.status(); st.Phase != corev1.PodRunning || b.ctl.count("Evicted") != 1 {
			t.Errorf("after a restart: %+v", st)
		}
	})
}

func TestWhoDoesNotFitIsNotLetIn(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.stop()
		b.capacity = corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("1Gi"), corev1.ResourcePods: resource.MustParse("2"),
		}
		b.start()
		asks := func(name, cpu, memory string) *corev1.Pod {
			return newTestPod(name, func(p *corev1.Pod) {
				p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
			})
		}
		first := asks("first", "1500m", "100Mi")
		for _, tt := range []struct {
			pod  *corev1.Pod
			want string
		}{
			{asks("huge", "1", "2Gi"), "OutOfmemory Node didn't have enough resource: memory, requested: 2147483648, used: 0, capacity: 1073741824"},
			{first, ""},
			{asks("second", "600m", "100Mi"), "OutOfcpu Node didn't have enough resource: cpu, requested: 600, used: 1500, capacity: 2000"},
			{asks("third", "500m", "100Mi"), ""},
			{asks("fourth", "0", "0"), "OutOfpods Node didn't have enough resource: pods, requested: 1, used: 2, capacity: 2"},
		} {
			b.want(tt.pod)
			pass(time.Second)
			st := b.status()
			got := strings.TrimSpace(st.Reason + " " + strings.TrimPrefix(st.Message, "Pod was rejected: "))
			if got != tt.want || (st.Phase == corev1.PodFailed) != (tt.want != "") {
				t.Errorf("%s: %s %s, want %s", tt.pod.Name, st.Phase, got, tt.want)
			}
		}
		b.want(deleted(first, 0))
		b.want(asks("fifth", "1500m", "100Mi")) // what goes makes room
		pass(time.Second)
		if st := b.status(); st.Phase != corev1.PodRunning {
			t.Errorf("fifth: %+v", st)
		}
	})
}
