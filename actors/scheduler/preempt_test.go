package scheduler

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func priority(v int32) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Priority = &v }
}

func startedAt(minute int) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.StartTime = &metav1.Time{Time: time.Date(2026, 1, 1, 0, minute, 0, 0, time.UTC)}
	}
}

func labelled(app string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Labels = map[string]string{"app": app} }
}

func going(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} }

func budget(app string, allowed int32) *policyv1.PodDisruptionBudget {
	b := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: app, Namespace: "default"}}
	b.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}
	b.Status.DisruptionsAllowed = allowed
	return b
}

func TestPreempt(t *testing.T) {
	never := func(p *corev1.Pod) {
		policy := corev1.PreemptNever
		p.Spec.PreemptionPolicy = &policy
	}
	type placed = map[string][]*corev1.Pod
	for _, tt := range []struct {
		name      string
		placed    placed
		nominated string
		pod       *corev1.Pod
		budgets   []*policyv1.PodDisruptionBudget
		node      string
		victims   []string
		why       string
	}{
		{name: "one pod must go", placed: placed{"a": {testPod("x", cpu("3"))}, "b": {testPod("y", cpu("3"), priority(100))}},
			pod: testPod("p", cpu("2"), priority(10)), node: "a", victims: []string{"x"}},
		{name: "equals are left alone", placed: placed{"a": {testPod("x", cpu("3"), priority(10))}, "b": {testPod("y", cpu("3"), priority(10))}},
			pod: testPod("p", cpu("2"), priority(10)), why: "0/2 nodes are available: 2 No preemption victims found for incoming pod."},
		{name: "too large for any node", placed: placed{"a": {testPod("x", cpu("3"))}},
			pod: testPod("p", cpu("8"), priority(10)), why: "0/2 nodes are available: 2 Preemption is not helpful for scheduling."},
		{name: "only where it may run", placed: placed{"a": {testPod("x", cpu("3"))}, "b": {testPod("y", cpu("3"), priority(10))}},
			pod: testPod("p", cpu("2"), priority(10), func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{corev1.LabelHostname: "b"} }),
			why: "0/2 nodes are available: 1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling."},
		{name: "a pod that never preempts", placed: placed{"a": {testPod("x", cpu("3"))}, "b": {testPod("y", cpu("3"))}},
			pod: testPod("p", cpu("2"), priority(10), never), why: "not eligible due to preemptionPolicy=Never."},
		{name: "room is being made", placed: placed{"a": {testPod("x", cpu("3"), going)}, "b": {testPod("y", cpu("3"))}}, nominated: "a",
			pod: testPod("p", cpu("2"), priority(10)), why: "not eligible due to a terminating pod on the nominated node."},
		{name: "no more than needed, the least important", placed: placed{
			"a": {testPod("x", cpu("2"), priority(1)), testPod("y", cpu("2"), priority(2))}, "b": {testPod("z", cpu("4"), priority(5))}},
			pod: testPod("p", cpu("2"), priority(10)), node: "a", victims: []string{"x"}},
		{name: "fewer victims", placed: placed{
			"a": {testPod("x", cpu("2")), testPod("y", cpu("2"))}, "b": {testPod("z", cpu("4"))}},
			pod: testPod("p", cpu("4"), priority(10)), node: "b", victims: []string{"z"}},
		{name: "the younger", placed: placed{"a": {testPod("x", cpu("4"), startedAt(1))}, "b": {testPod("y", cpu("4"), startedAt(2))}},
			pod: testPod("p", cpu("4"), priority(10)), node: "b", victims: []string{"y"}},
		{name: "of two on a node the younger", placed: placed{
			"a": {testPod("x", cpu("2"), startedAt(1)), testPod("y", cpu("2"), startedAt(2))}, "b": {testPod("z", cpu("4"), priority(10))}},
			pod: testPod("p", cpu("2"), priority(10)), node: "a", victims: []string{"y"}},
		{name: "a budget protects", placed: placed{"a": {testPod("x", cpu("4"), labelled("db"))}, "b": {testPod("y", cpu("4"), priority(5))}},
			budgets: []*policyv1.PodDisruptionBudget{budget("db", 0)}, pod: testPod("p", cpu("4"), priority(10)), node: "b", victims: []string{"y"}},
		{name: "a budget allows one", placed: placed{"a": {testPod("x", cpu("4"), labelled("db"))}, "b": {testPod("y", cpu("4"), priority(5))}},
			budgets: []*policyv1.PodDisruptionBudget{budget("db", 1)}, pod: testPod("p", cpu("4"), priority(10)), node: "a", victims: []string{"x"}},
		{name: "a budget is no wall", placed: placed{"a": {testPod("x", cpu("4"), labelled("db"))}, "b": {testPod("y", cpu("4"), priority(10))}},
			budgets: []*policyv1.PodDisruptionBudget{budget("db", 0)}, pod: testPod("p", cpu("4"), priority(10)), node: "a", victims: []string{"x"}},
		{name: "anti-affinity", placed: placed{"a": {testPod("x")}, "b": {testPod("y", priority(10))}},
			pod: testPod("p", priority(10), antiAffinity), node: "a", victims: []string{"x"}},
		{name: "host port", placed: placed{"a": {testPod("x", hostPortOf(80)), testPod("z")}, "b": {testPod("y", hostPortOf(80), priority(10))}},
			pod: testPod("p", priority(10), hostPortOf(80)), node: "a", victims: []string{"x"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := clusterOf(tt.placed)
			p := newPodInfo(tt.pod)
			if tt.nominated != "" {
				c.nominated[p.pod.UID] = nomination{p, tt.nominated}
			}
			_, bad := place(p, c, 0, rand.New(rand.NewPCG(1, 1)))
			if bad == nil {
				t.Fatal("the pod fits")
			}
			choice, why := preempt(p, c, bad, tt.budgets)
			if choice == nil {
				choice = &eviction{}
			}
			var victims []string
			for _, v := range choice.victims {
				victims = append(victims, v.pod.Name)
			}
			if choice.node != tt.node || !slices.Equal(victims, tt.victims) || why != tt.why {
				t.Errorf("preempt = %q %v %q, want %q %v %q", choice.node, victims, why, tt.node, tt.victims, tt.why)
			}
			if n, want := len(c.placed), len(tt.placed["a"])+len(tt.placed["b"]); n != want {
				t.Errorf("%d pods in the picture afterwards, want %d", n, want)
			}
		})
	}
}

func clusterOf(placed map[string][]*corev1.Pod) *cluster {
	c := newCluster()
	for _, name := range []string{"a", "b"} {
		c.setNode(name, testNode(name))
		for _, p := range placed[name] {
			c.put(name, newPodInfo(p))
		}
	}
	return c
}

func TestPromisedRoomIsKept(t *testing.T) {
	c := clusterOf(map[string][]*corev1.Pod{"b": {testPod("y", cpu("4"), priority(10))}})
	winner := newPodInfo(testPod("winner", cpu("3"), priority(10), labelled("winner")))
	c.nominated["winner"] = nomination{winner, "a"}
	for _, tt := range []struct {
		pod  *corev1.Pod
		want string
	}{
		{testPod("less", cpu("2")), ""},
		{testPod("equal", cpu("2"), priority(10)), ""},
		{testPod("more", cpu("2"), priority(11)), "a"},
		{testPod("small", cpu("1")), "a"},
		{winner.pod, "a"},
		// The promise itself must not be what lets a pod in.
		{testPod("friend", affinityTo("winner")), ""},
	} {
		if got, _ := place(newPodInfo(tt.pod), c, 0, rand.New(rand.NewPCG(1, 1))); got != tt.want {
			t.Errorf("place %s = %q, want %q", tt.pod.Name, got, tt.want)
		}
		if len(c.placed) != 1 {
			t.Fatalf("%d pods placed after %s, want 1", len(c.placed), tt.pod.Name)
		}
	}
}

func TestAffinityByNamespaceLabels(t *testing.T) {
	c := clusterOf(map[string][]*corev1.Pod{"a": {testPod("x", func(p *corev1.Pod) { p.Namespace = "other" })}})
	p := testPod("p", affinityTo("web"), labelled("client"))
	term := &p.Spec.Affinity.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution[0]
	for _, tt := range []struct {
		name     string
		selector *metav1.LabelSelector
		labels   map[string]string
		want     string
	}{
		{"own namespace only", nil, nil, ""},
		{"every namespace", &metav1.LabelSelector{}, nil, "a"},
		{"labels differ", &metav1.LabelSelector{MatchLabels: map[string]string{"team": "a"}}, map[string]string{"team": "b"}, ""},
		{"labels match", &metav1.LabelSelector{MatchLabels: map[string]string{"team": "a"}}, map[string]string{"team": "a"}, "a"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			term.NamespaceSelector = tt.selector
			c.namespaces["other"] = tt.labels
			if got, _ := place(newPodInfo(p), c, 0, rand.New(rand.NewPCG(1, 1))); got != tt.want {
				t.Errorf("place = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestPresentPodsWishesCount(t *testing.T) {
	wants := func(weight int32, apart bool) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			terms := []corev1.WeightedPodAffinityTerm{{Weight: weight, PodAffinityTerm: corev1.PodAffinityTerm{
				LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}, TopologyKey: corev1.LabelHostname}}}
			p.Spec.Affinity = &corev1.Affinity{}
			if apart {
				p.Spec.Affinity.PodAntiAffinity = &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: terms}
			} else {
				p.Spec.Affinity.PodAffinity = &corev1.PodAffinity{PreferredDuringSchedulingIgnoredDuringExecution: terms}
			}
		}
	}
	for want, apart := range map[string]bool{"a": false, "b": true} {
		c := clusterOf(map[string][]*corev1.Pod{"a": {testPod("x", wants(100, apart))}})
		if got, _ := place(newPodInfo(testPod("p")), c, 0, rand.New(rand.NewPCG(1, 1))); got != want {
			t.Errorf("apart %v: placed on %q, want %q", apart, got, want)
		}
	}
}
