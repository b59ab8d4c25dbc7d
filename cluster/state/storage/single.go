package storage

import (
	"context"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/state"
	"github.com/troupe-run/troupe/messages"
)

// Single takes the object that is read as the store has it, instead of a copy.
type Single struct {
	resource messages.Resource
	done     bool
	item     state.Item
}

type singling struct{}

// WithSingle lets the next get of the resource put its result into the Single that is returned; the
// object it is given to fill stays as it is then.
func WithSingle(ctx context.Context, res messages.Resource) (context.Context, *Single) {
	o := &Single{resource: res}
	return context.WithValue(ctx, singling{}, o), o
}

// Done says whether a request has used it.
func (o *Single) Done() bool { return o.done }

// Object is shared and must not be changed.
func (o *Single) Object() objects.Object { return o.item.Object }

// JSON returns the object as the JSON of a typed list has it, which is shared.
func (o *Single) JSON() ([]byte, error) { return o.item.Shown(showItem) }

// take puts the object into the context's Single, if there is one and the store still has it at that
// revision.
func (s *Storage) take(ctx context.Context, k messages.Key, rev uint64) bool {
	o, ok := ctx.Value(singling{}).(*Single)
	if !ok || o.resource != k.Resource || s.converter != nil {
		return false
	}
	item, now, ok := s.cfg.Store.Item(k)
	if !ok || now != rev {
		return false
	}
	o.done, o.item = true, item
	return true
}
