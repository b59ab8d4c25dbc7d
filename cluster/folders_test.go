package cluster

import (
	"os"
	"path/filepath"
	"testing"
)

// TestFoldersComeIntoPlace goes through each move of the folders, cut short after every step: the state is
// in exactly one place at all times, and ends where it belongs.
func TestFoldersComeIntoPlace(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		move  string
		begin found
		steps []step
		end   found
	}{
		"nothing to do":              {"", found{now: true}, nil, found{now: true}},
		"new":                        {"", found{}, nil, found{}},
		"growing":                    {moveIn, found{now: true}, []step{stepSetAside}, found{aside: true}},
		"growing, begun before":      {moveIn, found{now: true, aside: true}, nil, found{now: true, aside: true}},
		"growing, nothing to give":   {moveIn, found{}, nil, found{}},
		"grown":                      {"", found{now: true, aside: true}, []step{stepForget}, found{now: true}},
		"waiting":                    {moveWait, found{now: true}, nil, found{now: true}},
		"taking":                     {moveOut, found{now: true, next: true}, nil, found{now: true, next: true}},
		"taken":                      {moveSwap, found{now: true, next: true}, []step{stepRetire, stepReplace, stepSettle, stepForget}, found{now: true}},
		"taken, retired before":      {moveSwap, found{next: true, old: true}, []step{stepReplace, stepSettle, stepForget}, found{now: true}},
		"taken, replaced before":     {moveSwap, found{now: true, old: true}, []step{stepSettle, stepForget}, found{now: true}},
		"taken, an older one is old": {moveSwap, found{now: true, next: true, old: true}, []step{stepRetire, stepReplace, stepSettle, stepForget}, found{now: true}},
		"leaving":                    {moveLeave, found{now: true}, nil, found{now: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			move, f := c.move, c.begin
			for i, want := range c.steps {
				if got := nextFolderStep(move, f); got != want {
					t.Fatalf("step %d is %d, want %d", i, got, want)
				}
				switch want {
				case stepSetAside:
					f.now, f.aside = false, true
				case stepForget:
					f.aside, f.old = false, false
				case stepRetire:
					f.now, f.old = false, true
				case stepReplace:
					f.next, f.now = false, true
				case stepSettle:
					move = ""
				}
			}
			if got := nextFolderStep(move, f); got != stepGo || f != c.end {
				t.Errorf("at the end step %d, %+v; want %+v", got, f, c.end)
			}
			checkFolders(t, c.move, c.begin, c.end)
		})
	}
}

// checkFolders does the same to real folders, each of which holds its first name.
func checkFolders(t *testing.T, move string, begin, end found) {
	t.Helper()
	dir := t.TempDir()
	for name, there := range map[string]bool{streamsNow: begin.now, streamsAside: begin.aside, streamsNext: begin.next, streamsOld: begin.old} {
		if there {
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(path, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(path, "was"), []byte(name), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	m, err := arrange(dir, mode{Kind: modeMembers, Move: move})
	if err != nil {
		t.Fatal(err)
	}
	was := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name, "was"))
		if err != nil {
			return ""
		}
		return string(b)
	}
	got := found{was(streamsNow) != "", was(streamsAside) != "", was(streamsNext) != "", was(streamsOld) != ""}
	if got != end {
		t.Errorf("folders: %+v, want %+v", got, end)
	}
	if move == moveSwap && (m.Move != "" || begin.next && was(streamsNow) != streamsNext) {
		t.Errorf("the state is what was in %s, move %q", was(streamsNow), m.Move)
	}
}
