package state

import (
	"sync/atomic"

	"github.com/troupe-run/troupe/actors/objects"
)

// maxShown bounds the encodings that are kept for the objects of one resource, in bytes.
const maxShown = 24 << 20

// encoding is one version of an object as lists show it: made when somebody asks, and kept with the
// object as long as there is room. A nil encoding keeps nothing.
type encoding struct {
	text atomic.Pointer[[]byte]
	kept *atomic.Int64 // by all objects of the resource
}

// dropped is the text of versions that are not the newest any more.
var dropped = new([]byte)

// Shown returns what encode makes of the object, or what it made before: it must depend on the
// object alone. The text is shared and must not be changed.
func (i Item) Shown(encode func(objects.Object) ([]byte, error)) ([]byte, error) {
	if i.shown != nil {
		if text := i.shown.text.Load(); text != nil && text != dropped {
			return *text, nil
		}
	}
	text, err := encode(i.Object)
	if err == nil && i.shown != nil {
		i.shown.keep(text)
	}
	return text, err
}

func (e *encoding) keep(text []byte) {
	size := int64(len(text))
	if e.kept.Add(size) > maxShown || !e.text.CompareAndSwap(nil, &text) {
		e.kept.Add(-size)
	}
}

// drop gives the room back when a version is replaced.
func (e *encoding) drop() {
	if e == nil {
		return
	}
	if text := e.text.Swap(dropped); text != nil && text != dropped {
		e.kept.Add(-int64(len(*text)))
	}
}
