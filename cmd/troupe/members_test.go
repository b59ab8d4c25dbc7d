package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// freeAddrs finds addresses that nobody listens on.
func freeAddrs(t *testing.T, n int) []string {
	t.Helper()
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		out = append(out, l.Addr().String())
	}
	return out
}

// threeMembers starts a control plane of three, whose NATS listen at the addresses given, and waits until all
// are ready. args are those of each.
func threeMembers(t *testing.T, natsAddr func(i int) string) (members [3]*world, args func(i int) []string) {
	t.Helper()
	addrs := freeAddrs(t, 3)
	args = func(i int) []string {
		others := append(append([]string{}, addrs[:i]...), addrs[i+1:]...)
		return []string{"--runtime", "none", "--api-addr", "127.0.0.1:0", "--nats-addr", natsAddr(i), "--node-name", fmt.Sprint("m", i),
			"--member-addr", addrs[i], "--peers", strings.Join(others, ","), "--log-level", "info"}
	}
	for i := range members {
		w := &world{t: t, dir: t.TempDir()}
		members[i] = w
		if i > 0 { // the first one has made the keys, see README
			for _, name := range []string{"keys", "nats/sealing.key"} {
				copyAll(t, filepath.Join(members[0].dir, name), filepath.Join(w.dir, name))
			}
		}
		w.start(args(i)...)
		t.Cleanup(w.kill)
		if i == 0 {
			within(t, 30*time.Second, "the first member has made the keys", func() error {
				_, err := os.Stat(filepath.Join(w.dir, "nats", "sealing.key"))
				return err
			})
		}
	}
	for _, w := range members {
		w.says("\nready in ")
	}
	return members, args
}

// says waits until troupe up says something in its present life.
func (w *world) says(what string) {
	w.t.Helper()
	within(w.t, 2*time.Minute, fmt.Sprintf("it says %q", what), func() error {
		out := w.out.String()
		if strings.Contains(out, what) {
			return nil
		}
		select {
		case <-w.done:
			w.t.Fatalf("troupe up ended, %s:\n%s", w.proc.ProcessState, out)
		default:
		}
		return errors.New("not yet:\n" + out)
	})
}

// TestThreeMembers runs a control plane of three processes: each serves the API, one leads. It is stopped
// in order, then another is killed, and all that was written is there.
func TestThreeMembers(t *testing.T) {
	t.Parallel()
	members, _ := threeMembers(t, func(int) string { return "" })
	isReady := func(w *world) {
		t.Helper()
		w.says("\nready in ")
	}
	leader := -1
	within(t, 60*time.Second, "one of the members leads", func() error {
		for i, w := range members {
			if out := w.out.String(); !strings.Contains(out, "standing by") || strings.Contains(out, "\n  leading ") {
				leader = i
				return nil
			}
		}
		return errors.New("all stand by")
	})
	for i, w := range members {
		w.kubectl("create", "configmap", fmt.Sprint("of-", i), "--from-literal=by=me")
	}
	everywhere := func(which ...int) {
		t.Helper()
		for _, at := range which {
			for i := range members {
				if by := members[at].kubectl("get", "configmap", fmt.Sprint("of-", i), "-o", "jsonpath={.data.by}"); by != "me" {
					t.Errorf("member %d shows %q of %d", at, by, i)
				}
			}
		}
	}
	everywhere(0, 1, 2)
	// A default service account is made by a controller: they run on whoever leads now.
	rest := []int{(leader + 1) % 3, (leader + 2) % 3}
	members[leader].stop()
	works := func(at int, namespace string) {
		t.Helper()
		members[at].kubectl("create", "namespace", namespace)
		within(t, 60*time.Second, "a controller has made a service account in "+namespace, func() error {
			if r := members[at].troupe(nil, "kubectl", "get", "serviceaccount", "default", "-n", namespace); r.code != 0 {
				return errors.New(r.err)
			}
			return nil
		})
	}
	works(rest[0], "after-stop")
	// It is one of three also when nobody says so.
	members[leader].start("--runtime", "none", "--api-addr", "127.0.0.1:0", "--nats-addr", "", "--node-name", fmt.Sprint("m", leader))
	isReady(members[leader])
	everywhere(0, 1, 2)

	members[rest[0]].kill()
	works(leader, "after-kill")
	everywhere(leader, rest[1])

	// And never one of another kind.
	members[rest[1]].stop()
	r := members[rest[1]].troupe(nil, "up", "--nats-url", "nats://127.0.0.1:1", "--runtime", "none", "--api-addr", "127.0.0.1:0", "--data-dir", members[rest[1]].dir)
	if r.code != 1 || !strings.Contains(r.err, "one member's of several") || strings.Count(r.err, "\n") != 1 {
		t.Errorf("a member started on NATS outside: code %d, %s", r.code, r.err)
	}
}

// TestShrinkWithoutTheKeeper has the member that takes the state die before it has it. Another takes it
// instead.
func TestShrinkWithoutTheKeeper(t *testing.T) {
	if testing.Short() {
		t.Skip("three processes for half a minute")
	}
	t.Parallel()
	nats := freeAddrs(t, 3)
	members, args := threeMembers(t, func(i int) string { return nats[i] })
	members[2].kubectl("create", "configmap", "kept", "--from-literal=by=me")
	revision := func(i int) string {
		return members[i].kubectl("get", "configmap", "kept", "-o", "jsonpath={.metadata.resourceVersion}")
	}
	want := revision(0)

	members[0].must("members", "shrink")
	members[1].says("leaving")
	members[2].says("leaving")
	members[0].kill()
	for args, wantErr := range map[string]string{"": "--lost m0", "--lost=m2": "it is m0 that takes the state"} {
		r := members[1].troupe(nil, append([]string{"members", "shrink"}, strings.Fields(args)...)...)
		if r.code != 1 || !strings.Contains(r.err, wantErr) {
			t.Errorf("shrink %s: code %d, %s", args, r.code, r.err)
		}
	}
	members[1].must("members", "shrink", "--lost", "m0")
	members[1].says("taking the state")
	members[1].kill() // it goes on
	members[1].start("--runtime", "none", "--api-addr", "127.0.0.1:0", "--nats-addr", nats[1], "--node-name", "m1")
	members[1].says("\nready in ")
	if got := revision(1); got != want {
		t.Errorf("the object is at %s, and was at %s", got, want)
	}
	members[1].kubectl("create", "configmap", "of-one", "--from-literal=by=me")
	members[2].await()
	if out := members[2].out.String(); !strings.Contains(out, "remove what is here with troupe reset") {
		t.Errorf("the other said:\n%s", out)
	}
	// What was to have it finds nobody.
	members[0].start(args(0)...)
	members[0].says("taking the state")
}
