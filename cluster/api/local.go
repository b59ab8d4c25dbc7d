package api

import (
	"context"
	"fmt"
	"reflect"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/state/storage"
	"github.com/troupe-run/troupe/messages"
)

// local writes to the registry from within the process: defaults, admission and validation as for
// any request, but no HTTP, no codec, no authorization (the caller is part of the server) and no
// managed fields (server-side apply treats what it finds unowned as everybody's).
type local struct {
	s    *Server
	user user.Info
}

// Local returns a writer that acts as the named user.
func (s *Server) Local(name string) objects.Writer { return s.local(name) }

func (s *Server) local(name string) *local {
	return &local{s: s, user: &user.DefaultInfo{Name: name, Groups: []string{user.AllAuthenticated, user.SystemPrivilegedGroup}}}
}

// target is a resource as it is written to.
type target struct {
	gvk      schema.GroupVersionKind
	resource string
	store    interface {
		rest.CreaterUpdater
		rest.Getter
	}
	subs    map[string]*subresource
	deleter rest.GracefulDeleter
}

func newTarget(r *resource) *target {
	return &target{gvk: r.kind.GVK, resource: r.kind.Resource, store: r.store, subs: r.subs, deleter: r.deleter()}
}

func (t *target) groupResource() schema.GroupResource {
	return schema.GroupResource{Group: t.gvk.Group, Resource: t.resource}
}

// resourceOf finds the served resource of an object's type.
func (l *local) resourceOf(obj objects.Object) (*target, error) {
	if r, ok := l.s.byType[reflect.TypeOf(obj)]; ok {
		return r.target, nil
	}
	if e := l.s.extensions.Load(); e != nil {
		if res, ok := l.s.cfg.Store.ResourceOf(obj.GetObjectKind().GroupVersionKind().GroupKind()); ok {
			return l.custom(e, res)
		}
	}
	return nil, apierrors.NewBadRequest(fmt.Sprintf("no kind of type %T is served", obj))
}

func (l *local) resource(res messages.Resource) (*target, error) {
	if r, ok := l.s.resources[res]; ok && r.store != nil {
		return r.target, nil
	}
	if e := l.s.extensions.Load(); e != nil {
		return l.custom(e, res)
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Group: res.Group, Resource: res.Resource}, "")
}

// custom finds a custom resource, which is written in the version that is stored.
func (l *local) custom(e *extensions, res messages.Resource) (*target, error) {
	gvk, registry, err := e.custom.Registry(res)
	if err != nil {
		return nil, err
	}
	return &target{gvk: gvk, resource: res.Resource, store: registry, deleter: registry}, nil
}

func (l *local) context(ctx context.Context, namespace string) context.Context {
	return request.WithUser(request.WithNamespace(ctx, namespace), l.user)
}

func (l *local) attributes(t *target, obj, old runtime.Object, namespace, name, sub string, op admission.Operation, opts runtime.Object) admission.Attributes {
	return admission.NewAttributesRecord(obj, old, t.gvk, namespace, name,
		t.gvk.GroupVersion().WithResource(t.resource), sub, op, opts, false, l.user)
}

func (l *local) admit(ctx context.Context, a admission.Attributes) error {
	if !l.s.admission.Handles(a.GetOperation()) {
		return nil
	}
	return l.s.admission.Admit(ctx, a, l.s.interfaces)
}

// validates says whether validating plugins look at the resource; without them the registry is
// given no validation to call, and makes no copies for it.
func (l *local) validates(t *target, namespace, sub string, op admission.Operation) bool {
	return l.s.admission.Validates(t.groupResource(), namespace, sub, op)
}

// Create stores a copy of obj.
func (l *local) Create(ctx context.Context, obj objects.Object) (objects.Object, error) {
	return l.createOwn(ctx, obj.DeepCopyObject().(objects.Object))
}

// createOwn stores an object that nobody else has or changes any more.
func (l *local) createOwn(ctx context.Context, in objects.Object) (objects.Object, error) {
	r, err := l.resourceOf(in)
	if err != nil {
		return nil, err
	}
	ctx = storage.WithSharing(l.context(ctx, in.GetNamespace()))
	l.s.codecs.scheme.Default(in)
	opts := &metav1.CreateOptions{}
	a := l.attributes(r, in, nil, in.GetNamespace(), in.GetName(), "", admission.Create, opts)
	if err := l.admit(ctx, a); err != nil {
		return nil, err
	}
	var validate rest.ValidateObjectFunc
	if l.validates(r, in.GetNamespace(), "", admission.Create) {
		validate = rest.AdmissionToValidateObjectFunc(l.s.admission, a, l.s.interfaces)
	}
	return asObject(r.store.Create(ctx, in, validate, opts))
}

// Update replaces an object.
func (l *local) Update(ctx context.Context, obj objects.Object) (objects.Object, error) {
	return l.replace(ctx, obj, "")
}

// UpdateStatus replaces an object's status.
func (l *local) UpdateStatus(ctx context.Context, obj objects.Object) (objects.Object, error) {
	return l.replace(ctx, obj, "status")
}

func (l *local) replace(ctx context.Context, obj objects.Object, sub string) (objects.Object, error) {
	r, err := l.resourceOf(obj)
	if err != nil {
		return nil, err
	}
	return l.update(ctx, r, obj.GetNamespace(), obj.GetName(), sub, func(objects.Object) (objects.Object, error) {
		return obj.DeepCopyObject().(objects.Object), nil
	})
}

// Mutate applies fn to the newest version; the store calls it again after a conflict.
func (l *local) Mutate(ctx context.Context, key messages.Key, sub string, fn func(objects.Object) (objects.Object, error)) (objects.Object, error) {
	r, err := l.resource(key.Resource)
	if err != nil {
		return nil, err
	}
	return l.update(ctx, r, key.Namespace, key.Name, sub, func(old objects.Object) (objects.Object, error) {
		return fn(old.DeepCopyObject().(objects.Object))
	})
}

func (l *local) update(ctx context.Context, r *target, namespace, name, sub string, next func(old objects.Object) (objects.Object, error)) (objects.Object, error) {
	// next returns a copy of its own, and strategies change nothing in the old object.
	ctx = storage.WithSharing(l.context(ctx, namespace))
	opts := &metav1.UpdateOptions{}
	info := &nextObject{next: func(ctx context.Context, old runtime.Object) (runtime.Object, error) {
		obj, err := next(old.(objects.Object))
		if err != nil {
			return nil, err
		}
		l.s.codecs.scheme.Default(obj)
		return obj, l.admit(ctx, l.attributes(r, obj, old, namespace, name, sub, admission.Update, opts))
	}}
	var validate rest.ValidateObjectUpdateFunc
	if l.validates(r, namespace, sub, admission.Update) {
		validate = rest.AdmissionToValidateObjectUpdateFunc(l.s.admission,
			l.attributes(r, nil, nil, namespace, name, sub, admission.Update, opts), l.s.interfaces)
	}
	var w rest.Updater = r.store
	if sub != "" {
		s, ok := r.subs[sub]
		if !ok {
			return nil, apierrors.NewNotFound(schema.GroupResource{Group: r.gvk.Group, Resource: r.resource + "/" + sub}, name)
		}
		w = s
	}
	out, _, err := w.Update(ctx, name, info, rest.ValidateAllObjectFunc, validate, false, opts)
	return asObject(out, err)
}

// nextObject computes the new object from the one in the store.
type nextObject struct {
	next func(ctx context.Context, old runtime.Object) (runtime.Object, error)
}

func (n *nextObject) Preconditions() *metav1.Preconditions { return nil }

func (n *nextObject) UpdatedObject(ctx context.Context, old runtime.Object) (runtime.Object, error) {
	return n.next(ctx, old)
}

// Delete starts or performs deletion.
func (l *local) Delete(ctx context.Context, key messages.Key, opts metav1.DeleteOptions) error {
	r, err := l.resource(key.Resource)
	if err != nil {
		return err
	}
	ctx = l.context(ctx, key.Namespace)
	a := l.attributes(r, nil, nil, key.Namespace, key.Name, "", admission.Delete, &opts)
	if err := l.admit(ctx, a); err != nil {
		return err
	}
	_, _, err = r.deleter.Delete(ctx, key.Name, rest.AdmissionToValidateObjectDeleteFunc(l.s.admission, a, l.s.interfaces), &opts)
	return err
}

// All performs writes as one.
func (l *local) All(ctx context.Context, writes ...func(context.Context) error) error {
	return storage.All(ctx, writes...)
}

// Bind sets a pod's node.
func (l *local) Bind(ctx context.Context, namespace, pod, uid, node string) error {
	r, ok := l.s.resources[messages.Pods]
	if !ok {
		return apierrors.NewNotFound(corev1.Resource("pods"), pod)
	}
	return bind(storage.WithSharing(l.context(ctx, namespace)), r.store, l.s.cfg.Store, l.s.cfg.Clock, &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: pod, UID: typesUID(uid)},
		Target:     corev1.ObjectReference{Kind: "Node", Name: node},
	}, false)
}

func asObject(obj runtime.Object, err error) (objects.Object, error) {
	if err != nil {
		return nil, err
	}
	return obj.(objects.Object), nil
}

var _ objects.Writer = (*local)(nil)
