package apiregistration

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kube-aggregator/pkg/apis/apiregistration"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kube-aggregator/pkg/apis/apiregistration/v1/helper"
	registry "k8s.io/kube-aggregator/pkg/registry/apiservice"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/check"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

// APIService describes apiregistration.k8s.io/v1 APIService.
func APIService() kind.Kind {
	whole, status := registry.Strategy, registry.NewStatusStrategy(nil)
	return kind.Kind{
		GVK:        apiregistrationv1.SchemeGroupVersion.WithKind("APIService"),
		Resource:   "apiservices",
		Singular:   "apiservice",
		Categories: []string{"api-extensions"},
		New:        func() kind.Object { return &apiregistrationv1.APIService{} },
		NewList:    func() runtime.Object { return &apiregistrationv1.APIServiceList{} },

		Default: func(obj kind.Object) {
			apiregistrationv1.SetObjectDefaults_APIService(obj.(*apiregistrationv1.APIService))
		},
		ValidateName: check.AnyName,
		Validate: func(ctx context.Context, obj kind.Object) field.ErrorList {
			return check.BesidesMetadata(whole.Validate(ctx, internal(obj)))
		},
		ValidateUpdate: func(ctx context.Context, obj, old kind.Object) field.ErrorList {
			return check.BesidesMetadata(whole.ValidateUpdate(ctx, internal(obj), internal(old)))
		},
		PrepareForCreate: func(ctx context.Context, obj kind.Object) {
			in := internal(obj)
			whole.PrepareForCreate(ctx, in)
			external(in, obj)
		},
		PrepareForUpdate: func(ctx context.Context, obj, old kind.Object) {
			in := internal(obj)
			whole.PrepareForUpdate(ctx, in, internal(old))
			external(in, obj)
		},
		NeedsResourceVersion: true,
		Status: &kind.Subresource{
			Prepare: func(ctx context.Context, obj, old kind.Object) {
				in := internal(obj)
				status.PrepareForUpdate(ctx, in, internal(old))
				external(in, obj)
			},
			Validate: func(ctx context.Context, obj, old kind.Object) field.ErrorList {
				return check.BesidesMetadata(status.ValidateUpdate(ctx, internal(obj), internal(old)))
			},
		},

		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Col("Service", "The reference to the service that hosts this API endpoint."),
			table.Col("Available", "Whether this service is available."),
			table.Age(),
		},
		Row: func(obj kind.Object) []any {
			s := obj.(*apiregistrationv1.APIService)
			service := "Local"
			if ref := s.Spec.Service; ref != nil {
				service = ref.Namespace + "/" + ref.Name
			}
			return []any{s.Name, service, available(s), table.Since(s.CreationTimestamp)}
		},
	}
}

func available(s *apiregistrationv1.APIService) string {
	c := helper.GetAPIServiceConditionByType(s, apiregistrationv1.Available)
	switch {
	case c == nil:
		return string(apiregistrationv1.ConditionUnknown)
	case c.Status != apiregistrationv1.ConditionTrue && c.Reason != "":
		return string(c.Status) + " (" + c.Reason + ")"
	}
	return string(c.Status)
}

// internal converts an object into the type that the rules are written for. Neither direction
// fails: the types have the same layout.
func internal(obj kind.Object) *apiregistration.APIService {
	out := &apiregistration.APIService{}
	_ = apiregistrationv1.Convert_v1_APIService_To_apiregistration_APIService(obj.(*apiregistrationv1.APIService), out, nil)
	return out
}

// external writes what the rules made of an object back to it.
func external(in *apiregistration.APIService, obj kind.Object) {
	s := obj.(*apiregistrationv1.APIService)
	out := apiregistrationv1.APIService{TypeMeta: s.TypeMeta}
	if apiregistrationv1.Convert_apiregistration_APIService_To_v1_APIService(in, &out, nil) == nil {
		*s = out
	}
}
