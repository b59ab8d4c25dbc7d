package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The names of the atomic layout: what starts with two dots is hidden from users by convention,
// and no user path may start so.
const (
	dataLink    = "..data"
	newDataLink = "..data_tmp"
	stampFormat = "..2006_01_02_15_04_05.000000000"
)

// entry is one file of a volume's content.
type entry struct {
	data []byte
	mode fs.FileMode
	uid  *int64 // owner; nil means root
}

// content is all files of a volume by their slash-separated path.
type content map[string]entry

// write makes dir hold exactly c. A reader sees either all old or all new files: they are written
// to a new folder, and one rename moves the link ..data to it; visible names are links through
// ..data. It returns false when dir held c already. gid, if any, owns everything.
func (c content) write(dir string, gid *int64, now time.Time) (changed bool, err error) {
	for p := range c {
		if err := checkPath(p); err != nil {
			return false, err
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return false, err
	}
	defer root.Close()
	old, err := root.Readlink(dataLink)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if old != "" && c.equals(root, old, gid) {
		// The links may still be missing, after a crash right behind the rename.
		return false, errors.Join(c.link(root), removeOthers(root, old))
	}
	stamp, err := c.fill(root, now, gid)
	if err != nil {
		return false, err
	}
	if err := root.Remove(newDataLink); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if err := root.Symlink(stamp, newDataLink); err != nil {
		return false, err
	}
	if err := root.Rename(newDataLink, dataLink); err != nil {
		return false, err
	}
	return true, errors.Join(c.link(root), removeOthers(root, stamp))
}

// fill writes all files to a new folder and returns its name.
func (c content) fill(root *os.Root, now time.Time, gid *int64) (stamp string, err error) {
	for at := now.UTC(); ; at = at.Add(time.Nanosecond) { // a coarse clock may give a name twice
		stamp = at.Format(stampFormat)
		if err = root.Mkdir(stamp, 0o755); err == nil {
			break
		}
		if !errors.Is(err, fs.ErrExist) {
			return "", err
		}
	}
	if err := own(root, stamp, fs.ModeDir|0o755, nil, gid); err != nil {
		return "", err
	}
	for p, e := range c {
		for _, parent := range parents(p) {
			at := path.Join(stamp, parent)
			if err := root.Mkdir(at, 0o755); errors.Is(err, fs.ErrExist) {
				continue
			} else if err != nil {
				return "", err
			}
			if err := own(root, at, fs.ModeDir|0o755, nil, gid); err != nil {
				return "", err
			}
		}
		at := path.Join(stamp, p)
		if err := root.WriteFile(at, e.data, 0o600); err != nil {
			return "", err
		}
		if err := own(root, at, e.mode, e.uid, gid); err != nil {
			return "", err
		}
	}
	return stamp, nil
}

// equals says whether folder stamp holds exactly c.
func (c content) equals(root *os.Root, stamp string, gid *int64) bool {
	found := 0
	err := fs.WalkDir(root.FS(), stamp, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		e, ok := c[strings.TrimPrefix(name, stamp+"/")]
		if !ok {
			return fs.ErrNotExist
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		have, err := root.ReadFile(name)
		if err != nil {
			return err
		}
		if info.Mode().Perm() != groupMode(e.mode, gid).Perm() || !bytes.Equal(have, e.data) {
			return fs.ErrInvalid
		}
		found++
		return nil
	})
	return err == nil && found == len(c)
}

// link makes the visible names: a link for the first element of every path, and none besides.
func (c content) link(root *os.Root) error {
	want := map[string]bool{}
	for p := range c {
		first, _, _ := strings.Cut(p, "/")
		want[first] = true
	}
	for name := range want {
		if err := root.Symlink(path.Join(dataLink, name), name); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return each(root, func(name string) error {
		if want[name] || strings.HasPrefix(name, "..") {
			return nil
		}
		return root.RemoveAll(name)
	})
}

// removeOthers removes every content folder but the present one: that before, and those of writes
// a crash cut short.
func removeOthers(root *os.Root, stamp string) error {
	return each(root, func(name string) error {
		if !strings.HasPrefix(name, "..") || name == stamp || name == dataLink {
			return nil
		}
		return root.RemoveAll(name)
	})
}

func each(root *os.Root, fn func(name string) error) error {
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := fn(e.Name()); err != nil {
			return err
		}
	}
	return nil
}

// checkPath refuses paths that would leave the volume or meet the names of the layout.
func checkPath(p string) error {
	if !filepath.IsLocal(p) || path.Clean(p) != p || p == "." || strings.HasPrefix(p, "..") ||
		slices.Contains(strings.Split(p, "/"), "..") {
		return fmt.Errorf("invalid path %q: must be relative, without '..' and not start with it", p)
	}
	return nil
}

// parents of "a/b/c" are "a" and "a/b".
func parents(p string) []string {
	var out []string
	for i, r := range p {
		if r == '/' {
			out = append(out, p[:i])
		}
	}
	return out
}
