package api

import (
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/schema"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// lazySchemas converts objects for server-side apply and managed fields. What it needs to know of
// all types takes tens of milliseconds to build, so it is built by the first request in need.
type lazySchemas struct {
	build func() (managedfields.TypeConverter, error)
	types sync.Map // of kinds that were converted before: GroupVersionKind to typeOf
}

type typeOf struct {
	schema *schema.Schema
	ref    schema.TypeRef
}

func newLazySchemas(build func() (managedfields.TypeConverter, error)) *lazySchemas {
	return &lazySchemas{build: sync.OnceValues(build)}
}

func (l *lazySchemas) ObjectToTyped(obj runtime.Object, opts ...typed.ValidationOptions) (*typed.TypedValue, error) {
	if tv, ok := l.known(obj, opts); ok {
		return tv, nil
	}
	c, err := l.build()
	if err != nil {
		return nil, err
	}
	tv, err := c.ObjectToTyped(obj, opts...)
	if err == nil {
		l.types.LoadOrStore(obj.GetObjectKind().GroupVersionKind(), typeOf{tv.Schema(), tv.TypeRef()})
	}
	return tv, err
}

// known converts an object of a Go type, which has the shape of its schema, without looking whether it
// has. Those who allow duplicates only record who set which field of what was decoded already; what
// somebody applies is looked at.
func (l *lazySchemas) known(obj runtime.Object, opts []typed.ValidationOptions) (*typed.TypedValue, bool) {
	if _, ok := obj.(*unstructured.Unstructured); ok || !slices.Contains(opts, typed.AllowDuplicates) {
		return nil, false
	}
	t, ok := l.types.Load(obj.GetObjectKind().GroupVersionKind())
	if !ok {
		return nil, false
	}
	v, err := value.NewValueReflect(obj)
	if err != nil {
		return nil, false
	}
	//nolint:staticcheck // deprecated because validation is cheap: it is a sixteenth of creating a pod
	return typed.AsTypedUnvalidated(v, t.(typeOf).schema, t.(typeOf).ref), true
}

func (l *lazySchemas) TypedToObject(v *typed.TypedValue) (runtime.Object, error) {
	c, err := l.build()
	if err != nil {
		return nil, err
	}
	return c.TypedToObject(v)
}

var _ managedfields.TypeConverter = (*lazySchemas)(nil)
