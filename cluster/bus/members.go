package bus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"

	"github.com/nats-io/nats-server/v2/server"
)

// Replicas is how many members keep a copy of each stream in a cluster of several: one may fail.
const Replicas = 3

// Members makes the server one of several that keep the streams together.
type Members struct {
	// Name is the member's own. It is part of Raft's identity of the peer and must never change.
	// Required.
	Name string
	// ListenAddr is the host:port for the other members; port 0 picks a free one. Required.
	ListenAddr string
	// Advertise is the host:port at which others reach ListenAddr, if it is another.
	Advertise string
	// Peers are the host:port of the other members.
	Peers []string
	// TLS secures the connections between members, both ways: it must have a certificate, demand one
	// of the other side, and trust the authority of all. Required.
	TLS *tls.Config
}

func (m *Members) check() error {
	var errs []error
	if m.Name == "" {
		errs = append(errs, errors.New("bus: a member needs a name"))
	}
	if m.TLS == nil || m.TLS.ClientAuth != tls.RequireAndVerifyClientCert {
		errs = append(errs, errors.New("bus: members need TLS with certificates of both sides"))
	}
	for _, addr := range append([]string{m.ListenAddr}, m.Peers...) {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			errs = append(errs, fmt.Errorf("bus: address of a member %q: %w", addr, err))
		}
	}
	return errors.Join(errs...)
}

// options adds to a server's options what makes it a member.
func (m *Members) options(opts *server.Options, region string) error {
	host, port, err := splitAddr(m.ListenAddr)
	if err != nil {
		return err
	}
	opts.ServerName = m.Name
	if opts.DontListen {
		// nats-server looks for others only once it listens for clients. Who does not know the secret of
		// this process is refused there.
		opts.DontListen, opts.Host, opts.Port = false, "127.0.0.1", server.RANDOM_PORT
	}
	opts.Cluster = server.ClusterOpts{
		Name: "troupe-" + region, Host: host, Port: port, Advertise: m.Advertise,
		TLSConfig: m.TLS.Clone(), TLSTimeout: 5, PoolSize: 3,
		PingInterval: opts.PingInterval, MaxPingsOut: opts.MaxPingsOut, ConnectBackoff: false,
	}
	for _, peer := range m.Peers {
		opts.Routes = append(opts.Routes, &url.URL{Scheme: "nats-route", Host: peer})
	}
	return nil
}

func splitAddr(addr string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("start bus: %w", err)
	}
	if port, err = strconv.Atoi(text); err != nil {
		return "", 0, fmt.Errorf("start bus: port %q: %w", text, err)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	return host, port, nil
}

// Replicas is how many copies of a stream there shall be.
func (b *Bus) Replicas() int {
	switch {
	case b.cfg.Outside != nil:
		return b.replicas
	case b.cfg.Members != nil:
		return Replicas
	}
	return 1
}

// MemberAddr is where other members reach this one, "" when it is alone.
func (b *Bus) MemberAddr() string {
	if b.cfg.Members == nil {
		return ""
	}
	if addr := b.srv.Load().ClusterAddr(); addr != nil {
		return addr.String()
	}
	return ""
}

// MoveStream makes this member's server the one that leads a stream of the control plane among the
// servers of all members, so that who writes it most has the shortest way, and that it need not
// elect another when others go. The servers may decline.
func (b *Bus) MoveStream(ctx context.Context, name string) error {
	if b.cfg.Members == nil || b.srv.Load().JetStreamIsStreamLeader(server.DEFAULT_GLOBAL_ACCOUNT, name) {
		return nil
	}
	want := fmt.Sprintf(`{"placement":{"preferred":%q}}`, b.cfg.Members.Name)
	if _, err := b.conn.RequestWithContext(ctx, fmt.Sprintf(server.JSApiStreamLeaderStepDownT, name), []byte(want)); err != nil {
		return fmt.Errorf("move the leader of stream %s: %w", name, err)
	}
	return nil
}
