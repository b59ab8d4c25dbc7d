//go:build linux

package netlab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netns"
)

// marker tells the second start of a test binary that it is in its own namespace.
const marker = "TROUPE_NETLAB"

// Main runs the tests in a network namespace of their own, when the process may make one.
func Main(m *testing.M) {
	switch {
	case os.Getenv(marker) != "":
		if err := prepare(); err != nil {
			fmt.Fprintln(os.Stderr, "netlab:", err)
			os.Exit(1)
		}
	case os.Geteuid() == 0:
		os.Exit(again())
	}
	os.Exit(m.Run())
}

// again starts this test binary anew, in fresh namespaces.
func again() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), marker+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	default:
		fmt.Fprintln(os.Stderr, "netlab:", err)
		return 1
	}
}

// prepare makes private to this process /run, where names of namespaces and the lock of iptables
// live, and the folder where CNI libraries note what they connected. The loopback interface of a new
// namespace is down.
func prepare() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	for _, dir := range []string{"/run", "/var/lib/cni"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	return command("ip link set lo up")
}

// Need skips the test unless it runs in a namespace of its own and the commands exist.
func Need(t testing.TB, commands ...string) {
	t.Helper()
	if os.Getenv(marker) == "" {
		t.Skip("needs root, for a network namespace of its own")
	}
	for _, c := range append(commands, "ip") {
		if _, err := exec.LookPath(c); err != nil {
			t.Skipf("needs the command %s", c)
		}
	}
}

// Run runs commands, one a line, and fails the test on the first that fails.
func Run(t testing.TB, lines string) {
	t.Helper()
	for line := range strings.Lines(lines) {
		if line = strings.TrimSpace(line); line != "" {
			if err := command(line); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func command(line string) error {
	words := strings.Fields(line)
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", line, err, out)
	}
	return nil
}

// Output runs one command and returns what it printed.
func Output(t testing.TB, words ...string) string {
	t.Helper()
	out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(words, " "), err, out)
	}
	return string(out)
}

// In runs fn in a named network namespace; "" is the test's own. Sockets that fn makes belong to
// the namespace and keep working after In returned. fn must stay on its goroutine.
func In(t testing.TB, name string, fn func()) {
	t.Helper()
	if name == "" {
		fn()
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	there, err := netns.GetFromName(name)
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	if err := netns.Set(there); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := netns.Set(home); err != nil {
			panic(err) // this thread must not go back to the scheduler
		}
	}()
	fn()
}
