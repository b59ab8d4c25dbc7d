package state

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/troupe-run/troupe/messages"
)

func TestMark(t *testing.T) {
	t.Parallel()
	key := func(name string) messages.Key { return messages.KeyOf(messages.Pods, "ns", name) }
	var was content
	was.put(key("a"), 3)
	was.put(key("b"), 5)
	was.put(key("c"), 6)
	was.remove(key("c"), 6)
	was.seq = 9
	for name, tt := range map[string]struct {
		last uint64
		revs map[string]uint64 // of objects at revisions up to 9
		good bool
	}{
		"the same":                       {9, map[string]uint64{"a": 3, "b": 5}, true},
		"one is missing":                 {9, map[string]uint64{"a": 3}, false},
		"one is old":                     {9, map[string]uint64{"a": 3, "b": 4}, false},
		"one is another":                 {9, map[string]uint64{"a": 3, "c": 6}, false},
		"one too many":                   {9, map[string]uint64{"a": 3, "b": 5, "c": 6}, false},
		"written since, nothing changed": {11, map[string]uint64{"a": 3, "b": 5}, true},
		"written since, all changed":     {11, nil, true},
		"one write changed one":          {10, map[string]uint64{"a": 3}, true},
		"one write cannot change two":    {10, nil, false},
	} {
		dir := t.TempDir()
		m, err := openMark(dir, "state")
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(m.set(was), m.close()); err != nil {
			t.Fatal(err)
		}
		if m, err = openMark(dir, "state"); err != nil || m.content != was {
			t.Fatalf("read back %v, %v", m, err)
		}
		var have content
		for n, rev := range tt.revs {
			have.put(key(n), rev)
		}
		if err := m.checkWhole(tt.last, have); (err == nil) != tt.good || err != nil && !errors.Is(err, messages.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
		if err := m.close(); err != nil {
			t.Error(err)
		}
	}
}

func TestUnreadableMark(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "state.mark")
	for _, text := range []string{"", "x", string(make([]byte, markSize))} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openMark(dir, "state"); !errors.Is(err, messages.ErrDamaged) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
