package bus

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/sys/unix"
)

const (
	// memoryFolder is where Linux keeps files in memory.
	memoryFolder = "/dev/shm"
	// stagingPrefix begins the names of our folders there.
	stagingPrefix = "troupe-"
	// stagingOwner names, in such a folder, the data folder it belongs to.
	stagingOwner = "data-dir"
	// batchesFolder is where nats-server stages atomic batches, in the folder of their stream.
	batchesFolder = "batches"
)

// Staging says where nats-server stages the atomic batches of one stream before it commits them: in
// files, with four fsyncs for each batch. After a power cut they serve nothing but to complete a
// batch that was never acknowledged, so that a batch of unrelated writes may as well be staged in
// memory, where it outlives the death of the process. It is not safe for concurrent use.
type Staging struct {
	folder string // of the stream's batches
	memory string // what the folder is a link to while batches are staged in memory
}

// Staging returns how batches of the stream are staged, or nil where that is not ours to say: with
// several members, an outside server, no disk to spare, or a machine without files in memory.
func (b *Bus) Staging(stream string) *Staging {
	if b.InMemory() || b.cfg.Outside != nil || b.cfg.Members != nil {
		return nil
	}
	folder, err := filepath.Abs(streamFolder(b.cfg.DataDir, stream))
	if err != nil {
		return nil
	}
	memory, err := stagingFolder(b.cfg.DataDir)
	if err != nil {
		b.cfg.Log.Debug("batches are staged on the disk", "err", err)
		return nil
	}
	return &Staging{folder: filepath.Join(folder, batchesFolder), memory: filepath.Join(memory, stream)}
}

func streamFolder(dataDir, stream string) string {
	return filepath.Join(dataDir, server.JetStreamStoreDir, "$G", "streams", stream)
}

// InMemory has the next batch staged in memory. On an error it is staged on the disk.
func (s *Staging) InMemory() error {
	if to, err := os.Readlink(s.folder); err == nil && to == s.memory {
		return nil
	}
	if err := os.MkdirAll(s.memory, 0o700); err != nil {
		return err
	}
	// It fails while the server still clears away a batch from the disk.
	if err := os.Remove(s.folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Symlink(s.memory, s.folder)
}

// OnDisk has the next batch staged on the disk, so that all of it happens or nothing, whatever befalls
// the machine.
func (s *Staging) OnDisk() error {
	if _, err := os.Readlink(s.folder); err != nil {
		return nil // a folder, or none yet
	}
	return errors.Join(os.Remove(s.folder), os.RemoveAll(s.memory))
}

// stagingFolder returns the folder in memory that belongs to dataDir, and makes it.
func stagingFolder(dataDir string) (string, error) {
	dataDir, err := filepath.Abs(dataDir)
	if err != nil {
		return "", err
	}
	var kind unix.Statfs_t
	if err := unix.Statfs(memoryFolder, &kind); err != nil {
		return "", fmt.Errorf("%s: %w", memoryFolder, err)
	}
	if kind.Type != unix.TMPFS_MAGIC {
		return "", fmt.Errorf("%s is not in memory", memoryFolder)
	}
	path := stagingPath(dataDir)
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	if !isOurs(path) {
		return "", fmt.Errorf("%s belongs to somebody else", path)
	}
	return path, os.WriteFile(filepath.Join(path, stagingOwner), []byte(dataDir), 0o600)
}

func stagingPath(dataDir string) string {
	sum := sha256.Sum256([]byte(dataDir))
	return filepath.Join(memoryFolder, stagingPrefix+hex.EncodeToString(sum[:8]))
}

// isOurs keeps others, who may write to the folder of files in memory too, from choosing where batches
// go.
func isOurs(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || !info.IsDir() || info.Mode().Perm() != 0o700 {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}

// sweepStaging removes what data folders that are gone have left in memory, and links that lead
// nowhere since the machine has started anew.
func sweepStaging(dataDir string) error {
	folders, err := filepath.Glob(filepath.Join(memoryFolder, stagingPrefix+"*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range folders {
		owner, err := os.ReadFile(filepath.Join(path, stagingOwner))
		if err != nil || !isOurs(path) {
			continue
		}
		if _, err := os.Stat(string(owner)); errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, os.RemoveAll(path))
		}
	}
	streams, err := os.ReadDir(streamFolder(dataDir, ""))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	for _, stream := range streams {
		link := filepath.Join(streamFolder(dataDir, stream.Name()), batchesFolder)
		if _, err := os.Readlink(link); err != nil {
			continue
		}
		if _, err := os.Stat(link); errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, os.Remove(link))
		}
	}
	return errors.Join(errs...)
}

// RemoveStaging removes what the data folder has in memory. A Bus that is closed has done it itself;
// one that was killed leaves it to the next on the folder, or to whoever removes the folder.
func RemoveStaging(dataDir string) error {
	dataDir, err := filepath.Abs(dataDir)
	if err != nil {
		return err
	}
	if path := stagingPath(dataDir); isOurs(path) {
		return os.RemoveAll(path)
	}
	return nil
}
