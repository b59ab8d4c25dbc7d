package state

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/troupe-run/troupe/messages"
)

// sealer encrypts the objects of some resources with AES-256-GCM. The object's key is bound in, so
// that a record copied to another subject does not open there. It seals with the newest key of its
// ring and opens what any of them has sealed.
type sealer struct {
	path string
	of   map[messages.Resource]bool
	ring atomic.Pointer[keyring]

	changing sync.Mutex // held while the ring is replaced
}

func loadSealer(dir string, of []messages.Resource) (*sealer, error) {
	ring, err := loadKeyring(dir)
	if err != nil {
		return nil, err
	}
	s := &sealer{path: filepath.Join(dir, keyFile), of: make(map[messages.Resource]bool, len(of))}
	s.ring.Store(&ring)
	for _, res := range of {
		s.of[res] = true
	}
	return s, nil
}

// replace makes ring the one in use once it is on disk.
func (s *sealer) replace(ring keyring) error {
	if err := writeWhole(s.path, ring.encode()); err != nil {
		return fmt.Errorf("sealing keys: %w", err)
	}
	s.ring.Store(&ring)
	return nil
}

// want returns the id of the key that objects of a resource are sealed with from now on, "" when
// they are not sealed.
func (s *sealer) want(res messages.Resource) string {
	if !s.of[res] {
		return ""
	}
	return (*s.ring.Load())[0].id
}

// seal returns what to publish for data and the key's id; objects of other resources stay as
// they are and have no id.
func (s *sealer) seal(key messages.Key, data []byte) (body []byte, id string) {
	if !s.of[key.Resource] {
		return data, ""
	}
	k := (*s.ring.Load())[0]
	text := base64.StdEncoding.EncodeToString(k.aead.Seal(nil, nil, data, []byte(key.String())))
	return []byte(`"` + text + `"`), k.id
}

// open reverts seal.
func (s *sealer) open(key messages.Key, body []byte, id string) ([]byte, error) {
	if id == "" {
		return body, nil
	}
	k, ok := s.ring.Load().find(id)
	if !ok {
		return nil, fmt.Errorf("sealed with key %s, which %s does not hold: %w", id, s.path, errUnknownKey)
	}
	var sealed []byte
	if err := json.Unmarshal(body, &sealed); err != nil {
		return nil, fmt.Errorf("sealed record: %w", err)
	}
	data, err := k.aead.Open(nil, nil, sealed, []byte(key.String()))
	if err != nil {
		return nil, fmt.Errorf("sealed record: %w", err)
	}
	return data, nil
}
