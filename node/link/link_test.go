package link_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/actors/objects/objectstest"
	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/node/link"
)

func TestNodeRegisters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.agent("n1")
		b := w.agent("n2")
		settle(100 * time.Millisecond)
		got := append(a.take(), b.take()...)
		slices.Sort(got)
		want := []string{"registered 10.42.0.0/24 10.43.0.10", "registered 10.42.1.0/24 10.43.0.10", "synced true", "synced true"}
		if !slices.Equal(got, want) {
			t.Errorf("nodes were told %q, want %q", got, want)
		}
		n, _ := objects.Get[*corev1.Node](w.store, messages.KeyOf(messages.Nodes, "", "n1"))
		for k, v := range map[string]string{corev1.LabelHostname: "n1", corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64", "zone": "a"} {
			if n.Labels[k] != v {
				t.Errorf("label %s = %q, want %q", k, n.Labels[k], v)
			}
		}
		if len(n.Spec.Taints) != 1 || n.Spec.Taints[0].Key != corev1.TaintNodeNotReady {
			t.Errorf("taints = %v", n.Spec.Taints)
		}
		if w.ready("n1") != "True" {
			t.Errorf("ready = %s", w.ready("n1"))
		}
		w.store.Writes()
		settle(time.Hour)
		if writes := w.store.Writes(); len(writes) > 0 {
			t.Errorf("an idle hour wrote %v", writes)
		}
	})
}

func TestWantedSetFollowsTheState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.agent("n1")
		other := w.agent("n2")
		settle(time.Second)
		a.take()
		other.take()

		w.store.Put(configMap("cfg", "1"), pod("a", "n1", withConfig("cfg")), pod("b", ""))
		settle(time.Second)
		expect(t, a, "object ConfigMap default/cfg", "wanted default/a")
		if cm, ok := a.ConfigMap("default", "cfg"); !ok || cm.Data["k"] != "1" {
			t.Errorf("ConfigMap() = %v, %t", cm, ok)
		}

		w.store.Put(secret("cfg", "s")) // appears after the pod that asks for it
		settle(time.Second)
		expect(t, a, "object Secret default/cfg")
		if s, ok := a.Secret("default", "cfg"); !ok || string(s.Data["k"]) != "s" {
			t.Errorf("Secret() = %v, %t", s, ok)
		}

		w.store.Put(configMap("cfg", "2"), configMap("unrelated", "x"))
		settle(time.Second)
		expect(t, a, "object ConfigMap default/cfg")

		labelled := w.pod("a").DeepCopy()
		labelled.Labels = map[string]string{"x": "y"}
		w.store.Put(labelled)
		settle(time.Second)
		expect(t, a, "wanted default/a")

		// The same name, another pod.
		w.store.Drop(podKey("a"))
		again := pod("a", "n1")
		again.UID = "uid-a2"
		w.store.Put(again)
		settle(time.Second)
		got := a.take()
		slices.Sort(got)
		want := []string{"object ConfigMap default/cfg", "object Secret default/cfg", "unwanted uid-a", "wanted default/a"}
		if !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
		if _, ok := a.ConfigMap("default", "cfg"); ok {
			t.Error("a ConfigMap nobody refers to is still there")
		}
		w.store.Drop(podKey("a"))
		settle(time.Second)
		expect(t, a, "unwanted uid-a2")
		expect(t, other)
	})
}

func TestPodStatusIsWrittenOnceAndDoesNotComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.store.Put(pod("a", "n1", func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}}
			p.Status.QOSClass = corev1.PodQOSBurstable
		}), pod("b", "n2"))
		a := w.agent("n1")
		settle(time.Second)
		a.take()
		w.store.Writes()
		for range 3 {
			a.ReportPod(link.PodReport{UID: "uid-a", Namespace: "default", Name: "a", Status: running()})
		}
		settle(time.Minute)
		st := w.pod("a").Status
		if st.Phase != corev1.PodRunning || st.PodIP == "" || len(st.Conditions) != 1 || st.QOSClass != corev1.PodQOSBurstable {
			t.Errorf("status = %+v", st)
		}
		if writes := w.store.Writes(); len(writes) != 1 {
			t.Errorf("writes = %v, want one", writes)
		}
		expect(t, a)

		// Not this node's pod, and another pod of the same name: no write, and both have to go.
		a.ReportPod(link.PodReport{UID: "uid-b", Namespace: "default", Name: "b", Status: running()})
		a.ReportPod(link.PodReport{UID: "uid-old", Namespace: "default", Name: "a", Status: running()})
		settle(time.Minute)
		got := a.take()
		slices.Sort(got)
		if want := []string{"unwanted uid-b", "unwanted uid-old"}; !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
		if writes := w.store.Writes(); len(writes) != 0 {
			t.Errorf("writes = %v, want none", writes)
		}
	})
}

func TestFinishedPodGoesWhenItIsMarked(t *testing.T) {
	for _, early := range []bool{false, true} {
		t.Run(fmt.Sprintf("finished first %t", early), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.store.Put(pod("a", "n1"))
				a := w.agent("n1")
				settle(time.Second)
				a.take()
				report := link.PodReport{UID: "uid-a", Namespace: "default", Name: "a", Finished: true,
					Status: corev1.PodStatus{Phase: corev1.PodSucceeded}}
				if early {
					a.ReportPod(report)
					settle(time.Second)
					if w.pod("a") == nil {
						t.Fatal("pod deleted though nobody asked for it")
					}
					expect(t, a, "wanted default/a Succeeded")
				}
				if err := w.store.Delete(t.Context(), podKey("a"), metav1.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
				settle(time.Second)
				if !early {
					expect(t, a, "wanted default/a deleting")
					a.ReportPod(report)
					settle(time.Second)
				}
				expect(t, a, "unwanted uid-a")
				if p := w.pod("a"); p != nil {
					t.Errorf("pod still there: %v %v", p.DeletionTimestamp, p.Status.Phase)
				}
			})
		})
	}
}

func TestSilentNodeIsUnknownAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.store.Put(pod("a", "n1"))
		nc := w.bus.Conn()
		hub, err := link.NewHub(nc, region)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { hub.Close() })
		a := w.agent("n1", func(c *link.Config) { c.Hub = hub })
		settle(5 * time.Second)
		a.ReportPod(link.PodReport{UID: "uid-a", Namespace: "default", Name: "a", Status: running()})
		settle(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := a.Close(ctx); err != nil {
			t.Fatal(err)
		}
		settle(3 * time.Second)
		if got := w.ready("n1"); got != "Unknown" {
			t.Errorf("after 3 s of silence ready = %s", got)
		}
		// Somebody wrote a status meanwhile.
		p := w.pod("a").DeepCopy()
		p.Status.Phase = corev1.PodUnknown
		w.store.Put(p)

		b := w.agent("n1", func(c *link.Config) { c.Hub = hub })
		settle(time.Second)
		if got := w.ready("n1"); got != "True" {
			t.Errorf("back again, ready = %s", got)
		}
		expect(t, b, "registered 10.42.0.0/24 10.43.0.10", "wanted default/a Unknown", "synced true")
		b.ReportPod(link.PodReport{UID: "uid-a", Namespace: "default", Name: "a", Status: running()})
		settle(time.Second)
		if got := w.pod("a").Status.Phase; got != corev1.PodRunning {
			t.Errorf("phase = %s", got)
		}
	})
}

func TestControlPlaneRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.store.Put(configMap("cfg", "1"), pod("a", "n1", withConfig("cfg")), pod("b", "n1"))
		a := w.agent("n1")
		settle(time.Second)
		a.ReportPod(link.PodReport{UID: "uid-a", Namespace: "default", Name: "a", Status: running()})
		settle(time.Second)
		a.take()
		w.stopControl()
		w.store.Drop(podKey("b"))
		w.store.Put(pod("c", "n1"))
		// A report that nobody hears, and a change while nobody tells.
		st := running()
		st.PodIP = "10.42.0.6"
		a.ReportPod(link.PodReport{UID: "uid-a", Namespace: "default", Name: "a", Status: st})
		settle(20 * time.Second)
		expect(t, a)

		w.startControl(2)
		settle(2 * time.Second)
		expect(t, a, "registered 10.42.0.0/24 10.43.0.10", "unwanted uid-b", "wanted default/c", "synced true")
		if got := w.pod("a").Status.PodIP; got != "10.42.0.6" {
			t.Errorf("pod IP = %s", got)
		}
		if got := w.ready("n1"); got != "True" {
			t.Errorf("ready = %s", got)
		}

		// The deposed one comes back from the dead.
		stale := w.bus.Conn()
		w.startControlOn(w.bus, 1)
		_ = stale
		w.store.Put(pod("d", "n1"))
		settle(5 * time.Second)
		got := a.take()
		if !slices.Contains(got, "wanted default/d") {
			t.Errorf("told %q", got)
		}
		w.stopControl()
	})
}

func TestLowerEpochIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.stopControl()
		w.startControl(7)
		a := w.agent("n1")
		settle(time.Second)
		a.take()
		w.stopControl()
		w.startControl(6)
		w.store.Put(pod("a", "n1"))
		settle(10 * time.Second)
		expect(t, a)
		w.stopControl()
		w.startControl(8)
		settle(2 * time.Second)
		expect(t, a, "registered 10.42.0.0/24 10.43.0.10", "wanted default/a", "synced true")
	})
}

// TestAnotherClusterIsObeyed wipes the control plane: its epochs begin anew, and it knows nothing of
// what the node has.
func TestAnotherClusterIsObeyed(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("agent restarts %t", restart), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				onDisk := func(c *link.Config) { c.DataDir = dir }
				w := newWorld(t)
				w.stopControl()
				w.startControl(1000)
				w.store.Put(secret("cfg", "x"), pod("a", "n1", withConfig("cfg")))
				a := w.agent("n1", onDisk)
				settle(time.Second)
				a.ReportPod(link.PodReport{UID: "uid-a", Namespace: "default", Name: "a", Status: running()})
				settle(time.Second)
				w.stopControl()
				if restart {
					if err := a.Close(t.Context()); err != nil {
						t.Fatal(err)
					}
				}

				w.store, w.id = objectstest.New(clock.RealClock{}), "second"
				w.startControl(3)
				w.store.Put(pod("b", "n1"))
				if restart {
					a = w.agent("n1", onDisk)
				}
				settle(5 * time.Second)
				if got := a.has(); len(got) != 1 || got[0].Name != "b" {
					t.Fatalf("node has %v, want b alone", got)
				}
				if _, ok := a.Secret("default", "cfg"); ok {
					t.Error("a secret of the old cluster is still there")
				}
				if got := w.ready("n1"); got != "True" {
					t.Errorf("ready = %s", got)
				}

				// The new cluster's own epochs count from here on, also from the checkpoint.
				w.stopControl()
				if err := a.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				w.startControl(2)
				a = w.agent("n1", onDisk)
				settle(5 * time.Second)
				if got := a.take(); slices.Contains(got, "synced true") {
					t.Errorf("a deposed control plane was obeyed: %q", got)
				}
			})
		})
	}
}

func TestCheckpointStartsPodsWhileCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		onDisk := func(c *link.Config) { c.DataDir = dir }
		w := newWorld(t)
		w.store.Put(secret("cfg", "very-secret-word"), pod("a", "n1", withConfig("cfg")), pod("done", "n1"))
		a := w.agent("n1", onDisk)
		settle(time.Second)
		a.ReportPod(link.PodReport{UID: "uid-done", Namespace: "default", Name: "done", Status: corev1.PodStatus{Phase: corev1.PodSucceeded}})
		settle(time.Second)
		w.stopControl()
		if err := a.Close(t.Context()); err != nil {
			t.Fatal(err)
		}

		b := w.agent("n1", onDisk)
		settle(10 * time.Second)
		got := b.take()
		slices.Sort(got[2:4])
		want := []string{"registered 10.42.0.0/24 10.43.0.10", "object Secret default/cfg", "wanted default/a", "wanted default/done Succeeded", "synced false"}
		if !slices.Equal(got, want) {
			t.Errorf("cut off, told %q, want %q", got, want)
		}
		if s, ok := b.Secret("default", "cfg"); !ok || string(s.Data["k"]) != "very-secret-word" {
			t.Errorf("Secret() = %v, %t", s, ok)
		}
		w.startControl(2)
		settle(2 * time.Second)
		expect(t, b, "registered 10.42.0.0/24 10.43.0.10", "synced true") // nothing else: the digest was right

		files, err := filepath.Glob(filepath.Join(dir, "link", "*"))
		if err != nil || len(files) != 2 {
			t.Errorf("files = %v, %v", files, err)
		}
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil || bytes.Contains(data, []byte("very-secret-word")) {
				t.Errorf("%s: %v, or it holds the secret in clear", f, err)
			}
			if info, _ := os.Stat(f); info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %v", f, info.Mode())
			}
		}
	})
}

// A burst of changes is one write at its begin and one at its end, and none of it is missing then.
func TestBurstSharesCheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := newWorld(t)
		a := w.agent("n1", func(c *link.Config) { c.DataDir = dir })
		settle(5 * time.Second)
		path := filepath.Join(dir, "link", "checkpoint")
		stat := func() os.FileInfo {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			return info
		}
		writes, last := 0, stat()
		look := func() {
			if now := stat(); !os.SameFile(last, now) || !last.ModTime().Equal(now.ModTime()) {
				writes, last = writes+1, now
			}
		}
		const pods = 20
		for i := range pods {
			w.store.Put(pod(fmt.Sprint("p", i), "n1"))
			settle(20 * time.Millisecond)
			look()
		}
		if len(a.has()) != pods || writes != 1 {
			t.Errorf("%d pods arrived, %d writes, want %d and 1", len(a.has()), writes, pods)
		}
		settle(2 * time.Second)
		if look(); writes != 2 {
			t.Errorf("%d writes in the end, want 2", writes)
		}
		settle(time.Minute)
		if look(); writes != 2 {
			t.Errorf("%d writes when nothing changed", writes-2)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		key, err := os.ReadFile(filepath.Join(dir, "link", "checkpoint.key"))
		if err != nil {
			t.Fatal(err)
		}
		// Another node's folder, as this one would be after a loss of power now.
		copied := t.TempDir()
		if err := os.Mkdir(filepath.Join(copied, "link"), 0o700); err != nil {
			t.Fatal(err)
		}
		for name, content := range map[string][]byte{"checkpoint": data, "checkpoint.key": key} {
			if err := os.WriteFile(filepath.Join(copied, "link", name), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		w.stopControl()
		b := w.agent("n1-again", func(c *link.Config) { c.DataDir = copied })
		settle(time.Second)
		if n := len(b.has()); n != pods {
			t.Errorf("%d pods start from the checkpoint, want %d", n, pods)
		}
	})
}

func TestDamagedCheckpointIsNoReasonNotToRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "link"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "link", "checkpoint"), []byte("troupe checkpoint 2\nrubbish that is long enough to hold a nonce and a tag"), 0o600); err != nil {
			t.Fatal(err)
		}
		w := newWorld(t)
		w.store.Put(pod("a", "n1"))
		a := w.agent("n1", func(c *link.Config) { c.DataDir = dir })
		settle(time.Second)
		expect(t, a, "registered 10.42.0.0/24 10.43.0.10", "wanted default/a", "synced true")
	})
}

func TestTokensOnlyForPodsOfTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		account := func(name string) func(*corev1.Pod) {
			return func(p *corev1.Pod) { p.Spec.ServiceAccountName = name }
		}
		w.store.Put(pod("a", "n1", account("app")), pod("b", "n2", account("app")), pod("c", "n1", account("nobody")))
		begin := time.Now()
		a := w.agent("n1") // not welcomed yet when it asks
		got, err := a.Token(t.Context(), link.TokenRequest{Pod: w.pod("a"), Audiences: []string{"vault"}})
		if err != nil || got.Value != "default/app/a/vault" || got.Expires.Unix() != 2_000_000_000 {
			t.Errorf("Token() = %v, %v", got, err)
		}
		if took := time.Since(begin); took > time.Second {
			t.Errorf("the first token took %v", took)
		}
		for _, name := range []string{"b", "c"} {
			if got, err := a.Token(t.Context(), link.TokenRequest{Pod: w.pod(name)}); err == nil {
				t.Errorf("Token() for %s = %v", name, got)
			}
		}
		w.stopControl()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err := a.Token(ctx, link.TokenRequest{Pod: w.pod("a")}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Token() without a control plane: %v", err)
		}
	})
}

func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.store.Put(pod("a", "n1"), pod("b", "n2"))
		a := w.agent("n1")
		settle(time.Second)
		a.Record(link.Event{Pod: w.pod("a"), FieldPath: "spec.containers{web}", Type: "Normal", Reason: "Started", Message: "web"})
		a.Record(link.Event{Pod: w.pod("b"), Type: "Normal", Reason: "Started", Message: "not its own"})
		a.Record(link.Event{Type: "Warning", Reason: "DiskPressure", Message: "full"})
		settle(time.Second)
		want := []string{"pods/default/a Normal Started: web (spec.containers{web})", "nodes/n1 Warning DiskPressure: full"}
		if got := w.store.Recorder.Events(); !slices.Equal(got, want) {
			t.Errorf("events = %q, want %q", got, want)
		}
	})
}

func TestDeletedNodeRegistersAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.agent("n1")
		settle(time.Second)
		a.take()
		w.store.Drop(messages.KeyOf(messages.Nodes, "", "n1"))
		settle(5 * time.Second)
		expect(t, a, "registered 10.42.1.0/24 10.43.0.10", "synced true")
		if got := w.ready("n1"); got != "True" {
			t.Errorf("ready = %s", got)
		}
		if err := a.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.store.Drop(messages.KeyOf(messages.Nodes, "", "n1"))
		settle(time.Minute)
		if got := w.ready("n1"); got != "no node" {
			t.Errorf("a node deleted after its end came back: %s", got)
		}
	})
}
