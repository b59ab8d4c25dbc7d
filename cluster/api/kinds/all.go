package kinds

import (
	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/apps"
	"github.com/troupe-run/troupe/cluster/api/kinds/coordination"
	"github.com/troupe-run/troupe/cluster/api/kinds/core"
	"github.com/troupe-run/troupe/cluster/api/kinds/discovery"
)

// All returns every kind the binary knows.
func All() []kind.Kind {
	return []kind.Kind{
		apps.Deployment(),
		apps.ReplicaSet(),
		coordination.Lease(),
		core.ConfigMap(),
		core.Endpoints(),
		core.Event(),
		core.Namespace(),
		core.Node(),
		core.Pod(),
		core.Secret(),
		core.Service(),
		core.ServiceAccount(),
		discovery.EndpointSlice(),
	}
}
