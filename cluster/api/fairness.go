package api

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/util/flowcontrol"
	apply "k8s.io/client-go/applyconfigurations/flowcontrol/v1"
	client "k8s.io/client-go/kubernetes/typed/flowcontrol/v1"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/actors/objects"
	kinds "github.com/troupe-run/troupe/cluster/api/kinds/flowcontrol"
	"github.com/troupe-run/troupe/messages"
)

// maxConcurrent is how many requests are served at a time, shared out among the priority levels:
// Kubernetes' 400 that read and 200 that write.
const maxConcurrent = 600

var (
	flowSchemas    = messages.Resource{Group: flowcontrolv1.GroupName, Resource: "flowschemas"}
	priorityLevels = messages.Resource{Group: flowcontrolv1.GroupName, Resource: "prioritylevelconfigurations"}
)

// newFairness shares the server out among those who ask; nil when its kinds are not served.
func (s *Server) newFairness() flowcontrol.Interface {
	if !s.keeps(flowSchemas) || !s.keeps(priorityLevels) {
		return nil
	}
	return flowcontrol.New(s.factory, flowClient{writer: s.Local(user.APIServerUser)}, maxConcurrent)
}

// keeps says whether a kind is among those that are to be served.
func (s *Server) keeps(res messages.Resource) bool {
	for i := range s.cfg.Kinds {
		if resourceName(&s.cfg.Kinds[i]) == res {
			return true
		}
	}
	return false
}

// bootFlows makes the levels and schemas of every cluster, and updates those that nobody claims.
func (s *Server) bootFlows(ctx context.Context, g *errgroup.Group, w objects.Writer) {
	if !s.serves(flowSchemas) || !s.serves(priorityLevels) {
		return
	}
	mandatory, suggested := kinds.Bootstrap()
	for i, set := range []kinds.Objects{mandatory, suggested} {
		fixed := i == 0
		for _, l := range set.Levels {
			g.Go(func() error {
				return s.ensure(ctx, w, messages.KeyOf(priorityLevels, "", l.Name), suggest(l.DeepCopy()), func(o objects.Object) (objects.Object, bool) {
					have := o.(*flowcontrolv1.PriorityLevelConfiguration)
					if fixed || !keptByUs(have) || apiequality.Semantic.DeepEqual(have.Spec, l.Spec) {
						return have, false
					}
					have.Spec = *l.Spec.DeepCopy()
					return have, true
				})
			})
		}
		for _, f := range set.Schemas {
			g.Go(func() error {
				return s.ensure(ctx, w, messages.KeyOf(flowSchemas, "", f.Name), suggest(f.DeepCopy()), func(o objects.Object) (objects.Object, bool) {
					have := o.(*flowcontrolv1.FlowSchema)
					if fixed || !keptByUs(have) || apiequality.Semantic.DeepEqual(have.Spec, f.Spec) {
						return have, false
					}
					have.Spec = *f.Spec.DeepCopy()
					return have, true
				})
			})
		}
	}
}

// suggest marks an object as following the release.
func suggest(obj objects.Object) objects.Object {
	obj.SetAnnotations(map[string]string{kinds.AutoUpdate: "true"})
	return obj
}

// keptByUs says that an administrator has not taken the object over: by the annotation, or else by
// never having changed it.
func keptByUs(obj objects.Object) bool {
	if v, ok := obj.GetAnnotations()[kinds.AutoUpdate]; ok {
		return v == "true"
	}
	return obj.GetGeneration() == 1
}

// flowClient is what flow control writes by: nothing but the status of flow schemas.
type flowClient struct {
	client.FlowcontrolV1Interface
	writer objects.Writer
}

func (c flowClient) FlowSchemas() client.FlowSchemaInterface { return schemaClient{writer: c.writer} }

type schemaClient struct {
	client.FlowSchemaInterface
	writer objects.Writer
}

// ApplyStatus sets the conditions that are given and leaves the others.
func (c schemaClient) ApplyStatus(ctx context.Context, in *apply.FlowSchemaApplyConfiguration, _ metav1.ApplyOptions) (*flowcontrolv1.FlowSchema, error) {
	if in.Name == nil || in.Status == nil {
		return nil, fmt.Errorf("apply the status of a flow schema: it has no name or no status")
	}
	out, err := c.writer.Mutate(ctx, messages.KeyOf(flowSchemas, "", *in.Name), "status", func(obj objects.Object) (objects.Object, error) {
		s, ok := obj.(*flowcontrolv1.FlowSchema)
		if !ok {
			return nil, fmt.Errorf("apply the status of %s: unexpected object %T", *in.Name, obj)
		}
		for _, cond := range in.Status.Conditions {
			setFlowCondition(s, flowcontrolv1.FlowSchemaCondition{Type: ptr.Deref(cond.Type, ""), Status: ptr.Deref(cond.Status, ""),
				LastTransitionTime: ptr.Deref(cond.LastTransitionTime, metav1.Time{}), Reason: ptr.Deref(cond.Reason, ""), Message: ptr.Deref(cond.Message, "")})
		}
		return s, nil
	})
	if err != nil {
		return nil, err
	}
	return out.(*flowcontrolv1.FlowSchema), nil
}

func setFlowCondition(s *flowcontrolv1.FlowSchema, c flowcontrolv1.FlowSchemaCondition) {
	for i := range s.Status.Conditions {
		if s.Status.Conditions[i].Type == c.Type {
			s.Status.Conditions[i] = c
			return
		}
	}
	s.Status.Conditions = append(s.Status.Conditions, c)
}
