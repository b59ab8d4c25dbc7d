package nodes

import (
	"sync"
	"time"
)

// Beats knows when each node was heard last. It is safe for concurrent use; make one with
// [NewBeats]. What it knows is never stored.
type Beats struct {
	mu    sync.RWMutex
	heard map[string]time.Time
}

// NewBeats returns Beats that have heard nobody.
func NewBeats() *Beats { return &Beats{heard: make(map[string]time.Time)} }

// Heard returns when a node was heard last; ok is false when it never was.
func (b *Beats) Heard(node string) (at time.Time, ok bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	at, ok = b.heard[node]
	return at, ok
}

// Note takes in that a node was heard, for a control plane that does not lead.
func (b *Beats) Note(node string, at time.Time) { b.note(node, at) }

// note takes in that a node was heard; nobody notes anything where there are no Beats.
func (b *Beats) note(node string, at time.Time) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.heard[node] = at
}

func (b *Beats) forget(node string) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.heard, node)
}
