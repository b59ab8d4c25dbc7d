package kinds

import (
	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/core"
)

// All returns every kind the binary knows.
func All() []kind.Kind {
	return []kind.Kind{
		core.ConfigMap(),
		core.Namespace(),
		core.Node(),
		core.Pod(),
		core.Secret(),
		core.Service(),
		core.ServiceAccount(),
	}
}
