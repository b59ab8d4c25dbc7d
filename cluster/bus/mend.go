package bus

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"golang.org/x/sys/unix"

	"github.com/troupe-run/troupe/messages"
)

const (
	// margin is how much of the disk is left free, in bytes, and marginPart the part of a small
	// disk: nats-server stops a stream for good at the first write that fails, so that none may.
	margin     = 32 << 20
	marginPart = 16
	// lookEvery is how often the streams are looked at, and mendAgain how long after a restart of
	// the server another may follow.
	lookEvery = time.Second
	mendAgain = 10 * time.Second
	// measureEvery is how long the disk counts as writable once it was: asking anew for each write
	// would cost as much as encoding one, and no disk swallows the margin in that time.
	measureEvery = 20 * time.Millisecond
)

// Writable returns why nothing shall be written: the disk is read-only, or all but full. Nil means
// go on.
func (b *Bus) Writable() error {
	if b.InMemory() || b.cfg.Outside != nil {
		return nil
	}
	now := time.Now().UnixNano() //nolint:forbidigo // the disk's time is the real one
	if since := now - b.measured.Load(); since >= 0 && since < int64(measureEvery) {
		return nil
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(b.cfg.DataDir, &fs); err != nil {
		return fmt.Errorf("bus: measure %s: %w: %w", b.cfg.DataDir, err, messages.ErrUnavailable)
	}
	if fs.Flags&unix.ST_RDONLY != 0 {
		return fmt.Errorf("the disk of %s is read-only: %w", b.cfg.DataDir, messages.ErrUnavailable)
	}
	free, total := int64(fs.Bavail)*fs.Bsize, int64(fs.Blocks)*fs.Bsize
	if need := min(margin, total/marginPart); free < need {
		return fmt.Errorf("the disk of %s is full: %d KiB are free, %d KiB are needed: %w", b.cfg.DataDir, free>>10, need>>10, messages.ErrUnavailable)
	}
	b.measured.Store(now)
	return nil
}

// InProcessConn connects to the server that runs now: connections outlive a restart of it.
func (b *Bus) InProcessConn() (net.Conn, error) {
	srv := b.srv.Load()
	if srv == nil {
		return nil, nats.ErrNoServers
	}
	return srv.InProcessConn()
}

// watch looks after the server until stopWatch is called.
func (b *Bus) watch(ctx context.Context, opts *server.Options) {
	ctx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	b.stopWatch = func() {
		stop()
		<-done
	}
	go func() {
		defer close(done)
		tick := time.NewTicker(lookEvery)
		defer tick.Stop()
		var last time.Time
		for {
			select {
			case <-ctx.Done():
				return
			case now := <-tick.C:
				if !b.frozen() || b.Writable() != nil || now.Sub(last) < mendAgain {
					continue
				}
				last = now
				if err := b.mend(ctx, opts); err != nil {
					b.cfg.Log.Error("nats-server does not come back, will retry", "err", err)
				}
			}
		}
	}()
}

// frozen says whether the server refuses writes after one has failed: it never tries again itself.
func (b *Bus) frozen() bool {
	srv := b.srv.Load()
	if !srv.JetStreamEnabled() {
		return true
	}
	// A member is also unwell when others are, which no restart of it mends.
	return b.cfg.Members == nil && srv.Healthz(nil).Error != ""
}

// mend replaces the server by a new one on the same folder, which reads its streams back as after a
// crash. Clients connect again by themselves.
func (b *Bus) mend(ctx context.Context, opts *server.Options) error {
	old := b.srv.Load()
	b.cfg.Log.Warn("nats-server is started anew: it takes no writes", "err", old.Healthz(nil).Error)
	if addr, ok := old.Addr().(*net.TCPAddr); ok && opts.Port == server.RANDOM_PORT {
		opts.Port = addr.Port // clients know it
	}
	old.Shutdown()
	old.WaitForShutdown()
	if err := b.launch(ctx, opts); err != nil {
		return fmt.Errorf("start bus again: %w", err)
	}
	return nil
}

var _ nats.InProcessConnProvider = (*Bus)(nil)
