package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/node/host"
	"github.com/troupe-run/troupe/node/network"
	"github.com/troupe-run/troupe/node/volume"
)

// DownConfig says which node's leftovers to remove; the fields are those of [Config].
type DownConfig struct {
	DataDir, RunDir, BinDir, Bridge, ContainerdAddress string
	// PodCIDR is the range the node had; the zero value means 10.244.0.0/24.
	PodCIDR netip.Prefix
	Log     *slog.Logger
}

// Down takes down everything a node left running when its agent ended: pods, containerd, mounts,
// interfaces, rules and cgroups. The data folder stays. It works after any crash and is content
// when nothing is there. Of a containerd that is not troupe's own only the network is removed.
func Down(ctx context.Context, c DownConfig) error {
	if c.BinDir == "" {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find own program: %w", err)
		}
		c.BinDir = filepath.Dir(self)
	}
	if !c.PodCIDR.IsValid() {
		c.PodCIDR = netip.MustParsePrefix("10.244.0.0/24")
	}
	nc := network.Config{DataDir: c.DataDir, BinDir: c.BinDir, Bridge: c.Bridge, PodCIDR: c.PodCIDR, Log: c.Log}
	if c.ContainerdAddress != "" {
		nc.ConfDir = systemCNI
	}
	return errors.Join(
		host.Down(ctx, host.Config{DataDir: c.DataDir, RunDir: c.RunDir, BinDir: c.BinDir, Address: c.ContainerdAddress, Log: c.Log}),
		downVolumes(filepath.Join(c.DataDir, "pods"), c.Log),
		network.Remove(ctx, nc),
		removeCgroups(c.DataDir),
	)
}

// downVolumes takes down the volumes of all pods.
func downVolumes(dir string, log *slog.Logger) error {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	m, err := volume.NewManager(volume.Config{Dir: dir, Objects: nothing{}, Tokens: nothing{}, Log: log})
	if err != nil {
		return err
	}
	return m.Sweep(nil)
}

// nothing is where volumes get their content from while they are only taken down.
type nothing struct{}

func (nothing) ConfigMap(string, string) (*corev1.ConfigMap, bool) { return nil, false }
func (nothing) Secret(string, string) (*corev1.Secret, bool)       { return nil, false }
func (nothing) Token(context.Context, *corev1.Pod, string, time.Duration) (string, time.Time, error) {
	return "", time.Time{}, messages.ErrUnavailable
}
