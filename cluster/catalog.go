package cluster

import (
	"slices"

	"github.com/troupe-run/troupe/actors/bootstraptoken"
	"github.com/troupe-run/troupe/actors/certificates"
	"github.com/troupe-run/troupe/actors/controller"
	"github.com/troupe-run/troupe/actors/deployment"
	"github.com/troupe-run/troupe/actors/disruption"
	"github.com/troupe-run/troupe/actors/endpoints"
	"github.com/troupe-run/troupe/actors/gc"
	"github.com/troupe-run/troupe/actors/namespace"
	"github.com/troupe-run/troupe/actors/nodelifecycle"
	"github.com/troupe-run/troupe/actors/replicaset"
	"github.com/troupe-run/troupe/actors/resourcequota"
	"github.com/troupe-run/troupe/actors/serviceaccount"
	"github.com/troupe-run/troupe/actors/servicecidr"
	"github.com/troupe-run/troupe/actors/storageprotection"
	"github.com/troupe-run/troupe/actors/volumebinder"
)

// identity is what controllers that vouch for others do it with.
type identity struct {
	ca          []byte
	accounts    serviceaccount.SecretConfig
	certificate certificates.Config
}

// specs is the catalog of controllers: one line each.
func specs(id identity, books *resourcequota.Books) []func(controller.Deps) controller.Spec {
	return []func(controller.Deps) controller.Spec{
		deployment.Spec,
		replicaset.Spec,
		endpoints.Spec,
		endpoints.V1Spec,
		namespace.Spec,
		func(d controller.Deps) controller.Spec {
			return serviceaccount.Spec(d, serviceaccount.Config{CA: id.ca})
		},
		func(d controller.Deps) controller.Spec { return serviceaccount.SecretSpec(d, id.accounts) },
		func(d controller.Deps) controller.Spec { return certificates.Spec(d, id.certificate) },
		bootstraptoken.Spec,
		gc.Spec,
		gc.PodSpec,
		nodelifecycle.Spec,
		disruption.Spec,
		disruption.StaleSpec,
		volumebinder.Spec,
		servicecidr.Spec,
		storageprotection.Spec,
		func(d controller.Deps) controller.Spec { return resourcequota.Spec(d, books) },
	}
}

// schedulerName switches the scheduler off in Config.Off, beside the controllers' names.
const schedulerName = "scheduler"

func catalogued(name string) bool {
	return name == schedulerName || slices.ContainsFunc(specs(identity{}, nil), func(f func(controller.Deps) controller.Spec) bool {
		return f(controller.Deps{}).Name == name
	})
}
