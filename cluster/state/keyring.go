package state

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/troupe-run/troupe/messages"
)

// keyFile is the name of the sealing keys' file in the bus's data folder: a line a key, in base64,
// the newest first. An older one that no object is sealed with any more has the time since when
// behind it: changes sealed with it may still be kept.
const keyFile = "sealing.key"

const keySize = 32

// keyring is the sealing keys, newest first. It is never changed, only replaced.
type keyring []sealKey

type sealKey struct {
	id     string
	secret []byte
	aead   cipher.AEAD
	unused time.Time // zero while objects may be sealed with it
}

func (r keyring) find(id string) (sealKey, bool) {
	for _, k := range r {
		if k.id == id {
			return k, true
		}
	}
	return sealKey{}, false
}

func newKey(secret []byte) (sealKey, error) {
	block, err := aes.NewCipher(secret)
	if err != nil {
		return sealKey{}, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return sealKey{}, err
	}
	sum := sha256.Sum256(secret)
	return sealKey{id: hex.EncodeToString(sum[:4]), secret: secret, aead: aead}, nil
}

// drawKey makes a key whose id no other key of the ring has.
func (r keyring) drawKey() (sealKey, error) {
	for {
		secret := make([]byte, keySize)
		rand.Read(secret)
		k, err := newKey(secret)
		if err != nil {
			return k, err
		}
		if _, taken := r.find(k.id); !taken {
			return k, nil
		}
	}
}

func (r keyring) encode() []byte {
	lines := make([]string, len(r))
	for i, k := range r {
		lines[i] = base64.StdEncoding.EncodeToString(k.secret)
		if !k.unused.IsZero() {
			lines[i] += " " + k.unused.UTC().Format(time.RFC3339)
		}
	}
	return []byte(strings.Join(lines, "\n"))
}

func parseKeyring(text string) (keyring, error) {
	var r keyring
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 0 || len(fields) > 2 {
			return nil, messages.ErrInvalid
		}
		secret, err := base64.StdEncoding.DecodeString(fields[0])
		if err != nil || len(secret) != keySize {
			return nil, messages.ErrInvalid
		}
		k, err := newKey(secret)
		if err != nil {
			return nil, err
		}
		if len(fields) == 2 {
			if k.unused, err = time.Parse(time.RFC3339, fields[1]); err != nil {
				return nil, messages.ErrInvalid
			}
		}
		r = append(r, k)
	}
	if len(r) == 0 || !r[0].unused.IsZero() {
		return nil, messages.ErrInvalid
	}
	return r, nil
}

// loadKeyring reads the keys in dir, or makes the first one.
func loadKeyring(dir string) (keyring, error) {
	path := filepath.Join(dir, keyFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = makeKeyFile(path); err == nil {
			text, err = os.ReadFile(path)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("sealing keys: %w", err)
	}
	r, err := parseKeyring(string(text))
	if err != nil {
		return nil, fmt.Errorf("sealing keys: %s holds something else: %w", path, err)
	}
	return r, nil
}

// makeKeyFile stores a first key, unless another process or store was quicker. After a crash there
// is the whole of it or nothing.
func makeKeyFile(path string) error {
	k, err := keyring(nil).drawKey()
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), keyFile+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(keyring{k}.encode())
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		// A link does not replace a file that is there, as a rename would.
		if err = os.Link(f.Name(), path); errors.Is(err, fs.ErrExist) {
			err = nil
		}
	}
	return errors.Join(err, os.Remove(f.Name()))
}
