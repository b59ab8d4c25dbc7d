package flowcontrol

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kinds/kindtest"
)

func TestBootstrapObjectsAreValid(t *testing.T) {
	t.Parallel()
	mandatory, suggested := Bootstrap()
	for _, set := range []Objects{mandatory, suggested} {
		if len(set.Levels) == 0 || len(set.Schemas) == 0 {
			t.Fatal("nothing to begin with")
		}
		for _, l := range set.Levels {
			kindtest.Want(t, kindtest.Create(PriorityLevelConfiguration(), l.DeepCopy()))
		}
		for _, s := range set.Schemas {
			kindtest.Want(t, kindtest.Create(FlowSchema(), s.DeepCopy()))
		}
	}
}

func TestFlowSchemas(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*flowSchema)
		want   []string
	}{
		"good":     {func(*flowSchema) {}, nil},
		"first":    {func(s *flowSchema) { s.Spec.MatchingPrecedence = 1 }, []string{"FieldValueInvalid spec.matchingPrecedence"}},
		"too high": {func(s *flowSchema) { s.Spec.MatchingPrecedence = 10001 }, []string{"FieldValueInvalid spec.matchingPrecedence"}},
		"no level": {func(s *flowSchema) { s.Spec.PriorityLevelConfiguration.Name = "" }, []string{"FieldValueRequired spec.priorityLevelConfiguration.name"}},
		"method": {func(s *flowSchema) {
			s.Spec.DistinguisherMethod = &flowcontrolv1.FlowDistinguisherMethod{Type: "ByMood"}
		}, []string{"FieldValueNotSupported spec.distinguisherMethod.type"}},
		"mandatory":   {func(s *flowSchema) { s.Name = "exempt" }, []string{"FieldValueInvalid spec"}},
		"nobody":      {func(s *flowSchema) { s.Spec.Rules[0].Subjects = nil }, []string{"FieldValueRequired spec.rules[0].subjects"}},
		"nothing":     {func(s *flowSchema) { s.Spec.Rules[0].ResourceRules = nil }, []string{"FieldValueRequired spec.rules[0]"}},
		"verb":        {func(s *flowSchema) { s.Spec.Rules[0].ResourceRules[0].Verbs = []string{"impersonate"} }, []string{"FieldValueNotSupported spec.rules[0].resourceRules[0].verbs"}},
		"star":        {func(s *flowSchema) { s.Spec.Rules[0].ResourceRules[0].APIGroups = []string{"*", "a"} }, []string{"FieldValueInvalid spec.rules[0].resourceRules[0].apiGroups"}},
		"namespaces":  {func(s *flowSchema) { s.Spec.Rules[0].ResourceRules[0].Namespaces = nil }, []string{"FieldValueRequired spec.rules[0].resourceRules[0].namespaces"}},
		"wrong union": {func(s *flowSchema) { s.Spec.Rules[0].Subjects[0].Kind = "Group" }, []string{"FieldValueRequired spec.rules[0].subjects[0].group", "FieldValueForbidden spec.rules[0].subjects[0].user"}},
		"url": {func(s *flowSchema) {
			s.Spec.Rules[0].NonResourceRules = []flowcontrolv1.NonResourcePolicyRule{{Verbs: []string{"*"}, NonResourceURLs: []string{"/a*", "x", "//"}}}
		}, []string{"FieldValueInvalid spec.rules[0].nonResourceRules[0].nonResourceURLs[0]", "FieldValueInvalid spec.rules[0].nonResourceRules[0].nonResourceURLs[1]", "FieldValueInvalid spec.rules[0].nonResourceRules[0].nonResourceURLs[2]"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &flowSchema{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Spec: flowcontrolv1.FlowSchemaSpec{
				PriorityLevelConfiguration: flowcontrolv1.PriorityLevelConfigurationReference{Name: "workload-low"},
				Rules: []flowcontrolv1.PolicyRulesWithSubjects{{
					Subjects:      []flowcontrolv1.Subject{{Kind: "User", User: &flowcontrolv1.UserSubject{Name: "joe"}}},
					ResourceRules: []flowcontrolv1.ResourcePolicyRule{{Verbs: []string{"get"}, APIGroups: []string{"*"}, Resources: []string{"*"}, Namespaces: []string{"*"}}}}}}}
			tc.change(s)
			kindtest.Want(t, kindtest.Create(FlowSchema(), s), tc.want...)
		})
	}
	s := &flowSchema{ObjectMeta: metav1.ObjectMeta{Name: "s"}}
	FlowSchema().Default(s)
	if diff := cmp.Diff([]any{"s", "", int64(1000), "<none>", "<unknown>", "?"}, FlowSchema().Row(s)); diff != "" {
		t.Error(diff)
	}
}

func TestPriorityLevels(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*priorityLevel)
		want   []string
	}{
		"good":       {func(*priorityLevel) {}, nil},
		"exempt":     {func(l *priorityLevel) { l.Spec.Type = "Exempt" }, []string{"FieldValueInvalid spec.type", "FieldValueForbidden spec.limited"}},
		"no limits":  {func(l *priorityLevel) { l.Spec.Limited = nil }, []string{"FieldValueRequired spec.limited"}},
		"shares":     {func(l *priorityLevel) { *l.Spec.Limited.NominalConcurrencyShares = -1 }, []string{"FieldValueInvalid spec.limited.nominalConcurrencyShares"}},
		"lend":       {func(l *priorityLevel) { l.Spec.Limited.LendablePercent = ptr.To[int32](101) }, []string{"FieldValueInvalid spec.limited.lendablePercent"}},
		"borrow":     {func(l *priorityLevel) { l.Spec.Limited.BorrowingLimitPercent = ptr.To[int32](-1) }, []string{"FieldValueInvalid spec.limited.borrowingLimitPercent"}},
		"response":   {func(l *priorityLevel) { l.Spec.Limited.LimitResponse.Type = "Wait" }, []string{"FieldValueNotSupported spec.limited.limitResponse.type"}},
		"no queues":  {func(l *priorityLevel) { l.Spec.Limited.LimitResponse.Queuing = nil }, []string{"FieldValueRequired spec.limited.limitResponse.queuing"}},
		"large hand": {func(l *priorityLevel) { l.Spec.Limited.LimitResponse.Queuing.HandSize = 65 }, []string{"FieldValueInvalid spec.limited.limitResponse.queuing.handSize"}},
		"entropy": {func(l *priorityLevel) {
			l.Spec.Limited.LimitResponse.Queuing.Queues, l.Spec.Limited.LimitResponse.Queuing.HandSize = 512, 8
		}, []string{"FieldValueInvalid spec.limited.limitResponse.queuing.handSize"}},
		"mandatory": {func(l *priorityLevel) { l.Name = "catch-all" }, []string{"FieldValueInvalid spec"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := &priorityLevel{ObjectMeta: metav1.ObjectMeta{Name: "l"}, Spec: flowcontrolv1.PriorityLevelConfigurationSpec{
				Type: "Limited", Limited: &flowcontrolv1.LimitedPriorityLevelConfiguration{NominalConcurrencyShares: ptr.To[int32](1),
					LimitResponse: flowcontrolv1.LimitResponse{Type: "Queue", Queuing: &flowcontrolv1.QueuingConfiguration{Queues: 64}}}}}
			tc.change(l)
			kindtest.Want(t, kindtest.Create(PriorityLevelConfiguration(), l), tc.want...)
		})
	}
	exempt := mandatoryLevel("exempt").DeepCopy()
	*exempt.Spec.Exempt.NominalConcurrencyShares = 7
	kindtest.Want(t, kindtest.Create(PriorityLevelConfiguration(), exempt))
	if diff := cmp.Diff([]any{"exempt", "Exempt", "<none>", "<none>", "<none>", "<none>", "<unknown>"}, PriorityLevelConfiguration().Row(exempt)); diff != "" {
		t.Error(diff)
	}
}
