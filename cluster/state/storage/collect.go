package storage

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/storage"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/state"
)

// Collected takes the items of a listing as the store has them, instead of copies in the list.
type Collected struct {
	done  bool
	items []state.Item
}

type collecting struct{}

// WithCollected lets the next listing of a context put its items into c; the list itself gets its
// metadata only.
func WithCollected(ctx context.Context, c *Collected) context.Context {
	return context.WithValue(ctx, collecting{}, c)
}

func collected(ctx context.Context) *Collected {
	c, _ := ctx.Value(collecting{}).(*Collected)
	return c
}

// Done says whether a listing has used it.
func (c *Collected) Done() bool { return c.done }

func (c *Collected) fill(ctx context.Context, items []state.Item, pred *storage.SelectionPredicate) (taken int, err error) {
	c.done = true
	if pred.Empty() && pred.Limit == 0 {
		c.items = items
		return len(items), nil
	}
	return match(ctx, items, pred, asStored, func(i state.Item) { c.items = append(c.items, i) })
}

// asStored is for kinds that are served as they are stored; only those are collected.
func asStored(obj objects.Object) (objects.Object, error) { return obj, nil }

// Len is the number of items.
func (c *Collected) Len() int { return len(c.items) }

// JSON returns an item as the JSON of a typed list has it, which is shared.
func (c *Collected) JSON(i int) ([]byte, error) { return c.items[i].Shown(showItem) }

func showItem(obj objects.Object) ([]byte, error) {
	item := state.ShallowCopy(obj)
	item.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	return json.Marshal(item)
}

// Into makes the items those of list, as a listing without Collected does.
func (c *Collected) Into(list runtime.Object) error {
	ptr, err := meta.GetItemsPtr(list)
	if err != nil {
		return err
	}
	dst, err := conversion.EnforcePtr(ptr)
	if err != nil || dst.Kind() != reflect.Slice {
		return fmt.Errorf("list %T has no slice of items: %w", list, err)
	}
	dst.Set(reflect.MakeSlice(dst.Type(), 0, len(c.items)))
	for i := range c.items {
		put(dst, c.items[i].Object)
	}
	return nil
}
