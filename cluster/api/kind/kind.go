package kind

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"
)

// Object is an API object with its metadata.
type Object interface {
	metav1.Object
	runtime.Object
}

// Kind is everything the API server has to know of one kind. Functions get the kind's own Go type
// as Object; optional ones may be nil.
type Kind struct {
	// GVK is the group, version and kind; Resource and Singular the lower-case names.
	GVK        schema.GroupVersionKind
	Resource   string
	Singular   string
	ShortNames []string
	Categories []string
	// Namespaced is false for cluster-scoped kinds.
	Namespaced bool
	// New and NewList return empty objects of the kind and of its list.
	New     func() Object
	NewList func() runtime.Object

	// Default fills in what the user left out; it runs on create, update and on decode from storage.
	Default func(obj Object)
	// Validate checks a whole new object (metadata is checked by the framework already).
	Validate func(ctx context.Context, obj Object) field.ErrorList
	// ValidateUpdate checks a change, immutability included; Validate is not run besides it.
	ValidateUpdate func(ctx context.Context, obj, old Object) field.ErrorList
	// PrepareForCreate and PrepareForUpdate reset what a user may not set (status, generation);
	// the framework bumps metadata.generation when SpecChanged says so.
	PrepareForCreate func(ctx context.Context, obj Object)
	PrepareForUpdate func(ctx context.Context, obj, old Object)
	// SpecChanged says whether metadata.generation grows; nil means the kind keeps no generation.
	SpecChanged func(obj, old Object) bool
	// Warnings are shown to the client (HTTP Warning headers); old is nil on create.
	Warnings func(ctx context.Context, obj, old Object) []string
	// AllowCreateOnUpdate lets PUT create; AllowUnconditionalUpdate lets PUT go without a
	// resourceVersion (the default of most kinds; set NeedsResourceVersion to refuse it).
	AllowCreateOnUpdate  bool
	NeedsResourceVersion bool
	// ValidateName checks metadata.name; nil means a DNS subdomain.
	ValidateName func(name string, prefix bool) []string

	// Columns and Row are the table kubectl shows; one column has the format "name" (the first one,
	// but for events). A nil Row means Name and Age. Row returns one cell per column; Priority 1 columns are for -o wide.
	Columns []metav1.TableColumnDefinition
	Row     func(obj Object) []any

	// Fields returns the selectable fields besides metadata.name and metadata.namespace.
	Fields func(obj Object) fields.Set
	// Indexes are kept by the replica: name to the values an object has under it.
	Indexes map[string]func(obj Object) []string

	// Status describes the status subresource; nil means there is none.
	Status *Subresource
	// Subresources are further writers besides status, by name ("finalize", "resize"): PUT and
	// PATCH of the whole object, as with status.
	Subresources map[string]*Subresource
	// Scale reads and writes replicas for the scale subresource; nil means there is none.
	Scale *Scale
	// Delete lets a kind shape deletion (graceful deletion of pods); nil means at once.
	Delete GracefulDelete
	// Finalize lets a kind hold its objects beyond metadata.finalizers (namespaces); nil means none.
	Finalize *Finalize
	// Hooks run inside the write and may allocate (cluster IPs); nil means none.
	Hooks *Hooks
	// Versions are others that the same objects are served in, such as autoscaling/v1 of an
	// autoscaler that is kept as v2. What they hold runs through the rules of the kind's own version.
	Versions []Version
	// Answer makes this a kind that is answered and not stored, such as reviews: it builds what
	// serves the kind. deps implements [Deciders]. Fields about storage are without meaning then.
	Answer func(deps any) (rest.Storage, error)
	// Extra builds further subresources by name ("log", "binding", "token", ...); store is the
	// kind's main storage, deps what the server offers.
	Extra map[string]func(store Store, deps any) (rest.Storage, error)
}

// Version is another group or version of a kind: a Go type of its own for the same objects.
type Version struct {
	GVK schema.GroupVersionKind
	// New and NewList return empty objects of the version and of its list.
	New     func() Object
	NewList func() runtime.Object
	// Default fills in what the user left out, before the object is converted; nil means nothing.
	Default func(obj Object)
	// FromVersion makes the kind's own object of one of this version, ToVersion the other way round.
	// Both may share memory with what they are given, which nobody changes afterwards, but must
	// not change it.
	FromVersion func(obj Object) Object
	ToVersion   func(obj Object) Object
	// Fields are selectable fields that have another name in this version, to the kind's own name.
	Fields map[string]string
}

// Store is the part of a kind's registry store that extra subresources use.
type Store interface {
	rest.Getter
	rest.Updater
	rest.GracefulDeleter
	rest.Creater
}

// Subresource is a second writer of the same object that owns some of its fields.
type Subresource struct {
	// Prepare copies from old whatever this subresource may not change.
	Prepare func(ctx context.Context, obj, old Object)
	// Validate checks the change (metadata is checked by the framework already).
	Validate func(ctx context.Context, obj, old Object) field.ErrorList
}

// Scale maps a kind onto autoscaling/v1 Scale.
type Scale struct {
	// Get returns wanted and present replicas and the selector in string form.
	Get func(obj Object) (spec, status int32, selector string)
	// Set changes the wanted replicas.
	Set func(obj Object, replicas int32)
}

// GracefulDelete decides about deletion: it may set options.GracePeriodSeconds and returns true
// when the object stays, marked, until its grace has passed (as rest.RESTGracefulDeleteStrategy).
type GracefulDelete func(ctx context.Context, obj Object, options *metav1.DeleteOptions) bool

// Finalize is for kinds with finalizers of their own besides metadata.finalizers.
type Finalize struct {
	// Pending says that an object marked for deletion has to stay though metadata.finalizers is
	// empty; as soon as an update makes it false the object goes.
	Pending func(obj Object) bool
	// Mark runs in the write that sets metadata.deletionTimestamp.
	Mark func(obj Object)
	// Collection says that whole collections may be deleted.
	Collection bool
}

// Hooks run around a write with the allocators of the server; deps implements [Allocators].
// BeginCreate and BeginUpdate run before PrepareFor... and validation, as in the generic registry,
// so they meet objects that may be invalid. Each returns a function that undoes what it did; it
// is called when the write fails and after a dry run.
type Hooks struct {
	BeginCreate func(ctx context.Context, obj Object, deps any) (undo func(), err error)
	BeginUpdate func(ctx context.Context, obj, old Object, deps any) (undo func(), err error)
	// AfterUpdate and AfterDelete run once the write is stored, never for a dry run; they give
	// back what the object no longer holds.
	AfterUpdate func(obj, old Object, deps any)
	AfterDelete func(obj Object, deps any)
}
