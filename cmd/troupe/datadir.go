package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// dataVersion is the layout of the data folder this program reads and writes.
const dataVersion = "1"

// defaultDataDir is where a cluster lives unless told otherwise: TROUPE_DATA_DIR, or the system's
// place for root and the user's own for others.
func defaultDataDir() string {
	if dir := os.Getenv("TROUPE_DATA_DIR"); dir != "" {
		return dir
	}
	if os.Geteuid() == 0 {
		return "/var/lib/troupe"
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, ".local", "share", "troupe")
	}
	return "troupe-data"
}

// dataDir is the folder of one cluster, held by at most one running troupe.
type dataDir struct {
	path string
	lock *os.File
	// fresh says that the folder was made for this start.
	fresh bool
}

// openDataDir makes or takes over a data folder: it refuses one that another troupe runs on or
// that a troupe of another layout has written.
func openDataDir(path string) (*dataDir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	_, missing := os.Stat(path)
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("data folder: %w; choose another with --data-dir", err)
	}
	d := &dataDir{path: path, fresh: errors.Is(missing, os.ErrNotExist)}
	if d.lock, err = os.OpenFile(d.lockFile(), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, fmt.Errorf("data folder: %w; choose another with --data-dir", err)
	}
	if pid, ok := d.hold(); !ok {
		d.lock.Close()
		return nil, fmt.Errorf("a troupe runs on %s already (pid %d); stop it with troupe down --data-dir %s, or choose another folder with --data-dir", path, pid, path)
	}
	if err := d.checkVersion(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	if err := d.lock.Truncate(0); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	if _, err := d.lock.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// heirWait is how long a lock may outlive its holder: a child that was being started when the holder
// was killed has it until it becomes another program.
const heirWait = 2 * time.Second

// hold takes the folder's lock; when another troupe has it, it returns its pid.
func (d *dataDir) hold() (pid int, ok bool) {
	for end := time.Now().Add(heirWait); ; time.Sleep(10 * time.Millisecond) {
		if syscall.Flock(int(d.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			return 0, true
		}
		pid = d.pid()
		if dead := pid > 0 && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH); !dead || time.Now().After(end) {
			return pid, false
		}
	}
}

func (d *dataDir) lockFile() string { return filepath.Join(d.path, "lock") }

func (d *dataDir) versionFile() string { return filepath.Join(d.path, "version") }

func (d *dataDir) checkVersion() error {
	file := d.versionFile()
	have, err := os.ReadFile(file)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return os.WriteFile(file, []byte(dataVersion+"\n"), 0o600)
	case err != nil:
		return fmt.Errorf("data folder: %w", err)
	case strings.TrimSpace(string(have)) != dataVersion:
		return fmt.Errorf("data folder %s has layout %s, this troupe reads %s; use the troupe that wrote it or another --data-dir",
			d.path, strings.TrimSpace(string(have)), dataVersion)
	}
	return nil
}

// pid returns the process that holds the folder, 0 when none is written down.
func (d *dataDir) pid() int {
	b, err := os.ReadFile(d.lockFile())
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0
	}
	return pid
}

// giveUp lets go of the folder after a start that went no further; one that was made for it goes.
func (d *dataDir) giveUp() {
	if d.fresh {
		for _, f := range []string{d.lockFile(), d.versionFile(), d.path} {
			_ = os.Remove(f) // what has content stays
		}
	}
	_ = d.Close()
}

// Close lets others take the folder.
func (d *dataDir) Close() error { return d.lock.Close() }

// stopHolder asks the troupe that runs on a data folder to stop and waits until it has. It reports
// whether there was one.
func stopHolder(path string, wait time.Duration) (bool, error) {
	d := &dataDir{path: path}
	f, err := os.OpenFile(d.lockFile(), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	free := func() bool {
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
			return false
		}
		_ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
		return true
	}
	if free() {
		return false, nil
	}
	pid := d.pid()
	if pid <= 1 {
		return true, fmt.Errorf("a troupe holds %s but left no pid there; stop it by hand", path)
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return true, fmt.Errorf("stop pid %d: %w", pid, err)
	}
	for end := time.Now().Add(wait); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if free() {
			return true, nil
		}
	}
	return true, fmt.Errorf("pid %d did not stop within %s; end it with kill -9 %d", pid, wait, pid)
}
