package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/troupe-run/troupe/cluster/bus"
)

// running is what troupe up writes down for the other commands: where its cluster is reached.
type running struct {
	API               string       `json:"api"`
	NATS              string       `json:"nats,omitempty"`
	Outside           *bus.Outside `json:"outside,omitempty"` // NATS that is not ours
	Region            string       `json:"region"`
	Node              string       `json:"node"`
	Runtime           string       `json:"runtime"`
	ContainerdAddress string       `json:"containerdAddress,omitempty"`
	PodCIDR           string       `json:"podCIDR"`
}

func runningFile(dataDir string) string { return filepath.Join(dataDir, "running.json") }

func (r running) write(dataDir string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(runningFile(dataDir), append(b, '\n'), 0o600)
}

// readRunning returns what the last troupe up on a data folder wrote.
func readRunning(dataDir string) (running, error) {
	var r running
	b, err := os.ReadFile(runningFile(dataDir))
	if errors.Is(err, os.ErrNotExist) {
		return r, fmt.Errorf("no cluster has been started on %s; start one with troupe up, or name its folder with --data-dir", dataDir)
	}
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("%s: %w; start the cluster again with troupe up", runningFile(dataDir), err)
	}
	return r, nil
}
