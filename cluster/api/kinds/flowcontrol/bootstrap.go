package flowcontrol

import (
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apiserver/pkg/apis/flowcontrol/bootstrap"
)

// AutoUpdate is the annotation of suggested objects that follow the release's suggestion; with
// "false" they are the administrator's.
const AutoUpdate = flowcontrolv1.AutoUpdateAnnotationKey

// Objects are those of a cluster from its start.
type Objects struct {
	Levels  []*flowcontrolv1.PriorityLevelConfiguration
	Schemas []*flowcontrolv1.FlowSchema
}

// Bootstrap returns Kubernetes' levels and schemas: mandatory ones, whose content is fixed, and
// suggested ones, which an administrator may change or delete.
func Bootstrap() (mandatory, suggested Objects) {
	return Objects{bootstrap.MandatoryPriorityLevelConfigurations, bootstrap.MandatoryFlowSchemas},
		Objects{bootstrap.SuggestedPriorityLevelConfigurations, bootstrap.SuggestedFlowSchemas}
}

func mandatorySchema(name string) *flowcontrolv1.FlowSchema {
	for _, s := range bootstrap.MandatoryFlowSchemas {
		if s.Name == name {
			return s
		}
	}
	return nil
}

func mandatoryLevel(name string) *flowcontrolv1.PriorityLevelConfiguration {
	for _, l := range bootstrap.MandatoryPriorityLevelConfigurations {
		if l.Name == name {
			return l
		}
	}
	return nil
}
