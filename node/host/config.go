package host

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"k8s.io/utils/clock"
)

// Config says where a host keeps its things and which programs it uses.
type Config struct {
	// DataDir holds what must survive a reboot (images, snapshots, logs), in <DataDir>/containerd.
	// Required, absolute.
	DataDir string
	// RunDir holds what must not: sockets, mounts and running state. Empty means
	// /run/troupe/<hash of DataDir>, short because paths of sockets must be.
	RunDir string
	// BinDir holds containerd, containerd-shim-runc-v2, pause and cni/. Empty means the folder of
	// this program.
	BinDir string
	// Address is the socket of a containerd (or its unix:// URL) that runs already and is used
	// instead of an own one. Empty means an own one.
	Address string
	// CNIConfDir is where containerd looks for the pod network. Empty means <DataDir>/cni/net.d.
	CNIConfDir string
	// Clock paces restarts. Nil means the real one.
	Clock clock.WithTicker
	// Log gets what a person should know. Required.
	Log *slog.Logger
}

// sandboxImage is the name of the image every pod's sandbox runs.
const sandboxImage = "troupe.local/pause:1"

// maxRunDir is what the path of a shim's socket leaves for the folder above it: containerd accepts
// 42 bytes for the socket folder itself.
const maxRunDir = 42 - len("/s")

// Check reports all that is wrong with the configuration at once.
func (c Config) Check() error {
	var errs []error
	if !filepath.IsAbs(c.DataDir) {
		errs = append(errs, fmt.Errorf("host: DataDir %q is not an absolute path", c.DataDir))
	}
	if len(c.RunDir) > maxRunDir {
		errs = append(errs, fmt.Errorf("host: RunDir %q is longer than %d bytes", c.RunDir, maxRunDir))
	}
	if c.Log == nil {
		errs = append(errs, errors.New("host: Log is missing"))
	}
	return errors.Join(errs...)
}

// complete fills what may be left empty.
func (c Config) complete() (Config, error) {
	if err := c.Check(); err != nil {
		return c, err
	}
	c.DataDir = filepath.Clean(c.DataDir)
	if c.RunDir == "" {
		sum := sha256.Sum256([]byte(c.DataDir))
		c.RunDir = "/run/troupe/" + hex.EncodeToString(sum[:4])
	}
	if c.BinDir == "" {
		self, err := os.Executable()
		if err != nil {
			return c, fmt.Errorf("find own program: %w", err)
		}
		c.BinDir = filepath.Dir(self)
	}
	if c.CNIConfDir == "" {
		c.CNIConfDir = filepath.Join(c.DataDir, "cni", "net.d")
	}
	if c.Clock == nil {
		c.Clock = clock.RealClock{}
	}
	c.Address = strings.TrimPrefix(c.Address, "unix://")
	return c, nil
}

func (c Config) root() string       { return filepath.Join(c.DataDir, "containerd") }
func (c Config) configFile() string { return filepath.Join(c.root(), "config.toml") }
func (c Config) logFile() string    { return filepath.Join(c.root(), "containerd.log") }
func (c Config) pidFile() string    { return filepath.Join(c.RunDir, "containerd.pid") }
func (c Config) socket() string     { return filepath.Join(c.RunDir, "containerd.sock") }
func (c Config) state() string      { return filepath.Join(c.RunDir, "state") }

// searchPath is PATH for containerd and what it runs: our programs first, and the places of runc
// and iptables, which a login shell of a plain user may not have.
func (c Config) searchPath() string {
	return c.BinDir + ":" + os.Getenv("PATH") + ":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"
}

// Preflight reports everything the machine lacks to run pods, one line each, with the way to mend it.
func Preflight(c Config) error {
	c, err := c.complete()
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("running containers needs root: use sudo, or --runtime sim")
	}
	var errs []error
	if c.Address == "" {
		for _, name := range []string{"containerd", "containerd-shim-runc-v2", "pause", "cni/bridge", "cni/host-local", "cni/portmap"} {
			if _, err := os.Stat(filepath.Join(c.BinDir, name)); err != nil {
				errs = append(errs, fmt.Errorf("%s is missing in %s: run make tools", name, c.BinDir))
			}
		}
		if !c.found("runc") {
			errs = append(errs, errors.New("runc is not installed: apt-get install runc"))
		}
	} else if _, err := os.Stat(c.Address); err != nil {
		errs = append(errs, fmt.Errorf("no containerd at %s: start it, or leave --containerd-address out", c.Address))
	}
	if !c.found("iptables") {
		errs = append(errs, errors.New("iptables is not installed: apt-get install iptables"))
	}
	return errors.Join(errs...)
}

func (c Config) found(program string) bool {
	for _, dir := range filepath.SplitList(c.searchPath()) {
		if path, err := exec.LookPath(filepath.Join(dir, program)); err == nil && path != "" {
			return true
		}
	}
	return false
}
