package scheduler

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func testNode(name string, edit ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
		corev1.LabelHostname: name, corev1.LabelTopologyZone: "zone-" + name[len(name)-1:]}}}
	n.Status.Allocatable = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi"), corev1.ResourcePods: resource.MustParse("110")}
	for _, e := range edit {
		e(n)
	}
	return n
}

func testPod(name string, edit ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID(name), Labels: map[string]string{"app": "web"}}}
	p.Spec.Containers = []corev1.Container{{Name: "c", Image: "img"}}
	p.Spec.SchedulerName = corev1.DefaultSchedulerName
	for _, e := range edit {
		e(p)
	}
	return p
}

func cpu(q string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(q)}
	}
}

func hostPortOf(port int32) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: port, HostPort: port}}
	}
}

func antiAffinity(p *corev1.Pod) {
	p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
			LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}, TopologyKey: corev1.LabelHostname}}}}
}

func affinityTo(app string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
				LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}, TopologyKey: corev1.LabelHostname}}}}
	}
}

func spreadOver(key string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: key,
			WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}}}
	}
}

func TestPlace(t *testing.T) {
	tainted := func(n *corev1.Node) {
		n.Spec.Taints = []corev1.Taint{{Key: "k", Value: "v", Effect: corev1.TaintEffectNoSchedule}}
	}
	tolerates := func(p *corev1.Pod) {
		p.Spec.Tolerations = []corev1.Toleration{{Key: "k", Operator: corev1.TolerationOpExists}}
	}
	cordoned := func(n *corev1.Node) { n.Spec.Unschedulable = true }
	tests := []struct {
		name   string
		nodes  []*corev1.Node
		placed map[string][]*corev1.Pod // by node
		pod    *corev1.Pod
		want   string // node, or the verdict
	}{
		{"fits", []*corev1.Node{testNode("a")}, nil, testPod("p"), "a"},
		{"no nodes", nil, nil, testPod("p"), "no nodes available to schedule pods"},
		{"cpu full", []*corev1.Node{testNode("a"), testNode("b")}, map[string][]*corev1.Pod{"a": {testPod("x", cpu("3"))}, "b": {testPod("y", cpu("3500m"))}},
			testPod("p", cpu("2")), "0/2 nodes are available: 2 Insufficient cpu."},
		{"cpu exactly fits", []*corev1.Node{testNode("a")}, map[string][]*corev1.Pod{"a": {testPod("x", cpu("3"))}}, testPod("p", cpu("1")), "a"},
		{"too many pods", []*corev1.Node{testNode("a", func(n *corev1.Node) { n.Status.Allocatable[corev1.ResourcePods] = resource.MustParse("1") })},
			map[string][]*corev1.Pod{"a": {testPod("x")}}, testPod("p"), "0/1 nodes are available: 1 Too many pods."},
		{"unknown extended resource", []*corev1.Node{testNode("a")}, nil, testPod("p", func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{"example.com/gpu": resource.MustParse("1")}
		}), "0/1 nodes are available: 1 Insufficient example.com/gpu."},
		{"taint", []*corev1.Node{testNode("a", tainted)}, nil, testPod("p"), "0/1 nodes are available: 1 node(s) had untolerated taint(s) {k: v}."},
		{"tolerated taint", []*corev1.Node{testNode("a", tainted)}, nil, testPod("p", tolerates), "a"},
		{"cordoned", []*corev1.Node{testNode("a", cordoned), testNode("b")}, nil, testPod("p"), "b"},
		{"node selector", []*corev1.Node{testNode("a"), testNode("b")}, nil, testPod("p", func(p *corev1.Pod) {
			p.Spec.NodeSelector = map[string]string{corev1.LabelHostname: "b"}
		}), "b"},
		{"node selector misses", []*corev1.Node{testNode("a")}, nil, testPod("p", func(p *corev1.Pod) {
			p.Spec.NodeSelector = map[string]string{"disk": "ssd"}
		}), "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."},
		{"host port taken", []*corev1.Node{testNode("a"), testNode("b")}, map[string][]*corev1.Pod{"a": {testPod("x", hostPortOf(80))}}, testPod("p", hostPortOf(80)), "b"},
		{"host port taken everywhere", []*corev1.Node{testNode("a")}, map[string][]*corev1.Pod{"a": {testPod("x", hostPortOf(80))}}, testPod("p", hostPortOf(80)),
			"0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports."},
		{"anti-affinity", []*corev1.Node{testNode("a"), testNode("b")}, map[string][]*corev1.Pod{"a": {testPod("x")}}, testPod("p", antiAffinity), "b"},
		{"present pod's anti-affinity", []*corev1.Node{testNode("a"), testNode("b")}, map[string][]*corev1.Pod{"b": {testPod("x", antiAffinity)}}, testPod("p"), "a"},
		{"affinity", []*corev1.Node{testNode("a"), testNode("b")}, map[string][]*corev1.Pod{"b": {testPod("x")}}, testPod("p", affinityTo("web")), "b"},
		{"affinity to nobody", []*corev1.Node{testNode("a")}, nil, testPod("p", affinityTo("db")), "0/1 nodes are available: 1 node(s) didn't match pod affinity rules."},
		{"affinity to itself", []*corev1.Node{testNode("a")}, nil, testPod("p", affinityTo("web")), "a"},
		{"spread", []*corev1.Node{testNode("a"), testNode("b")}, map[string][]*corev1.Pod{"a": {testPod("x")}}, testPod("p", spreadOver(corev1.LabelTopologyZone)), "b"},
		{"spread needs label", []*corev1.Node{testNode("a")}, nil, testPod("p", spreadOver("rack")),
			"0/1 nodes are available: 1 node(s) didn't match pod topology spread constraints (missing required label)."},
		{"least allocated wins", []*corev1.Node{testNode("a"), testNode("b")}, map[string][]*corev1.Pod{"a": {testPod("x", cpu("2"))}}, testPod("p", cpu("1")), "b"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newCluster()
			for _, n := range tt.nodes {
				c.setNode(n.Name, n)
			}
			for node, pods := range tt.placed {
				for _, p := range pods {
					c.put(node, newPodInfo(p))
				}
			}
			got, bad := place(newPodInfo(tt.pod), c, 0, rand.New(rand.NewPCG(1, 1)))
			if bad != nil {
				got = bad.String()
			}
			if got != tt.want {
				t.Errorf("place = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestReplicasOfOneControllerSpread(t *testing.T) {
	c := newCluster()
	for i := range 4 {
		n := testNode(fmt.Sprintf("n%d", i))
		c.setNode(n.Name, n)
	}
	yes := true
	count := map[string]int{}
	for i := range 8 {
		p := newPodInfo(testPod(fmt.Sprint("p", i), func(p *corev1.Pod) {
			p.OwnerReferences = []metav1.OwnerReference{{UID: "rs", Controller: &yes}}
		}))
		node, bad := place(p, c, i, rand.New(rand.NewPCG(1, 1)))
		if bad != nil {
			t.Fatal(bad)
		}
		c.put(node, p)
		count[node]++
	}
	for n, k := range count {
		if k != 2 {
			t.Errorf("node %s got %d of 8 replicas, want 2", n, k)
		}
	}
}

func TestRemovedPodGivesBackWhatItTook(t *testing.T) {
	c := newCluster()
	c.setNode("a", testNode("a"))
	p := newPodInfo(testPod("x", cpu("3"), hostPortOf(80), antiAffinity))
	c.put("a", p)
	c.put("a", p) // a second sight of the same pod counts once
	c.remove("x")
	n := c.nodes["a"]
	if n.requested.milliCPU != 0 || n.scored.memory != 0 || len(n.ports) != 0 || c.guarded != 0 || len(n.owners) != 0 {
		t.Errorf("left behind: %+v", n)
	}
}

func TestManyNodesAreSampled(t *testing.T) {
	for _, tt := range []struct{ all, want int }{{1, 1}, {100, 100}, {1000, 420}, {5000, 500}, {20000, 1000}} {
		if got := enoughNodes(tt.all); got != tt.want {
			t.Errorf("enoughNodes(%d) = %d, want %d", tt.all, got, tt.want)
		}
	}
}

func BenchmarkPlace(b *testing.B) {
	for _, size := range []int{100, 1000, 5000} {
		b.Run(fmt.Sprint(size, "nodes"), func(b *testing.B) {
			c := newCluster()
			for i := range size {
				n := testNode(fmt.Sprintf("n%d", i))
				c.setNode(n.Name, n)
			}
			rnd := rand.New(rand.NewPCG(1, 1))
			p := newPodInfo(testPod("p"))
			for i := 0; b.Loop(); i++ {
				if _, bad := place(p, c, i, rnd); bad != nil {
					b.Fatal(strings.TrimSpace(bad.String()))
				}
			}
		})
	}
}
