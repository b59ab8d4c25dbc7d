package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Folders of the data folder that hold streams: those in use, those of a server of its own that are on
// their way to three, those of three that are on their way to one, and those that were replaced.
const (
	streamsNow   = "nats/jetstream"
	streamsAside = "nats/aside/jetstream"
	streamsNext  = "nats/next/jetstream"
	streamsOld   = "nats/old/jetstream"
)

// found is what a data folder has of streams.
type found struct{ now, aside, next, old bool }

// step is what comes next in a move.
type step int

const (
	stepGo       step = iota // the folders are as they should be
	stepSetAside             // streamsNow becomes streamsAside
	stepForget               // streamsAside and streamsOld are removed
	stepRetire               // streamsNow becomes streamsOld
	stepReplace              // streamsNext becomes streamsNow
	stepSettle               // the move is over
)

// nextFolderStep says what is to be done with the folders before the server starts. Each step leaves a
// folder from which the others follow, whenever the process is killed.
func nextFolderStep(move string, f found) step {
	switch move {
	case moveIn:
		if !f.aside && f.now {
			return stepSetAside
		}
	case moveSwap:
		switch {
		case f.next && f.now:
			return stepRetire
		case f.next:
			return stepReplace
		}
		return stepSettle
	case "":
		if f.aside || f.old {
			return stepForget
		}
	}
	return stepGo
}

// arrange brings the folders of a data folder into the shape that its mode asks for.
func arrange(dataDir string, m mode) (mode, error) {
	for {
		there := func(name string) bool {
			_, err := os.Stat(filepath.Join(dataDir, name))
			return err == nil
		}
		f := found{there(streamsNow), there(streamsAside), there(streamsNext), there(streamsOld)}
		var err error
		switch s := nextFolderStep(m.Move, f); s {
		case stepGo:
			return m, nil
		case stepSetAside:
			err = rename(dataDir, streamsNow, streamsAside)
		case stepForget:
			err = errors.Join(remove(dataDir, streamsAside), remove(dataDir, streamsOld))
		case stepRetire:
			if err = remove(dataDir, streamsOld); err == nil {
				err = rename(dataDir, streamsNow, streamsOld)
			}
		case stepReplace:
			err = rename(dataDir, streamsNext, streamsNow)
		case stepSettle:
			m.Move = ""
			err = m.write(dataDir)
		}
		if err != nil {
			return m, fmt.Errorf("move the state: %w", err)
		}
	}
}

// rename puts streams under another name, for good.
func rename(dataDir, from, to string) error {
	from, to = filepath.Join(dataDir, from), filepath.Join(dataDir, to)
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return errors.Join(syncDir(filepath.Dir(to)), syncDir(filepath.Dir(from)))
}

// remove removes the folder around streams.
func remove(dataDir, name string) error {
	err := os.RemoveAll(filepath.Dir(filepath.Join(dataDir, name)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
