package api

import (
	"context"
	"fmt"
	"sync"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/cel/openapi/resolver"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/api/openapi"
	"github.com/troupe-run/troupe/messages"
)

var validatingPolicies = messages.Resource{Group: admissionv1.GroupName, Resource: "validatingadmissionpolicies"}

// typeCheck tells the authors of validating policies, in the policies' status, which expressions do
// not fit the types that they are about. It runs until ctx ends.
func (s *Server) typeCheck(ctx context.Context) {
	if !s.serves(validatingPolicies) {
		return
	}
	var mu sync.Mutex
	waiting := make(map[messages.Key]bool)
	more := make(chan struct{}, 1)
	stop := s.cfg.Store.Follow([]messages.Resource{validatingPolicies}, func(c objects.Change) {
		if p, ok := c.New.(*admissionv1.ValidatingAdmissionPolicy); !ok || p.Status.ObservedGeneration >= p.Generation {
			return
		}
		mu.Lock()
		waiting[c.Key] = true
		mu.Unlock()
		select {
		case more <- struct{}{}:
		default:
		}
	})
	defer stop()
	w := s.Local(user.APIServerUser)
	checker := sync.OnceValue(func() *validating.TypeChecker {
		return &validating.TypeChecker{RestMapper: s.mapper,
			SchemaResolver: resolver.NewDefinitionsSchemaResolver(openapi.GetOpenAPIDefinitions, s.codecs.scheme)}
	})
	for {
		select {
		case <-ctx.Done():
			return
		case <-more:
		}
		mu.Lock()
		keys := waiting
		waiting = make(map[messages.Key]bool)
		mu.Unlock()
		for key := range keys {
			if err := checkTypes(ctx, w, checker(), key); err != nil && ctx.Err() == nil {
				s.log.Warn("types of a policy not checked", "key", key.String(), "err", err)
			}
		}
	}
}

func checkTypes(ctx context.Context, w objects.Writer, checker *validating.TypeChecker, key messages.Key) error {
	_, err := w.Mutate(ctx, key, "status", func(obj objects.Object) (objects.Object, error) {
		p, ok := obj.(*admissionv1.ValidatingAdmissionPolicy)
		if !ok {
			return nil, fmt.Errorf("check types of %s: unexpected object %T", key, obj)
		}
		p.Status.TypeChecking = &admissionv1.TypeChecking{ExpressionWarnings: checker.Check(p)}
		p.Status.ObservedGeneration = p.Generation
		return p, nil
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
