package coordination

import (
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kinds/kindtest"
)

func TestLease(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		spec coordinationv1.LeaseSpec
		want []string
	}{
		{"empty", coordinationv1.LeaseSpec{}, nil},
		{"good", coordinationv1.LeaseSpec{HolderIdentity: ptr.To("a"), LeaseDurationSeconds: ptr.To(int32(40)), LeaseTransitions: ptr.To(int32(0))}, nil},
		{"bad numbers", coordinationv1.LeaseSpec{LeaseDurationSeconds: ptr.To(int32(0)), LeaseTransitions: ptr.To(int32(-1))},
			[]string{"FieldValueInvalid spec.leaseDurationSeconds", "FieldValueInvalid spec.leaseTransitions"}},
		{"coordinated elections are off", coordinationv1.LeaseSpec{PreferredHolder: ptr.To("b"), Strategy: ptr.To(coordinationv1.CoordinatedLeaseStrategy("!"))}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			kindtest.Want(t, kindtest.Create(Lease(), &coordinationv1.Lease{Spec: tc.spec}), tc.want...)
		})
	}
}
