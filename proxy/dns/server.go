package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/troupe-run/troupe/messages"
)

// Config of a server.
type Config struct {
	// Addresses are where to listen, by UDP and TCP each; port 0 means any free one.
	Addresses []netip.AddrPort
	// Domain is the cluster's domain; empty means "cluster.local".
	Domain string
	// Networks are those of pods and services: reverse names in them are answered from memory.
	Networks []netip.Prefix
	// ResolvConf names the resolvers for foreign names; empty means /etc/resolv.conf.
	ResolvConf string
	// Log must not be nil.
	Log *slog.Logger
}

// Check reports every problem of the configuration.
func (c Config) Check() error {
	var errs []error
	if len(c.Addresses) == 0 {
		errs = append(errs, fmt.Errorf("no address to listen on: %w", messages.ErrInvalid))
	}
	for _, a := range c.Addresses {
		if !a.IsValid() {
			errs = append(errs, fmt.Errorf("address %q: %w", a, messages.ErrInvalid))
		}
	}
	if _, ok := dns.IsDomainName(c.Domain); !ok {
		errs = append(errs, fmt.Errorf("domain %q: %w", c.Domain, messages.ErrInvalid))
	}
	return errors.Join(errs...)
}

// Server answers queries until it is closed.
type Server struct {
	addrs   []netip.AddrPort
	servers []*dns.Server
	cancel  context.CancelFunc
	ended   chan error
}

// Start listens on every address and serves table. It fails when one of them cannot be had.
func Start(cfg Config, table *Table) (*Server, error) {
	if cfg.Domain == "" {
		cfg.Domain = "cluster.local"
	}
	if cfg.ResolvConf == "" {
		cfg.ResolvConf = "/etc/resolv.conf"
	}
	if err := cfg.Check(); err != nil {
		return nil, fmt.Errorf("configure dns: %w", err)
	}
	var own []netip.Addr
	for _, a := range cfg.Addresses {
		own = append(own, a.Addr().Unmap())
	}
	ctx, cancel := context.WithCancel(context.Background()) //nolint:forbidigo // ends with the server
	h := &handler{
		zone:     &zone{table: table, domain: dns.Fqdn(strings.ToLower(cfg.Domain)), self: own, networks: cfg.Networks},
		upstream: &resolvers{path: cfg.ResolvConf, own: own},
		slots:    make(chan struct{}, maxForwards),
		ctx:      ctx,
		log:      cfg.Log.With("actor", "dns"),
	}
	s := &Server{cancel: cancel}
	for _, addr := range cfg.Addresses {
		if err := s.listen(ctx, addr, h); err != nil {
			s.abandon()
			return nil, fmt.Errorf("listen for dns on %s: %w", addr, err)
		}
	}
	s.ended = make(chan error, len(s.servers))
	for _, each := range s.servers {
		started := make(chan struct{}) // a server that has not started cannot be shut down
		each.NotifyStartedFunc = func() { close(started) }
		go func() { s.ended <- each.ActivateAndServe() }()
		<-started
	}
	return s, nil
}

// listen takes one address for both protocols. When any port will do, UDP may find that the one
// TCP got is taken; then both try another.
func (s *Server) listen(ctx context.Context, addr netip.AddrPort, h dns.Handler) error {
	var lc net.ListenConfig
	for try := 0; ; try++ {
		l, err := lc.Listen(ctx, "tcp", addr.String())
		if err != nil {
			return err
		}
		got := l.Addr().(*net.TCPAddr).AddrPort()
		p, err := lc.ListenPacket(ctx, "udp", got.String())
		if err == nil {
			s.addrs = append(s.addrs, got)
			s.servers = append(s.servers,
				&dns.Server{Listener: l, Handler: h, ReadTimeout: 5 * time.Second, IdleTimeout: func() time.Duration { return 10 * time.Second }},
				&dns.Server{PacketConn: p, Handler: h})
			return nil
		}
		_ = l.Close() // the error that counts is the other one
		if addr.Port() != 0 || try == 10 {
			return err
		}
	}
}

// Addrs returns where the server listens.
func (s *Server) Addrs() []netip.AddrPort { return s.addrs }

// abandon closes what was opened before serving began.
func (s *Server) abandon() {
	s.cancel()
	for _, each := range s.servers {
		if each.Listener != nil {
			_ = each.Listener.Close()
		} else {
			_ = each.PacketConn.Close()
		}
	}
}

// Close stops listening and waits for answers under way, until ctx ends.
func (s *Server) Close(ctx context.Context) error {
	s.cancel() // forwarded questions are given up
	var errs []error
	for _, each := range s.servers {
		errs = append(errs, each.ShutdownContext(ctx))
	}
	for range s.servers {
		select {
		case err := <-s.ended:
			errs = append(errs, err)
		case <-ctx.Done():
			return errors.Join(append(errs, ctx.Err())...)
		}
	}
	return errors.Join(errs...)
}
