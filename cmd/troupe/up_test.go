package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/troupe-run/troupe/messages"
)

func good() upConfig {
	return upConfig{runtime: runtimeContainerd, nodes: 1, podCIDR: "10.244.0.0/16", serviceCIDR: "10.96.0.0/16", logLevel: "warn"}
}

func TestCheckOfSettings(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		edit func(*upConfig)
		want []string // parts of the complaint; none means that all is well
	}{
		{"defaults", func(*upConfig) {}, nil},
		{"simulated nodes", func(c *upConfig) { c.runtime, c.nodes = runtimeSim, 5000 }, nil},
		{"a running containerd", func(c *upConfig) { c.containerdAddress = "/run/containerd/containerd.sock" }, nil},
		{"node name", func(c *upConfig) { c.nodeName = "n1.example.org" }, nil},
		{"range with host bits", func(c *upConfig) { c.podCIDR = "10.1.2.3/16" }, nil},
		{"bad pod range", func(c *upConfig) { c.podCIDR = "10.244.0.0" }, []string{"--pod-cidr: "}},
		{"small pod range", func(c *upConfig) { c.podCIDR = "10.244.0.0/25" }, []string{"--pod-cidr: ", "/24 or wider"}},
		{"IPv6 pods", func(c *upConfig) { c.podCIDR = "fd00::/16" }, []string{"--pod-cidr: ", "IPv4"}},
		{"bad service range", func(c *upConfig) { c.serviceCIDR = "x" }, []string{"--service-cidr: "}},
		{"small service range", func(c *upConfig) { c.serviceCIDR = "10.96.0.0/29" }, []string{"--service-cidr: ", "between /12 and /28"}},
		{"large service range", func(c *upConfig) { c.serviceCIDR = "11.0.0.0/8" }, []string{"--service-cidr: ", "between /12 and /28"}},
		{"certificate without key", func(c *upConfig) { c.tlsCert = "a.pem" }, []string{"--tls-cert-file: it and --tls-private-key-file go together"}},
		{"audit log without a policy", func(c *upConfig) { c.audit.LogPath = "-" }, []string{"--audit-policy-file: ", "without a policy file nothing would be written"}},
		{"no audit policy there", func(c *upConfig) { c.audit.PolicyFile = "/nope" }, []string{"--audit-policy-file: audit policy: open /nope"}},
		{"overlap", func(c *upConfig) { c.serviceCIDR = "10.244.4.0/24" }, []string{"--service-cidr: it overlaps --pod-cidr 10.244.0.0/16"}},
		{"several real nodes", func(c *upConfig) { c.nodes = 2 }, []string{"--nodes: more than one needs --runtime sim"}},
		{"no simulated node", func(c *upConfig) { c.runtime, c.nodes = runtimeSim, -1 }, []string{"--nodes: there must be at least one"}},
		{"containerd for a simulation", func(c *upConfig) { c.runtime, c.containerdAddress = runtimeSim, "/x" }, []string{"--containerd-address: it has no meaning"}},
		{"no evictions", func(c *upConfig) { c.evictionHard = "" }, nil},
		{"bad thresholds", func(c *upConfig) { c.evictionHard = "memory<1Gi,nodefs.available<100000%" },
			[]string{`--eviction-hard: memory<1Gi: signal "memory" is not known`, "nodefs.available<100000%: a share is between 0% and 100%"}},
		{"pressure without end", func(c *upConfig) { c.pressurePeriod = -1 }, []string{"--eviction-pressure-transition-period: it must not be below 0"}},
		{"unknown runtime", func(c *upConfig) { c.runtime = "Sim" }, []string{`--runtime: "Sim" is not known`}},
		{"no node", func(c *upConfig) { c.runtime = runtimeNone }, nil},
		{"member", func(c *upConfig) { c.memberAddr, c.peers = "10.0.0.1:6222", []string{"10.0.0.2:6222", "10.0.0.3:6222"} }, nil},
		{"member of two", func(c *upConfig) { c.memberAddr, c.peers = "10.0.0.1:6222", []string{"10.0.0.2:6222"} }, []string{"--peers: 1 are named"}},
		{"peers alone", func(c *upConfig) { c.peers = []string{"a:1", "b:1"} }, []string{"--peers: it has no meaning"}},
		{"member on NATS outside", func(c *upConfig) { c.memberAddr, c.peers, c.natsURL = "a:1", []string{"b:1", "c:1"}, "nats://x" }, []string{"--member-addr: it has no meaning"}},
		{"credentials alone", func(c *upConfig) { c.natsCreds = "x" }, []string{"--nats-creds: it has no meaning"}},
		{"bad NATS address", func(c *upConfig) { c.natsURL = "x" }, []string{"--nats-url: ", "is not like"}},
		{"bad node name", func(c *upConfig) { c.nodeName = "-x" }, []string{"--node-name: "}},
		{"all at once", func(c *upConfig) { c.podCIDR, c.serviceCIDR, c.runtime = "", "", "" }, []string{"--pod-cidr", "--service-cidr", "--runtime"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := good()
			tt.edit(&c)
			pods, services, err := c.check()
			if len(tt.want) == 0 {
				if err != nil || pods != pods.Masked() || services != services.Masked() || !pods.IsValid() || !services.IsValid() {
					t.Errorf("%s, %s, %v", pods, services, err)
				}
				return
			}
			if err == nil {
				t.Fatal("accepted")
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q is not in %q", w, err)
				}
			}
			if line := oneLine(err); strings.Contains(line, "\n") || strings.Count(line, "; ") < len(tt.want)-2 {
				t.Errorf("%q", line)
			}
		})
	}
}

func TestLoadSettings(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "troupe.yaml")
	if err := os.WriteFile(file, []byte("runtime: sim\nnodes: 7\nnats-addr: \"\"\napi-addr: 127.0.0.1:1\npod-cidr: 10.9.0.0/16\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := newUp()
	if err := c.ParseFlags([]string{"--api-addr", "127.0.0.1:2"}); err != nil {
		t.Fatal(err)
	}
	if err := loadSettings(file, c.Flags()); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"runtime": "sim", "nodes": "7", "nats-addr": "", "pod-cidr": "10.9.0.0/16",
		"api-addr":     "127.0.0.1:2", // the flag wins
		"service-cidr": "10.96.0.0/16",
	} {
		if got := c.Flags().Lookup(name).Value.String(); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	for _, text := range []string{"help: true", "config: x", "Nodes: 1", "nodes: [1]", "nodes:", "nodes: 1.5", "runtime: {a: b}", "runtime: null"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := loadSettings(file, newUp().Flags()); err == nil || !strings.HasPrefix(err.Error(), "--config "+file+": ") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestDataFolder(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a/b")
	d, err := openDataDir(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", info, err)
	}
	if got := d.pid(); got != os.Getpid() {
		t.Errorf("pid %d", got)
	}
	if _, err := openDataDir(path); err == nil || !strings.Contains(err.Error(), "runs on "+path+" already") {
		t.Errorf("opened twice: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if d, err = openDataDir(path); err != nil {
		t.Fatalf("opened again: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if was, err := stopHolder(path, time.Second); was || err != nil {
		t.Errorf("nobody to stop: %v %v", was, err)
	}
	for content, want := range map[string]string{"2\n": "has layout 2", "": "has layout ", "1.0": "has layout 1.0"} {
		if err := os.WriteFile(filepath.Join(path, "version"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openDataDir(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("version %q: %v", content, err)
		}
	}
	// A crash may leave any pid in the file: the lock alone says who holds the folder.
	for _, text := range []string{"", "1", "-1", "junk", "999999999"} {
		if err := os.WriteFile(filepath.Join(path, "lock"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if was, err := stopHolder(path, time.Second); was || err != nil {
			t.Errorf("lock file %q: %v %v", text, was, err)
		}
	}
}

func TestDataFolderIsGivenUp(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "data")
	for range 2 {
		d, err := openDataDir(path)
		if err != nil {
			t.Fatal(err)
		}
		d.giveUp()
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("a fresh folder is left: %v", err)
		}
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	keep := filepath.Join(path, "keep")
	if err := os.WriteFile(keep, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := openDataDir(path)
	if err != nil {
		t.Fatal(err)
	}
	d.giveUp()
	if _, err := os.Stat(keep); err != nil {
		t.Errorf("a folder that was there lost its content: %v", err)
	}
}

func TestEventLine(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.Local)
	pod := messages.Change("local", messages.Key{Resource: messages.Pods, Namespace: "default", Name: "web-0"})
	node := messages.Change("local", messages.Key{Resource: messages.Nodes, Name: "n1.example.org"})
	header := func(kind string) nats.Header {
		return nats.Header{messages.HeaderKind: {kind}, messages.HeaderVerb: {"update"}, messages.HeaderRevision: {"42"}}
	}
	for _, tt := range []struct {
		name, subject, gvk, kind, want string
	}{
		{"a pod", pod, "v1/Pod", "", "03:04:05.678  update   Pod                default/web-0  rev 42"},
		{"a node", node, "v1/Node", "", "03:04:05.678  update   Node               n1.example.org  rev 42"},
		{"by kind", pod, "v1/Pod", "pod", "03:04:05.678  update   Pod                default/web-0  rev 42"},
		{"by resource", pod, "v1/Pod", "PODS", "03:04:05.678  update   Pod                default/web-0  rev 42"},
		{"of another kind", pod, "v1/Pod", "node", ""},
		{"of another shape", "troupe.local.other", "v1/Pod", "", ""},
		{"group in the kind", pod, "apps/v1/Deployment", "deployment", "03:04:05.678  update   Deployment         default/web-0  rev 42"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, ok := eventLine(tt.subject, header(tt.gvk), at, tt.kind)
			if got != tt.want || ok != (tt.want != "") {
				t.Errorf("%q, %v", got, ok)
			}
		})
	}
}

func TestMemoryLimitFollowsWhatIsInUse(t *testing.T) {
	for _, tt := range []struct{ live, want int64 }{
		{0, 400}, {200, 400}, {299, 400}, {300, 512}, {600, 1024}, {6000, 10048},
	} {
		if got := memoryLimit(uint64(tt.live<<20)) >> 20; got != tt.want {
			t.Errorf("memoryLimit(%d MiB) = %d MiB, want %d", tt.live, got, tt.want)
		}
	}
}
