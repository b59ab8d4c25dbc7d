package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/troupe-run/troupe/cluster/bus"
	"github.com/troupe-run/troupe/cluster/state"
	"github.com/troupe-run/troupe/messages"
)

// Rotation is one line of what a control plane tells while it changes its sealing key.
type Rotation struct {
	state.Sealing
	// Failed says why the control plane cannot go on; it does when it is started again.
	Failed string `json:",omitempty"`
}

// rotate changes the sealing key for whoever is at the other end, and tells how far it is. Without a
// listener the work goes on.
func (c *Cluster) rotate(ctx context.Context, conn net.Conn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out := json.NewEncoder(conn)
	var gone error
	err := c.state.Rotate(ctx, func(now state.Sealing) {
		if gone = out.Encode(Rotation{Sealing: now}); gone != nil {
			cancel()
		}
	})
	if err != nil && gone == nil {
		gone = out.Encode(Rotation{Failed: err.Error()})
	}
	return errors.Join(err, gone)
}

// Rotate asks the cluster of a data folder, whose NATS is at url or outside, for a new sealing key and returns
// when all sealed objects are sealed with it.
func Rotate(ctx context.Context, dataDir, url string, outside *bus.Outside, region string, progress func(Rotation)) error {
	conn, err := dialControl(ctx, dataDir, url, outside, "troupe-rotation", messages.Rotation(region))
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	in := json.NewDecoder(conn)
	last := Rotation{Sealing: state.Sealing{Left: -1}}
	for {
		var now Rotation
		switch err := in.Decode(&now); {
		case errors.Is(err, io.EOF) && last.Left == 0:
			return nil
		case err != nil:
			return fmt.Errorf("the cluster does not answer any more: %w", err)
		case now.Failed != "":
			return fmt.Errorf("%s: %w", now.Failed, messages.ErrUnavailable)
		}
		progress(now)
		last = now
	}
}
