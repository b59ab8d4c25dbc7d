package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/troupe-run/troupe/cluster/auth"
	"github.com/troupe-run/troupe/messages"
)

// mode is how the state of a data folder is kept. It is written down, because nats-server deletes the
// streams of a server that was alone when it is started as one of several.
type mode struct {
	// Kind is one of those below.
	Kind string `json:"kind"`
	// Member is the name among several, by which the others know this one's files.
	Member string `json:"member,omitempty"`
}

const (
	modeAlone   = "alone"
	modeMembers = "members"
	modeOutside = "outside"
)

func (c *Config) mode() mode {
	switch {
	case c.Outside != nil:
		return mode{Kind: modeOutside}
	case c.MemberAddr != "":
		return mode{modeMembers, c.Member}
	}
	return mode{Kind: modeAlone}
}

// keepMode refuses a data folder whose state is kept in another way, before anything touches it.
func keepMode(dataDir string, want mode) error {
	if dataDir == "" {
		return nil
	}
	path := filepath.Join(dataDir, "mode.json")
	have, err := readMode(dataDir, path)
	switch {
	case err != nil:
		return err
	case have == want:
		return nil
	case have.Kind == "":
		b, err := json.Marshal(want)
		if err != nil {
			return err
		}
		return auth.WriteSecret(path, append(b, '\n'))
	case have.Kind == want.Kind:
		return fmt.Errorf("the data folder is that of member %s, not of %s; start it with --node-name %s: %w", have.Member, want.Member, have.Member, messages.ErrInvalid)
	}
	return fmt.Errorf("the state in this data folder is %s, and would be lost if it were started as %s: %w", modeWords[have.Kind], modeWords[want.Kind], messages.ErrInvalid)
}

var modeWords = map[string]string{
	modeAlone:   "that of a control plane of its own (no --member-addr, no --nats-url)",
	modeMembers: "one member's of several (--member-addr)",
	modeOutside: "in NATS outside (--nats-url)",
}

// readMode returns the mode of a data folder, the zero one for a folder without state. One from before
// modes were written down is alone.
func readMode(dataDir, path string) (m mode, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(dataDir, "nats", "jetstream")); err == nil {
			return mode{Kind: modeAlone}, nil
		}
		return mode{}, nil
	}
	if err != nil {
		return m, fmt.Errorf("read the data folder's mode: %w", err)
	}
	if err := json.Unmarshal(b, &m); err != nil || modeWords[m.Kind] == "" {
		return m, fmt.Errorf("%s cannot be read: %w", path, errors.Join(err, messages.ErrDamaged))
	}
	return m, nil
}
