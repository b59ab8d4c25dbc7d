package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

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
	// Addr is where the other members reach this one, and Peers are theirs.
	Addr  string   `json:"addr,omitempty"`
	Peers []string `json:"peers,omitempty"`
	// Move says where the state is on its way to; see the moves below.
	Move string `json:"move,omitempty"`
	// From and Token reach the member that lets this one join (moveWait).
	From  string `json:"from,omitempty"`
	Token string `json:"token,omitempty"`
	// Keeper is the member that will have the state alone (moveLeave, moveLeft).
	Keeper string `json:"keeper,omitempty"`
	// Lost is the member that was to have it before, and is gone for good (moveOut).
	Lost string `json:"lost,omitempty"`
	// Grow is what is known of those that shall join a control plane that is alone. Nil means nobody shall.
	Grow *growth `json:"grow,omitempty"`
}

const (
	modeAlone   = "alone"
	modeMembers = "members"
	modeOutside = "outside"
)

// The moves of a state between a server of its own and those of three members. A move is written down
// before its first step, so that whoever was killed goes on with it at the next start.
const (
	moveIn    = "in"    // members: the state was alone's, and is to be given to all
	moveWait  = "wait"  // members: another gives the state, no stream may be made before
	moveOut   = "out"   // members: this one takes the state for itself
	moveSwap  = "swap"  // alone: the state that was taken replaces what was the member's
	moveLeave = "leave" // members: another takes the state
	moveLeft  = "left"  // members: another has it
)

func (c *Config) mode() mode {
	switch {
	case c.Outside != nil:
		return mode{Kind: modeOutside}
	case c.MemberAddr != "":
		return mode{Kind: modeMembers, Member: c.Member, Addr: c.MemberAddr, Peers: c.Peers}
	}
	return mode{Kind: modeAlone}
}

// keepMode refuses a data folder whose state is kept in another way, before anything touches it, and
// returns how it is kept. A member's addresses need not be said again.
func keepMode(dataDir string, want mode) (mode, error) {
	if dataDir == "" {
		return want, nil
	}
	have, err := readMode(dataDir)
	switch {
	case err != nil:
		return have, err
	case have.Kind == "":
		return want, want.write(dataDir)
	case have.Move == moveLeft:
		return have, fmt.Errorf("this member has left the control plane, which %s keeps alone; remove what is here with troupe reset: %w", have.Keeper, messages.ErrInvalid)
	case want.Kind == modeAlone && have.Addr != "":
		want = have
	case have.Kind != want.Kind:
		return have, fmt.Errorf("the state in this data folder is %s, and would be lost if it were started as %s: %w", modeWords[have.Kind], modeWords[want.Kind], messages.ErrInvalid)
	}
	if have.Addr != want.Addr || !slices.Equal(have.Peers, want.Peers) {
		have.Addr, have.Peers = want.Addr, want.Peers
		return have, have.write(dataDir)
	}
	return have, nil
}

var modeWords = map[string]string{
	modeAlone:   "that of a control plane of its own (no --member-addr, no --nats-url; troupe members grow makes it one of three)",
	modeMembers: "one member's of several (--member-addr)",
	modeOutside: "in NATS outside (--nats-url)",
}

func modePath(dataDir string) string { return filepath.Join(dataDir, "mode.json") }

func (m mode) write(dataDir string) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := auth.WriteSecret(modePath(dataDir), append(b, '\n')); err != nil {
		return err
	}
	return syncDir(dataDir)
}

// readMode returns the mode of a data folder, the zero one for a folder without state. One from before
// modes were written down is alone.
func readMode(dataDir string) (m mode, err error) {
	path := modePath(dataDir)
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

// syncDir brings the names in a folder to disk.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
