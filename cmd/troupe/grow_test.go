package main

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// grower is a control plane of one that becomes three and one again, of processes that may be killed.
type grower struct {
	t       *testing.T
	members [3]*world
	addrs   []string
	join    []string // what the others are started with
}

// args are those of a member, the first of which is alone at first.
func (g *grower) args(i int) []string {
	args := []string{"--runtime", "none", "--api-addr", "127.0.0.1:0", "--nats-addr", "127.0.0.1:0", "--node-name", fmt.Sprint("m", i), "--log-level", "info"}
	if i > 0 {
		args = append(args, g.join...)
		args = append(args, "--member-addr", g.addrs[i])
	}
	return args
}

func (g *grower) start(i int) { g.members[i].start(g.args(i)...) }

// kill kills a member and starts it again, by the same command.
func (g *grower) kill(i int) {
	g.members[i].kill()
	g.start(i)
}

// says waits until a member says something in its present life.
func (g *grower) says(i int, what string) {
	g.t.Helper()
	g.members[i].says(what)
}

// lists waits until a member lists what it should.
func (g *grower) lists(i int, pattern string) {
	g.t.Helper()
	within(g.t, 2*time.Minute, "members ls shows "+pattern, func() error {
		r := g.members[i].troupe(nil, "members", "ls")
		if r.code == 0 && regexp.MustCompile(pattern).MatchString(r.out) {
			return nil
		}
		return fmt.Errorf("%s%s\n%s", r.out, r.err, g.members[i].out)
	})
}

// revision is that of the ConfigMap which the test looks after, and of the newest list.
func (g *grower) revision(i int) (object, list string) {
	g.t.Helper()
	object = g.members[i].kubectl("get", "configmap", "kept", "-o", "jsonpath={.metadata.resourceVersion}")
	return object, g.members[i].kubectl("get", "secret", "kept", "-o", "jsonpath={.metadata.resourceVersion} {.data.word}")
}

// step is where a member is killed: when it has said the words.
type killAt struct {
	member int
	words  string
}

// TestGrowAndShrink takes a control plane from one member to three and back, and kills the members at every
// step they tell of. Objects keep their revisions, and every one is there.
func TestGrowAndShrink(t *testing.T) {
	if testing.Short() {
		t.Skip("three processes for a minute or two")
	}
	t.Parallel()
	g := &grower{t: t, addrs: freeAddrs(t, 3)}
	for i := range g.members {
		g.members[i] = &world{t: t, dir: t.TempDir()}
		t.Cleanup(g.members[i].kill)
	}
	first := g.members[0]
	g.start(0)
	g.says(0, "\nready in ")
	for i := range 30 {
		first.kubectl("create", "configmap", fmt.Sprint("bulk-", i), "--from-literal=n="+strings.Repeat("x", rand.IntN(3000)))
	}
	first.kubectl("delete", "configmap", "bulk-7")
	first.kubectl("create", "configmap", "kept", "--from-literal=by=me")
	first.kubectl("create", "secret", "generic", "kept", "--from-literal=word=tulip")
	object, secret := g.revision(0)

	out := first.must("members", "grow", "--member-addr", g.addrs[0])
	found := regexp.MustCompile(`--join (\S+) .*--token (\S+)`).FindStringSubmatch(out)
	if found == nil {
		t.Fatalf("no join command in:\n%s", out)
	}
	g.join = []string{"--join", found[1], "--token", found[2]}
	g.kill(0) // it remembers
	g.says(0, "\nready in ")
	if again := first.must("members", "grow"); again != out {
		t.Errorf("grow the second time:\n%s\nthe first time:\n%s", again, out)
	}
	pin, secret1 := "."+strings.Split(found[2], ".")[1]+".", strings.Split(found[2], ".")[2]
	for token, want := range map[string]string{
		"troupe1." + strings.Repeat("0", 64) + "." + secret1: "not of the cluster that the token is for",
		"troupe1" + pin + "guessed":                          "the token is not good any more",
		"K10::node":                                          "the token is not one of troupe members grow",
	} {
		r := g.members[1].troupe(nil, "up", "--runtime", "none", "--api-addr", "127.0.0.1:0", "--nats-addr", "", "--node-name", "m1",
			"--data-dir", filepath.Join(t.TempDir(), "strange"), "--join", found[1], "--member-addr", g.addrs[1], "--token", token)
		if r.code != 1 || !strings.Contains(r.err, want) {
			t.Errorf("token %s: code %d, %s", token, r.code, r.err)
		}
	}
	g.start(1)
	g.says(1, "keys of the control plane")
	g.kill(1)
	g.says(1, "keys of the control plane")
	g.lists(0, `m1 at \S+ +has joined`)
	g.start(2)
	for _, at := range []killAt{{2, "joined"}, {0, "moving the state"}, {0, "stream moved"}, {1, "waiting for the state"}, {0, "state moved"}} {
		g.says(at.member, at.words)
		g.kill(at.member)
	}
	for i := range g.members {
		g.says(i, "\nready in ")
	}
	g.lists(2, `(?s)m0 .*(leads|follows).*m1 .*(leads|follows).*m2 .*(leads|follows)`)
	for i := range g.members {
		if o, s := g.revision(i); o != object || s != secret {
			t.Errorf("at m%d the objects are at %s, %s; they were at %s, %s", i, o, s, object, secret)
		}
		if n := strings.Fields(g.members[i].kubectl("get", "configmap", "-o", "name")); len(n) != 31 {
			t.Errorf("at m%d there are %d config maps: %v", i, len(n), n)
		}
	}
	g.members[1].kubectl("create", "configmap", "of-three", "--from-literal=by=me")
	if out := g.members[1].must("secrets", "rotate"); !strings.Contains(out, "all objects are sealed with key") {
		t.Errorf("rotate said:\n%s", out)
	}
	_, secret = g.revision(0)
	g.kill(2) // it reads everything anew
	g.says(2, "\nready in ")
	for i := range g.members {
		if _, s := g.revision(i); s != secret {
			t.Errorf("after the rotation the secret is at %s at m%d, and at %s at m0", s, i, secret)
		}
	}

	first.must("members", "shrink")
	for _, at := range []killAt{{1, "leaving"}, {0, "taking the state"}, {0, "stream moved"}, {0, "state taken"}} {
		g.says(at.member, at.words)
		g.kill(at.member)
	}
	g.says(0, "\nready in ")
	g.lists(0, `^NAME.*\nm0 .*alone\n$`)
	if o, s := g.revision(0); o != object || s != secret {
		t.Errorf("alone the objects are at %s, %s; they were at %s, %s", o, s, object, secret)
	}
	if n := strings.Fields(first.kubectl("get", "configmap", "-o", "name")); len(n) != 32 {
		t.Errorf("alone there are %d config maps: %v", len(n), n)
	}
	first.kubectl("create", "configmap", "of-one", "--from-literal=by=me")
	left, err := filepath.Glob(filepath.Join(first.dir, "nats", "*", "jetstream"))
	if err != nil || len(left) > 0 {
		t.Errorf("streams that nobody uses: %v %v", left, err)
	}
	// What a member that has left still has is not taken for a state.
	g.members[2].kill()
	r := g.members[2].troupe(nil, "up", "--runtime", "none", "--api-addr", "127.0.0.1:0", "--nats-addr", "", "--node-name", "m2", "--data-dir", g.members[2].dir)
	if r.code != 1 || !strings.Contains(r.err, "which m0 keeps alone") || strings.Count(r.err, "\n") != 1 {
		t.Errorf("a member that has left: code %d, %s", r.code, r.err)
	}
}
