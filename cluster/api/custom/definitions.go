package custom

import (
	"context"
	"slices"

	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	clientset "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset/typed/apiextensions/v1"
	informers "k8s.io/apiextensions-apiserver/pkg/client/informers/externalversions/apiextensions/v1"
	listers "k8s.io/apiextensions-apiserver/pkg/client/listers/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/state/informer"
)

// established says that a definition is in effect.
func established(crd *apiextensionsv1.CustomResourceDefinition) bool {
	return apihelpers.IsCRDConditionTrue(crd, apiextensionsv1.Established)
}

// definitions lets the library's controllers read definitions.
type definitions struct{ from *informer.Informer }

func (d definitions) Informer() cache.SharedIndexInformer { return d.from }

func (d definitions) Lister() listers.CustomResourceDefinitionLister {
	return listers.NewCustomResourceDefinitionLister(d.from.GetIndexer())
}

// settled lets the library's handler believe that every definition has been in effect for long. It
// holds up the first writes of a new one for two seconds otherwise, for the sake of other servers
// that do not know the definition yet; ours is known where it was written, and moments later elsewhere.
type settled struct{ definitions }

func (s settled) Lister() listers.CustomResourceDefinitionLister {
	return settledLister{s.definitions.Lister()}
}

type settledLister struct {
	listers.CustomResourceDefinitionLister
}

func (l settledLister) Get(name string) (*apiextensionsv1.CustomResourceDefinition, error) {
	crd, err := l.CustomResourceDefinitionLister.Get(name)
	if err != nil {
		return nil, err
	}
	for i, c := range crd.Status.Conditions {
		if c.Type == apiextensionsv1.Established {
			out := *crd
			out.Status.Conditions = slices.Clone(crd.Status.Conditions)
			out.Status.Conditions[i].LastTransitionTime = metav1.Time{}
			return &out, nil
		}
	}
	return crd, nil
}

// client lets the library's controllers write the status of definitions, which is all they do.
type client struct {
	clientset.CustomResourceDefinitionInterface
	writer objects.Writer
}

func (c client) CustomResourceDefinitions() clientset.CustomResourceDefinitionInterface { return c }

func (c client) UpdateStatus(ctx context.Context, crd *apiextensionsv1.CustomResourceDefinition, _ metav1.UpdateOptions) (*apiextensionsv1.CustomResourceDefinition, error) {
	out, err := c.writer.UpdateStatus(ctx, crd)
	if err != nil {
		return nil, err
	}
	return out.DeepCopyObject().(*apiextensionsv1.CustomResourceDefinition), nil
}

var (
	_ informers.CustomResourceDefinitionInformer = definitions{}
	_ clientset.CustomResourceDefinitionsGetter  = client{}
)
