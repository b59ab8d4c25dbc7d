package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// held writes pid into the lock of a new folder and locks it.
func held(t *testing.T, pid int) (dir string, lock *os.File) {
	t.Helper()
	dir = t.TempDir()
	lock, err := os.Create(filepath.Join(dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lock.Close() })
	if _, err := lock.WriteString(strconv.Itoa(pid)); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		t.Fatal(err)
	}
	return dir, lock
}

func TestALockOutlivesItsHolderForAMoment(t *testing.T) {
	t.Parallel()
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	dir, lock := held(t, gone.Process.Pid)
	time.AfterFunc(50*time.Millisecond, func() { lock.Close() })
	d, err := openDataDir(dir)
	if err != nil {
		t.Fatalf("what a dead troupe was starting had the lock: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}

	dir, _ = held(t, os.Getpid())
	if _, err := openDataDir(dir); err == nil || !strings.Contains(err.Error(), "a troupe runs on "+dir) {
		t.Errorf("while a troupe lives: %v", err)
	}
}
