package flowcontrol

import (
	"context"
	"fmt"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/util/shufflesharding"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/check"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

type priorityLevel = flowcontrolv1.PriorityLevelConfiguration

// What a limited level gets that does not say.
const (
	defaultShares      = 30
	defaultQueues      = 64
	defaultHandSize    = 8
	defaultQueueLength = 50
)

// PriorityLevelConfiguration describes flowcontrol.apiserver.k8s.io/v1 PriorityLevelConfiguration.
func PriorityLevelConfiguration() kind.Kind {
	return kind.Kind{
		GVK:      flowcontrolv1.SchemeGroupVersion.WithKind("PriorityLevelConfiguration"),
		Resource: "prioritylevelconfigurations",
		Singular: "prioritylevelconfiguration",
		New:      func() kind.Object { return &priorityLevel{} },
		NewList:  func() runtime.Object { return &flowcontrolv1.PriorityLevelConfigurationList{} },

		Default: func(obj kind.Object) { defaultLevel(&obj.(*priorityLevel).Spec) },
		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return validateLevel(obj.(*priorityLevel))
		},
		PrepareForCreate: func(_ context.Context, obj kind.Object) {
			obj.(*priorityLevel).Status = flowcontrolv1.PriorityLevelConfigurationStatus{}
		},
		PrepareForUpdate: func(_ context.Context, obj, old kind.Object) {
			obj.(*priorityLevel).Status = old.(*priorityLevel).Status
		},
		SpecChanged: func(obj, old kind.Object) bool {
			return !apiequality.Semantic.DeepEqual(obj.(*priorityLevel).Spec, old.(*priorityLevel).Spec)
		},
		Status: &kind.Subresource{
			Prepare: func(_ context.Context, obj, old kind.Object) {
				obj.(*priorityLevel).Spec = old.(*priorityLevel).Spec
			},
			Validate: func(_ context.Context, obj, _ kind.Object) field.ErrorList {
				return validateConditions(obj.(*priorityLevel).Status.Conditions, func(c flowcontrolv1.PriorityLevelConfigurationCondition) string { return string(c.Type) })
			},
		},

		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Col("Type", flowcontrolv1.PriorityLevelConfigurationSpec{}.SwaggerDoc()["type"]),
			table.Col("NominalConcurrencyShares", flowcontrolv1.LimitedPriorityLevelConfiguration{}.SwaggerDoc()["nominalConcurrencyShares"]),
			table.Col("Queues", flowcontrolv1.QueuingConfiguration{}.SwaggerDoc()["queues"]),
			table.Col("HandSize", flowcontrolv1.QueuingConfiguration{}.SwaggerDoc()["handSize"]),
			table.Col("QueueLengthLimit", flowcontrolv1.QueuingConfiguration{}.SwaggerDoc()["queueLengthLimit"]),
			table.Age(),
		},
		Row: func(obj kind.Object) []any {
			l := obj.(*priorityLevel)
			shares, queues, hand, length := any(table.None), any(table.None), any(table.None), any(table.None)
			if limited := l.Spec.Limited; limited != nil {
				shares = ptr.Deref(limited.NominalConcurrencyShares, 0)
				if q := limited.LimitResponse.Queuing; q != nil {
					queues, hand, length = q.Queues, q.HandSize, q.QueueLengthLimit
				}
			}
			return []any{l.Name, string(l.Spec.Type), shares, queues, hand, length, table.Since(l.CreationTimestamp)}
		},
	}
}

func defaultLevel(spec *flowcontrolv1.PriorityLevelConfigurationSpec) {
	set := func(p **int32, n int32) {
		if *p == nil {
			*p = &n
		}
	}
	if e := spec.Exempt; e != nil {
		set(&e.NominalConcurrencyShares, 0)
		set(&e.LendablePercent, 0)
	}
	l := spec.Limited
	if l == nil {
		return
	}
	set(&l.NominalConcurrencyShares, defaultShares)
	set(&l.LendablePercent, 0)
	if q := l.LimitResponse.Queuing; q != nil {
		for _, n := range []struct {
			field *int32
			value int32
		}{{&q.Queues, defaultQueues}, {&q.HandSize, defaultHandSize}, {&q.QueueLengthLimit, defaultQueueLength}} {
			if *n.field == 0 {
				*n.field = n.value
			}
		}
	}
}

const maxQueues = 10 * 1000 * 1000

var (
	levelTypes = sets.New(flowcontrolv1.PriorityLevelEnablementExempt, flowcontrolv1.PriorityLevelEnablementLimited)
	responses  = sets.New(flowcontrolv1.LimitResponseTypeQueue, flowcontrolv1.LimitResponseTypeReject)
)

func validateLevel(l *priorityLevel) field.ErrorList {
	var errs field.ErrorList
	spec := &l.Spec
	if (l.Name == flowcontrolv1.PriorityLevelConfigurationNameExempt) != (spec.Type == flowcontrolv1.PriorityLevelEnablementExempt) {
		errs = append(errs, field.Invalid(specPath.Child("type"), spec.Type, "type must be 'Exempt' if and only if name is 'exempt'"))
	}
	switch spec.Type {
	case flowcontrolv1.PriorityLevelEnablementExempt:
		if spec.Limited != nil {
			errs = append(errs, field.Forbidden(specPath.Child("limited"), "must be nil if the type is not Limited"))
		}
		if e := spec.Exempt; e != nil {
			errs = append(errs, validateShares(e.NominalConcurrencyShares, e.LendablePercent, specPath.Child("exempt"))...)
		}
	case flowcontrolv1.PriorityLevelEnablementLimited:
		if spec.Exempt != nil {
			errs = append(errs, field.Forbidden(specPath.Child("exempt"), "must be nil if the type is Limited"))
		}
		if spec.Limited == nil {
			errs = append(errs, field.Required(specPath.Child("limited"), "must not be empty when type is Limited"))
		} else {
			errs = append(errs, validateLimited(spec.Limited, specPath.Child("limited"))...)
		}
	default:
		errs = append(errs, check.OneOf(spec.Type, levelTypes, specPath.Child("type"))...)
	}
	return append(errs, validateFixed(l)...)
}

// validateFixed keeps mandatory levels as they are, but for the shares of the exempt one.
func validateFixed(l *priorityLevel) field.ErrorList {
	fixed := mandatoryLevel(l.Name)
	if fixed == nil {
		return nil
	}
	spec, but := l.Spec, ""
	if l.Name == flowcontrolv1.PriorityLevelConfigurationNameExempt {
		spec.Exempt, but = fixed.Spec.Exempt, " except the 'spec.exempt' field"
	}
	if apiequality.Semantic.DeepEqual(spec, fixed.Spec) {
		return nil
	}
	return field.ErrorList{field.Invalid(specPath, l.Spec, fmt.Sprintf("spec of '%s'%s must equal the fixed value", l.Name, but))}
}

func validateShares(shares, lendable *int32, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if n := ptr.Deref(shares, 0); n < 0 {
		errs = append(errs, field.Invalid(at.Child("nominalConcurrencyShares"), n, "must be a non-negative integer"))
	}
	if n := ptr.Deref(lendable, 0); n < 0 || n > 100 {
		errs = append(errs, field.Invalid(at.Child("lendablePercent"), n, "must be between 0 and 100, inclusive"))
	}
	return errs
}

func validateLimited(l *flowcontrolv1.LimitedPriorityLevelConfiguration, at *field.Path) field.ErrorList {
	errs := validateShares(l.NominalConcurrencyShares, l.LendablePercent, at)
	if n := ptr.Deref(l.BorrowingLimitPercent, 0); n < 0 {
		errs = append(errs, field.Invalid(at.Child("borrowingLimitPercent"), n, "if specified, must be a non-negative integer"))
	}
	at = at.Child("limitResponse")
	q := l.LimitResponse.Queuing
	switch l.LimitResponse.Type {
	case flowcontrolv1.LimitResponseTypeReject:
		if q != nil {
			errs = append(errs, field.Forbidden(at.Child("queuing"), "must be nil if limited.limitResponse.type is not Limited"))
		}
	case flowcontrolv1.LimitResponseTypeQueue:
		if q == nil {
			return append(errs, field.Required(at.Child("queuing"), "must not be empty if limited.limitResponse.type is Limited"))
		}
		errs = append(errs, validateQueuing(q, at.Child("queuing"))...)
	default:
		errs = append(errs, check.OneOf(l.LimitResponse.Type, responses, at.Child("type"))...)
	}
	return errs
}

func validateQueuing(q *flowcontrolv1.QueuingConfiguration, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if q.QueueLengthLimit <= 0 {
		errs = append(errs, field.Invalid(at.Child("queueLengthLimit"), q.QueueLengthLimit, "must be positive"))
	}
	if q.Queues <= 0 {
		errs = append(errs, field.Invalid(at.Child("queues"), q.Queues, "must be positive"))
	} else if q.Queues > maxQueues {
		errs = append(errs, field.Invalid(at.Child("queues"), q.Queues, fmt.Sprintf("must not be greater than %d", maxQueues)))
	}
	hand := at.Child("handSize")
	switch {
	case q.HandSize <= 0:
		errs = append(errs, field.Invalid(hand, q.HandSize, "must be positive"))
	case q.HandSize > q.Queues:
		errs = append(errs, field.Invalid(hand, q.HandSize, fmt.Sprintf("should not be greater than queues (%d)", q.Queues)))
	default:
		if bits := shufflesharding.RequiredEntropyBits(int(q.Queues), int(q.HandSize)); bits > shufflesharding.MaxHashBits {
			errs = append(errs, field.Invalid(hand, q.HandSize, fmt.Sprintf("required entropy bits of deckSize %d and handSize %d should not be greater than %d", q.Queues, q.HandSize, shufflesharding.MaxHashBits)))
		}
	}
	return errs
}
