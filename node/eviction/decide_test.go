package eviction

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

const mi, gi = 1 << 20, 1 << 30

// well is a machine with plenty of everything.
func well(edit ...func(Signals)) Signals {
	s := Signals{
		MemoryAvailable: {8 * gi, 16 * gi}, NodeFSAvailable: {50 * gi, 100 * gi}, NodeFSInodesFree: {500, 1000},
		ImageFSAvailable: {50 * gi, 100 * gi}, ImageFSInodesFree: {500, 1000}, PIDAvailable: {30000, 32768},
	}
	for _, e := range edit {
		e(s)
	}
	return s
}

func left(s Signal, available int64) func(Signals) {
	return func(all Signals) { all[s] = Amount{available, all[s].Capacity} }
}

func gone(s Signal) func(Signals) { return func(all Signals) { delete(all, s) } }

// needs is a pod whose containers ask for memory and disk, such as "100Mi 1Gi".
func needs(name string, priority int32, containers ...string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{Priority: &priority}}
	for i, c := range containers {
		r := corev1.ResourceList{}
		for k, q := range strings.Fields(c) {
			r[[]corev1.ResourceName{corev1.ResourceMemory, corev1.ResourceEphemeralStorage}[k]] = resource.MustParse(q)
		}
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: fmt.Sprintf("c%d", i), Resources: corev1.ResourceRequirements{Requests: r}})
	}
	return p
}

// takes is what a pod of one container uses.
func takes(p *corev1.Pod, memory, files, logs, volumes, processes int64) Pod {
	disk := func(n int64) Disk { return Disk{n * mi, n} }
	return Pod{p, &Usage{Memory: memory * mi, Processes: processes, Volumes: disk(volumes),
		Containers: []ContainerUsage{{Name: "c0", Memory: memory * mi, Files: disk(files), Logs: disk(logs)}}}}
}

// spell writes a plan in one line.
func spell(p Plan) string {
	out := []string{fmt.Sprint(p.Conditions)}
	if p.Starved != "" {
		out = append(out, string(p.Starved))
	}
	if p.Reclaim {
		out = append(out, "reclaim")
	}
	if p.Measure {
		out = append(out, "measure")
	}
	if p.Victim != nil {
		out = append(out, "evict "+p.Victim.Pod.Name)
	}
	return strings.Join(out, " ")
}

func defaults(t *testing.T, more string) Rules {
	t.Helper()
	return Rules{Thresholds: mustParse(t, Default+more), Transition: 5 * time.Minute}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	a, b := takes(needs("a", 0, "1Gi"), 100, 1, 1, 1, 1), takes(needs("b", 0, "1Mi"), 200, 2, 2, 2, 2)
	tests := []struct {
		name  string
		state State
		in    Snapshot
		want  string
	}{
		{name: "all is well", in: Snapshot{Signals: well()}, want: "[]"},
		{name: "nothing could be measured", in: Snapshot{}, want: "[]"},
		{name: "just enough memory", in: Snapshot{Signals: well(left(MemoryAvailable, 100*mi))}, want: "[]"},
		{name: "memory: nothing to reclaim, who uses it?", in: Snapshot{Signals: well(left(MemoryAvailable, 100*mi-1))}, want: "[MemoryPressure] memory measure"},
		{name: "memory: who exceeds what it asked for goes", in: Snapshot{Signals: well(left(MemoryAvailable, 0)), Measured: true, Pods: []Pod{a, b}},
			want: "[MemoryPressure] memory evict b"},
		{name: "memory: nobody is here", in: Snapshot{Signals: well(left(MemoryAvailable, 0)), Measured: true}, want: "[MemoryPressure] memory"},
		{name: "disk: what nobody uses goes first", in: Snapshot{Signals: well(left(NodeFSAvailable, 9*gi))}, want: "[DiskPressure] ephemeral-storage reclaim"},
		{name: "disk: that did not do", in: Snapshot{Signals: well(left(NodeFSAvailable, 9*gi)), Reclaimed: true}, want: "[DiskPressure] ephemeral-storage measure"},
		{name: "disk: then pods", in: Snapshot{Signals: well(left(NodeFSAvailable, 9*gi)), Reclaimed: true, Measured: true, Pods: []Pod{a, b}},
			want: "[DiskPressure] ephemeral-storage evict b"},
		{name: "disk: that did", in: Snapshot{Signals: well(), Reclaimed: true}, state: State{corev1.NodeDiskPressure: t0}, want: "[DiskPressure]"},
		{name: "disk of its own: images do not help the node's", in: Snapshot{Signals: well(left(NodeFSAvailable, 9*gi)), ImageDisk: true}, want: "[DiskPressure] ephemeral-storage measure"},
		{name: "disk of its own: but theirs", in: Snapshot{Signals: well(left(ImageFSAvailable, 14*gi)), ImageDisk: true}, want: "[DiskPressure] ephemeral-storage reclaim"},
		{name: "files", in: Snapshot{Signals: well(left(NodeFSInodesFree, 49))}, want: "[DiskPressure] inodes reclaim"},
		{name: "processes are not limited by default", in: Snapshot{Signals: well(left(PIDAvailable, 0))}, want: "[]"},
		{name: "memory comes first", in: Snapshot{Signals: well(left(NodeFSAvailable, 0), left(MemoryAvailable, 0))}, want: "[DiskPressure MemoryPressure] memory measure"},
		{name: "what was not measured is well", in: Snapshot{Signals: well(gone(ImageFSAvailable))}, want: "[]"},
		{name: "a condition stays for a while", state: State{corev1.NodeMemoryPressure: t0.Add(time.Second - 5*time.Minute)}, in: Snapshot{Signals: well()}, want: "[MemoryPressure]"},
		{name: "and goes", state: State{corev1.NodeMemoryPressure: t0.Add(-5 * time.Minute)}, in: Snapshot{Signals: well()}, want: "[]"},
		{name: "the others are not touched", state: State{corev1.NodeMemoryPressure: t0.Add(-4 * time.Minute), corev1.NodeDiskPressure: t0.Add(-6 * time.Minute)},
			in: Snapshot{Signals: well()}, want: "[MemoryPressure]"},
	}
	for _, tt := range tests {
		before := fmt.Sprint(tt.state)
		s, plan := defaults(t, "").Decide(tt.state, tt.in, t0)
		if got := spell(plan); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
		if len(s) != len(plan.Conditions) || fmt.Sprint(tt.state) != before {
			t.Errorf("%s: remembers %v, was %v", tt.name, s, before)
		}
	}
	if _, plan := defaults(t, ",pid.available<10%").Decide(nil, Snapshot{Signals: well(left(PIDAvailable, 3000))}, t0); spell(plan) != "[PIDPressure] pids measure" {
		t.Errorf("processes, limited: %s", spell(plan))
	}
	if _, plan := (Rules{}).Decide(nil, Snapshot{Signals: Signals{MemoryAvailable: {0, gi}}}, t0); spell(plan) != "[]" {
		t.Errorf("without thresholds: %s", spell(plan))
	}
}

func TestRanking(t *testing.T) {
	t.Parallel()
	unknown := Pod{Pod: needs("unknown", 1000)}
	kept := takes(needs("critical", systemCritical, "1Mi"), 9000, 9000, 9000, 9000, 9000)
	tests := []struct {
		name      string
		signal    Signal
		imageDisk bool
		pods      []Pod
		want      string // in the order they go
	}{
		{name: "more than asked for, then priority, then how much more", signal: MemoryAvailable, pods: []Pod{
			takes(needs("asked", -5, "1Gi"), 900, 0, 0, 0, 0), takes(needs("much", 0, "100Mi"), 600, 0, 0, 0, 0), takes(needs("some", 0, "500Mi"), 700, 0, 0, 0, 0),
			takes(needs("dear", 10, "1Mi"), 800, 0, 0, 0, 0), takes(needs("cheap", -1, "1Mi"), 2, 0, 0, 0, 0), kept, unknown,
		}, want: "unknown cheap much some dear asked"},
		{name: "nobody exceeds: priority, then who is nearest to it", signal: MemoryAvailable, pods: []Pod{
			takes(needs("near", 0, "100Mi"), 90, 0, 0, 0, 0), takes(needs("far", 0, "100Mi"), 10, 0, 0, 0, 0), takes(needs("cheap", -1, "1Gi"), 1, 0, 0, 0, 0),
		}, want: "cheap near far"},
		{name: "disk: everything counts", signal: NodeFSAvailable, pods: []Pod{
			takes(needs("files", 0), 0, 10, 0, 0, 0), takes(needs("logs", 0), 0, 0, 20, 0, 0), takes(needs("volumes", 0), 0, 0, 0, 30, 0), takes(needs("asked", 0, "0 1Gi"), 0, 99, 99, 99, 0),
		}, want: "volumes logs files asked"},
		{name: "the node's disk without images", signal: NodeFSAvailable, imageDisk: true, pods: []Pod{
			takes(needs("files", 0), 0, 99, 0, 0, 0), takes(needs("logs", 0), 0, 0, 20, 0, 0), takes(needs("volumes", 0), 0, 0, 0, 30, 0),
		}, want: "volumes logs files"},
		{name: "the images' disk", signal: ImageFSAvailable, imageDisk: true, pods: []Pod{
			takes(needs("logs", 0), 0, 0, 20, 0, 0), takes(needs("files", 0), 0, 1, 0, 0, 0),
		}, want: "files logs"},
		{name: "numbers of files cannot be asked for", signal: NodeFSInodesFree, pods: []Pod{
			takes(needs("few", 0, "0 1Ki"), 0, 1, 1, 1, 0), takes(needs("many", 0, "0 1Gi"), 0, 9, 9, 9, 0),
		}, want: "many few"},
		{name: "processes: priority, then number", signal: PIDAvailable, pods: []Pod{
			takes(needs("few", 0), 0, 0, 0, 0, 5), takes(needs("many", 0), 0, 0, 0, 0, 50), takes(needs("dear", 1), 0, 0, 0, 0, 500), kept,
		}, want: "many few dear"},
		{name: "only critical ones", signal: MemoryAvailable, pods: []Pod{kept}, want: ""},
	}
	for _, tt := range tests {
		var order []string
		left := tt.pods
		for p := worst(tt.signal, left, tt.imageDisk); p != nil; p = worst(tt.signal, left, tt.imageDisk) {
			order = append(order, p.Pod.Name)
			rest := []Pod{}
			for _, o := range left {
				if o.Pod != p.Pod {
					rest = append(rest, o)
				}
			}
			left = rest
		}
		if got := strings.Join(order, " "); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestMessages(t *testing.T) {
	t.Parallel()
	two := Pod{needs("p", 0, "10Mi", "1Gi"), &Usage{Memory: 75 * mi, Containers: []ContainerUsage{
		{Name: "c0", Memory: 50 * mi, Files: Disk{Bytes: mi}, Logs: Disk{Bytes: mi}}, {Name: "c1", Memory: 25 * mi}, {Name: "debugger", Memory: 99 * mi},
	}}}
	whole := Pod{needs("whole", 0, "10Mi"), two.Usage}
	whole.Pod.Spec.Resources = &corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("20Mi")}}
	tests := []struct {
		threshold string
		pod       Pod
		amount    Amount
		want      string
	}{
		{"memory.available<100Mi", two, Amount{50 * mi, gi},
			"The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. Container c0 was using 50Mi, request is 10Mi, has larger consumption of memory. "},
		{"memory.available<100Mi", whole, Amount{50 * mi, gi},
			"The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. Pod whole was using 75Mi, request is 20Mi, has larger consumption of memory. Container c0 was using 50Mi, request is 10Mi, has larger consumption of memory. "},
		{"nodefs.available<10%", two, Amount{gi, 100 * gi},
			"The node was low on resource: ephemeral-storage. Threshold quantity: 10Gi, available: 1Gi. Container c0 was using 2Mi, request is 0, has larger consumption of ephemeral-storage. "},
		{"pid.available<1000", two, Amount{100, 32768}, "The node was low on resource: pids. Threshold quantity: 1k, available: 100. "},
		{"nodefs.inodesFree<5%", Pod{Pod: two.Pod}, Amount{1, 1000}, "The node was low on resource: inodes. Threshold quantity: 50, available: 1. "},
	}
	for _, tt := range tests {
		list := mustParse(t, tt.threshold)
		_, plan := (Rules{Thresholds: list}).Decide(nil, Snapshot{Signals: Signals{list[0].Signal: tt.amount}, Reclaimed: true, Measured: true, Pods: []Pod{tt.pod}}, t0)
		if plan.Victim == nil || plan.Victim.Message != tt.want {
			t.Errorf("%s:\n%+v\nwant\n%s", tt.threshold, plan.Victim, tt.want)
		}
	}
}

func TestWhoIsLetIn(t *testing.T) {
	t.Parallel()
	memory, disk := []corev1.NodeConditionType{corev1.NodeMemoryPressure}, []corev1.NodeConditionType{corev1.NodeDiskPressure}
	both := []corev1.NodeConditionType{corev1.NodeDiskPressure, corev1.NodeMemoryPressure}
	tolerant := needs("tolerant", 0)
	tolerant.Spec.Containers = []corev1.Container{{Name: "c"}}
	tolerant.Spec.Tolerations = []corev1.Toleration{{Key: corev1.TaintNodeMemoryPressure, Operator: corev1.TolerationOpExists}}
	plain := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}
	for _, tt := range []struct {
		name       string
		conditions []corev1.NodeConditionType
		pod        *corev1.Pod
		want       string
	}{
		{"well", nil, plain, ""},
		{"asks for nothing, memory", memory, plain, "The node had condition: [MemoryPressure]. "},
		{"asks for some, memory", memory, needs("p", 0, "1Mi"), ""},
		{"tolerates it", memory, tolerant, ""},
		{"disk", disk, needs("p", 0, "1Mi"), "The node had condition: [DiskPressure]. "},
		{"tolerates another", both, tolerant, "The node had condition: [DiskPressure MemoryPressure]. "},
		{"critical", both, needs("p", systemCritical), ""},
	} {
		if got := Refusal(tt.conditions, tt.pod); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ text, want string }{
		{"", "[]"},
		{Default, "[{memory.available 104857600 0} {nodefs.available 0 0.1} {nodefs.inodesFree 0 0.05} {imagefs.available 0 0.15} {imagefs.inodesFree 0 0.05}]"},
		{" memory.available<1Gi , pid.available<1k ", "[{memory.available 1073741824 0} {pid.available 1000 0}]"},
		{"nodefs.available<0%,imagefs.available<100%", "[]"},
		{"memory.available<0", `memory.available<0: "0" is no quantity above 0`},
		{"memory.available<-1Mi", `memory.available<-1Mi: "-1Mi" is no quantity above 0`},
		{"memory.available<x", `memory.available<x: "x" is no quantity above 0`},
		{"memory.available<101%", "memory.available<101%: a share is between 0% and 100%"},
		{"memory.available<NaN%", "memory.available<NaN%: a share is between 0% and 100%"},
		{"memory<1Mi", `memory<1Mi: signal "memory" is not known`},
		{"memory.available=1Mi", "memory.available=1Mi: a threshold is written like memory.available<100Mi"},
		{"memory.available<1Mi,memory.available<2Mi", "memory.available<2Mi: a second threshold for memory.available"},
	} {
		list, err := Parse(tt.text)
		got := fmt.Sprint(list)
		if err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%q: %s, want %s", tt.text, got, tt.want)
		}
	}
	if n := Reserved(mustParse(t, Default), NodeFSAvailable, 1000); n != 100 {
		t.Errorf("%d of 1000 are held back", n)
	}
	if n := Reserved(nil, NodeFSAvailable, 1000); n != 0 {
		t.Errorf("%d of 1000 are held back by nothing", n)
	}
}

func mustParse(t *testing.T, text string) []Threshold {
	t.Helper()
	list, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return list
}
