package link

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/proto/nodepb"
)

// tokenRetry is how long a token request waits before it is sent again: the control plane may be
// restarting.
const tokenRetry = 2 * time.Second

// tokenDesk matches token requests with their replies.
type tokenDesk struct {
	hub  *Hub
	node string

	mu      sync.Mutex
	last    uint64
	waiting map[uint64]openToken
}

// openToken is a request that has not been answered.
type openToken struct {
	request *nodepb.TokenRequest
	answer  chan *nodepb.TokenReply
}

func newTokenDesk(h *Hub, node string, incarnation uint64) *tokenDesk {
	// Ids of another process of this node must not match: replies may be late.
	return &tokenDesk{hub: h, node: node, last: incarnation, waiting: make(map[uint64]openToken)}
}

func (d *tokenDesk) request(ctx context.Context, req TokenRequest) (Token, error) {
	expiry := req.Expiry
	if expiry == 0 {
		expiry = time.Hour
	}
	m, answer := d.open(&nodepb.TokenRequest{
		Namespace: req.Pod.Namespace, Pod: req.Pod.Name, PodUid: string(req.Pod.UID),
		ServiceAccount: req.Pod.Spec.ServiceAccountName, Audiences: req.Audiences, ExpiresSeconds: int64(expiry / time.Second),
	})
	defer d.close(m.Id)
	retry := time.NewTicker(tokenRetry)
	defer retry.Stop()
	for {
		sent := d.hub.send(d.node, "token", m)
		select {
		case r := <-answer:
			if r.GetError() != "" {
				return Token{}, fmt.Errorf("token for pod %s/%s: %s", req.Pod.Namespace, req.Pod.Name, r.GetError())
			}
			return Token{Value: r.GetToken(), Expires: time.Unix(r.GetExpiresUnix(), 0)}, nil
		case <-retry.C:
		case <-ctx.Done():
			return Token{}, fmt.Errorf("token for pod %s/%s: %w", req.Pod.Namespace, req.Pod.Name,
				errors.Join(messages.ErrUnavailable, ctx.Err(), sent))
		}
	}
}

// open numbers a request and notes that it waits.
func (d *tokenDesk) open(m *nodepb.TokenRequest) (*nodepb.TokenRequest, <-chan *nodepb.TokenReply) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last++
	m.Id = d.last
	answer := make(chan *nodepb.TokenReply, 1)
	d.waiting[d.last] = openToken{m, answer}
	return m, answer
}

// again sends every open request once more: the control plane just began to listen.
func (d *tokenDesk) again() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, w := range d.waiting {
		_ = d.hub.send(d.node, "token", w.request) // its own timer sends it again
	}
}

func (d *tokenDesk) close(id uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.waiting, id)
}

// answered hands a reply to whoever waits for it; a reply nobody waits for is dropped.
func (d *tokenDesk) answered(r *nodepb.TokenReply) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if w, ok := d.waiting[r.GetId()]; ok {
		delete(d.waiting, r.GetId())
		w.answer <- r
	}
}
