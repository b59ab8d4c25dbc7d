package admission

import (
	"context"
	"fmt"
	"reflect"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// params keeps everybody from reading by a policy what they may not read themselves: the
// parameters of policies and bindings are shown in their messages.
type params struct {
	*admission.Handler
	reader objects.Reader
	auth   authorizer.Authorizer
	mapper meta.RESTMapper
}

func newParams(cfg Config) *params {
	return &params{admission.NewHandler(admission.Create, admission.Update), cfg.Reader, cfg.Authorizer, cfg.Mapper}
}

// paramUse is what a policy or a binding says of parameters.
type paramUse struct {
	kind   *admissionv1.ParamKind
	ref    *admissionv1.ParamRef
	policy messages.Key // says of which kind ref is
}

func paramUseOf(obj runtime.Object) paramUse {
	policy := func(resource, name string) messages.Key {
		return messages.KeyOf(messages.Resource{Group: admissionv1.GroupName, Resource: resource}, "", name)
	}
	switch obj := obj.(type) {
	case *admissionv1.ValidatingAdmissionPolicy:
		return paramUse{kind: obj.Spec.ParamKind}
	case *admissionv1.MutatingAdmissionPolicy:
		return paramUse{kind: obj.Spec.ParamKind}
	case *admissionv1.ValidatingAdmissionPolicyBinding:
		return paramUse{ref: obj.Spec.ParamRef, policy: policy("validatingadmissionpolicies", obj.Spec.PolicyName)}
	case *admissionv1.MutatingAdmissionPolicyBinding:
		return paramUse{ref: obj.Spec.ParamRef, policy: policy("mutatingadmissionpolicies", obj.Spec.PolicyName)}
	}
	return paramUse{}
}

// Validate checks policies and bindings whose parameters are new or changed.
func (p *params) Validate(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if a.GetResource().Group != admissionv1.GroupName || a.GetSubresource() != "" {
		return nil
	}
	use := paramUseOf(a.GetObject())
	if reflect.DeepEqual(use, paramUseOf(a.GetOldObject())) {
		return nil
	}
	at, err := "paramKind", error(nil)
	switch {
	case use.kind != nil:
		err = p.kind(ctx, a, use.kind)
	case use.ref != nil:
		at, err = "paramRef", p.ref(ctx, a, use.ref, use.policy)
	}
	if err == nil {
		return nil
	}
	return apierrors.NewInvalid(a.GetKind().GroupKind(), a.GetName(), field.ErrorList{field.Forbidden(field.NewPath("spec", at), err.Error())})
}

// kind asks whether the user may read all objects of a kind.
func (p *params) kind(ctx context.Context, a admission.Attributes, k *admissionv1.ParamKind) error {
	ok, err := p.may(ctx, a, k, authorizer.AttributesRecord{Verb: "get", Namespace: "*", Name: "*"})
	if err == nil && !ok {
		err = fmt.Errorf(`user %v must have "get" permission on all objects of the referenced paramKind (kind=%s, apiVersion=%s)`,
			a.GetUserInfo().GetName(), k.Kind, k.APIVersion)
	}
	return err
}

// ref asks whether the user may read what a reference names: one object, or those that a selector
// finds. Without a namespace it is about all.
func (p *params) ref(ctx context.Context, a admission.Attributes, ref *admissionv1.ParamRef, policy messages.Key) error {
	var k *admissionv1.ParamKind
	if obj, ok := p.reader.Get(policy); ok {
		k = paramUseOf(obj).kind
	}
	verb := "get"
	if ref.Name == "" {
		verb = "list"
	}
	ok, err := p.may(ctx, a, k, authorizer.AttributesRecord{Verb: verb, Namespace: ref.Namespace, Name: ref.Name})
	if err == nil && !ok {
		err = fmt.Errorf(`user %v does not have %q permission on the object referenced by paramRef`, a.GetUserInfo().GetName(), verb)
	}
	return err
}

// may asks about objects of a kind, or of all kinds when nobody knows it.
func (p *params) may(ctx context.Context, a admission.Attributes, k *admissionv1.ParamKind, of authorizer.AttributesRecord) (bool, error) {
	of.User, of.ResourceRequest = a.GetUserInfo(), true
	of.APIGroup, of.APIVersion, of.Resource = "*", "*", "*"
	if k != nil {
		if gv, err := schema.ParseGroupVersion(k.APIVersion); err == nil {
			of.APIGroup, of.APIVersion = gv.Group, gv.Version
			if m, err := p.mapper.RESTMapping(schema.GroupKind{Group: gv.Group, Kind: k.Kind}, gv.Version); err == nil {
				of.Resource = m.Resource.Resource
			}
		}
	}
	decision, _, err := p.auth.Authorize(ctx, of)
	return decision == authorizer.DecisionAllow, err
}

var _ admission.ValidationInterface = (*params)(nil)
