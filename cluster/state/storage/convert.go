package storage

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"runtime"
	"sync"
	"weak"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	apiruntime "k8s.io/apimachinery/pkg/runtime"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/state"
)

// converter turns stored custom resources into those of one served version. Each is converted once
// and remembered for as long as the store keeps the original. Most are the same in both forms; of
// those there is one copy only.
type converter struct {
	codec apiruntime.Codec
	mu    sync.Mutex
	known map[original]objects.Object // nil: the original itself
}

type original = weak.Pointer[unstructured.Unstructured]

func newConverter(codec apiruntime.Codec) *converter {
	return &converter{codec: codec, known: make(map[original]objects.Object)}
}

// of returns obj, which is in the store and never changes, as it is served.
func (c *converter) of(obj objects.Object) (objects.Object, error) {
	raw, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("a stored custom resource is a %T", obj)
	}
	key := weak.Make(raw)
	c.mu.Lock()
	out, ok := c.known[key]
	c.mu.Unlock()
	switch {
	case !ok:
	case out == nil:
		return obj, nil
	default:
		return out, nil
	}
	data, err := json.Marshal(state.WithRevision(raw, 0).(*unstructured.Unstructured).Object)
	if err != nil {
		return nil, err
	}
	decoded, err := apiruntime.Decode(c.codec, data)
	if err != nil {
		return nil, err
	}
	served, ok := decoded.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("a decoded custom resource is a %T", decoded)
	}
	served.SetResourceVersion(raw.GetResourceVersion())
	same := reflect.DeepEqual(served.Object, raw.Object)
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.known[key]; !ok {
		runtime.AddCleanup(raw, c.forget, key)
	}
	if same {
		c.known[key] = nil
		return obj, nil
	}
	c.known[key] = served
	return served, nil
}

func (c *converter) forget(key original) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.known, key)
}

// encode returns obj as it is stored.
func (c *converter) encode(obj objects.Object) ([]byte, error) {
	data, err := apiruntime.Encode(c.codec, obj)
	return bytes.TrimRight(data, "\n"), err
}

// served returns an object of the store as it is given out.
func (s *Storage) served(obj objects.Object) (objects.Object, error) {
	if s.converter == nil || obj == nil {
		return obj, nil
	}
	return s.converter.of(obj)
}
