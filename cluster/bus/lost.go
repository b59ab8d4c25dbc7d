package bus

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// DropLostConsumers removes those consumers of a stream that no server has any more: they were kept by one
// server only, as those in memory are, and it is gone. A snapshot of the stream would wait for them for ever.
// One that several servers keep has another leader within the time to wait. It returns when they are gone.
func DropLostConsumers(ctx context.Context, nc *nats.Conn, stream string, wait time.Duration) error {
	lost, err := missingConsumers(ctx, nc, stream)
	for ; err == nil && len(lost) > 0; lost, err = missingConsumers(ctx, nc, stream) {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return fmt.Errorf("remove the lost consumers of stream %s: %w", stream, ctx.Err())
		}
		still, err := missingConsumers(ctx, nc, stream)
		if err != nil {
			return err
		}
		for _, name := range still {
			if !slices.Contains(lost, name) {
				continue
			}
			// The answer would come from the server that is gone.
			if err := nc.Publish(fmt.Sprintf(server.JSApiConsumerDeleteT, stream, name), nil); err != nil {
				return fmt.Errorf("remove the lost consumer %s of stream %s: %w", name, stream, err)
			}
		}
	}
	return err
}

// missingConsumers are those that are written down and that no server answers for.
func missingConsumers(ctx context.Context, nc *nats.Conn, stream string) ([]string, error) {
	var out []string
	for offset := 0; ; {
		var page server.JSApiConsumerListResponse
		question := server.JSApiConsumersRequest{ApiPagedRequest: server.ApiPagedRequest{Offset: offset}}
		err := askJetStream(ctx, nc, fmt.Sprintf(server.JSApiConsumerListT, stream), question, &page)
		if err = firstError(err, page.Error); err != nil {
			return nil, fmt.Errorf("list the consumers of stream %s: %w", stream, err)
		}
		out = append(out, page.Missing...)
		if offset += page.Limit; offset >= page.Total || page.Limit == 0 {
			return out, nil
		}
	}
}
