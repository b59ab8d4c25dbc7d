package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay/overlayutils"
	"google.golang.org/grpc"

	"github.com/troupe-run/troupe/messages"
)

// Namespace is the containerd namespace of everything CRI owns.
const Namespace = "k8s.io"

const (
	// startTimeout is how long a containerd may take until it answers. It replays its metadata
	// first; a second is much, a loaded machine takes several.
	startTimeout = 30 * time.Second
	// adoptTimeout is how long a containerd found running may take to answer before it is replaced.
	adoptTimeout = 10 * time.Second
	stopGrace    = 10 * time.Second

	// lateOrphans is when orphans are looked for once more after a start of containerd or of ours.
	lateOrphans = 20 * time.Second

	firstRestart = 200 * time.Millisecond
	lastRestart  = 30 * time.Second
	// steady is how long containerd must live for the restart delay to begin anew.
	steady = time.Minute
)

// Host is the prepared machine. See [Start].
type Host struct {
	cfg         Config
	snapshotter string
	link        *link
	foreign     foreignConfig // with a containerd that is not ours

	mu   sync.Mutex
	proc *process // nil with a containerd that is not ours
	err  error    // why pods cannot run now
}

// Start prepares the machine and returns when containerd answers and has the sandbox image. It
// adopts the containerd an earlier Start on the same data folder left running, restarting it only
// when its program or configuration changed; pods run on meanwhile.
func Start(ctx context.Context, cfg Config) (*Host, error) {
	if err := Preflight(cfg); err != nil {
		return nil, err
	}
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	h := &Host{cfg: cfg}
	if cfg.Address != "" {
		if h.link, err = connect(cfg.Address); err != nil {
			return nil, err
		}
		if err := awaitServing(ctx, h.link, nil, adoptTimeout); err != nil {
			_ = h.link.close()
			return nil, fmt.Errorf("containerd at %s: %w", cfg.Address, err)
		}
		if err := h.readForeign(ctx); err != nil {
			_ = h.link.close()
			return nil, err
		}
	} else if err := h.startOwn(ctx); err != nil {
		return nil, err
	}
	if err := h.ensureSandboxImage(ctx); err != nil {
		_ = h.Close()
		return nil, err
	}
	return h, nil
}

// Connect opens the containerd that an earlier [Start] left running, or the one at cfg.Address,
// and changes nothing: it is for a short visit, beside the program that started it. The error
// wraps messages.ErrUnavailable when none answers.
func Connect(ctx context.Context, cfg Config) (*Host, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	h := &Host{cfg: cfg}
	if cfg.Address == "" {
		h.snapshotter = usedSnapshotter(cfg)
	}
	if h.link, err = connect(h.Socket()); err != nil {
		return nil, err
	}
	if _, err := os.Stat(h.Socket()); err != nil {
		err = fmt.Errorf("no containerd runs on %s: %w", cfg.DataDir, messages.ErrUnavailable)
		return nil, errors.Join(err, h.link.close())
	}
	if err := awaitServing(ctx, h.link, nil, adoptTimeout); err != nil {
		return nil, errors.Join(fmt.Errorf("containerd at %s: %w", h.Socket(), err), h.link.close())
	}
	return h, nil
}

func (h *Host) startOwn(ctx context.Context) error {
	changed, err := h.prepare()
	if err != nil {
		return err
	}
	if h.link, err = connect(h.cfg.socket()); err != nil {
		return err
	}
	if h.proc = h.cfg.running(); h.proc != nil {
		if !changed && !h.proc.outdated(filepath.Join(h.cfg.BinDir, "containerd")) &&
			awaitServing(ctx, h.link, h.proc, adoptTimeout) == nil {
			h.cfg.Log.Info("containerd adopted", "pid", h.proc.pid)
			return nil
		}
		if err := h.proc.stop(ctx); err != nil {
			_ = h.link.close()
			return err
		}
	}
	if err := h.launch(ctx); err != nil {
		_ = h.link.close()
		return err
	}
	return nil
}

// prepare makes the folders and writes the configuration; changed says it is not what it was.
func (h *Host) prepare() (changed bool, err error) {
	c := h.cfg
	if err := c.forgetLastBoot(); err != nil {
		return false, err
	}
	for _, dir := range []string{c.root(), c.RunDir, c.CNIConfDir} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return false, fmt.Errorf("prepare containerd: %w", err)
		}
	}
	h.snapshotter = overlayfs
	if err := overlayutils.Supported(filepath.Join(c.root(), "root")); err != nil {
		h.snapshotter = native
		c.Log.Warn("overlayfs does not work here, images are copied per container", "err", err)
	}
	want := c.containerdConfig(h.snapshotter)
	have, err := os.ReadFile(c.configFile())
	if err == nil && string(have) == want {
		return false, nil
	}
	if err := os.WriteFile(c.configFile(), []byte(want), 0o600); err != nil {
		return false, fmt.Errorf("prepare containerd: %w", err)
	}
	return true, nil
}

// launch starts containerd and waits until it answers.
func (h *Host) launch(ctx context.Context) error {
	begin := h.cfg.Clock.Now()
	p, err := h.cfg.launch()
	if err != nil {
		return err
	}
	if err := awaitServing(ctx, h.link, p, startTimeout); err != nil {
		stopErr := p.stop(context.WithoutCancel(ctx))
		return errors.Join(fmt.Errorf("start containerd: %w; see %s", err, h.cfg.logFile()), stopErr)
	}
	h.mu.Lock()
	h.proc = p
	h.mu.Unlock()
	h.cfg.Log.Info("containerd started", "pid", p.pid, "took", h.cfg.Clock.Since(begin))
	return nil
}

// Run watches containerd until ctx ends: it restarts an own one that died, with back-off, and
// says in [Host.Healthy] what is wrong meanwhile. containerd runs on when Run returns.
func (h *Host) Run(ctx context.Context) error {
	late := time.AfterFunc(lateOrphans, func() {
		// A shim that was being started when its containerd died shows up after the first sweep.
		if err := h.SweepOrphans(ctx, lateOrphans-5*time.Second); err != nil && ctx.Err() == nil {
			h.cfg.Log.Warn("forgotten containers stay until the next start", "err", err)
		}
	})
	defer late.Stop()
	delay := firstRestart
	for {
		began := h.cfg.Clock.Now()
		h.watch(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if h.cfg.Clock.Since(began) > steady {
			delay = firstRestart
		}
		h.cfg.Log.Warn("containerd does not serve", "err", h.Healthy(), "retry", delay)
		select {
		case <-ctx.Done():
			return nil
		case <-h.cfg.Clock.After(delay):
		}
		delay = min(2*delay, lastRestart)
		h.heal(ctx)
		late.Reset(lateOrphans)
	}
}

// watch returns when containerd has ended or stopped to answer, or ctx has ended.
func (h *Host) watch(ctx context.Context) {
	h.mu.Lock()
	p := h.proc
	h.mu.Unlock()
	var gone <-chan struct{} // never, for a containerd that is not ours
	if p != nil {
		gone = p.gone
	}
	tick := h.cfg.Clock.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-gone:
			h.fail(fmt.Errorf("containerd ended: %w; see %s", messages.ErrUnavailable, h.cfg.logFile()))
			return
		case <-tick.C():
			err := awaitServing(ctx, h.link, p, adoptTimeout)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				h.fail(fmt.Errorf("containerd: %w", err))
				return
			}
			h.fail(nil)
		}
	}
}

// heal brings an own containerd back, and looks whether a foreign one came back by itself.
func (h *Host) heal(ctx context.Context) {
	var err error
	if h.cfg.Address != "" {
		err = awaitServing(ctx, h.link, nil, adoptTimeout)
	} else {
		h.mu.Lock()
		p := h.proc
		h.mu.Unlock()
		if p.alive() { // it lives but does not answer
			_ = p.stop(ctx)
		}
		err = h.launch(ctx)
	}
	if err == nil {
		err = h.ensureSandboxImage(ctx)
	}
	if ctx.Err() == nil {
		h.fail(err)
	}
}

func (h *Host) fail(err error) {
	h.mu.Lock()
	h.err = err
	h.mu.Unlock()
}

// Healthy returns nil, or why pods cannot be run at the moment.
func (h *Host) Healthy() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil && h.proc != nil && !h.proc.alive() {
		return fmt.Errorf("containerd ended: %w; see %s", messages.ErrUnavailable, h.cfg.logFile())
	}
	return h.err
}

// Socket is the path of the socket on which containerd serves CRI and its own API.
func (h *Host) Socket() string {
	if h.cfg.Address != "" {
		return h.cfg.Address
	}
	return h.cfg.socket()
}

// Client is a containerd client for [Namespace]; it reconnects by itself and is closed by Close.
func (h *Host) Client() *containerd.Client { return h.link.client }

// Conn is the connection under Client: CRI is served on it too.
func (h *Host) Conn() *grpc.ClientConn { return h.link.conn }

// Snapshotter is what unpacked images must be made with; empty means containerd's default.
func (h *Host) Snapshotter() string { return h.snapshotter }

// Close lets go of containerd, which runs on with all pods. Call it after Run has returned.
func (h *Host) Close() error { return h.link.close() }
