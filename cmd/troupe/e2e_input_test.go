package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// simUp starts a cluster of simulated nodes on free ports; it ends with the test.
func simUp(t *testing.T, dir string) *world {
	t.Helper()
	w := &world{t: t, dir: dir}
	w.up("--runtime", "sim", "--api-addr", "127.0.0.1:0", "--nats-addr", "127.0.0.1:0")
	t.Cleanup(w.kill)
	return w
}

// complaint makes sure that a command fails with one line that holds all of want.
func complaint(t *testing.T, r result, want ...string) {
	t.Helper()
	if r.code != 1 {
		t.Errorf("exit code %d, want 1", r.code)
	}
	if strings.Count(r.err, "\n") != 1 {
		t.Errorf("standard error is not one line:\n%s", r.err)
	}
	for _, s := range want {
		if !strings.Contains(r.err, s) {
			t.Errorf("%q is not in %q", s, r.err)
		}
	}
	if r.out != "" {
		t.Errorf("standard output: %s", r.out)
	}
}

func TestUpWithBadInput(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	files := t.TempDir()
	write := func(name, text string) string {
		f := filepath.Join(files, name)
		if err := os.WriteFile(f, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return f
	}
	tests := []struct {
		name string
		args []string
		want []string
	}{
		{"api port", []string{"--api-addr", taken.Addr().String()}, []string{taken.Addr().String() + " is taken by another program", "--api-addr"}},
		{"nats port", []string{"--nats-addr", taken.Addr().String()}, []string{taken.Addr().String() + " is taken by another program", "--nats-addr"}},
		{"api address", []string{"--api-addr", "nonsense"}, []string{"--api-addr: ", "nonsense"}},
		{"nats address", []string{"--nats-addr", "nonsense"}, []string{"--nats-addr: ", "nonsense"}},
		{"nats address without TLS's name", []string{"--nats-addr", "192.0.2.77:0"}, []string{"--nats-addr: ", "192.0.2.77"}},
		{"ranges", []string{"--pod-cidr", "10.0.0.0/8", "--service-cidr", "10.0.0.0/16"}, []string{"--service-cidr: it overlaps --pod-cidr 10.0.0.0/8"}},
		{"several", []string{"--pod-cidr", "pods", "--nodes", "0"}, []string{"--pod-cidr: ", "; --nodes: there must be at least one"}},
		{"runtime", []string{"--runtime", "docker"}, []string{`--runtime: "docker" is not known; choose containerd, sim or none`}},
		{"log level", []string{"--log-level", "loud"}, []string{`--log-level: "loud" is not known; choose debug, info, warn or error`}},
		{"node name", []string{"--node-name", "Upper_Case"}, []string{"--node-name: "}},
		{"unknown flag", []string{"--color"}, []string{"unknown flag: --color", "troupe up --help"}},
		{"wrong kind of value", []string{"--nodes", "many"}, []string{`"many"`, "--nodes", "troupe up --help"}},
		{"argument", []string{"web"}, []string{`"web"`, "troupe up"}},
		{"no settings", []string{"--config", filepath.Join(files, "missing")}, []string{"--config: ", "no such file"}},
		{"garbage as settings", []string{"--config", write("garbage", "a: [")}, []string{"--config ", "garbage: ", "yaml"}},
		{"list as settings", []string{"--config", write("list", "- a\n- b\n")}, []string{"--config ", "list: "}},
		{"unknown setting", []string{"--config", write("unknown", "nodez: 3")}, []string{`no setting is called "nodez"`, "node-name, nodes, "}},
		{"wrong value of a setting", []string{"--config", write("value", "nodes: many")}, []string{"value: nodes: ", `"many"`}},
		{"doubled setting", []string{"--config", write("double", "nodes: 1\nnodes: 2")}, []string{"--config ", "nodes"}},
		{"data folder below a file", []string{"--data-dir", write("file", "") + "/data"}, []string{"data folder: ", "--data-dir"}},
		{"data folder is a file", []string{"--data-dir", write("file2", "")}, []string{"data folder: ", "--data-dir"}},
		{"kubeconfig below a file", []string{"--kubeconfig", write("file3", "") + "/kubeconfig"}, []string{"--kubeconfig: ", "file3"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "data")
			args := append([]string{"up", "--data-dir", dir, "--runtime", "sim", "--api-addr", "127.0.0.1:0", "--nats-addr", "127.0.0.1:0"}, tt.args...)
			r := finish(t, command(args...))
			complaint(t, r, tt.want...)
			if _, err := os.Stat(dir); err == nil {
				t.Errorf("a data folder is left")
			}
		})
	}
}

func TestUpOnAFolderInUse(t *testing.T) {
	t.Parallel()
	w := simUp(t, t.TempDir())
	r := w.troupe(nil, "up", "--data-dir", w.dir, "--runtime", "sim", "--api-addr", "127.0.0.1:0", "--nats-addr", "127.0.0.1:0")
	complaint(t, r, "a troupe runs on "+w.dir+" already (pid ", "troupe down", "--data-dir")
	w.kubectl("get", "nodes") // the first one does not mind
	complaint(t, w.troupe(nil, "image", "ls"), "runs simulated containers")
	w.stop()
	complaint(t, w.troupe(nil, "events"), "is troupe up?")
}

func TestUpOnAFolderOfAnotherVersion(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "version"), []byte("7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	complaint(t, finish(t, command("up", "--data-dir", dir, "--runtime", "sim")), "has layout 7, this troupe reads "+dataVersion, "--data-dir")
	if b, err := os.ReadFile(filepath.Join(dir, "version")); err != nil || string(b) != "7\n" {
		t.Errorf("version is %q, %v", b, err)
	}
}

func TestCommandsWithoutACluster(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "none")
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"down"}, "troupe up"},
		{[]string{"reset", "--yes"}, "is no data folder of troupe"},
		{[]string{"image", "ls"}, "troupe up"},
		{[]string{"image", "import", "x.tar"}, "troupe up"},
		{[]string{"events"}, "troupe up"},
		{[]string{"kubectl", "get", "pods"}, "troupe up"},
		{[]string{"kubectl", "-n", "x", "get", "pods"}, "troupe up"},
		{[]string{"image", "import"}, "requires at least 1 arg"},
		{[]string{"dance"}, `unknown command "dance"`},
		{[]string{"events", "--since", "yesterday"}, "--since"},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			t.Parallel()
			cmd := command(tt.args...)
			cmd.Env = append(cmd.Env, "TROUPE_DATA_DIR="+dir, "KUBECONFIG=")
			complaint(t, finish(t, cmd), tt.want)
			if _, err := os.Stat(dir); err == nil {
				t.Error("a data folder is left")
			}
		})
	}
	for _, args := range [][]string{{"kubectl", "version", "--client"}, {"kubectl", "--help"}, {"version"}, {"completion", "bash"}, {"--help"}} {
		cmd := command(args...)
		cmd.Env = append(cmd.Env, "TROUPE_DATA_DIR="+dir, "KUBECONFIG=")
		if r := finish(t, cmd); r.code != 0 || r.out == "" {
			t.Errorf("%v: %+v", args, r)
		}
	}
}

func TestResetAsksFirst(t *testing.T) {
	t.Parallel()
	w := simUp(t, t.TempDir())
	for _, answer := range []string{"", "\n", "n\n", "yesterday\n"} {
		r := w.troupe(strings.NewReader(answer), "reset")
		if r.code != 1 || !strings.Contains(r.out, "[y/N]") || r.err != "troupe: nothing was changed\n" {
			t.Errorf("answer %q: %+v", answer, r)
		}
	}
	w.kubectl("get", "nodes")
	if r := w.troupe(strings.NewReader("y\n"), "reset"); r.code != 0 {
		t.Errorf("%+v", r)
	}
	if _, err := os.Stat(w.dir); !os.IsNotExist(err) {
		t.Errorf("the data is left: %v", err)
	}
}

func TestMachineThatCannotRunContainers(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	bare := t.TempDir()
	if err := link(filepath.Join(binDir, "troupe"), filepath.Join(bare, "troupe")); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		cmd := command("up", "--data-dir", dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		complaint(t, finish(t, cmd), "needs root: use sudo, or --runtime sim")
		cmd = exec.Command(filepath.Join(bare, "troupe"), "up", "--data-dir", dir)
		cmd.Env = append(os.Environ(), partVar+"="+partTroupe)
		complaint(t, finish(t, cmd), "containerd is missing in "+bare, "make tools")
		complaint(t, finish(t, command("up", "--data-dir", dir, "--containerd-address", "/nonexistent.sock")), "no containerd at /nonexistent.sock", "--containerd-address")
	} else {
		complaint(t, finish(t, command("up", "--data-dir", dir)), "needs root: use sudo, or --runtime sim")
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a data folder is left")
	}
}

func TestImportOfGarbage(t *testing.T) {
	w := newWorld(t)
	w.up()
	for name, garbage := range map[string]string{"nothing": "", "noise": "this is no archive", "zeros": strings.Repeat("\x00", 1<<20)} {
		t.Run(name, func(t *testing.T) {
			complaint(t, w.troupe(strings.NewReader(garbage), "image", "import", "-"), "import -: ")
		})
	}
	complaint(t, w.troupe(nil, "image", "import", "/nonexistent.tar"), "/nonexistent.tar")
	complaint(t, w.troupe(nil, "image", "import", w.dir), w.dir)
	if out := w.must("image", "ls"); strings.Count(out, "\n") != 2 {
		t.Errorf("images:\n%s", out)
	}
}
