package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/troupe-run/troupe/messages"
)

const (
	// tryLimit bounds one try with one resolver.
	tryLimit = 2 * time.Second
	// rereadAfter is how long what resolv.conf said is believed without a look at the file.
	rereadAfter = 5 * time.Second
)

// resolvers asks the resolvers of the host, in their order, as its resolv.conf names them at the
// moment. Our own addresses are left out: we would ask ourselves for ever.
type resolvers struct {
	path  string
	own   []netip.Addr
	known atomic.Pointer[resolvConf]
}

// resolvConf is what the file said; immutable.
type resolvConf struct {
	servers []string
	changed time.Time // of the file
	read    time.Time
}

func (r *resolvers) exchange(ctx context.Context, m *dns.Msg, network string) (*dns.Msg, error) {
	servers, err := r.servers()
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, server := range servers {
		client := &dns.Client{Net: network, Timeout: tryLimit}
		answer, _, err := client.ExchangeContext(ctx, m, server)
		if err == nil && answer.Rcode != dns.RcodeServerFailure && answer.Rcode != dns.RcodeRefused {
			return answer, nil
		}
		if err == nil {
			err = fmt.Errorf("%s: %s", server, dns.RcodeToString[answer.Rcode])
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}

// servers returns the addresses to ask.
func (r *resolvers) servers() ([]string, error) {
	known, now := r.known.Load(), time.Now() //nolint:forbidigo // compared with a file's time
	if known == nil || now.Sub(known.read) > rereadAfter {
		fresh, err := r.reread(known, now)
		if err != nil && known == nil {
			return nil, err
		}
		if err == nil {
			known = fresh
			r.known.Store(fresh)
		}
	}
	if len(known.servers) == 0 {
		return nil, fmt.Errorf("no resolver in %s but ourselves: %w", r.path, messages.ErrUnavailable)
	}
	return known.servers, nil
}

func (r *resolvers) reread(known *resolvConf, now time.Time) (*resolvConf, error) {
	info, err := os.Stat(r.path)
	if err != nil {
		return nil, fmt.Errorf("read resolvers: %w", err)
	}
	if known != nil && info.ModTime().Equal(known.changed) {
		return &resolvConf{servers: known.servers, changed: known.changed, read: now}, nil
	}
	conf, err := dns.ClientConfigFromFile(r.path)
	if err != nil {
		return nil, fmt.Errorf("read resolvers: %w", err)
	}
	out := &resolvConf{changed: info.ModTime(), read: now}
	for _, text := range conf.Servers {
		addr, err := netip.ParseAddr(text)
		if err != nil || slices.Contains(r.own, addr.Unmap()) {
			continue
		}
		out.servers = append(out.servers, net.JoinHostPort(text, conf.Port))
	}
	return out, nil
}

var _ upstream = (*resolvers)(nil)
