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
	alone, a := mode{Kind: modeAlone}, mode{Kind: modeMembers, Member: "a", Addr: "h1:1", Peers: []string{"h2:1", "h3:1"}}
	unsaid := mode{Kind: modeMembers, Member: "a"} // from before addresses were written down
	for name, c := range map[string]struct {
		dir   string
		first mode
		then  mode
		want  string // "" means that it goes on
	}{
		"alone":               {t.TempDir(), alone, alone, ""},
		"member":              {t.TempDir(), a, a, ""},
		"alone to members":    {t.TempDir(), alone, a, "would be lost if it were started as one member's of several"},
		"members to alone":    {t.TempDir(), unsaid, alone, "is one member's of several"},
		"members as they are": {t.TempDir(), a, mode{Kind: modeAlone, Member: "a"}, ""},
		"alone to outside":    {t.TempDir(), alone, mode{Kind: modeOutside}, "--nats-url"},
		"members to outside":  {t.TempDir(), a, mode{Kind: modeOutside}, "--nats-url"},
		"old":                 {old, alone, alone, ""},
		"old to members":      {old, alone, a, "would be lost"},
		"one that has left":   {t.TempDir(), mode{Kind: modeMembers, Member: "a", Move: moveLeft, Keeper: "b"}, a, "which b keeps alone"},
		"nothing to remember": {"", alone, a, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := keepMode(c.dir, c.first); err != nil {
				t.Fatal(err)
			}
			_, err := keepMode(c.dir, c.then)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v", err)
			}
		})
	}
}
