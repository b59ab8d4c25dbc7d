package api

import (
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/troupe-run/troupe/cluster/api/kind"
)

// newMapper tells which resource each kind is served as.
func newMapper(kinds []kind.Kind) meta.RESTMapper {
	m := meta.NewDefaultRESTMapper(nil)
	for i := range kinds {
		k := &kinds[i]
		if k.Answer != nil {
			continue
		}
		gv, scope := k.GVK.GroupVersion(), meta.RESTScopeRoot
		if k.Namespaced {
			scope = meta.RESTScopeNamespace
		}
		m.AddSpecific(k.GVK, gv.WithResource(k.Resource), gv.WithResource(k.Singular), scope)
	}
	return m
}
