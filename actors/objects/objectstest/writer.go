package objectstest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// rehearsal marks the context of writes that are only tried.
type rehearsal struct{}

// rehearses says whether a write is only tried.
func rehearses(ctx context.Context) bool { return ctx.Value(rehearsal{}) != nil }

// All implements objects.Writer: it tries all writes, and does them if none was refused. What comes
// between can still make a part of them fail, which a test in a bubble does not see.
func (s *Store) All(ctx context.Context, writes ...func(context.Context) error) error {
	for _, ctx := range []context.Context{context.WithValue(ctx, rehearsal{}, true), ctx} {
		for _, write := range writes {
			if err := write(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// begin records a write and asks whether it is to fail; the caller holds writing.
func (s *Store) begin(ctx context.Context, w Write) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	if !rehearses(ctx) {
		s.writes = append(s.writes, w)
	}
	fail := s.fail
	s.mu.Unlock()
	if fail != nil {
		return fail(w)
	}
	return nil
}

// Create implements objects.Writer.
func (s *Store) Create(ctx context.Context, obj objects.Object) (objects.Object, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	obj = obj.DeepCopyObject().(objects.Object)
	if obj.GetName() == "" && obj.GetGenerateName() != "" {
		s.mu.RLock()
		obj.SetName(fmt.Sprintf("%s%05d", obj.GetGenerateName(), s.names+1))
		s.mu.RUnlock()
	}
	key := KeyOf(obj)
	if err := s.begin(ctx, Write{Verb: "create", Key: key, Object: obj}); err != nil {
		return nil, err
	}
	if _, ok := s.Get(key); ok {
		return nil, apierrors.NewAlreadyExists(groupResource(key), key.Name)
	}
	if ns, ok := objects.Get[*corev1.Namespace](s, messages.KeyOf(messages.Namespaces, "", key.Namespace)); ok && ns.DeletionTimestamp != nil {
		err := apierrors.NewForbidden(groupResource(key), key.Name, errors.New("namespace is being terminated"))
		err.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
		return nil, err
	}
	obj.SetUID("")
	obj.SetDeletionTimestamp(nil)
	obj.SetGeneration(1)
	s.identify(obj)
	if !rehearses(ctx) {
		s.store(key, obj)
	}
	return obj, nil
}

// Update implements objects.Writer.
func (s *Store) Update(ctx context.Context, obj objects.Object) (objects.Object, error) {
	return s.update(ctx, obj, "")
}

// UpdateStatus implements objects.Writer.
func (s *Store) UpdateStatus(ctx context.Context, obj objects.Object) (objects.Object, error) {
	return s.update(ctx, obj, "status")
}

func (s *Store) update(ctx context.Context, obj objects.Object, sub string) (objects.Object, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	obj = obj.DeepCopyObject().(objects.Object)
	key := KeyOf(obj)
	if err := s.begin(ctx, Write{Verb: "update", Sub: sub, Key: key, Object: obj}); err != nil {
		return nil, err
	}
	return s.replace(ctx, key, obj, sub)
}

func (s *Store) replace(ctx context.Context, key messages.Key, obj objects.Object, sub string) (objects.Object, error) {
	old, ok := s.Get(key)
	if !ok {
		return nil, apierrors.NewNotFound(groupResource(key), key.Name)
	}
	if v := obj.GetResourceVersion(); v != "" && v != old.GetResourceVersion() {
		return nil, apierrors.NewConflict(groupResource(key), key.Name, errors.New("the object has been modified"))
	}
	if u := obj.GetUID(); u != "" && u != old.GetUID() {
		return nil, apierrors.NewConflict(groupResource(key), key.Name, errors.New("the uid differs"))
	}
	next := merge(obj, old, sub)
	if equality.Semantic.DeepEqual(next, old) {
		return old, nil
	}
	switch {
	case rehearses(ctx):
	case ending(next):
		s.store(key, nil)
	default:
		s.store(key, next)
	}
	return next, nil
}

// ending says that an object marked for deletion has nothing left that holds it.
func ending(obj objects.Object) bool {
	if obj.GetDeletionTimestamp() == nil || len(obj.GetFinalizers()) > 0 {
		return false
	}
	if ns, ok := obj.(*corev1.Namespace); ok {
		return len(ns.Spec.Finalizers) == 0
	}
	grace := obj.GetDeletionGracePeriodSeconds()
	return grace == nil || *grace == 0
}

// Mutate implements objects.Writer.
func (s *Store) Mutate(ctx context.Context, key messages.Key, sub string, fn func(objects.Object) (objects.Object, error)) (objects.Object, error) {
	for {
		old, ok := s.Get(key)
		if !ok {
			return nil, apierrors.NewNotFound(groupResource(key), key.Name)
		}
		obj, err := fn(old.DeepCopyObject().(objects.Object))
		if err != nil {
			return nil, err
		}
		if equality.Semantic.DeepEqual(obj, old) {
			return old, nil
		}
		out, err := s.update(ctx, obj, sub)
		if !apierrors.IsConflict(err) || ctx.Err() != nil {
			return out, err
		}
		if now, ok := s.Get(key); ok && now.GetResourceVersion() == old.GetResourceVersion() {
			return nil, err // the conflict is not about the version
		}
	}
}

// Delete implements objects.Writer.
func (s *Store) Delete(ctx context.Context, key messages.Key, opts metav1.DeleteOptions) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.begin(ctx, Write{Verb: "delete", Key: key, Options: opts}); err != nil {
		return err
	}
	old, ok := s.Get(key)
	if !ok {
		return apierrors.NewNotFound(groupResource(key), key.Name)
	}
	if p := opts.Preconditions; p != nil {
		if p.UID != nil && *p.UID != old.GetUID() || p.ResourceVersion != nil && *p.ResourceVersion != old.GetResourceVersion() {
			return apierrors.NewConflict(groupResource(key), key.Name, errors.New("precondition failed"))
		}
	}
	obj := old.DeepCopyObject().(objects.Object)
	finalizers(obj, opts.PropagationPolicy)
	grace := graceOf(obj, opts)
	if obj.GetDeletionTimestamp() == nil || grace < *obj.GetDeletionGracePeriodSeconds() {
		obj.SetDeletionGracePeriodSeconds(&grace)
		at := metav1.NewTime(s.clock.Now().Add(time.Duration(grace) * time.Second))
		obj.SetDeletionTimestamp(&at)
		if obj.GetGeneration() > 0 {
			obj.SetGeneration(obj.GetGeneration() + 1)
		}
	}
	if ns, ok := obj.(*corev1.Namespace); ok {
		ns.Status.Phase = corev1.NamespaceTerminating
	}
	if ending(obj) {
		obj = nil
	}
	if !rehearses(ctx) && (obj == nil || !equality.Semantic.DeepEqual(obj, old)) {
		s.store(key, obj)
	}
	return nil
}

// graceOf is how long a pod that runs somewhere has to stop; everything else goes at once.
func graceOf(obj objects.Object, opts metav1.DeleteOptions) int64 {
	pod, ok := obj.(*corev1.Pod)
	switch {
	case !ok, pod.Spec.NodeName == "", pod.Status.Phase == corev1.PodFailed, pod.Status.Phase == corev1.PodSucceeded:
		return 0
	case opts.GracePeriodSeconds != nil:
		return *opts.GracePeriodSeconds
	case pod.Spec.TerminationGracePeriodSeconds != nil:
		return *pod.Spec.TerminationGracePeriodSeconds
	}
	return corev1.DefaultTerminationGracePeriodSeconds
}

func finalizers(obj objects.Object, policy *metav1.DeletionPropagation) {
	if policy == nil {
		return
	}
	own := []string{metav1.FinalizerOrphanDependents, metav1.FinalizerDeleteDependents}
	left := slices.DeleteFunc(slices.Clone(obj.GetFinalizers()), func(f string) bool { return slices.Contains(own, f) })
	switch *policy {
	case metav1.DeletePropagationOrphan:
		left = append(left, metav1.FinalizerOrphanDependents)
	case metav1.DeletePropagationForeground:
		left = append(left, metav1.FinalizerDeleteDependents)
	}
	obj.SetFinalizers(left)
}

// Bind implements objects.Writer.
func (s *Store) Bind(ctx context.Context, namespace, name, uid, node string) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	key := messages.KeyOf(messages.Pods, namespace, name)
	if err := s.begin(ctx, Write{Verb: "bind", Sub: node, Key: key}); err != nil {
		return err
	}
	old, ok := objects.Get[*corev1.Pod](s, key)
	if !ok {
		return apierrors.NewNotFound(groupResource(key), name)
	}
	if old.Spec.NodeName != "" || string(old.UID) != uid || old.DeletionTimestamp != nil {
		return apierrors.NewConflict(groupResource(key), name, errors.New("the pod is bound or another one"))
	}
	pod := old.DeepCopy()
	pod.Spec.NodeName = node
	pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{
		Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(s.clock.Now())})
	s.store(key, pod)
	return nil
}

// merge returns what an update of old by obj through sub stores.
func merge(obj, old objects.Object, sub string) objects.Object {
	out := obj
	if sub == "status" {
		out = old.DeepCopyObject().(objects.Object)
		setField(out, "status", obj)
	} else if sub == "" && field(old, "spec") != nil {
		setField(out, "status", old)
	}
	out.SetUID(old.GetUID())
	out.SetResourceVersion(old.GetResourceVersion())
	out.SetCreationTimestamp(old.GetCreationTimestamp())
	out.SetDeletionTimestamp(old.GetDeletionTimestamp())
	out.SetDeletionGracePeriodSeconds(old.GetDeletionGracePeriodSeconds())
	out.SetGeneration(old.GetGeneration())
	if sub == "" && !equality.Semantic.DeepEqual(field(out, "spec"), field(old, "spec")) {
		out.SetGeneration(old.GetGeneration() + 1)
	}
	return out
}

// field returns "spec" or "status" of any object, nil when its kind has none.
func field(obj objects.Object, name string) any {
	if u, ok := obj.(*unstructured.Unstructured); ok {
		return u.Object[name]
	}
	if v := reflect.ValueOf(obj).Elem().FieldByName(strings.ToUpper(name[:1]) + name[1:]); v.IsValid() {
		return v.Interface()
	}
	return nil
}

// setField copies "status" from another object of the same kind.
func setField(obj objects.Object, name string, from objects.Object) {
	if u, ok := obj.(*unstructured.Unstructured); ok {
		if v, ok := from.(*unstructured.Unstructured).Object[name]; ok {
			u.Object[name] = v
		} else {
			delete(u.Object, name)
		}
		return
	}
	member := strings.ToUpper(name[:1]) + name[1:]
	if v := reflect.ValueOf(obj).Elem().FieldByName(member); v.IsValid() {
		v.Set(reflect.ValueOf(from.DeepCopyObject()).Elem().FieldByName(member))
	}
}

func groupResource(key messages.Key) schema.GroupResource {
	return schema.GroupResource{Group: key.Group, Resource: strings.ToLower(key.Resource.Resource)}
}

var _ objects.Writer = (*Store)(nil)
