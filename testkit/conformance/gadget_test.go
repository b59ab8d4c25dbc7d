package conformance

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

var (
	gadgetsV1 = schema.GroupVersion{Group: "operator.example.com", Version: "v1"}
	gadgetsV2 = schema.GroupVersion{Group: "operator.example.com", Version: "v2"}
)

// oldGadget is a gadget of version v1, which says its size in one word.
type oldGadget struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              oldGadgetSpec `json:"spec,omitempty"`
	Status            gadgetStatus  `json:"status,omitempty"`
}

type oldGadgetSpec struct {
	Size   string `json:"size,omitempty"` // such as "3x4"
	Colour string `json:"colour,omitempty"`
}

// gadget is one of version v2, which is stored and which the operator works with.
type gadget struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              gadgetSpec   `json:"spec,omitempty"`
	Status            gadgetStatus `json:"status,omitempty"`
}

type gadgetSpec struct {
	Width  int    `json:"width,omitempty"`
	Height int    `json:"height,omitempty"`
	Colour string `json:"colour,omitempty"`
}

type gadgetStatus struct {
	// Settings is what the operator has written into the gadget's ConfigMap.
	Settings string `json:"settings,omitempty"`
}

type gadgetList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []gadget `json:"items"`
}

func (g *oldGadget) DeepCopyObject() runtime.Object {
	out := *g
	g.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	return &out
}

func (g *gadget) DeepCopyObject() runtime.Object {
	out := *g
	g.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	return &out
}

func (l *gadgetList) DeepCopyObject() runtime.Object {
	out := *l
	l.ListMeta.DeepCopyInto(&out.ListMeta)
	out.Items = make([]gadget, len(l.Items))
	for i := range l.Items {
		out.Items[i] = *l.Items[i].DeepCopyObject().(*gadget)
	}
	return &out
}

func addGadgets(s *runtime.Scheme) {
	s.AddKnownTypeWithName(gadgetsV1.WithKind("Gadget"), &oldGadget{})
	s.AddKnownTypeWithName(gadgetsV2.WithKind("Gadget"), &gadget{})
	s.AddKnownTypeWithName(gadgetsV2.WithKind("GadgetList"), &gadgetList{})
	metav1.AddToGroupVersion(s, gadgetsV1)
	metav1.AddToGroupVersion(s, gadgetsV2)
}

func gadgetFromOld(_ context.Context, old *oldGadget, g *gadget) error {
	g.ObjectMeta, g.Status, g.Spec = old.ObjectMeta, old.Status, gadgetSpec{Colour: old.Spec.Colour}
	if old.Spec.Size == "" {
		return nil
	}
	if _, err := fmt.Sscanf(old.Spec.Size, "%dx%d", &g.Spec.Width, &g.Spec.Height); err != nil {
		return fmt.Errorf("size %q is not WIDTHxHEIGHT: %w", old.Spec.Size, err)
	}
	return nil
}

func gadgetToOld(_ context.Context, g *gadget, old *oldGadget) error {
	old.ObjectMeta, old.Status = g.ObjectMeta, g.Status
	old.Spec = oldGadgetSpec{Size: fmt.Sprintf("%dx%d", g.Spec.Width, g.Spec.Height), Colour: g.Spec.Colour}
	return nil
}

// gadgetRules are the operator's webhooks of admission.
type gadgetRules struct{}

func (gadgetRules) Default(_ context.Context, g *gadget) error {
	if g.Spec.Colour == "" {
		g.Spec.Colour = "blue"
	}
	return nil
}

func (gadgetRules) ValidateCreate(_ context.Context, g *gadget) (admission.Warnings, error) {
	if g.Spec.Width*g.Spec.Height > 100 {
		return nil, fmt.Errorf("a gadget of %dx%d is too large", g.Spec.Width, g.Spec.Height)
	}
	if g.Spec.Width == g.Spec.Height {
		return admission.Warnings{"squares are dull"}, nil
	}
	return nil, nil
}

func (r gadgetRules) ValidateUpdate(ctx context.Context, old, g *gadget) (admission.Warnings, error) {
	if old.Spec.Colour != g.Spec.Colour {
		return nil, fmt.Errorf("colour is immutable")
	}
	return r.ValidateCreate(ctx, g)
}

func (gadgetRules) ValidateDelete(_ context.Context, g *gadget) (admission.Warnings, error) {
	if g.Labels["keep"] == "true" {
		return nil, fmt.Errorf("gadget %s is to be kept", g.Name)
	}
	return nil, nil
}

var (
	_ admission.Defaulter[*gadget] = gadgetRules{}
	_ admission.Validator[*gadget] = gadgetRules{}
)
