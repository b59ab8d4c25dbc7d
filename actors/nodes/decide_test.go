package nodes

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/proto/nodepb"
)

func TestCIDRs(t *testing.T) {
	c := newCIDRs("10.42.0.0/22", 24)
	c.taken("old", "10.42.1.0/24")
	c.taken("odd", "10.42.2.0/25") // set by hand: blocks nothing of ours
	c.taken("bad", "nonsense")
	grant := func(node, want string) {
		t.Helper()
		if got, err := c.grant(node); got != want || err != nil {
			t.Errorf("grant(%s) = %s, %v, want %s", node, got, err, want)
		}
	}
	grant("a", "10.42.0.0/24")
	grant("b", "10.42.2.0/24")
	grant("a", "10.42.0.0/24")
	grant("old", "10.42.1.0/24")
	c.release("a")
	grant("c", "10.42.3.0/24") // not the one just released
	grant("d", "10.42.0.0/24")
	if got, err := c.grant("e"); err == nil {
		t.Errorf("a fifth of four parts: %s", got)
	}
	c.taken("b", "10.42.9.0/24") // its object says otherwise
	grant("e", "10.42.2.0/24")
	if got, err := newCIDRs("", 24).grant("x"); got != "" || err != nil {
		t.Errorf("no pod CIDR: %q, %v", got, err)
	}
}

func TestJudge(t *testing.T) {
	for quiet, want := range map[time.Duration]liveness{
		0: alive, time.Second: alive, 2 * time.Second: alive, 2200 * time.Millisecond: probed, 2500 * time.Millisecond: silent, time.Hour: silent,
	} {
		if got := judge(quiet, time.Second); got != want {
			t.Errorf("judge(%v) = %v, want %v", quiet, got, want)
		}
	}
}

func TestMergePodStatus(t *testing.T) {
	cond := func(t corev1.PodConditionType, s corev1.ConditionStatus) corev1.PodCondition {
		return corev1.PodCondition{Type: t, Status: s}
	}
	early, late := metav1.Unix(1000, 0), metav1.Unix(2000, 0)
	status := func(p corev1.PodPhase, c ...corev1.PodCondition) corev1.PodStatus {
		return corev1.PodStatus{Phase: p, Conditions: c}
	}
	tests := []struct {
		name                   string
		stored, reported, want corev1.PodStatus
		write                  bool
	}{
		{"first", status(""), status(corev1.PodRunning, cond("Ready", "True")), status(corev1.PodRunning, cond("Ready", "True")), true},
		{"nothing new", status(corev1.PodRunning, cond("Ready", "True")), status(corev1.PodRunning, cond("Ready", "True")),
			status(corev1.PodRunning, cond("Ready", "True")), false},
		{"others' conditions stay", status(corev1.PodPending, cond("PodScheduled", "True"), cond("Ready", "False")),
			status(corev1.PodPending, cond("Ready", "False")), status(corev1.PodPending, cond("Ready", "False"), cond("PodScheduled", "True")), false},
		{"others' conditions are theirs", status(corev1.PodRunning, cond("example/gate", "True")),
			status(corev1.PodRunning, cond("Ready", "True"), cond("example/gate", "False"), cond("example/gone", "True")),
			status(corev1.PodRunning, cond("Ready", "True"), cond("example/gate", "True")), true},
		{"a disruption by the node is its word", status(corev1.PodRunning),
			status(corev1.PodFailed, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: "True", Reason: "TerminationByKubelet"}),
			status(corev1.PodFailed, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: "True", Reason: "TerminationByKubelet"}), true},
		{"one by others is not", status(corev1.PodRunning, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: "True", Reason: "new"}),
			status(corev1.PodRunning, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: "True", Reason: "old"}),
			status(corev1.PodRunning, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: "True", Reason: "new"}), false},
		{"a passing condition goes", status(corev1.PodRunning, cond(corev1.PodResizePending, "True")),
			status(corev1.PodRunning), status(corev1.PodRunning), true},
		{"a node that forgot changes no times",
			corev1.PodStatus{Phase: corev1.PodRunning, StartTime: &early, Conditions: []corev1.PodCondition{{Type: "Ready", Status: "True", LastTransitionTime: early}}},
			corev1.PodStatus{Phase: corev1.PodRunning, StartTime: &late, Conditions: []corev1.PodCondition{{Type: "Ready", Status: "True", LastTransitionTime: late}}},
			corev1.PodStatus{Phase: corev1.PodRunning, StartTime: &early, Conditions: []corev1.PodCondition{{Type: "Ready", Status: "True", LastTransitionTime: early}}}, false},
		{"a transition has its time",
			corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: "Ready", Status: "False", LastTransitionTime: early}}},
			corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: "Ready", Status: "True", LastTransitionTime: late}}},
			corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: "Ready", Status: "True", LastTransitionTime: late}}}, true},
		{"the end is the end", status(corev1.PodFailed), status(corev1.PodRunning), status(corev1.PodFailed), false},
		{"ended otherwise", status(corev1.PodFailed), status(corev1.PodSucceeded), status(corev1.PodSucceeded), true},
		{"others' fields stay", corev1.PodStatus{QOSClass: "Burstable", NominatedNodeName: "x"}, status(corev1.PodRunning),
			corev1.PodStatus{Phase: corev1.PodRunning, QOSClass: "Burstable", NominatedNodeName: "x"}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, write := mergePodStatus(tt.stored, tt.reported)
			if diff := cmp.Diff(tt.want, got); diff != "" || write != tt.write {
				t.Errorf("write %t, want %t, %s", write, tt.write, diff)
			}
		})
	}
}

func TestNodeStatus(t *testing.T) {
	then, now := metav1.Unix(1000, 0), metav1.Unix(2000, 0)
	cond := func(t corev1.NodeConditionType, s corev1.ConditionStatus, at metav1.Time) corev1.NodeCondition {
		return corev1.NodeCondition{Type: t, Status: s, LastTransitionTime: at, LastHeartbeatTime: at}
	}
	of := func(c ...corev1.NodeCondition) corev1.NodeStatus { return corev1.NodeStatus{Conditions: c} }

	out, write := mergeNodeStatus(of(cond("Ready", "True", then), cond("NetworkUnavailable", "False", then)), of(cond("Ready", "True", now)), now)
	if write {
		t.Error("a heartbeat time alone is worth a write")
	}
	if len(out.Conditions) != 2 || !out.Conditions[0].LastTransitionTime.Equal(&then) {
		t.Errorf("merged = %v", out.Conditions)
	}
	out, write = mergeNodeStatus(of(cond("Ready", "Unknown", then)), of(cond("Ready", "True", metav1.Time{})), now)
	if !write || !out.Conditions[0].LastTransitionTime.Equal(&now) {
		t.Errorf("back from silence: %t, %v", write, out.Conditions)
	}

	out, write = unknownStatus(of(cond("Ready", "True", then), cond("NetworkUnavailable", "False", then)), now)
	if !write || nodeCondition(out.Conditions, "Ready").Status != "Unknown" || nodeCondition(out.Conditions, "NetworkUnavailable").Status != "False" ||
		nodeCondition(out.Conditions, "DiskPressure").Reason != "NodeStatusNeverUpdated" {
		t.Errorf("silent: %t, %v", write, out.Conditions)
	}
	if _, write = unknownStatus(out, now); write {
		t.Error("a node that is silent already is written again")
	}
}

func TestMatters(t *testing.T) {
	base := func() *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{UID: "u", Generation: 1, Labels: map[string]string{"a": "b"}, ResourceVersion: "1"},
			Spec:       corev1.PodSpec{ReadinessGates: []corev1.PodReadinessGate{{ConditionType: "example/gate"}}},
		}
	}
	at := metav1.Unix(1, 0)
	tests := []struct {
		name   string
		change func(*corev1.Pod)
		want   bool
	}{
		{"status", func(p *corev1.Pod) { p.Status.Phase = corev1.PodRunning; p.ResourceVersion = "2" }, false},
		{"gate", func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: "example/gate", Status: corev1.ConditionTrue}}
		}, true},
		{"other condition", func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: "example/other", Status: corev1.ConditionTrue}}
		}, false},
		{"end", func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }, true},
		{"spec", func(p *corev1.Pod) { p.Generation = 2 }, true},
		{"labels", func(p *corev1.Pod) { p.Labels = map[string]string{"a": "c"} }, true},
		{"annotations", func(p *corev1.Pod) { p.Annotations = map[string]string{"a": "c"} }, true},
		{"deletion", func(p *corev1.Pod) { p.DeletionTimestamp = &at }, true},
		{"binding", func(p *corev1.Pod) { p.Spec.NodeName = "n" }, true},
		{"no generations", func(p *corev1.Pod) { p.Generation = 0 }, true},
	}
	for _, tt := range tests {
		p := base()
		tt.change(p)
		if got := matters(base(), p); got != tt.want {
			t.Errorf("%s: %t, want %t", tt.name, got, tt.want)
		}
	}
}

func TestReferences(t *testing.T) {
	name := func(s string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: s} }
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns"}, Spec: corev1.PodSpec{
		ImagePullSecrets: []corev1.LocalObjectReference{name("pull"), name("")},
		InitContainers:   []corev1.Container{{EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: name("from")}}}}},
		Containers: []corev1.Container{{
			EnvFrom: []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: name("from")}}},
			Env: []corev1.EnvVar{{Value: "x"},
				{ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: name("key")}}},
				{ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: name("pull")}}}},
		}},
		Volumes: []corev1.Volume{
			{VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: name("vol")}}},
			{VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "vol"}}},
			{VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: name("proj")}}, {Secret: &corev1.SecretProjection{LocalObjectReference: name("proj")}}}}}},
		},
	}}
	var got []string
	for _, k := range references(pod) {
		got = append(got, k.String())
	}
	want := []string{"secrets/ns/pull", "configmaps/ns/from", "secrets/ns/from", "configmaps/ns/key", "configmaps/ns/vol", "secrets/ns/vol", "configmaps/ns/proj", "secrets/ns/proj"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestWantedSet plays changes against a set and checks that what is sent adds up to the same set,
// digest included, that one gets from nothing.
func TestWantedSet(t *testing.T) {
	store := map[messages.Key]objects.Object{}
	lookup := func(k messages.Key) (objects.Object, bool) { o, ok := store[k]; return o, ok }
	cm := func(name, rev string) messages.Key {
		k := messages.KeyOf(messages.ConfigMaps, "ns", name)
		store[k] = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: "cm", ResourceVersion: rev}, Data: map[string]string{"r": rev}}
		return k
	}
	pod := func(name, uid string, refs ...string) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(uid)}}
		for _, r := range refs {
			p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{VolumeSource: corev1.VolumeSource{
				ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: r}}}})
		}
		return p
	}
	key := func(name string) messages.Key { return messages.KeyOf(messages.Pods, "ns", name) }

	w, mirror := newWantedSet(), map[string]*nodepb.Entry{}
	step := func(name string, act func(*change) error, want string) {
		t.Helper()
		var ch change
		if err := act(&ch); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var got []string
		for _, r := range ch.remove {
			got = append(got, "-"+r.Name)
			delete(mirror, fmt.Sprint(r.Kind, r.Name, r.Uid))
		}
		for _, e := range slices.Concat(ch.objects, ch.pods) {
			got = append(got, "+"+e.Ref.Name)
			mirror[fmt.Sprint(e.Ref.Kind, e.Ref.Name, e.Ref.Uid)] = e
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s: sent %q, want %q", name, s, want)
		}
		var digest uint64
		for e := range maps.Values(mirror) {
			digest += messages.EntryDigest(e.Ref, e.Hash)
		}
		if digest != w.digest {
			t.Errorf("%s: digests differ", name)
		}
	}
	set := func(p *corev1.Pod) func(*change) error {
		return func(ch *change) error { return w.pod(key(p.Name), p, lookup, ch) }
	}
	gone := func(name string) func(*change) error {
		return func(ch *change) error { return w.pod(key(name), nil, lookup, ch) }
	}
	object := func(k messages.Key) func(*change) error {
		return func(ch *change) error { return w.object(k, lookup, ch) }
	}
	c1 := cm("c1", "1")
	step("pod with object", set(pod("a", "1", "c1")), "+c1 +a")
	step("the same again", set(pod("a", "1", "c1")), "")
	step("second user", set(pod("b", "2", "c1", "c2")), "+b")
	step("object appears", object(cm("c2", "1")), "+c2")
	step("object seen again", object(c1), "")
	cm("c1", "2")
	step("object changes", object(c1), "+c1")
	step("nobody's object", object(cm("other", "1")), "")
	step("pod stops using one", set(pod("b", "2", "c1")), "-c2 +b")
	step("another pod of the name", set(pod("a", "3", "c1")), "-a +a")
	delete(store, c1)
	step("object goes", object(c1), "-c1")
	step("object is gone already", object(c1), "")
	cm("c1", "3")
	step("object is back", object(c1), "+c1")
	ended := pod("b", "2", "c1")
	ended.Status.Phase = corev1.PodSucceeded
	step("pod ends", set(ended), "+b")
	step("pod goes", gone("a"), "-a")
	step("last user goes", gone("b"), "-b -c1")
	step("unknown pod goes", gone("x"), "")
	if w.digest != 0 || len(w.objects)+len(w.pods) != 0 {
		t.Errorf("left: %v", w)
	}
}

func TestPack(t *testing.T) {
	entry := func(name string, size int) *nodepb.Entry {
		return &nodepb.Entry{Ref: &nodepb.Ref{Name: name}, Object: make([]byte, size)}
	}
	ch := change{
		remove:  []*nodepb.Ref{{Name: "r"}},
		objects: []*nodepb.Entry{entry("o1", 600), entry("o2", 600)},
		pods:    []*nodepb.Entry{entry("p1", 5000), entry("p2", 10)},
	}
	var got []string
	for _, d := range pack(ch, true, 7, 99, 2000) {
		s := fmt.Sprint(d.Seq, " reset=", d.Reset_, " more=", d.More, " digest=", d.Digest, " remove=", len(d.Remove))
		for _, e := range d.Put {
			s += " " + e.Ref.Name
		}
		got = append(got, s)
	}
	want := []string{
		"7 reset=true more=true digest=0 remove=1 o1 o2",
		"8 reset=false more=true digest=0 remove=0 p1",
		"9 reset=false more=false digest=99 remove=0 p2",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if empty := pack(change{}, false, 1, 5, 2000); len(empty) != 1 || empty[0].Digest != 5 || empty[0].More {
		t.Errorf("nothing to send: %v", empty)
	}
}
