package check

import "k8s.io/apimachinery/pkg/util/validation/field"

// Count is a number of pods in the status of a workload; Child is its field.
type Count struct {
	Child string
	Value int32
}

// ReplicaCounts checks the counts in the status of a workload: none is negative, none above the
// replicas there are, and what is available is ready.
func ReplicaCounts(replicas, ready, available int32, status *field.Path, others ...Count) field.ErrorList {
	all := append([]Count{{"readyReplicas", ready}, {"availableReplicas", available}}, others...)
	errs := NonNegative(replicas, status.Child("replicas"))
	for _, c := range all {
		errs = append(errs, NonNegative(c.Value, status.Child(c.Child))...)
	}
	for _, c := range all {
		if c.Value > replicas {
			errs = append(errs, field.Invalid(status.Child(c.Child), c.Value, "cannot be greater than status.replicas"))
		}
	}
	if available > ready {
		errs = append(errs, field.Invalid(status.Child("availableReplicas"), available, "cannot be greater than readyReplicas"))
	}
	return errs
}
