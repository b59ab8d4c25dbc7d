package objects

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/troupe-run/troupe/messages"
)

// Object is any API object: typed for kinds the binary knows, unstructured for custom resources.
type Object interface {
	metav1.Object
	runtime.Object
}

// Names of the indexes the control plane keeps; kinds may declare more.
const (
	// IndexNode indexes pods by spec.nodeName.
	IndexNode = "spec.nodeName"
	// IndexOwner indexes every kind by the UIDs of its owner references.
	IndexOwner = "metadata.ownerReferences.uid"
)

// Reader reads the replica in memory. It never blocks and never fails: what it returns is the
// newest state this process has applied, and own writes are visible when the write returned.
type Reader interface {
	// Get returns one object; ok is false when it does not exist.
	Get(key messages.Key) (obj Object, ok bool)
	// List returns the objects of a resource in one namespace ("" means all), in no stated order.
	List(res messages.Resource, namespace string) []Object
	// Index returns the objects of a resource that have value under the named index.
	Index(res messages.Resource, index, value string) []Object
	// Resources returns every resource that is served, built-in or custom.
	Resources() []messages.Resource
}

// Change is one step in the life of one object. Old is nil on creation, New on deletion; a
// deletion that was followed by a re-creation under the same name comes as two changes.
type Change struct {
	Key messages.Key
	Rev uint64
	Old Object
	New Object
}

// Feed delivers changes in revision order.
type Feed interface {
	// Follow calls fn for every object that exists now (Old nil) and then for every change of the
	// resources named (none named means all). fn runs on the feed's goroutine and must only hand
	// over, never block. The returned stop is idempotent.
	Follow(resources []messages.Resource, fn func(Change)) (stop func())
}

// Writer changes objects with the full rules of the API: defaults, admission, validation,
// preconditions, finalizers. Objects that are returned are shared, as a Reader's are. Errors are Kubernetes Status errors (k8s.io/apimachinery/pkg/api/errors).
type Writer interface {
	// Create stores a copy of obj as a new object and returns it as stored.
	Create(ctx context.Context, obj Object) (Object, error)
	// Update replaces an object; a resourceVersion that is set must be the newest (else Conflict).
	Update(ctx context.Context, obj Object) (Object, error)
	// UpdateStatus replaces an object's status only, under the same rule.
	UpdateStatus(ctx context.Context, obj Object) (Object, error)
	// Mutate applies fn to the newest version and stores the outcome, again after each conflict.
	// sub is "" or a subresource such as "status". fn gets a private copy and may be called
	// several times; when it returns its input unchanged nothing is written.
	Mutate(ctx context.Context, key messages.Key, sub string, fn func(Object) (Object, error)) (Object, error)
	// Delete starts or performs deletion as the options say (grace, propagation, preconditions).
	Delete(ctx context.Context, key messages.Key, opts metav1.DeleteOptions) error
	// All performs writes as one: all of them are done, or none is. Each function makes one call of
	// this writer with the context it is given (Create, Update, UpdateStatus, Mutate or Delete), for
	// an object that no other one writes; they run at the same time. A write that changes nothing
	// still has to find its object unchanged at that moment. The error is the first that any of them
	// met, a Conflict when another write came between: then read again and decide anew.
	All(ctx context.Context, writes ...func(ctx context.Context) error) error
	// Bind sets a pod's node, once: Conflict when the pod is bound, gone or another (uid differs).
	Bind(ctx context.Context, namespace, pod string, uid string, node string) error
}

// Recorder writes Kubernetes Events about objects. It never blocks and may drop under pressure;
// repeats are counted, not stored again.
type Recorder interface {
	// Event records that reason happened to obj; eventType is core/v1 Normal or Warning.
	Event(obj Object, eventType, reason, message string)
	// EventOf is Event about a part of obj, named by its field path as in "spec.containers{web}".
	EventOf(obj Object, fieldPath, eventType, reason, message string)
}

// Get is [Reader.Get] with the object's own type; ok is false for another type too.
func Get[T Object](r Reader, key messages.Key) (obj T, ok bool) {
	o, found := r.Get(key)
	if !found {
		return obj, false
	}
	obj, ok = o.(T)
	return obj, ok
}

// List is [Reader.List] with the objects' own type.
func List[T Object](r Reader, res messages.Resource, namespace string) []T {
	return typed[T](r.List(res, namespace))
}

// Index is [Reader.Index] with the objects' own type.
func Index[T Object](r Reader, res messages.Resource, index, value string) []T {
	return typed[T](r.Index(res, index, value))
}

func typed[T Object](in []Object) []T {
	out := make([]T, 0, len(in))
	for _, o := range in {
		if t, ok := o.(T); ok {
			out = append(out, t)
		}
	}
	return out
}
