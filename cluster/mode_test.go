package cluster

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDataFolderKeepsItsMode(t *testing.T) {
	t.Parallel()
	old := t.TempDir() // from before modes were written down
	if err := os.MkdirAll(filepath.Join(old, "nats", "jetstream"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		dir   string
		first mode
		then  mode
		want  string // "" means that it goes on
	}{
		"alone":               {t.TempDir(), mode{Kind: modeAlone}, mode{Kind: modeAlone}, ""},
		"member":              {t.TempDir(), mode{modeMembers, "a"}, mode{modeMembers, "a"}, ""},
		"alone to members":    {t.TempDir(), mode{Kind: modeAlone}, mode{modeMembers, "a"}, "would be lost if it were started as one member's of several"},
		"members to alone":    {t.TempDir(), mode{modeMembers, "a"}, mode{Kind: modeAlone}, "is one member's of several"},
		"alone to outside":    {t.TempDir(), mode{Kind: modeAlone}, mode{Kind: modeOutside}, "--nats-url"},
		"another member":      {t.TempDir(), mode{modeMembers, "a"}, mode{modeMembers, "b"}, "that of member a, not of b"},
		"old":                 {old, mode{Kind: modeAlone}, mode{Kind: modeAlone}, ""},
		"old to members":      {old, mode{Kind: modeAlone}, mode{modeMembers, "a"}, "would be lost"},
		"nothing to remember": {"", mode{Kind: modeAlone}, mode{modeMembers, "a"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := keepMode(c.dir, c.first); err != nil {
				t.Fatal(err)
			}
			err := keepMode(c.dir, c.then)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v", err)
			}
		})
	}
}
