package node

import (
	"context"
	"log/slog"
	"net"

	"github.com/nats-io/nats.go"

	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/messages/stream"
	"github.com/troupe-run/troupe/node/server"
)

// serve opens the node's HTTP surface on its stream subject until the agent closes.
func serve(a *Agent, nc *nats.Conn, region string, log *slog.Logger, c server.Containers) error {
	l, err := stream.Listen(nc, messages.NodeStream(region, a.name))
	if err != nil {
		return err
	}
	stop, err := runServer(server.Config{Containers: c, Log: log}, l)
	if err != nil {
		return err
	}
	a.onClose(stop)
	return nil
}

// runServer serves a surface on l until stop is called.
func runServer(cfg server.Config, l net.Listener) (stop func(context.Context) error, err error) {
	s, err := server.New(cfg)
	if err != nil {
		_ = l.Close() // nobody has dialed it
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background()) //nolint:forbidigo // ends with stop
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, l) }()
	return func(context.Context) error {
		cancel()
		return <-ended
	}, nil
}
