package bus

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/troupe-run/troupe/messages"
)

// DefaultRegion is the region of a cluster that was not told another.
const DefaultRegion = "local"

// MaxPayload is the largest NATS message in bytes: above Kubernetes' own limit for one object, so
// that the API refuses an object before NATS does.
const MaxPayload = 4 << 20

// noLimit is more bytes than any machine has.
const noLimit = 1 << 50

// flushWait outlasts the naps nats-server's flush goroutines may still take when it has shut down,
// so that Close leaves no goroutine behind.
const flushWait = 20 * time.Millisecond

// Config says how to run the server.
type Config struct {
	// DataDir is the folder JetStream writes to. Empty means memory: nothing survives Close.
	DataDir string
	// Region is the region token in all subjects. Empty means DefaultRegion.
	Region string
	// ListenAddr is the host:port for clients outside the process; port 0 picks a free one. Empty
	// means no listener: only in-process connections.
	ListenAddr string
	// TLS secures the listener. Nil means plain TCP, for loopback addresses only.
	TLS *tls.Config
	// Members makes the server one of several. Nil means that it is alone.
	Members *Members
	// Outside is a server to use instead of running one; then none of the fields on listening, members
	// and clients has a meaning. DataDir keeps only what belongs beside the streams.
	Outside *Outside
	// Users are the clients with a static credential.
	Users []User
	// Auth is asked about clients that neither a User nor a client certificate identifies. Nil
	// refuses them.
	Auth func(Login) (Identity, error)
	// Log gets the server's messages. Required.
	Log *slog.Logger
}

// Check reports everything that is wrong with the configuration.
func (c Config) Check() error {
	var errs []error
	if c.Log == nil {
		errs = append(errs, errors.New("bus: a logger is required"))
	}
	if c.ListenAddr != "" {
		host, _, err := net.SplitHostPort(c.ListenAddr)
		if err != nil {
			errs = append(errs, fmt.Errorf("bus: listen address %q: %w", c.ListenAddr, err))
		} else if ip := net.ParseIP(host); c.TLS == nil && (ip == nil || !ip.IsLoopback()) {
			errs = append(errs, fmt.Errorf("bus: listen address %q without TLS is not a loopback address", c.ListenAddr))
		}
	}
	if c.Outside != nil {
		errs = append(errs, c.Outside.Check())
	}
	if c.Members != nil {
		errs = append(errs, c.Members.check())
	}
	for _, u := range c.Users {
		if u.Secret == "" {
			errs = append(errs, fmt.Errorf("bus: user %q has no secret", u.Name))
		}
	}
	return errors.Join(errs...)
}

// Bus is a running server with JetStream.
type Bus struct {
	cfg       Config
	srv       atomic.Pointer[server.Server] // replaced by mend
	log       *logger
	conn      *nats.Conn
	secret    string // of in-process connections, new on every start
	replicas  int    // outside
	lines     lines
	tmp       string       // store folder to remove, in memory mode
	stopWatch func()       // ends the watch and waits for it
	measured  atomic.Int64 // Unix time in nanoseconds at which the disk was last found writable
}

// Start runs the server and returns when it accepts connections.
func Start(ctx context.Context, cfg Config) (*Bus, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if cfg.Region == "" {
		cfg.Region = DefaultRegion
	}
	var raw [16]byte
	rand.Read(raw[:])
	b := &Bus{cfg: cfg, log: newLogger(cfg.Log), secret: hex.EncodeToString(raw[:]), stopWatch: func() {}}
	if cfg.Outside != nil {
		if err := b.startOutside(ctx); err != nil {
			return nil, errors.Join(err, b.Close(ctx))
		}
		return b, nil
	}
	opts, err := b.options()
	if err != nil {
		return nil, err
	}
	if err := b.launch(ctx, opts); err != nil {
		return nil, errors.Join(fmt.Errorf("start bus: %w", err), b.Close(ctx))
	}
	if b.conn, err = b.Connect("control"); err != nil {
		return nil, errors.Join(fmt.Errorf("start bus: %w", err), b.Close(ctx))
	}
	if !b.InMemory() {
		b.watch(context.WithoutCancel(ctx), opts)
	}
	return b, nil
}

// launch runs a server and returns when it accepts connections.
func (b *Bus) launch(ctx context.Context, opts *server.Options) error {
	if err := errors.Join(verifyBuckets(opts.StoreDir), sweepStaging(opts.StoreDir)); err != nil {
		return err
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return err
	}
	b.srv.Store(srv)
	srv.SetLoggerV2(b.log, false, false, false)
	srv.Start()
	return b.ready(ctx, srv)
}

// verifyBuckets makes the server read the control plane's streams as it does after a crash, which
// takes in only records with a good checksum. After a clean stop it would believe its own summary
// of them, serve what is no longer there, and panic on some of it.
func verifyBuckets(dir string) error {
	summaries, err := fs.Glob(os.DirFS(dir), server.JetStreamStoreDir+"/$G/streams/*/msgs/index.db")
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range summaries {
		errs = append(errs, os.Remove(filepath.Join(dir, path)))
	}
	return errors.Join(errs...)
}

func (b *Bus) options() (*server.Options, error) {
	dir := b.cfg.DataDir
	if dir == "" {
		tmp, err := os.MkdirTemp("", "troupe-bus-")
		if err != nil {
			return nil, fmt.Errorf("start bus: %w", err)
		}
		b.tmp, dir = tmp, tmp
	}
	accounts, err := accounts(b.cfg.Region)
	if err != nil {
		return nil, fmt.Errorf("start bus: %w", err)
	}
	opts := &server.Options{
		// The name is part of Raft's peer identity later, so it must not change with the host's.
		ServerName: "troupe",
		JetStream:  true,
		StoreDir:   dir,
		SyncAlways: true,
		// Limits are reserved by streams beforehand, so that one with a bound would not come up
		// on a small machine. When the disk is full it says so itself.
		JetStreamMaxStore:          noLimit,
		JetStreamMaxMemory:         noLimit,
		NoSigs:                     true,
		NoLog:                      true,
		MaxPayload:                 MaxPayload,
		MaxPending:                 128 << 20,
		PingInterval:               5 * time.Second,
		MaxPingsOut:                2,
		DontListen:                 b.cfg.ListenAddr == "",
		Accounts:                   accounts,
		CustomClientAuthentication: &authenticator{bus: b},
	}
	if b.cfg.Members != nil {
		if err := b.cfg.Members.options(opts, b.cfg.Region); err != nil {
			return nil, err
		}
	}
	if b.cfg.ListenAddr == "" {
		return opts, nil
	}
	if opts.Host, opts.Port, err = splitAddr(b.cfg.ListenAddr); err != nil {
		return nil, err
	}
	if b.cfg.TLS != nil {
		opts.TLSConfig = b.cfg.TLS.Clone()
		opts.TLSTimeout = 5
	}
	return opts, nil
}

// ready waits for the server; it returns early with the server's own complaint, such as a port
// that is taken.
func (b *Bus) ready(ctx context.Context, srv *server.Server) error {
	for !srv.ReadyForConnections(100 * time.Millisecond) {
		if err := b.log.fatal(); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if err := b.log.fatal(); err != nil {
		return err
	}
	if !srv.JetStreamEnabled() {
		return fmt.Errorf("jetstream is not enabled: %w", messages.ErrUnavailable)
	}
	return nil
}

// Region returns the region all subjects carry.
func (b *Bus) Region() string { return b.cfg.Region }

// DataDir returns the folder the server writes to; in memory mode it is a temporary one that goes
// with the bus.
func (b *Bus) DataDir() string {
	if b.tmp != "" {
		return b.tmp
	}
	return b.cfg.DataDir
}

// InMemory says whether streams shall use memory storage because there is no data folder.
func (b *Bus) InMemory() bool { return b.cfg.DataDir == "" }

// Conn returns the shared in-process connection of the control plane, which may use all subjects.
func (b *Bus) Conn() *nats.Conn { return b.conn }

// Connect opens another privileged in-process connection; name shows in server logs. The caller
// closes it. Use one for traffic that must not wait behind the shared connection's.
func (b *Bus) Connect(name string) (*nats.Conn, error) {
	return b.connect(b, name, controlUser, controlInbox)
}

// NodeConn opens an in-process connection that may do only what the named node may. The caller
// closes it.
func (b *Bus) NodeConn(node string) (*nats.Conn, error) {
	return b.connect(b.newLine(node), node, nodeUser+node, NodeInbox(node))
}

// ConnectChanges opens an in-process connection to the observers' account with all rights there.
// The caller closes it.
func (b *Bus) ConnectChanges() (*nats.Conn, error) {
	return b.connect(b, changesUser, changesUser, controlInbox)
}

// connect opens a connection; to a server outside every one has the same rights, those of its user.
func (b *Bus) connect(to nats.InProcessConnProvider, name, user, inbox string, more ...nats.Option) (*nats.Conn, error) {
	url, opts := "", []nats.Option{nats.InProcessServer(to), nats.UserInfo(user, b.secret), nats.CustomInboxPrefix(inbox), nats.ReconnectWait(10 * time.Millisecond)}
	if b.cfg.Outside != nil {
		url, opts = b.cfg.Outside.URL, append(b.cfg.Outside.options(), nats.ReconnectWait(250*time.Millisecond), nats.ReconnectJitter(50*time.Millisecond, 50*time.Millisecond))
	}
	opts = append(opts, nats.Name(name), nats.PermissionErrOnSubscribe(true), nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			b.cfg.Log.Warn("nats connection error", "conn", name, "subject", subject, "err", err)
		}))
	nc, err := nats.Connect(url, append(opts, more...)...)
	if err != nil {
		return nil, fmt.Errorf("connect %s to the bus: %w", name, err)
	}
	return nc, nil
}

// ClientURL returns the URL of the listener, or "" when there is none; without a password.
func (b *Bus) ClientURL() string {
	if b.cfg.Outside != nil {
		return b.cfg.Outside.Name()
	}
	if b.cfg.ListenAddr == "" {
		return ""
	}
	return b.srv.Load().ClientURL()
}

// Healthy returns why the server cannot do its work: a fatal condition, a stream that was not
// recovered, a JetStream write error, which the bus mends once there is space, or a disk that is
// full. Nil means all is well.
func (b *Bus) Healthy() error {
	if b.cfg.Outside != nil {
		if !b.conn.IsConnected() {
			return fmt.Errorf("NATS at %s cannot be reached: %w", b.cfg.Outside.Name(), messages.ErrUnavailable)
		}
		return nil
	}
	if err := b.log.fatal(); err != nil {
		return err
	}
	if h := b.srv.Load().Healthz(nil); h.Error != "" {
		return fmt.Errorf("bus: %s: %w", h.Error, messages.ErrUnavailable)
	}
	return b.Writable()
}

// Close flushes and stops the server. It returns when everything has ended or ctx is done.
func (b *Bus) Close(ctx context.Context) error {
	if b.conn != nil {
		b.conn.Close()
	}
	b.stopWatch()
	srv := b.srv.Load()
	if srv == nil {
		return b.removeTemp()
	}
	srv.Shutdown()
	done := make(chan struct{})
	go func() {
		srv.WaitForShutdown()
		close(done)
	}()
	select {
	case <-done:
		if b.InMemory() {
			return b.removeTemp()
		}
		time.Sleep(flushWait) //nolint:forbidigo // there is nothing to wait for: the goroutines do not say when they end
		return RemoveStaging(b.cfg.DataDir)
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("close bus: %w", ctx.Err()), b.removeTemp())
	}
}

func (b *Bus) removeTemp() error {
	if b.tmp == "" {
		return nil
	}
	return os.RemoveAll(b.tmp)
}
