package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"github.com/nats-io/nats.go"
	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/troupe-run/troupe/cluster/auth"
	"github.com/troupe-run/troupe/cluster/bus"
	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/messages/stream"
)

// serveControl answers troupe's own commands, such as those that want a backup, while this control plane
// leads. They come as byte streams over NATS, from whoever may use all subjects.
func (c *Cluster) serveControl(ctx context.Context) error {
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	c.stopSelf = stop
	for subject, serve := range map[string]func(context.Context, net.Conn) error{
		messages.Backup(c.cfg.Region):   c.writeBackup,
		messages.Rotation(c.cfg.Region): c.rotate,
	} {
		l, err := stream.Listen(c.bus.Conn(), subject)
		if err != nil {
			return fmt.Errorf("serve %s: %w", subject, err)
		}
		c.services = append(c.services, l)
		c.serving.Go(func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				c.serving.Go(func() {
					if err := errors.Join(serve(run, conn), conn.Close()); err != nil {
						c.cfg.Log.Warn("command not answered", "subject", subject, "err", err)
					}
				})
			}
		})
	}
	return nil
}

// controlConn is a stream to a control plane with the connection it needs.
type controlConn struct {
	net.Conn
	nc *nats.Conn
}

func (c *controlConn) Close() error {
	err := c.Conn.Close()
	c.nc.Close()
	return err
}

// dialControl reaches a subject of serveControl at the cluster of a data folder, whose NATS is at url or
// outside.
func dialControl(ctx context.Context, dataDir, url string, outside *bus.Outside, name, subject string) (net.Conn, error) {
	nc, err := connectControl(dataDir, url, outside, name)
	if err != nil {
		return nil, err
	}
	conn, err := stream.Dial(ctx, nc, subject)
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("ask the cluster: %w", err)
	}
	return &controlConn{conn, nc}, nil
}

func connectControl(dataDir, url string, outside *bus.Outside, name string) (*nats.Conn, error) {
	if outside != nil {
		return outside.Connect(name)
	}
	config, err := controlTLS(dataDir, name)
	if err != nil {
		return nil, err
	}
	nc, err := nats.Connect(url, nats.Secure(config), nats.Name(name))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", url, err)
	}
	return nc, nil
}

// controlTLS makes credentials for all subjects, as whoever can read the data folder may.
func controlTLS(dataDir, name string) (*tls.Config, error) {
	a, err := auth.Open(auth.Config{Dir: keysDir(dataDir)})
	if err != nil {
		return nil, err
	}
	return a.ClientTLS(name, user.SystemPrivilegedGroup)
}
