package host

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// foreignConfig is what a containerd that is not ours tells of its configuration.
type foreignConfig struct {
	SandboxImage string `json:"sandboxImage"`
	CNI          struct {
		ConfDir string `json:"confDir"`
	} `json:"cni"`
}

// readForeign asks a foreign containerd for its configuration. What it does not tell stays empty.
func (h *Host) readForeign(ctx context.Context) error {
	v, err := h.link.runtime().Version(ctx, &runtimeapi.VersionRequest{})
	if err != nil {
		return fmt.Errorf("ask containerd for its version: %w", err)
	}
	if tooOld(v.RuntimeVersion) {
		return fmt.Errorf("containerd %s is too old: 1.7 or newer is needed, or leave --containerd-address out", v.RuntimeVersion)
	}
	status, err := h.link.runtime().Status(ctx, &runtimeapi.StatusRequest{Verbose: true})
	if err != nil {
		return fmt.Errorf("ask containerd for its configuration: %w", err)
	}
	if err := json.Unmarshal([]byte(status.Info["config"]), &h.foreign); err != nil {
		h.cfg.Log.Warn("containerd does not tell its configuration, defaults are assumed", "err", err)
	}
	return nil
}

// tooOld says whether a version is below 1.7; one of unknown form is not.
func tooOld(version string) bool {
	var major, minor int
	if _, err := fmt.Sscanf(strings.TrimPrefix(version, "v"), "%d.%d", &major, &minor); err != nil {
		return false
	}
	return major < 1 || major == 1 && minor < 7
}

// CNIConfDir is where containerd looks for the configuration of the pod network.
func (h *Host) CNIConfDir() string {
	switch {
	case h.cfg.Address == "":
		return h.cfg.CNIConfDir
	case h.foreign.CNI.ConfDir != "":
		return h.foreign.CNI.ConfDir
	}
	return "/etc/cni/net.d"
}
