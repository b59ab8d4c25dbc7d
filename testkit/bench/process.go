package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// startWait bounds the start of a cluster, stopWait its end.
const (
	startWait = time.Minute
	stopWait  = 30 * time.Second
)

// ticksPerSecond is the unit of processor time in /proc, the same on every Linux.
const ticksPerSecond = 100

// Process is `troupe up` with simulated nodes, on free ports.
type Process struct {
	// Ready is the time from the start of the process until it said that the cluster is ready, API
	// the time until the API answered, as the program itself measures it.
	Ready, API time.Duration

	cmd    *exec.Cmd
	dir    string
	output *output
}

// Start starts the program bin with a number of simulated nodes on an empty folder dir, and returns
// when it is ready.
func Start(ctx context.Context, bin, dir string, nodes int) (*Process, error) {
	p := &Process{dir: dir, output: &output{ready: make(chan struct{})}}
	// Not exec.CommandContext, which kills: the process shall end as an operator ends it.
	p.cmd = exec.Command(bin, "up", "--runtime", "sim", "--nodes", strconv.Itoa(nodes), "--data-dir", dir,
		"--api-addr", "127.0.0.1:0", "--nats-addr", "127.0.0.1:0")
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	begun := time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", bin, err)
	}
	limit := time.NewTimer(startWait)
	defer limit.Stop()
	var err error
	select {
	case <-p.output.ready:
		p.Ready = time.Since(begun)
		p.API, err = p.output.api()
	case <-limit.C:
		err = fmt.Errorf("not ready within %s", startWait)
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w:\n%s", bin, errors.Join(err, p.Stop()), p.output)
	}
	return p, nil
}

// Config reaches the process's API as its administrator, without limits on the client's side.
func (p *Process) Config() (*rest.Config, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", filepath.Join(p.dir, "kubeconfig"))
	if err != nil {
		return nil, err
	}
	cfg.QPS = -1
	cfg.ContentType = "application/vnd.kubernetes.protobuf"
	return cfg, nil
}

// Stop ends the process as SIGTERM does.
func (p *Process) Stop() error {
	kill := time.AfterFunc(stopWait, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("stop: %w:\n%s", err, p.output)
	}
	return nil
}

// Usage is what a process has used up to now.
type Usage struct {
	// RSS is resident memory in bytes, PeakRSS the most there ever was, Private the part of RSS
	// that is not pages of the program's file, which the kernel can drop at any time.
	RSS, PeakRSS, Private int64
	// CPU is processor time.
	CPU time.Duration
	// Written is what went to the disk, in bytes.
	Written int64
}

// Usage reads the process's consumption from /proc.
func (p *Process) Usage() (Usage, error) {
	var u Usage
	proc := fmt.Sprintf("/proc/%d/", p.cmd.Process.Pid)
	status, err := fields(proc + "status")
	if err != nil {
		return u, err
	}
	io, err := fields(proc + "io")
	if err != nil {
		return u, err
	}
	stat, err := os.ReadFile(proc + "stat")
	if err != nil {
		return u, err
	}
	const kB = 1024
	u.RSS, u.PeakRSS, u.Private = status["VmRSS"]*kB, status["VmHWM"]*kB, status["RssAnon"]*kB
	u.Written = io["write_bytes"]
	// The name in parentheses may hold blanks; the user's and the system's time are the 12th and
	// 13th field after it.
	rest := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	for _, field := range rest[11:13] {
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return u, fmt.Errorf("read %sstat: %w", proc, err)
		}
		u.CPU += time.Duration(ticks) * time.Second / ticksPerSecond
	}
	return u, nil
}

// fields reads the numbers of a file of lines like "VmRSS:   1234 kB".
func fields(path string) (map[string]int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all := make(map[string]int64)
	for s := bufio.NewScanner(f); s.Scan(); {
		name, value, _ := strings.Cut(s.Text(), ":")
		if words := strings.Fields(value); len(words) > 0 {
			if n, err := strconv.ParseInt(words[0], 10, 64); err == nil {
				all[name] = n
			}
		}
	}
	return all, nil
}

// output keeps what the process prints and tells when it says that it is ready.
type output struct {
	mu    sync.Mutex
	text  bytes.Buffer
	ready chan struct{}
	said  bool
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(b)
	if !o.said && bytes.Contains(o.text.Bytes(), []byte("ready in")) {
		o.said = true
		close(o.ready)
	}
	return len(b), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// stepLine is a line of the progress troupe shows, such as "  nats     12 ms   tls://127.0.0.1:4222".
var stepLine = regexp.MustCompile(`^  (\S.*?) +(\d+) ms\b`)

// api adds up the steps up to the one in which the API became ready.
func (o *output) api() (time.Duration, error) {
	var sum time.Duration
	for line := range strings.Lines(o.String()) {
		if m := stepLine.FindStringSubmatch(line); m != nil {
			ms, err := strconv.ParseInt(m[2], 10, 64)
			if err != nil {
				return 0, err
			}
			if sum += time.Duration(ms) * time.Millisecond; m[1] == "kubernetes api" {
				return sum, nil
			}
		}
	}
	return 0, errors.New("it did not tell when the API was ready")
}

var _ io.Writer = (*output)(nil)
