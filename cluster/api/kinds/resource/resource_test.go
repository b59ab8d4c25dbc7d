package resource

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kinds/kindtest"
)

func claim(change ...func(*resourcev1.ResourceClaim)) *resourcev1.ResourceClaim {
	c := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Name: "c", Namespace: "default"}, Spec: resourcev1.ResourceClaimSpec{Devices: resourcev1.DeviceClaim{
		Requests: []resourcev1.DeviceRequest{
			{Name: "gpu", Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: "gpu.example.com", Selectors: []resourcev1.DeviceSelector{
				{CEL: &resourcev1.CELDeviceSelector{Expression: `device.attributes["example.com"].model == "big"`}}}}},
			{Name: "nic", FirstAvailable: []resourcev1.DeviceSubRequest{{Name: "fast", DeviceClassName: "nic"}, {Name: "slow", DeviceClassName: "nic"}}},
		},
		Constraints: []resourcev1.DeviceConstraint{{Requests: []string{"gpu", "nic/fast"}, MatchAttribute: ptr.To(resourcev1.FullyQualifiedName("example.com/numa"))}},
	}}}
	for _, fn := range change {
		fn(c)
	}
	return c
}

func TestResourceClaim(t *testing.T) {
	t.Parallel()
	k := ResourceClaim()
	c := claim()
	kindtest.Want(t, kindtest.Create(k, c))
	if e := c.Spec.Devices.Requests[0].Exactly; e.AllocationMode != "ExactCount" || e.Count != 1 {
		t.Errorf("defaults %+v", e)
	}
	if diff := cmp.Diff([]any{"c", "pending", "<unknown>"}, k.Row(c)); diff != "" {
		t.Error(diff)
	}
	exact := func(fn func(*resourcev1.ExactDeviceRequest)) func(*resourcev1.ResourceClaim) {
		return func(c *resourcev1.ResourceClaim) { fn(c.Spec.Devices.Requests[0].Exactly) }
	}
	selector := func(text string) func(*resourcev1.ResourceClaim) {
		return exact(func(e *resourcev1.ExactDeviceRequest) { e.Selectors[0].CEL.Expression = text })
	}
	const at = "spec.devices.requests[0].exactly."
	for name, tc := range map[string]struct {
		change func(*resourcev1.ResourceClaim)
		want   []string
	}{
		"no class":       {exact(func(e *resourcev1.ExactDeviceRequest) { e.DeviceClassName = "" }), []string{"FieldValueRequired " + at + "deviceClassName"}},
		"bad mode":       {exact(func(e *resourcev1.ExactDeviceRequest) { e.AllocationMode = "Some" }), []string{"FieldValueNotSupported " + at + "allocationMode"}},
		"count of all":   {exact(func(e *resourcev1.ExactDeviceRequest) { e.AllocationMode, e.Count = "All", 2 }), []string{"FieldValueInvalid " + at + "count"}},
		"no CEL":         {exact(func(e *resourcev1.ExactDeviceRequest) { e.Selectors[0].CEL = nil }), []string{"FieldValueRequired " + at + "selectors[0].cel"}},
		"bad CEL":        {selector(`device.size >`), []string{"FieldValueInvalid " + at + "selectors[0].cel.expression"}},
		"CEL no bool":    {selector(`device.driver`), []string{"FieldValueInvalid " + at + "selectors[0].cel.expression"}},
		"CEL too long":   {selector(strings.Repeat("a", 10241)), []string{"FieldValueTooLong " + at + "selectors[0].cel.expression"}},
		"CEL too costly": {selector(`device.attributes.all(a, device.attributes.all(b, device.attributes.all(c, device.attributes.all(d, a == b && c == d && a.matches("x.*")))))`), []string{"FieldValueForbidden " + at + "selectors[0].cel.expression"}},
		"toleration": {exact(func(e *resourcev1.ExactDeviceRequest) {
			e.Tolerations = []resourcev1.DeviceToleration{{Operator: "Equal", Value: "v", Effect: "Any"}, {Key: "k", Operator: "Exists", Value: "v"}}
		}), []string{"FieldValueNotSupported " + at + "tolerations[0].effect", "FieldValueInvalid " + at + "tolerations[1].value"}},
		"names": {func(c *resourcev1.ResourceClaim) {
			c.Spec.Devices.Requests[1].Name = "gpu"
			c.Spec.Devices.Constraints = nil
		}, []string{"FieldValueDuplicate spec.devices.requests[1]"}},
		"neither": {func(c *resourcev1.ResourceClaim) { c.Spec.Devices.Requests[0].Exactly = nil }, []string{"FieldValueRequired spec.devices.requests[0]"}},
		"both": {func(c *resourcev1.ResourceClaim) {
			c.Spec.Devices.Requests[0].FirstAvailable = c.Spec.Devices.Requests[1].FirstAvailable
		}, []string{"FieldValueInvalid spec.devices.requests[0]"}},
		"constraint": {func(c *resourcev1.ResourceClaim) {
			c.Spec.Devices.Constraints = []resourcev1.DeviceConstraint{{Requests: []string{"none"}}, {MatchAttribute: ptr.To(resourcev1.FullyQualifiedName("numa"))}}
		}, []string{"FieldValueInvalid spec.devices.constraints[0].requests[0]", "FieldValueRequired spec.devices.constraints[0]", "FieldValueInvalid spec.devices.constraints[1].matchAttribute"}},
		"config": {func(c *resourcev1.ResourceClaim) {
			c.Spec.Devices.Config = []resourcev1.DeviceClaimConfiguration{{}, {DeviceConfiguration: resourcev1.DeviceConfiguration{
				Opaque: &resourcev1.OpaqueDeviceConfiguration{Driver: "d.example.com", Parameters: runtime.RawExtension{Raw: []byte(`"text"`)}}}}}
		}, []string{"FieldValueRequired spec.devices.config[0].opaque", "FieldValueInvalid spec.devices.config[1].opaque.parameters"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kindtest.Want(t, kindtest.Create(k, claim(tc.change)), tc.want...)
		})
	}
	changed := c.DeepCopy()
	changed.Spec.Devices.Requests[0].Exactly.Count = 2
	kindtest.Want(t, kindtest.Update(k, changed, c), "FieldValueInvalid spec")
}

func TestResourceClaimStatus(t *testing.T) {
	t.Parallel()
	k := ResourceClaim()
	old := claim()
	kindtest.Want(t, kindtest.Create(k, old))
	allocated := old.DeepCopy()
	allocated.Status = resourcev1.ResourceClaimStatus{
		Allocation: &resourcev1.AllocationResult{Devices: resourcev1.DeviceAllocationResult{Results: []resourcev1.DeviceRequestAllocationResult{
			{Request: "gpu", Driver: "d.example.com", Pool: "node-1", Device: "gpu-0"}}}},
		ReservedFor: []resourcev1.ResourceClaimConsumerReference{{Resource: "pods", Name: "p", UID: "1"}},
		Devices:     []resourcev1.AllocatedDeviceStatus{{Driver: "d.example.com", Pool: "node-1", Device: "gpu-0", NetworkData: &resourcev1.NetworkDeviceData{IPs: []string{"10.0.0.1/24"}}}},
	}
	kindtest.Want(t, kindtest.Sub(k.Status, allocated, old))
	if got := k.Row(allocated)[1]; got != "allocated,reserved" {
		t.Errorf("state %v", got)
	}
	for name, tc := range map[string]struct {
		from   *resourcev1.ResourceClaim
		change func(*resourcev1.ResourceClaim)
		want   []string
	}{
		"reserved but not allocated": {allocated, func(c *resourcev1.ResourceClaim) { c.Status.Allocation, c.Status.Devices = nil, nil }, []string{"FieldValueForbidden status.reservedFor"}},
		"another allocation":         {allocated, func(c *resourcev1.ResourceClaim) { c.Status.Allocation.Devices.Results[0].Pool = "b" }, []string{"FieldValueInvalid status.allocation"}},
		"consumers": {allocated, func(c *resourcev1.ResourceClaim) {
			c.Status.ReservedFor = append(c.Status.ReservedFor, resourcev1.ResourceClaimConsumerReference{Resource: "pods", Name: "q", UID: "1"}, resourcev1.ResourceClaimConsumerReference{UID: "2"})
		}, []string{"FieldValueDuplicate status.reservedFor[1]", "FieldValueRequired status.reservedFor[2].resource", "FieldValueRequired status.reservedFor[2].name"}},
		"a bad result": {old, func(c *resourcev1.ResourceClaim) {
			c.Status.Allocation.Devices.Results = []resourcev1.DeviceRequestAllocationResult{{Request: "none", Pool: "A", Device: "d"}}
			c.Status.Devices = nil
		}, []string{"FieldValueInvalid status.allocation.devices.results[0].request", "FieldValueRequired status.allocation.devices.results[0].driver", "FieldValueInvalid status.allocation.devices.results[0].pool"}},
		"a bad address": {old, func(c *resourcev1.ResourceClaim) { c.Status.Devices[0].NetworkData.IPs = []string{"10.0.0.1"} },
			[]string{"FieldValueInvalid status.devices[0].networkData.ips[0]"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := allocated.DeepCopy()
			tc.change(c)
			kindtest.Want(t, kindtest.Sub(k.Status, c, tc.from), tc.want...)
		})
	}
}

func slice(change ...func(*resourcev1.ResourceSlice)) *resourcev1.ResourceSlice {
	s := &resourcev1.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Spec: resourcev1.ResourceSliceSpec{
		Driver: "d.example.com", Pool: resourcev1.ResourcePool{Name: "node-1", ResourceSliceCount: 1}, NodeName: ptr.To("node-1"),
		Devices: []resourcev1.Device{{Name: "gpu-0", Attributes: map[resourcev1.QualifiedName]resourcev1.DeviceAttribute{"model": {StringValue: ptr.To("big")}, "example.com/version": {VersionValue: ptr.To("1.2.3")}}}},
	}}
	for _, fn := range change {
		fn(s)
	}
	return s
}

func TestResourceSlice(t *testing.T) {
	t.Parallel()
	k := ResourceSlice()
	good := slice()
	kindtest.Want(t, kindtest.Create(k, good))
	if diff := cmp.Diff([]any{"s", "node-1", "d.example.com", "node-1", "<unknown>"}, k.Row(good)); diff != "" {
		t.Error(diff)
	}
	if got := k.Fields(good); got["spec.driver"] != "d.example.com" || got["spec.nodeName"] != "node-1" {
		t.Errorf("fields %v", got)
	}
	device := func(fn func(*resourcev1.Device)) func(*resourcev1.ResourceSlice) {
		return func(s *resourcev1.ResourceSlice) { fn(&s.Spec.Devices[0]) }
	}
	for name, tc := range map[string]struct {
		change func(*resourcev1.ResourceSlice)
		want   []string
	}{
		"pool":          {func(s *resourcev1.ResourceSlice) { s.Spec.Pool = resourcev1.ResourcePool{Generation: -1} }, []string{"FieldValueRequired spec.pool.name", "FieldValueInvalid spec.pool.generation", "FieldValueInvalid spec.pool.resourceSliceCount"}},
		"no driver":     {func(s *resourcev1.ResourceSlice) { s.Spec.Driver = "" }, []string{"FieldValueRequired spec.driver"}},
		"no nodes":      {func(s *resourcev1.ResourceSlice) { s.Spec.NodeName = nil }, []string{"FieldValueRequired spec"}},
		"two nodes":     {func(s *resourcev1.ResourceSlice) { s.Spec.AllNodes = ptr.To(true) }, []string{"FieldValueInvalid spec"}},
		"not all nodes": {func(s *resourcev1.ResourceSlice) { s.Spec.AllNodes = ptr.To(false) }, []string{"FieldValueInvalid spec.allNodes"}},
		"device twice":  {func(s *resourcev1.ResourceSlice) { s.Spec.Devices = append(s.Spec.Devices, s.Spec.Devices[0]) }, []string{"FieldValueDuplicate spec.devices[1]"}},
		"attributes": {device(func(d *resourcev1.Device) {
			d.Attributes = map[resourcev1.QualifiedName]resourcev1.DeviceAttribute{"none": {}, "a-b": {IntValue: ptr.To[int64](1)}, "v": {VersionValue: ptr.To("1")}}
		}), []string{"FieldValueInvalid spec.devices[0].attributes[none]", "FieldValueInvalid spec.devices[0].attributes[a-b]", "FieldValueInvalid spec.devices[0].attributes[v].version"}},
		"taint":       {device(func(d *resourcev1.Device) { d.Taints = []resourcev1.DeviceTaint{{Key: "k"}, {Effect: "NoExecute"}} }), []string{"FieldValueRequired spec.devices[0].taints[0].effect", "FieldValueInvalid spec.devices[0].taints[1].key", "FieldValueInvalid spec.devices[0].taints[1].key"}},
		"node of one": {device(func(d *resourcev1.Device) { d.NodeName = ptr.To("n") }), []string{"FieldValueInvalid spec.devices[0].nodeName"}},
		"node of each": {func(s *resourcev1.ResourceSlice) {
			s.Spec.NodeName, s.Spec.PerDeviceNodeSelection = nil, ptr.To(true)
		}, []string{"FieldValueRequired spec.devices[0]"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kindtest.Want(t, kindtest.Create(k, slice(tc.change)), tc.want...)
		})
	}
	tainted := slice(device(func(d *resourcev1.Device) { d.Taints = []resourcev1.DeviceTaint{{Key: "k", Effect: "NoExecute"}} }))
	kindtest.Want(t, kindtest.Create(k, tainted))
	if tainted.Spec.Devices[0].Taints[0].TimeAdded == nil {
		t.Error("a taint has no time")
	}
	kindtest.Want(t, kindtest.Update(k, slice(func(s *resourcev1.ResourceSlice) {
		s.Spec.NodeName, s.Spec.Driver, s.Spec.Pool.Name = ptr.To("node-2"), "e.example.com", "p"
	}), good), "FieldValueInvalid spec.nodeName", "FieldValueInvalid spec.driver", "FieldValueInvalid spec.pool.name")
}

func TestDeviceClassAndTemplate(t *testing.T) {
	t.Parallel()
	k := DeviceClass()
	kindtest.Want(t, kindtest.Create(k, &resourcev1.DeviceClass{Spec: resourcev1.DeviceClassSpec{ExtendedResourceName: ptr.To("example.com/gpu"),
		Selectors: []resourcev1.DeviceSelector{{CEL: &resourcev1.CELDeviceSelector{Expression: `device.driver == "d.example.com"`}}}}}))
	kindtest.Want(t, kindtest.Create(k, &resourcev1.DeviceClass{Spec: resourcev1.DeviceClassSpec{ExtendedResourceName: ptr.To(string(corev1.ResourceCPU)),
		Config: make([]resourcev1.DeviceClassConfiguration, 1)}}), "FieldValueInvalid spec.extendedResourceName", "FieldValueRequired spec.config[0].opaque")
	tk := ResourceClaimTemplate()
	tpl := &resourcev1.ResourceClaimTemplate{Spec: resourcev1.ResourceClaimTemplateSpec{Spec: claim().Spec}}
	kindtest.Want(t, kindtest.Create(tk, tpl))
	changed := tpl.DeepCopy()
	changed.Spec.Labels = map[string]string{"bad key!": "v"}
	kindtest.Want(t, kindtest.Update(tk, changed, tpl), "FieldValueInvalid spec", "FieldValueInvalid spec.metadata.labels")
}
