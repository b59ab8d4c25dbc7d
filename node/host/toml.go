package host

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// snapshotter names for the config of containerd.
const (
	overlayfs = "overlayfs"
	native    = "native"
)

// usedSnapshotter is what the containerd of a data folder was configured with.
func usedSnapshotter(c Config) string {
	text, err := os.ReadFile(c.configFile())
	if err == nil && strings.Contains(string(text), fmt.Sprintf("snapshotter = %q", native)) {
		return native
	}
	return overlayfs
}

// containerdConfig is config.toml of our containerd. What troupe does not use is switched off: it
// starts quicker and takes less memory. %q quotes as TOML does for any path without control bytes.
func (c Config) containerdConfig(snapshotter string) string {
	disabled := []string{
		"io.containerd.differ.v1.erofs",
		"io.containerd.image-verifier.v1.bindir",
		"io.containerd.monitor.container.v1.restart",
		"io.containerd.mount-handler.v1.erofs",
		"io.containerd.nri.v1.nri",
		"io.containerd.snapshotter.v1.blockfile",
		"io.containerd.snapshotter.v1.erofs",
	}
	if snapshotter != native {
		disabled = append(disabled, "io.containerd.snapshotter.v1.native")
	}
	for i, d := range disabled {
		disabled[i] = fmt.Sprintf("%q", d)
	}
	return fmt.Sprintf(`# Written by troupe at every start; changes are lost.
version = 4
root = %[1]q
state = %[2]q
imports = []
disabled_plugins = [%[3]s]

[debug]
  level = "warn"

[plugins."io.containerd.server.v1.grpc"]
  address = %[4]q

[plugins."io.containerd.server.v1.ttrpc"]
  address = %[5]q

[plugins."io.containerd.shim.v1.manager"]
  socket_dir = %[6]q

[plugins."io.containerd.internal.v1.opt"]
  path = %[7]q

[plugins."io.containerd.transfer.v1.local"]
  config_path = %[8]q

[plugins."io.containerd.cri.v1.images"]
  snapshotter = %[9]q
  # Sizes of images are read for disk pressure only; often enough.
  stats_collect_period = 60
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = %[10]q
  [plugins."io.containerd.cri.v1.images".registry]
    config_path = %[8]q

[plugins."io.containerd.cri.v1.runtime"]
  # A node agent that may not lower the OOM score itself still starts pods.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  enable_criu = false
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = [%[11]q]
    conf_dir = %[12]q
    use_internal_loopback = true
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      Root = %[13]q
      SystemdCgroup = false

# Exec, attach and port-forward are served here, on a free port of the loopback interface, to the
# node agent alone: the paths hold one-time tokens.
[plugins."io.containerd.grpc.v1.cri"]
  disable_tcp_service = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
`,
		filepath.Join(c.root(), "root"), c.state(), strings.Join(disabled, ", "),
		c.socket(), c.socket()+".ttrpc", filepath.Join(c.RunDir, "s"),
		filepath.Join(c.root(), "opt"), filepath.Join(c.root(), "certs.d"), snapshotter, sandboxImage,
		filepath.Join(c.BinDir, "cni"), c.CNIConfDir, filepath.Join(c.RunDir, "runc"))
}
