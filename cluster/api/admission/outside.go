package admission

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/initializer"
	mutatingpolicy "k8s.io/apiserver/pkg/admission/plugin/policy/mutating"
	validatingpolicy "k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	webhookinitializer "k8s.io/apiserver/pkg/admission/plugin/webhook/initializer"
	mutatingwebhook "k8s.io/apiserver/pkg/admission/plugin/webhook/mutating"
	validatingwebhook "k8s.io/apiserver/pkg/admission/plugin/webhook/validating"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	webhookutil "k8s.io/apiserver/pkg/util/webhook"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/api/informers"
	"github.com/troupe-run/troupe/messages"
)

// Outside is what the plugins need that ask webhooks or run policies.
type Outside struct {
	// Factory feeds the plugins; its end is theirs. Required.
	Factory *informers.Factory
	// Loopback reaches the server, for schemas and for parameters of custom kinds. Required.
	Loopback func() *rest.Config
	// Services finds the webhooks that are Services. Required.
	Services webhookutil.ServiceResolver
}

// asked are the resources that are answered and not stored; policies leave them alone.
var asked = []schema.GroupResource{
	{Group: "authentication.k8s.io", Resource: "selfsubjectreviews"}, {Group: "authentication.k8s.io", Resource: "tokenreviews"},
	{Group: "authorization.k8s.io", Resource: "localsubjectaccessreviews"}, {Group: "authorization.k8s.io", Resource: "selfsubjectaccessreviews"},
	{Group: "authorization.k8s.io", Resource: "selfsubjectrulesreviews"}, {Group: "authorization.k8s.io", Resource: "subjectaccessreviews"},
}

// dormant is a plugin of Kubernetes' library that is made when there is an object for it, and costs
// next to nothing until then.
type dormant struct {
	*admission.Handler
	reader objects.Reader
	// of are the objects that wake the plugin.
	of    messages.Resource
	awake atomic.Bool
	wake  func() (admission.Interface, error)
}

func newDormant(cfg Config, resource string, build func() (admission.Interface, error), ops ...admission.Operation) *dormant {
	return &dormant{
		Handler: admission.NewHandler(ops...), reader: cfg.Reader,
		of: messages.Resource{Group: admissionregistrationv1.GroupName, Resource: resource},
		wake: sync.OnceValues(func() (admission.Interface, error) {
			p, err := build()
			if err != nil {
				return nil, err
			}
			return p, cfg.initialize(p)
		}),
	}
}

// initialize gives a plugin what it wants, and starts what it listens to.
func (cfg Config) initialize(p admission.Interface) error {
	o := cfg.Outside
	loopback := o.Loopback()
	client, err := kubernetes.NewForConfig(loopback)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	custom, err := dynamic.NewForConfig(loopback)
	if err != nil {
		return fmt.Errorf("make a dynamic client: %w", err)
	}
	admission.PluginInitializers{
		initializer.New(client, custom, o.Factory, cfg.Authorizer, utilfeature.DefaultFeatureGate, nil, o.Factory.Stopping(), cfg.Mapper),
		webhookinitializer.NewPluginInitializer(nil, o.Services),
	}.Initialize(p)
	if w, ok := p.(initializer.WantsExcludedAdmissionResources); ok {
		w.SetExcludedAdmissionResources(asked)
	}
	// The gate is about the alpha and beta versions too; here there is v1 alone.
	if policies, ok := p.(*mutatingpolicy.Plugin); ok {
		policies.SetEnabled(true)
	}
	if err := admission.ValidateInitialization(p); err != nil {
		return err
	}
	o.Factory.Start(nil)
	return nil
}

// active says whether there is anything to ask.
func (d *dormant) active() bool {
	if d.awake.Load() {
		return true
	}
	if len(d.reader.List(d.of, "")) == 0 {
		return false
	}
	d.awake.Store(true)
	return true
}

// plugin returns the plugin, nil while it sleeps.
func (d *dormant) plugin() (admission.Interface, error) {
	if !d.active() {
		return nil, nil
	}
	p, err := d.wake()
	if err != nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("make the plugin of %s: %w", d.of, err))
	}
	return p, nil
}

// mutatingOutside and validatingOutside are dormant plugins of either sort.
type (
	mutatingOutside   struct{ *dormant }
	validatingOutside struct{ *dormant }
)

// Admit asks, if there is anybody to ask.
func (m mutatingOutside) Admit(ctx context.Context, a admission.Attributes, o admission.ObjectInterfaces) error {
	p, err := m.plugin()
	if p == nil {
		return err
	}
	return p.(admission.MutationInterface).Admit(ctx, a, o)
}

// Validate asks, if there is anybody to ask.
func (v validatingOutside) Validate(ctx context.Context, a admission.Attributes, o admission.ObjectInterfaces) error {
	p, err := v.plugin()
	if p == nil {
		return err
	}
	return p.(admission.ValidationInterface).Validate(ctx, a, o)
}

func newMutatingPolicies(cfg Config) mutatingOutside {
	return mutatingOutside{newDormant(cfg, "mutatingadmissionpolicybindings",
		func() (admission.Interface, error) { return mutatingpolicy.NewPlugin(nil) },
		admission.Create, admission.Update, admission.Connect)}
}

func newMutatingWebhooks(cfg Config) mutatingOutside {
	return mutatingOutside{newDormant(cfg, "mutatingwebhookconfigurations",
		func() (admission.Interface, error) { return mutatingwebhook.NewMutatingWebhook(nil) },
		admission.Create, admission.Update, admission.Delete, admission.Connect)}
}

func newValidatingPolicies(cfg Config) validatingOutside {
	return validatingOutside{newDormant(cfg, "validatingadmissionpolicybindings",
		func() (admission.Interface, error) { return validatingpolicy.NewPlugin(nil) },
		admission.Create, admission.Update, admission.Delete, admission.Connect)}
}

func newValidatingWebhooks(cfg Config) validatingOutside {
	return validatingOutside{newDormant(cfg, "validatingwebhookconfigurations",
		func() (admission.Interface, error) { return validatingwebhook.NewValidatingAdmissionWebhook(nil) },
		admission.Create, admission.Update, admission.Delete, admission.Connect)}
}

var (
	_ admission.MutationInterface   = mutatingOutside{}
	_ admission.ValidationInterface = validatingOutside{}
)
