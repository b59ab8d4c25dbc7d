package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxLog is the size from which the log of containerd is put aside at its next start.
const maxLog = 10 << 20

// process is a containerd of ours, started by this program or by an earlier one.
type process struct {
	pid  int
	gone chan struct{} // closed when the process has ended
}

// identity of a process: its id is reused, its id and start time are not.
type identity struct {
	pid   int
	start string
}

// launch starts containerd in a session of its own, so that neither a signal to our group nor our
// end reaches it.
func (c Config) launch() (*process, error) {
	// One earlier log is kept; a containerd that logs warnings only never fills more.
	if info, err := os.Stat(c.logFile()); err == nil && info.Size() > maxLog {
		if err := os.Rename(c.logFile(), c.logFile()+".1"); err != nil {
			return nil, fmt.Errorf("rotate log of containerd: %w", err)
		}
	}
	log, err := os.OpenFile(c.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log of containerd: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(c.BinDir, "containerd"), "--config", c.configFile())
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + c.searchPath(), "HOME=" + c.root()}
	for _, keep := range []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"} {
		if v, ok := os.LookupEnv(keep); ok {
			cmd.Env = append(cmd.Env, keep+"="+v)
		}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start containerd: %w", err)
	}
	p := &process{pid: cmd.Process.Pid, gone: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // its log says why; here only that it ended matters
		close(p.gone)
	}()
	id, err := identify(p.pid)
	if err == nil {
		err = os.WriteFile(c.pidFile(), []byte(fmt.Sprintf("%d %s\n", id.pid, id.start)), 0o600)
	}
	if err != nil {
		_ = cmd.Process.Kill()
		<-p.gone
		return nil, fmt.Errorf("start containerd: %w; see %s", err, c.logFile())
	}
	return p, nil
}

// running finds the containerd an earlier program left running; nil when there is none.
func (c Config) running() *process {
	text, err := os.ReadFile(c.pidFile())
	if err != nil {
		return nil
	}
	pidText, start, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	pid, err := strconv.Atoi(pidText)
	if err != nil {
		return nil
	}
	if id, err := identify(pid); err != nil || id.start != start {
		return nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil
	}
	p := &process{pid: pid, gone: make(chan struct{})}
	go func() {
		defer close(p.gone)
		defer unix.Close(fd)
		// A pidfd turns readable when its process ends, be it our child or not.
		for {
			_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
			if !errors.Is(err, unix.EINTR) {
				return
			}
		}
	}()
	return p
}

// outdated says that the process runs another program file than the one there now: the file was
// replaced since, or the process was started from another folder.
func (p *process) outdated(program string) bool {
	if real, err := filepath.EvalSymlinks(program); err == nil {
		program = real // as the kernel has seen it
	}
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", p.pid))
	return err == nil && exe != program
}

func (p *process) alive() bool {
	select {
	case <-p.gone:
		return false
	default:
		return true
	}
}

// stop asks the process to end, waits, and kills it when stopGrace is over or ctx ends.
func (p *process) stop(ctx context.Context) error {
	_ = syscall.Kill(p.pid, syscall.SIGTERM)
	timeout, cancel := context.WithTimeout(ctx, stopGrace)
	defer cancel()
	select {
	case <-p.gone:
		return nil
	case <-timeout.Done():
	}
	_ = syscall.Kill(p.pid, syscall.SIGKILL)
	select {
	case <-p.gone:
		return nil
	case <-time.After(5 * time.Second):
		return fmt.Errorf("stop containerd: process %d does not end", p.pid)
	}
}

// identify reads the start time of a process: field 22 of its stat line, counted behind the
// program's name, which may hold anything. A zombie counts as gone.
func identify(pid int) (identity, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return identity{}, err
	}
	_, rest, ok := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')'):]), " ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return identity{}, fmt.Errorf("read stat of process %d: unknown form", pid)
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return identity{}, fmt.Errorf("process %d has ended", pid)
	}
	return identity{pid: pid, start: fields[19]}, nil
}
