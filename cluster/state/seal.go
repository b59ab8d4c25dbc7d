package state

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/troupe-run/troupe/messages"
)

// keyFile is the name of the sealing key in the bus's data folder.
const keyFile = "sealing.key"

// sealer encrypts the objects of some resources with AES-256-GCM. The object's key is bound in, so
// that a record copied to another subject does not open there.
type sealer struct {
	id   string
	aead cipher.AEAD
	of   map[messages.Resource]bool
}

// loadSealer reads the key in dir, or makes it.
func loadSealer(dir string, of []messages.Resource) (*sealer, error) {
	path := filepath.Join(dir, keyFile)
	key, err := readKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = makeKey(path); err == nil {
			key, err = readKey(path)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("sealing key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("sealing key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("sealing key: %w", err)
	}
	sum := sha256.Sum256(key)
	s := &sealer{id: hex.EncodeToString(sum[:4]), aead: aead, of: make(map[messages.Resource]bool, len(of))}
	for _, res := range of {
		s.of[res] = true
	}
	return s, nil
}

func readKey(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	key, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil || len(key) != 32 {
		return nil, fmt.Errorf("%s is not a key: %w", path, messages.ErrInvalid)
	}
	return key, nil
}

// makeKey stores a new key, unless another process or store was quicker. After a crash there is
// the whole of it or nothing.
func makeKey(path string) error {
	key := make([]byte, 32)
	rand.Read(key)
	f, err := os.CreateTemp(filepath.Dir(path), keyFile+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.WriteString(base64.StdEncoding.EncodeToString(key))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		// A link does not replace a file that is there, as a rename would.
		if err = os.Link(f.Name(), path); errors.Is(err, fs.ErrExist) {
			err = nil
		}
	}
	return errors.Join(err, os.Remove(f.Name()))
}

// seal returns what to publish for data and the key's id; objects of other resources stay as
// they are and have no id.
func (s *sealer) seal(key messages.Key, data []byte) (body []byte, id string) {
	if !s.of[key.Resource] {
		return data, ""
	}
	text := base64.StdEncoding.EncodeToString(s.aead.Seal(nil, nil, data, []byte(key.String())))
	return []byte(`"` + text + `"`), s.id
}

// open reverts seal.
func (s *sealer) open(key messages.Key, body []byte, id string) ([]byte, error) {
	switch id {
	case "":
		return body, nil
	case s.id:
	default:
		return nil, fmt.Errorf("sealed with key %s, but the key is %s: %w", id, s.id, messages.ErrInvalid)
	}
	var sealed []byte
	if err := json.Unmarshal(body, &sealed); err != nil {
		return nil, fmt.Errorf("sealed record: %w", err)
	}
	data, err := s.aead.Open(nil, nil, sealed, []byte(key.String()))
	if err != nil {
		return nil, fmt.Errorf("sealed record: %w", err)
	}
	return data, nil
}
