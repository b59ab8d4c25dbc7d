package admission

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/admission"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/actors/resourcequota"
)

// quotas charges new objects to the quotas of their namespace.
type quotas struct {
	*admission.Handler
	books  *resourcequota.Books
	writer objects.Writer
}

func newQuota(books *resourcequota.Books, w objects.Writer) *quotas {
	return &quotas{admission.NewHandler(admission.Create, admission.Update), books, w}
}

// Validate charges the object. The charge is taken back when nothing is stored, as far as the
// request can tell; see [WithSettlement].
func (q *quotas) Validate(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if a.GetNamespace() == "" || a.GetKind().GroupKind() == corev1.SchemeGroupVersion.WithKind("Namespace").GroupKind() ||
		!q.books.Limited(a.GetResource().GroupResource(), a.GetNamespace()) {
		return nil
	}
	s, ok := ctx.Value(settlementKey{}).(*settlement)
	if ok {
		s.end(false) // an attempt before this one met a conflict
	}
	settle, err := q.books.Charge(ctx, q.writer, a)
	if err != nil || !ok {
		settle(err == nil)
		return err
	}
	s.begin(settle)
	return nil
}

// settlement remembers what to do once it is known whether a write succeeded.
type settlement struct {
	mu     sync.Mutex
	settle func(stored bool)
}

type settlementKey struct{}

// WithSettlement lets plugins learn what became of a write: done must be called when it is stored
// or has failed.
func WithSettlement(ctx context.Context) (_ context.Context, done func(stored bool)) {
	s := &settlement{}
	return context.WithValue(ctx, settlementKey{}, s), s.end
}

// Settle is what WithSettlement returns, for whoever has the context alone.
func Settle(ctx context.Context, stored bool) {
	if s, ok := ctx.Value(settlementKey{}).(*settlement); ok {
		s.end(stored)
	}
}

func (s *settlement) begin(settle func(bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle = settle
}

func (s *settlement) end(stored bool) {
	s.mu.Lock()
	settle := s.settle
	s.settle = nil
	s.mu.Unlock()
	if settle != nil {
		settle(stored)
	}
}

var _ admission.ValidationInterface = (*quotas)(nil)
