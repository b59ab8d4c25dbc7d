package link

import (
	"fmt"
	"sync"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	"github.com/troupe-run/troupe/actors/stage"
	"github.com/troupe-run/troupe/messages"
)

// hubBacklog is how many messages for all nodes of a hub may wait. What does not fit is dropped by
// the client, and the links repair it as any other loss.
const hubBacklog = 64 << 10

// Hub lets the links of many nodes share one connection. It has two goroutines however many links
// there are: one hands messages from the bus over to the links' mailboxes, one notices reconnects.
type Hub struct {
	nc     *nats.Conn
	region string
	in     chan *nats.Msg
	status chan nats.Status
	quit   chan struct{}
	ending sync.Once
	done   sync.WaitGroup

	mu    sync.RWMutex
	links map[string]hubLink // by NodeDown subject
}

type hubLink struct {
	stage *stage.System
	pid   *actor.PID
	sub   *nats.Subscription
}

// arrived is a message from the bus as it came; it is decoded inside the link.
type arrived struct{ data []byte }

// reconnected tells a link that messages may have been lost in both directions.
type reconnected struct{}

func (reconnected) CoalesceKey() any { return reconnected{} }

// NewHub starts a hub on a connection, which stays the caller's and must outlive it.
func NewHub(nc *nats.Conn, region string) (*Hub, error) {
	if nc.IsClosed() {
		return nil, fmt.Errorf("start hub: %w", messages.ErrUnavailable)
	}
	h := &Hub{
		nc: nc, region: region,
		in:     make(chan *nats.Msg, hubBacklog),
		status: nc.StatusChanged(nats.CONNECTED),
		quit:   make(chan struct{}),
		links:  make(map[string]hubLink),
	}
	h.done.Go(h.dispatch)
	return h, nil
}

// Close ends the hub; its links hear nothing any more. It may be called again.
func (h *Hub) Close() error {
	h.ending.Do(func() {
		close(h.quit)
		h.done.Wait()
		h.nc.RemoveStatusListener(h.status)
	})
	return nil
}

func (h *Hub) dispatch() {
	status := h.status
	for {
		select {
		case m := <-h.in:
			h.mu.RLock()
			to, ok := h.links[m.Subject]
			h.mu.RUnlock()
			if ok {
				to.stage.Send(to.pid, arrived{m.Data})
			}
		case _, open := <-status:
			if !open { // the connection is closed for good
				status = nil
				continue
			}
			h.mu.RLock()
			for _, to := range h.links {
				to.stage.Send(to.pid, reconnected{})
			}
			h.mu.RUnlock()
		case <-h.quit:
			return
		}
	}
}

// join subscribes a link to what the control plane says to its node.
func (h *Hub) join(node string, s *stage.System, pid *actor.PID) error {
	subject := messages.NodeDown(h.region, node)
	sub, err := h.nc.ChanSubscribe(subject, h.in)
	if err != nil {
		return fmt.Errorf("subscribe %s: %w", subject, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if old, ok := h.links[subject]; ok {
		_ = old.sub.Unsubscribe() // an earlier life of the same actor
	}
	h.links[subject] = hubLink{s, pid, sub}
	return nil
}

func (h *Hub) leave(node string) {
	subject := messages.NodeDown(h.region, node)
	h.mu.Lock()
	defer h.mu.Unlock()
	if l, ok := h.links[subject]; ok {
		_ = l.sub.Unsubscribe() // fails only when the connection is gone
		delete(h.links, subject)
	}
}

// send publishes one report of a node. An error means it is lost, like any message may be.
func (h *Hub) send(node, what string, m proto.Message) error {
	if !h.nc.IsConnected() {
		return fmt.Errorf("send %s of %s: %w", what, node, messages.ErrUnavailable)
	}
	data, err := proto.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode %s of %s: %w", what, node, err)
	}
	if err := h.nc.Publish(messages.NodeUp(h.region, node, what), data); err != nil {
		return fmt.Errorf("send %s of %s: %w", what, node, err)
	}
	return nil
}
