package node

import (
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/version"

	"github.com/troupe-run/troupe/node/eviction"
)

func TestTheMachineIsMeasured(t *testing.T) {
	t.Parallel()
	total, allocatable, err := capacity(t.TempDir(), 110, defaultThresholds(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage, corev1.ResourcePods} {
		all, free := total[name], allocatable[name]
		if all.Sign() <= 0 || free.Sign() <= 0 || free.Cmp(all) > 0 {
			t.Errorf("%s: %s of %s", name, free.String(), all.String())
		}
	}
	info := systemInfo("containerd://2.3.7")
	if info.KernelVersion == "" || info.OSImage == "" || info.BootID == "" || info.ContainerRuntimeVersion != "containerd://2.3.7" {
		t.Errorf("info = %+v", info)
	}
	if v, err := version.ParseSemantic(KubeletVersion); err != nil || v.Major() != 1 || v.Minor() != 36 {
		t.Errorf("%s is no version tools can read: %v", KubeletVersion, err)
	}
	if ips := hostAddresses(); len(ips) == 0 || !ips[0].IsValid() {
		t.Errorf("addresses = %v", ips)
	}
}

func defaultThresholds(t *testing.T) []eviction.Threshold {
	t.Helper()
	list, err := eviction.Parse(eviction.Default)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestNodeConditions(t *testing.T) {
	t.Parallel()
	first, later := metav1.NewTime(time.Unix(1000, 0)), metav1.NewTime(time.Unix(2000, 0))
	well := nodeConditions(health{}, first, nil)
	for _, c := range well {
		if (c.Status == corev1.ConditionTrue) != (c.Type == corev1.NodeReady) {
			t.Errorf("a machine that is well: %+v", c)
		}
	}
	if again := nodeConditions(health{}, later, well); !sameConditions(well, again) || !again[0].LastHeartbeatTime.Equal(&first) {
		t.Errorf("nothing changed, but %+v", again)
	}
	ill := nodeConditions(health{notReady: "container runtime is down: gone", pressure: []corev1.NodeConditionType{corev1.NodeDiskPressure}}, later, well)
	if ill[0].Status != corev1.ConditionFalse || ill[1].Reason != "KubeletHasDiskPressure" || ill[3].Message != "container runtime is down: gone" ||
		!ill[3].LastTransitionTime.Equal(&later) || !ill[0].LastTransitionTime.Equal(&first) {
		t.Errorf("an ill machine: %+v", ill)
	}
	n := nodeObject("n1", map[string]string{"a": "b"}, nil, corev1.NodeStatus{Addresses: nodeAddresses("n1", []netip.Addr{netip.MustParseAddr("192.0.2.1")})})
	if n.Labels[corev1.LabelHostname] != "n1" || n.Labels["a"] != "b" || n.Status.Addresses[0].Type != corev1.NodeInternalIP {
		t.Errorf("node = %+v", n)
	}
}

func TestPodShare(t *testing.T) {
	t.Parallel()
	with := func(list ...corev1.ResourceRequirements) *corev1.Pod {
		p := &corev1.Pod{}
		for _, r := range list {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Resources: r})
		}
		return p
	}
	of := func(cpu, memory string) corev1.ResourceList {
		return corev1.ResourceList{"cpu": resource.MustParse(cpu), "memory": resource.MustParse(memory)}
	}
	tests := []struct {
		name string
		pod  *corev1.Pod
		want share
	}{
		{"best effort", with(corev1.ResourceRequirements{}), share{cpu: 2}},
		{"sums", with(corev1.ResourceRequirements{Requests: of("500m", "1Mi"), Limits: of("1", "64Mi")}, corev1.ResourceRequirements{Requests: of("500m", "1Mi"), Limits: of("1", "64Mi")}),
			share{cpu: 1024, memory: 128 << 20}},
		{"one without a limit", with(corev1.ResourceRequirements{Requests: of("1", "1Mi"), Limits: of("1", "64Mi")}, corev1.ResourceRequirements{}), share{cpu: 1024}},
	}
	for _, tt := range tests {
		if got := podShare(tt.pod); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}
