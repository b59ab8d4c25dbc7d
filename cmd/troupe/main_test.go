package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// The test binary plays several parts, told apart by this variable: the tests, the program they
// test, and the first process of a small machine of their own.
const partVar = "TROUPE_TEST_PART"

const (
	partTroupe = "troupe"
	partInit   = "init"
	partTests  = "tests"
)

// TestMain gives the tests namespaces of their own for processes, mounts and networks, when they
// run as root: addresses, interfaces and rules clash with nobody's, and whatever a test that was
// killed has left ends with it.
func TestMain(m *testing.M) {
	part := os.Getenv(partVar)
	var code int
	var err error
	switch {
	case part == partTroupe:
		main()
		return
	case part == partInit:
		code, err = beInit()
	case part == "" && os.Geteuid() == 0:
		code, err = enterMachine()
	default:
		code, err = runTests(m)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "set up tests:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

// enterMachine starts this binary again as the first process of new namespaces.
func enterMachine() (int, error) {
	runtime.LockOSThread() // the child is killed when the thread that started it ends
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), partVar+"="+partInit)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	err := cmd.Run()
	if cmd.ProcessState != nil {
		return max(cmd.ProcessState.ExitCode(), 0), nil
	}
	return 0, err
}

// beInit makes the machine and does what its first process must: it takes in orphans. The machine
// ends with it.
func beInit() (int, error) {
	if err := makeMachine(); err != nil {
		return 0, err
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	if err := os.Setenv(partVar, partTests); err != nil {
		return 0, err
	}
	child, err := syscall.ForkExec(self, os.Args, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}})
	if err != nil {
		return 0, err
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return 0, err
		case pid == child && status.Exited():
			return status.ExitStatus(), nil
		case pid == child && status.Signaled():
			return 1, nil
		}
	}
}

// makeMachine hides what is shared by default: /run holds sockets, locks and names of namespaces.
// The way to the world leads nowhere.
func makeMachine() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	// The second is where the CNI library of containerd notes what it connected, whatever the data
	// folder.
	for _, dir := range []string{"/run", "/var/lib/cni"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	// No names but the cluster's own: pulling an image fails at once.
	if err := os.WriteFile("/run/resolv.conf", []byte("nameserver 127.0.0.1\n"), 0o644); err != nil {
		return err
	}
	if err := syscall.Mount("/run/resolv.conf", "/etc/resolv.conf", "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount /etc/resolv.conf: %w", err)
	}
	for line := range strings.Lines(`
		ip link set lo up
		ip link add eth0 type veth peer world0
		ip address add 192.0.2.10/24 dev eth0
		ip link set eth0 up
		ip link set world0 up
		ip route add default via 192.0.2.1`) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", line, err, out)
		}
	}
	return nil
}

// binDir is where the program under test is, as a user would install it.
var binDir string

// runTests puts the program under test together and runs the tests.
func runTests(m *testing.M) (code int, err error) {
	if binDir, err = os.MkdirTemp("", "troupe-test-bin-"); err != nil {
		return 0, err
	}
	defer os.RemoveAll(binDir)
	if err := os.Chmod(binDir, 0o755); err != nil { // other users run it, too
		return 0, err
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	if err := link(self, filepath.Join(binDir, "troupe")); err != nil {
		return 0, err
	}
	for _, tool := range []string{"containerd", "containerd-shim-runc-v2", "pause", "cni"} {
		from := filepath.Join("../../bin", tool)
		if _, err := os.Stat(from); err != nil {
			continue // tests of real containers say so
		}
		if err := link(from, filepath.Join(binDir, tool)); err != nil {
			return 0, err
		}
	}
	return m.Run(), nil
}

// link makes a file or folder of files appear at another place.
func link(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return os.CopyFS(to, os.DirFS(from))
	}
	if os.Link(from, to) == nil {
		return nil
	}
	text, err := os.ReadFile(from) // the folders are on different disks
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o755)
}
