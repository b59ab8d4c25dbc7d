package stream

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// longestRefusal is as much of a node's words as is passed on, in bytes.
const longestRefusal = 1 << 10

// through returns a transport whose connections begin on a node: to the port of the request's URL, of
// the pod namespace/name or, when both are empty, of the node itself. It keeps no connections.
func (p *Pods) through(node, namespace, name string) (*http.Transport, error) {
	if p.cfg.Dial == nil {
		return nil, apierrors.NewServiceUnavailable("this server has no connection to nodes")
	}
	return &http.Transport{
		DisableKeepAlives: true,
		// As for any client of a pod by its address: nobody has a certificate for that.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // see above
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			path := []string{"dial", port}
			if name != "" {
				path = []string{"dial", namespace, name, port}
			}
			return p.upgraded(ctx, node, path...)
		},
	}, nil
}

// upgraded has a node join the connection to it with one that it opens itself.
func (p *Pods) upgraded(ctx context.Context, node string, path ...string) (_ net.Conn, err error) {
	conn, err := p.cfg.Dial(ctx, node)
	if err != nil {
		return nil, fmt.Errorf("dial node %s: %w", node, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer func() {
		if !stop() && err == nil {
			err = ctx.Err()
		}
		if err != nil {
			_ = conn.Close()
		}
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, location(node, nil, path...).String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "tcp")
	if err := req.Write(conn); err != nil {
		return nil, fmt.Errorf("ask node %s: %w", node, err)
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		return nil, fmt.Errorf("ask node %s: %w", node, err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, longestRefusal))
		return nil, fmt.Errorf("node %s: %s", node, strings.TrimSpace(string(text)))
	}
	return &readAhead{conn, r}, nil
}

// readAhead is a connection of which something has been read already.
type readAhead struct {
	net.Conn
	r *bufio.Reader
}

func (c *readAhead) Read(p []byte) (int, error) { return c.r.Read(p) }
