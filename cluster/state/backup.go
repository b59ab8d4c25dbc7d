package state

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/btree"

	"github.com/troupe-run/troupe/messages"
)

// RestoreGap is how far above the revision of a backup a restored bucket begins: far more than a
// cluster writes in the years after a backup. So no client ever sees a revision again that it knows
// from before, whatever was written between the backup and the loss.
const RestoreGap = 1_000_000_000

// saved is one line of a backup: an object, or as the last line their number, without which the
// backup is not whole.
type saved struct {
	Group     string          `json:"group,omitempty"`
	Resource  string          `json:"resource,omitempty"`
	Namespace string          `json:"namespace,omitempty"`
	Name      string          `json:"name,omitempty"`
	Expires   int64           `json:"expires,omitempty"`
	Object    json.RawMessage `json:"object,omitempty"`
	Count     *int            `json:"count,omitempty"`
}

// Snapshot is all objects of a bucket at one revision.
type Snapshot struct {
	// Revision is the newest one at that moment.
	Revision uint64
	// Count is the number of objects.
	Count  int
	store  *Store
	tables []*btree.BTreeG[*record]
}

// Snapshot takes the objects as they are now; writes go on.
func (s *Store) Snapshot() *Snapshot {
	out := &Snapshot{store: s}
	s.mu.Lock()
	out.Revision = s.rev
	for _, t := range s.tables {
		out.tables = append(out.tables, t.order.Clone())
	}
	s.mu.Unlock()
	for _, order := range out.tables {
		out.Count += order.Len()
	}
	return out
}

// WriteTo writes the objects as lines of JSON. What is sealed in the bucket is in the clear here.
func (p *Snapshot) WriteTo(w io.Writer) (int64, error) {
	counted := &counter{w: w}
	out := json.NewEncoder(counted)
	for _, order := range p.tables {
		var err error
		order.Ascend(func(e *record) bool {
			var data []byte
			if data, err = p.store.Encode(e.key.Resource, WithRevision(e.Object, 0)); err != nil {
				return false
			}
			line := saved{e.key.Group, e.key.Resource.Resource, e.key.Namespace, e.key.Name, e.Expires, data, nil}
			if err = out.Encode(line); err != nil {
				err = fmt.Errorf("back %s up: %w", e.key, err)
			}
			return err == nil
		})
		if err != nil {
			return counted.n, err
		}
	}
	return counted.n, out.Encode(saved{Count: &p.Count})
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// Restore commits what [Snapshot.WriteTo] wrote to a store that is empty, and calls progress with
// the number of objects so far. On error the store holds a part of it and must be thrown away.
func (s *Store) Restore(ctx context.Context, r io.Reader, progress func(count int)) error {
	lines := bufio.NewReaderSize(r, 1<<20)
	var ops []Op
	count := 0
	flush := func() error {
		if len(ops) == 0 {
			return nil
		}
		_, err := s.Commit(ctx, ops...)
		count += len(ops)
		ops = nil
		progress(count)
		return err
	}
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("restore: the backup ends after %d objects, it is not whole: %w", count+len(ops), messages.ErrDamaged)
		}
		if err != nil {
			return fmt.Errorf("restore: %w", err)
		}
		var in saved
		if err := json.Unmarshal(line, &in); err != nil {
			return fmt.Errorf("restore: %w", errors.Join(err, messages.ErrDamaged))
		}
		if in.Count != nil {
			if err := flush(); err != nil {
				return fmt.Errorf("restore: %w", err)
			}
			if *in.Count != count {
				return fmt.Errorf("restore: the backup has %d objects instead of %d: %w", count, *in.Count, messages.ErrDamaged)
			}
			return nil
		}
		op, err := s.restored(in)
		if err != nil {
			return fmt.Errorf("restore: %w", err)
		}
		if op != nil {
			ops = append(ops, *op)
		}
		if len(ops) == maxBatch {
			if err := flush(); err != nil {
				return fmt.Errorf("restore: %w", err)
			}
		}
	}
}

// restored makes the operation that creates a saved object.
func (s *Store) restored(in saved) (*Op, error) {
	key := messages.KeyOf(messages.Resource{Group: in.Group, Resource: in.Resource}, in.Namespace, in.Name)
	var data bytes.Buffer
	if err := json.Compact(&data, in.Object); err != nil {
		return nil, fmt.Errorf("%s: %w", key, errors.Join(err, messages.ErrDamaged))
	}
	obj, err := s.table(key.Resource).decode(data.Bytes(), 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	op := &Op{Key: key, Object: obj, Data: data.Bytes()}
	if in.Expires != 0 {
		op.TTL = max(time.Second, time.Unix(in.Expires, 0).Sub(s.cfg.Clock.Now()))
	}
	return op, nil
}
