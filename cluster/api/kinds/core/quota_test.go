package core

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/kindtest"
)

func amounts(pairs ...string) corev1.ResourceList {
	list := make(corev1.ResourceList)
	for i := 0; i < len(pairs); i += 2 {
		list[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return list
}

func testClaim(change ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: "data"},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, Resources: corev1.VolumeResourceRequirements{Requests: amounts("storage", "1Gi")},
		},
	}
	for _, f := range change {
		f(c)
	}
	return c
}

func TestLimitsQuotasAndClaims(t *testing.T) {
	t.Parallel()
	limits := func(items ...corev1.LimitRangeItem) *corev1.LimitRange {
		return &corev1.LimitRange{Spec: corev1.LimitRangeSpec{Limits: items}}
	}
	for _, tc := range []struct {
		name string
		kind kind.Kind
		obj  kind.Object
		want []string
	}{
		{"limits", LimitRange(), limits(corev1.LimitRangeItem{Type: "Container", Max: amounts("cpu", "2"), Min: amounts("cpu", "1")}), nil},
		{"limits upside down", LimitRange(), limits(corev1.LimitRangeItem{Type: "Container", Max: amounts("cpu", "1"), Min: amounts("cpu", "2")}),
			[]string{"FieldValueInvalid spec.limits[0].min[cpu]", "FieldValueInvalid spec.limits[0].default[cpu]", "FieldValueInvalid spec.limits[0].defaultRequest[cpu]"}},
		{"limits of a pod", LimitRange(), limits(corev1.LimitRangeItem{Type: "Pod", Default: amounts("cpu", "1")}), []string{"FieldValueForbidden spec.limits[0].default"}},
		{"limits of claims", LimitRange(), limits(corev1.LimitRangeItem{Type: "PersistentVolumeClaim"}), []string{"FieldValueRequired spec.limits[0].limits"}},
		{"limits twice", LimitRange(), limits(corev1.LimitRangeItem{Type: "Pod"}, corev1.LimitRangeItem{Type: "Pod"}, corev1.LimitRangeItem{Type: "Car"}),
			[]string{"FieldValueDuplicate spec.limits[1].type", "FieldValueInvalid spec.limits[2].type"}},
		{"ratio", LimitRange(), limits(corev1.LimitRangeItem{Type: "Pod", Min: amounts("cpu", "1"), Max: amounts("cpu", "2"), MaxLimitRequestRatio: amounts("cpu", "3")}),
			[]string{"FieldValueInvalid spec.limits[0].maxLimitRequestRatio[cpu]"}},
		{"quota", ResourceQuota(), &corev1.ResourceQuota{Spec: corev1.ResourceQuotaSpec{Hard: amounts("pods", "4", "requests.cpu", "2", "count/deployments.apps", "3", "example.com/x", "1")}}, nil},
		{"quota of nothing known", ResourceQuota(), &corev1.ResourceQuota{Spec: corev1.ResourceQuotaSpec{Hard: amounts("cars", "4", "pods", "-1")}},
			[]string{"FieldValueInvalid spec.hard[cars]", "FieldValueInvalid spec.hard[cars]", "FieldValueInvalid spec.hard[pods]"}},
		{"quota of volumes' size", ResourceQuota(), &corev1.ResourceQuota{Spec: corev1.ResourceQuotaSpec{Hard: amounts("storage", "4")}}, []string{"FieldValueInvalid spec.hard[storage]"}},
		{"scopes", ResourceQuota(), &corev1.ResourceQuota{Spec: corev1.ResourceQuotaSpec{
			Hard: amounts("cpu", "4"), Scopes: []corev1.ResourceQuotaScope{"BestEffort", "NotBestEffort", "Loud"},
		}}, []string{"FieldValueInvalid spec.scopes", "FieldValueInvalid spec.scopes", "FieldValueInvalid spec.scopes"}},
		{"scope selector", ResourceQuota(), &corev1.ResourceQuota{Spec: corev1.ResourceQuotaSpec{
			Hard: amounts("pods", "4"), ScopeSelector: &corev1.ScopeSelector{MatchExpressions: []corev1.ScopedResourceSelectorRequirement{
				{ScopeName: "PriorityClass", Operator: "In"}, {ScopeName: "BestEffort", Operator: "In", Values: []string{"a"}},
			}},
		}}, []string{"FieldValueRequired spec.scopeSelector.matchExpressions.values", "FieldValueInvalid spec.scopeSelector.matchExpressions.operator"}},
		{"scope of other things", ResourceQuota(), &corev1.ResourceQuota{Spec: corev1.ResourceQuotaSpec{
			Hard: amounts("services", "4", "requests.ephemeral-storage", "1", "count/secrets", "3"), Scopes: []corev1.ResourceQuotaScope{"Terminating"},
		}}, []string{"FieldValueInvalid spec.scopes", "FieldValueInvalid spec.scopes"}},
		{"scope unknown, in a selector", ResourceQuota(), &corev1.ResourceQuota{Spec: corev1.ResourceQuotaSpec{
			ScopeSelector: &corev1.ScopeSelector{MatchExpressions: []corev1.ScopedResourceSelectorRequirement{{ScopeName: "Loud", Operator: "Is"}}},
		}}, []string{"FieldValueInvalid spec.scopeSelector.matchExpressions.scopeName", "FieldValueInvalid spec.scopeSelector.matchExpressions.operator"}},
		{"claims by class", ResourceQuota(), &corev1.ResourceQuota{Spec: corev1.ResourceQuotaSpec{
			Hard: amounts("requests.storage", "4Gi", "persistentvolumeclaims", "1"), ScopeSelector: &corev1.ScopeSelector{
				MatchExpressions: []corev1.ScopedResourceSelectorRequirement{{ScopeName: "VolumeAttributesClass", Operator: "In", Values: []string{"gold"}}}},
		}}, nil},
		{"claim", PersistentVolumeClaim(), testClaim(), nil},
		{"claim for nothing", PersistentVolumeClaim(), testClaim(func(c *corev1.PersistentVolumeClaim) {
			c.Spec.AccessModes, c.Spec.Resources.Requests = []corev1.PersistentVolumeAccessMode{"RWX"}, amounts("storage", "0")
		}), []string{"FieldValueNotSupported spec.accessModes", "FieldValueInvalid spec.resources[storage]"}},
		{"claim from two sources", PersistentVolumeClaim(), testClaim(func(c *corev1.PersistentVolumeClaim) {
			c.Spec.DataSource = &corev1.TypedLocalObjectReference{Kind: "PersistentVolumeClaim", Name: "a"}
			c.Spec.DataSourceRef = &corev1.TypedObjectReference{Kind: "PersistentVolumeClaim", Name: "a", Namespace: ptr.To("Else")}
			c.Spec.VolumeAttributesClassName = ptr.To("Gold")
		}), []string{"FieldValueInvalid spec", "FieldValueInvalid spec.dataSourceRef.namespace", "FieldValueInvalid spec.volumeAttributesClassName"}},
		{"template", PodTemplate(), &corev1.PodTemplate{}, []string{"FieldValueRequired template.spec.containers"}},
		{"controller without template", ReplicationController(), &corev1.ReplicationController{}, []string{"FieldValueRequired spec.selector", "FieldValueRequired spec.template"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			kindtest.Want(t, kindtest.Create(tc.kind, tc.obj), tc.want...)
		})
	}
}

func TestClaimSources(t *testing.T) {
	t.Parallel()
	snapshot, populator := ptr.To("snapshot.storage.k8s.io"), ptr.To("example.com")
	for _, tc := range []struct {
		name   string
		change func(*corev1.PersistentVolumeClaimSpec)
		want   string // kinds of dataSource and dataSourceRef
	}{
		{"older field", func(s *corev1.PersistentVolumeClaimSpec) {
			s.DataSource = &corev1.TypedLocalObjectReference{APIGroup: snapshot, Kind: "VolumeSnapshot", Name: "a"}
		}, "VolumeSnapshot VolumeSnapshot"},
		{"newer field", func(s *corev1.PersistentVolumeClaimSpec) {
			s.DataSourceRef = &corev1.TypedObjectReference{APIGroup: populator, Kind: "Hello", Name: "a"}
		}, "Hello Hello"},
		{"older field, unknown", func(s *corev1.PersistentVolumeClaimSpec) {
			s.DataSource = &corev1.TypedLocalObjectReference{APIGroup: populator, Kind: "Hello", Name: "a"}
		}, "- -"},
		{"in another namespace", func(s *corev1.PersistentVolumeClaimSpec) {
			s.DataSourceRef = &corev1.TypedObjectReference{APIGroup: populator, Kind: "Hello", Name: "a", Namespace: ptr.To("b")}
		}, "- Hello"},
	} {
		c := testClaim(func(c *corev1.PersistentVolumeClaim) { tc.change(&c.Spec) })
		kindtest.Want(t, kindtest.Create(PersistentVolumeClaim(), c))
		d, ref := "-", "-"
		if c.Spec.DataSource != nil {
			d = c.Spec.DataSource.Kind
		}
		if c.Spec.DataSourceRef != nil {
			ref = c.Spec.DataSourceRef.Kind
		}
		if got := d + " " + ref; got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
}

func TestClaimStatus(t *testing.T) {
	t.Parallel()
	old := testClaim()
	c := old.DeepCopy()
	c.Status.Capacity = amounts("storage", "-1")
	c.Status.AllocatedResources = amounts("cpu", "1", "storage", "1")
	c.Status.AllocatedResourceStatuses = map[corev1.ResourceName]corev1.ClaimResourceStatus{"storage": "Growing"}
	kindtest.Want(t, kindtest.Sub(PersistentVolumeClaim().Status, c, old), "FieldValueInvalid status.capacity[storage]",
		"FieldValueNotSupported status.allocatedResources", "FieldValueNotSupported status.allocatedResourceStatuses")
}

func TestQuotaUpdate(t *testing.T) {
	t.Parallel()
	quota := func(scope corev1.ResourceQuotaScope) *corev1.ResourceQuota {
		return &corev1.ResourceQuota{Spec: corev1.ResourceQuotaSpec{Hard: amounts("pods", "1"), Scopes: []corev1.ResourceQuotaScope{scope}}}
	}
	kindtest.Want(t, kindtest.Update(ResourceQuota(), quota("BestEffort"), quota("BestEffort")))
	kindtest.Want(t, kindtest.Update(ResourceQuota(), quota("BestEffort"), quota("Terminating")), "FieldValueInvalid spec.scopes")
}

func TestLimitRangeDefaults(t *testing.T) {
	t.Parallel()
	item := corev1.LimitRangeItem{Type: "Container", Max: amounts("cpu", "2"), Min: amounts("memory", "1Gi")}
	defaultLimits(&item)
	want := corev1.LimitRangeItem{Type: "Container", Max: amounts("cpu", "2"), Min: amounts("memory", "1Gi"),
		Default: amounts("cpu", "2"), DefaultRequest: amounts("cpu", "2", "memory", "1Gi")}
	if diff := cmp.Diff(want, item); diff != "" {
		t.Error(diff)
	}
}

func TestReplicationControllerDefaults(t *testing.T) {
	t.Parallel()
	rc := &corev1.ReplicationController{Spec: corev1.ReplicationControllerSpec{Template: &corev1.PodTemplateSpec{ObjectMeta: testPod().ObjectMeta, Spec: testPod().Spec}}}
	kindtest.Want(t, kindtest.Create(ReplicationController(), rc))
	labels := map[string]string{"app": "web"}
	if diff := cmp.Diff([]any{labels, labels, int32(1)}, []any{rc.Labels, rc.Spec.Selector, *rc.Spec.Replicas}); diff != "" {
		t.Error(diff)
	}
}

func TestClaimUpdate(t *testing.T) {
	t.Parallel()
	bound := func(c *corev1.PersistentVolumeClaim) {
		c.Spec.VolumeName, c.Status = "pv", corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound, Capacity: amounts("storage", "1Gi"), AccessModes: c.Spec.AccessModes}
	}
	resize := func(to string) func(*corev1.PersistentVolumeClaim) {
		return func(c *corev1.PersistentVolumeClaim) { c.Spec.Resources.Requests = amounts("storage", to) }
	}
	none := func(*corev1.PersistentVolumeClaim) {}
	for _, tc := range []struct {
		name        string
		old, change func(*corev1.PersistentVolumeClaim)
		want        []string
	}{
		{"bind", none, func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = "pv" }, nil},
		{"bind again", bound, func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = "other" }, []string{"FieldValueForbidden spec"}},
		{"class given later", none, func(c *corev1.PersistentVolumeClaim) { c.Spec.StorageClassName = ptr.To("fast") }, nil},
		{"grow", bound, resize("2Gi"), nil},
		{"shrink", bound, resize("1Mi"), []string{"FieldValueForbidden spec.resources.requests.storage"}},
		{"grow before bound", none, resize("2Gi"), []string{"FieldValueForbidden spec"}},
		{"grow less than asked for", func(c *corev1.PersistentVolumeClaim) { bound(c); resize("9Gi")(c) }, resize("2Gi"), nil},
		{"class from the annotation", func(c *corev1.PersistentVolumeClaim) { c.Annotations = map[string]string{classAnnotation: "fast"} },
			func(c *corev1.PersistentVolumeClaim) { c.Annotations, c.Spec.StorageClassName = nil, ptr.To("fast") }, nil},
		{"another class", func(c *corev1.PersistentVolumeClaim) { c.Annotations = map[string]string{classAnnotation: "fast"} },
			func(c *corev1.PersistentVolumeClaim) { c.Annotations = nil }, []string{"FieldValueInvalid metadata.annotations.volume.beta.kubernetes.io/storage-class"}},
		{"volume mode", none, func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeMode = ptr.To(corev1.PersistentVolumeBlock) },
			[]string{"FieldValueForbidden spec", "FieldValueInvalid volumeMode"}},
		{"class of attributes", bound, func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeAttributesClassName = ptr.To("gold") }, nil},
		{"class of attributes lost", func(c *corev1.PersistentVolumeClaim) {
			bound(c)
			c.Spec.VolumeAttributesClassName, c.Status.CurrentVolumeAttributesClassName = ptr.To("gold"), ptr.To("gold")
		}, func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeAttributesClassName = nil }, []string{"FieldValueForbidden spec.volumeAttributesClassName"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			old := testClaim()
			DefaultPersistentVolumeClaim(old)
			tc.old(old)
			c := old.DeepCopy()
			tc.change(c)
			kindtest.Want(t, kindtest.Update(PersistentVolumeClaim(), c, old), tc.want...)
		})
	}
	c := testClaim(bound)
	if diff := cmp.Diff([]any{"data", "Bound", "pv", "1Gi", "RWO", "", "<unset>", "<unknown>", "<unset>"}, claimRow(c)); diff != "" {
		t.Error(diff)
	}
}
