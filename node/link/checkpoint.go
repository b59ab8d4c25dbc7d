package link

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/proto/nodepb"
)

// checkpointMagic starts every checkpoint; the number changes with the format.
const checkpointMagic = "troupe checkpoint 2\n"

// checkpointFile keeps the wanted set on disk. It holds Secrets, so it is sealed with a key that
// lies beside it readable by root alone: a copied checkpoint or a stray backup tells nothing.
type checkpointFile struct {
	dir  string
	seal cipher.AEAD

	mu    sync.Mutex // one write at a time
	saved uint64     // number of the newest checkpoint on disk
}

// openCheckpoint prepares the folder and makes the key on the first start.
func openCheckpoint(dir string) (*checkpointFile, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open checkpoint: %w", err)
	}
	path := filepath.Join(dir, "checkpoint.key")
	key, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key = make([]byte, 32)
		_, _ = rand.Read(key) // never fails
		err = writeAtomically(path, key)
	}
	if err != nil {
		return nil, fmt.Errorf("open checkpoint: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("open checkpoint: key %s: %w", path, err)
	}
	seal, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("open checkpoint: %w", err)
	}
	return &checkpointFile{dir: dir, seal: seal}, nil
}

func (f *checkpointFile) path() string { return filepath.Join(f.dir, "checkpoint") }

// load returns the newest checkpoint, or nil when there is none.
func (f *checkpointFile) load() (*nodepb.Checkpoint, error) {
	data, err := os.ReadFile(f.path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("load checkpoint: %w", err)
	}
	sealed, ok := bytes.CutPrefix(data, []byte(checkpointMagic))
	if !ok {
		return nil, fmt.Errorf("load checkpoint %s: another format: %w", f.path(), messages.ErrInvalid)
	}
	plain, err := f.seal.Open(nil, nil, sealed, []byte(checkpointMagic))
	if err != nil {
		return nil, fmt.Errorf("load checkpoint %s: %w", f.path(), err)
	}
	c := new(nodepb.Checkpoint)
	if err := proto.Unmarshal(plain, c); err != nil {
		return nil, fmt.Errorf("load checkpoint %s: %w", f.path(), err)
	}
	return c, nil
}

// save replaces the checkpoint, unless one with a higher number is there already.
func (f *checkpointFile) save(number uint64, c *nodepb.Checkpoint) error {
	plain, err := proto.Marshal(c)
	if err != nil {
		return fmt.Errorf("save checkpoint: %w", err)
	}
	sealed := f.seal.Seal([]byte(checkpointMagic), nil, plain, []byte(checkpointMagic))
	f.mu.Lock()
	defer f.mu.Unlock()
	if number <= f.saved {
		return nil
	}
	if err := writeAtomically(f.path(), sealed); err != nil {
		return fmt.Errorf("save checkpoint: %w", err)
	}
	f.saved = number
	return nil
}

// writeAtomically leaves either the old file or the whole new one, whenever the machine stops.
func writeAtomically(path string, data []byte) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp.Name())
		}
	}()
	_, werr := tmp.Write(data) // CreateTemp made it with mode 0600
	if err := errors.Join(werr, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
