package resourcequota

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	quota "k8s.io/apiserver/pkg/quota/v1"
	"k8s.io/utils/clock"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// Quotas is the resource of ResourceQuota objects.
var Quotas = messages.Resource{Resource: "resourcequotas"}

// Books knows what is used in every namespace that has a quota.
type Books struct {
	reader  objects.Reader
	special map[schema.GroupResource]*measure

	mu     sync.Mutex
	spaces map[string]*space
}

// space is one namespace while somebody works on its quotas or has charged what is not stored yet.
type space struct {
	users int // that hold the space, under Books.mu
	// mu lets one at a time read usage and write it into quotas.
	mu      sync.Mutex
	waiting []*charge // under Books.mu
	// held is what was charged and is not stored yet, under mu.
	held map[*charge]struct{}
}

// NewBooks counts the objects of reader; now tells when a pod should have ended.
func NewBooks(reader objects.Reader, now clock.PassiveClock) *Books {
	b := &Books{reader: reader, special: make(map[schema.GroupResource]*measure), spaces: make(map[string]*space)}
	for _, m := range []*measure{pods(now), services(), claims(), deviceClaims()} {
		b.special[m.resource] = m
	}
	return b
}

// measureOf returns what measures a resource.
func (b *Books) measureOf(res schema.GroupResource) *measure {
	if m, ok := b.special[res]; ok {
		return m
	}
	return counting(res)
}

// of returns the quotas of a namespace, in the order of their names.
func (b *Books) of(namespace string) []*corev1.ResourceQuota {
	list := objects.List[*corev1.ResourceQuota](b.reader, Quotas, namespace)
	slices.SortFunc(list, func(x, y *corev1.ResourceQuota) int { return strings.Compare(x.Name, y.Name) })
	return list
}

// Limited says whether any quota of the namespace is about the resource.
func (b *Books) Limited(res schema.GroupResource, namespace string) bool {
	if namespace == "" || res.Resource == "events" {
		return false
	}
	list := b.reader.List(Quotas, namespace)
	if len(list) == 0 {
		return false
	}
	m := b.measureOf(res)
	for _, obj := range list {
		if q, ok := obj.(*corev1.ResourceQuota); ok && (concerns(q.Status.Hard, m) || concerns(q.Spec.Hard, m)) {
			return true
		}
	}
	return false
}

func concerns(hard corev1.ResourceList, m *measure) bool {
	for name := range hard {
		if m.names(name) {
			return true
		}
	}
	return false
}

// enter returns the space of a namespace; the caller leaves it.
func (b *Books) enter(namespace string) *space {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.spaces[namespace]
	if s == nil {
		s = &space{held: make(map[*charge]struct{})}
		b.spaces[namespace] = s
	}
	s.users++
	return s
}

func (b *Books) leave(namespace string, s *space) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.users--; s.users == 0 {
		delete(b.spaces, namespace)
	}
}

// Recalculate writes into a quota what is used. It writes nothing when that is there already.
func (b *Books) Recalculate(ctx context.Context, w objects.Writer, key messages.Key) error {
	s := b.enter(key.Namespace)
	defer b.leave(key.Namespace, s)
	s.mu.Lock()
	defer s.mu.Unlock()
	return b.recalculate(ctx, w, s, key)
}

func (b *Books) recalculate(ctx context.Context, w objects.Writer, s *space, key messages.Key) error {
	have, ok := objects.Get[*corev1.ResourceQuota](b.reader, key)
	if !ok {
		return nil
	}
	if used, err := b.used(s, have); err != nil || settled(have, used) {
		return err
	}
	_, err := w.Mutate(ctx, key, "status", func(obj objects.Object) (objects.Object, error) {
		q, ok := obj.(*corev1.ResourceQuota)
		if !ok {
			return nil, fmt.Errorf("recalculate %s: unexpected object %T", key, obj)
		}
		used, err := b.used(s, q)
		if err != nil {
			return nil, err
		}
		if !settled(q, used) {
			q.Status = corev1.ResourceQuotaStatus{Hard: q.Spec.Hard.DeepCopy(), Used: used}
		}
		return q, nil
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("write what is used into %s: %w", key, err)
	}
	return nil
}

// settled says that the status is what it has to be.
func settled(q *corev1.ResourceQuota, used corev1.ResourceList) bool {
	return quota.Equals(q.Status.Hard, q.Spec.Hard) && quota.Equals(q.Status.Used, used)
}

// used sums up what a quota limits. What was charged and is not stored yet counts as if it were.
func (b *Books) used(s *space, q *corev1.ResourceQuota) (corev1.ResourceList, error) {
	used := make(corev1.ResourceList, len(q.Spec.Hard))
	resources := make(map[schema.GroupResource]bool)
	for name := range q.Spec.Hard {
		used[name] = resource.Quantity{Format: resource.DecimalSI}
		found := false
		for res, m := range b.special {
			if m.names(name) {
				resources[res], found = true, true
			}
		}
		if res, ok := countedBy(name); ok && !found {
			resources[res] = true
		}
	}
	for res := range resources {
		sum, err := b.sum(s, q, res)
		if err != nil {
			return nil, err
		}
		used = quota.Add(used, quota.Mask(sum, quota.ResourceNames(q.Spec.Hard)))
	}
	return used, nil
}

func (b *Books) sum(s *space, q *corev1.ResourceQuota, res schema.GroupResource) (corev1.ResourceList, error) {
	m := b.measureOf(res)
	// By spec, not by status, whose limits may be those of yesterday.
	by := &corev1.ResourceQuota{Spec: q.Spec, Status: corev1.ResourceQuotaStatus{Hard: q.Spec.Hard}}
	usage := func(obj runtime.Object) (corev1.ResourceList, error) {
		if ok, err := m.Matches(by, obj); err != nil || !ok {
			return nil, err
		}
		return m.Usage(obj)
	}
	waiting := make(map[string]corev1.ResourceList)
	for c := range s.held {
		if c.key.Resource.Group != res.Group || c.key.Resource.Resource != res.Resource {
			continue
		}
		u, err := usage(c.object)
		if err != nil {
			return nil, fmt.Errorf("measure %s: %w", c.key, err)
		}
		waiting[c.key.Name] = quota.Max(waiting[c.key.Name], u)
	}
	sum := corev1.ResourceList{}
	for _, obj := range b.reader.List(messages.Resource{Group: res.Group, Resource: res.Resource}, q.Namespace) {
		u, err := usage(obj)
		if err != nil {
			return nil, fmt.Errorf("measure %s %s/%s: %w", res, q.Namespace, obj.GetName(), err)
		}
		if w, ok := waiting[obj.GetName()]; ok {
			u = quota.Max(u, w)
			delete(waiting, obj.GetName())
		}
		sum = quota.Add(sum, u)
	}
	for _, u := range waiting {
		sum = quota.Add(sum, u)
	}
	return sum, nil
}
