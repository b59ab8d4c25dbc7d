package pod

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestEnviron(t *testing.T) {
	t.Parallel()
	yes := true
	ctl := &control{cms: map[string]*corev1.ConfigMap{"default/app": {Data: map[string]string{"A": "from-map", "B": "two", "bad name=": "x"}}}}
	p := newTestPod("web", func(p *corev1.Pod) {
		p.Labels = map[string]string{"app": "web"}
		p.Spec.ServiceAccountName = "robot"
		c := &p.Spec.Containers[0]
		c.Resources.Limits = corev1.ResourceList{"cpu": resource.MustParse("1500m")}
		c.EnvFrom = []corev1.EnvFromSource{{Prefix: "P_", ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "app"}}},
			{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "none"}, Optional: &yes}}}
		field := func(path string) *corev1.EnvVarSource {
			return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}
		}
		c.Env = []corev1.EnvVar{
			{Name: "P_A", Value: "own"},
			{Name: "SUM", Value: "$(P_A)-$(P_B)-$(NONE)-$$(P_A)-$x"},
			{Name: "KEY", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "app"}, Key: "B"}}},
			{Name: "GONE", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "no"}, Key: "k", Optional: &yes}}},
			{Name: "IP", ValueFrom: field("status.podIP")}, {Name: "NODE", ValueFrom: field("spec.nodeName")}, {Name: "APP", ValueFrom: field("metadata.labels['app']")},
			{Name: "SA", ValueFrom: field("spec.serviceAccountName")},
			{Name: "CPU", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.cpu"}}},
			{Name: "MEM", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.memory", Divisor: resource.MustParse("1Mi")}}},
		}
	})
	services := []*corev1.Service{
		{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "my-db"}, Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.7", Ports: []corev1.ServicePort{{Name: "sql", Port: 5432}}}},
		{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "headless"}, Spec: corev1.ServiceSpec{ClusterIP: "None", Ports: []corev1.ServicePort{{Port: 1}}}},
		{ObjectMeta: metav1.ObjectMeta{Namespace: "other", Name: "foreign"}, Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.9", Ports: []corev1.ServicePort{{Port: 1}}}},
	}
	list, err := environ(p, &p.Spec.Containers[0], envSource{objects: ctl, services: services, podIPs: []string{"10.0.0.2"}, node: "n1",
		capacity: corev1.ResourceList{"memory": resource.MustParse("64Mi")}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, v := range list {
		got = append(got, v.Key+"="+string(v.Value))
	}
	want := []string{"MY_DB_SERVICE_HOST=10.96.0.7", "MY_DB_SERVICE_PORT=5432", "MY_DB_SERVICE_PORT_SQL=5432", "MY_DB_PORT=tcp://10.96.0.7:5432",
		"MY_DB_PORT_5432_TCP=tcp://10.96.0.7:5432", "MY_DB_PORT_5432_TCP_PROTO=tcp", "MY_DB_PORT_5432_TCP_PORT=5432", "MY_DB_PORT_5432_TCP_ADDR=10.96.0.7",
		"P_A=own", "P_B=two", "SUM=own-two-$(NONE)-$(P_A)-$x", "KEY=two", "IP=10.0.0.2", "NODE=n1", "APP=web", "SA=robot", "CPU=2", "MEM=64"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEnvironNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	for want, v := range map[string]*corev1.EnvVarSource{
		`configmap "app" not found`:                      {ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "app"}, Key: "k"}},
		`secret "app" not found`:                         {SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "app"}, Key: "k"}},
		`couldn't find key k in ConfigMap default/there`: {ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "there"}, Key: "k"}},
	} {
		p := newTestPod("web", func(p *corev1.Pod) { p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "V", ValueFrom: v}} })
		_, err := environ(p, &p.Spec.Containers[0], envSource{objects: &control{cms: map[string]*corev1.ConfigMap{"default/there": {}}}})
		if err == nil || err.Error() != want {
			t.Errorf("error = %v, want %s", err, want)
		}
	}
}

func FuzzExpand(f *testing.F) {
	for _, s := range []string{"", "$", "$$", "$(A)", "$(", "$(A", "$()", "$$(A)", "a$(A)$(B)c", "$(A)$"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		get := func(name string) (string, bool) { return "<" + name + ">", true }
		out := expand(in, get)
		if !strings.Contains(in, "$") && out != in {
			t.Errorf("expand(%q) = %q", in, out)
		}
		// What is escaped comes out as it went in.
		if got := expand(strings.ReplaceAll(in, "$", "$$"), get); got != in {
			t.Errorf("escaped %q came out as %q", in, got)
		}
	})
}

func TestDNSConfig(t *testing.T) {
	t.Parallel()
	host := &cri.DNSConfig{Servers: []string{"192.0.2.53"}, Searches: []string{"corp.example"}, Options: []string{"rotate"}}
	two := "2"
	tests := []struct {
		name string
		edit func(*corev1.Pod)
		want *cri.DNSConfig
	}{
		{"cluster first", func(p *corev1.Pod) {}, &cri.DNSConfig{Servers: []string{"10.96.0.10"},
			Searches: []string{"default.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example"}, Options: []string{"ndots:5"}}},
		{"host network", func(p *corev1.Pod) { p.Spec.HostNetwork = true }, host},
		{"default", func(p *corev1.Pod) { p.Spec.DNSPolicy = corev1.DNSDefault }, host},
		{"none with own", func(p *corev1.Pod) {
			p.Spec.DNSPolicy = corev1.DNSNone
			p.Spec.DNSConfig = &corev1.PodDNSConfig{Nameservers: []string{"1.1.1.1", "1.1.1.1"}, Searches: []string{"a.b"}, Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: &two}, {Name: "edns0"}}}
		}, &cri.DNSConfig{Servers: []string{"1.1.1.1"}, Searches: []string{"a.b"}, Options: []string{"ndots:2", "edns0"}}},
		{"own options win", func(p *corev1.Pod) {
			p.Spec.DNSConfig = &corev1.PodDNSConfig{Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: &two}}}
		}, &cri.DNSConfig{Servers: []string{"10.96.0.10"}, Searches: []string{"default.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example"}, Options: []string{"ndots:2"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := dnsConfig(newTestPod("web", tt.edit), dnsFacts{server: "10.96.0.10", domain: "cluster.local", host: host})
			if got.String() != tt.want.String() {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
	got, err := ParseResolvConf(strings.NewReader("# comment\nnameserver 192.0.2.53\nsearch corp.example\noptions rotate\n"))
	if err != nil || got.String() != host.String() {
		t.Errorf("ParseResolvConf = %v, %v", got, err)
	}
}

func TestResources(t *testing.T) {
	t.Parallel()
	list := func(cpu, memory string) corev1.ResourceList {
		return corev1.ResourceList{"cpu": resource.MustParse(cpu), "memory": resource.MustParse(memory)}
	}
	tests := []struct {
		name string
		req  corev1.ResourceRequirements
		m    machine
		want *cri.LinuxContainerResources
	}{
		{"best effort", corev1.ResourceRequirements{}, machine{minOOMScore: -1000}, &cri.LinuxContainerResources{CpuShares: 2, OomScoreAdj: 1000}},
		{"guaranteed", corev1.ResourceRequirements{Requests: list("500m", "128Mi"), Limits: list("500m", "128Mi")}, machine{minOOMScore: -1000},
			&cri.LinuxContainerResources{CpuShares: 512, CpuPeriod: 100000, CpuQuota: 50000, MemoryLimitInBytes: 128 << 20, OomScoreAdj: -997}},
		{"guaranteed without the right to lower", corev1.ResourceRequirements{Requests: list("5m", "1Mi"), Limits: list("5m", "1Mi")}, machine{minOOMScore: 0},
			&cri.LinuxContainerResources{CpuShares: 5, CpuPeriod: 100000, CpuQuota: 1000, MemoryLimitInBytes: 1 << 20}},
		{"burstable", corev1.ResourceRequirements{Requests: list("1", "256Mi")}, machine{memory: 1 << 30, minOOMScore: -1000},
			&cri.LinuxContainerResources{CpuShares: 1024, OomScoreAdj: 750}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newTestPod("web", func(p *corev1.Pod) { p.Spec.Containers[0].Resources = tt.req })
			if got := resources(p, &p.Spec.Containers[0], tt.m); got.String() != tt.want.String() {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestSandboxAndContainerConfig(t *testing.T) {
	t.Parallel()
	yes, uid, group := true, int64(1000), int64(2000)
	p := newTestPod("web", func(p *corev1.Pod) {
		p.Spec.Hostname, p.Spec.Subdomain = "h", "sub"
		p.Spec.ShareProcessNamespace = &yes
		p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: &uid, FSGroup: &group, Sysctls: []corev1.Sysctl{{Name: "net.core.somaxconn", Value: "9"}}}
		c := &p.Spec.Containers[0]
		c.Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 8080, Protocol: corev1.ProtocolTCP}, {ContainerPort: 81}}
		c.Command, c.Args = []string{"/bin/$(WHO)"}, []string{"$(NONE)"}
		c.SecurityContext = &corev1.SecurityContext{ReadOnlyRootFilesystem: &yes, Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}}
	})
	env := environment{node: "n1", logs: "/logs/x", cgroup: "/troupe/x"}
	box := sandboxConfig(p, 2, env)
	if box.Hostname != "h" || len(box.PortMappings) != 1 || box.PortMappings[0].HostPort != 8080 || box.Metadata.Attempt != 2 ||
		box.Linux.Sysctls["net.core.somaxconn"] != "9" || box.Linux.CgroupParent != "/troupe/x" || box.Labels[labelPodUID] != "web-uid" ||
		box.Linux.SecurityContext.NamespaceOptions.Pid != cri.NamespaceMode_POD || box.Linux.SecurityContext.SupplementalGroups[0] != 2000 {
		t.Errorf("sandbox = %v", box)
	}
	c := containerConfig(p, &p.Spec.Containers[0], run{attempt: 3, image: "sha256:1", env: []*cri.KeyValue{{Key: "WHO", Value: []byte("me")}}}, env)
	sec := c.Linux.SecurityContext
	if c.Command[0] != "/bin/me" || c.Args[0] != "$(NONE)" || c.LogPath != "web/3.log" || c.Annotations[noteRestarts] != "3" || c.Labels[labelContainer] != "web" ||
		sec.RunAsUser.Value != 1000 || !sec.ReadonlyRootfs || sec.Capabilities.DropCapabilities[0] != "ALL" || len(sec.MaskedPaths) == 0 {
		t.Errorf("container = %v", c)
	}
	p.Spec.HostNetwork = true
	if box := sandboxConfig(p, 0, env); box.Hostname != "" || len(box.PortMappings) != 0 || box.Linux.SecurityContext.NamespaceOptions.Network != cri.NamespaceMode_NODE {
		t.Errorf("sandbox on the host's network = %v", box)
	}
}

func TestNonRootIsChecked(t *testing.T) {
	t.Parallel()
	user := func(n int64) *cri.LinuxContainerSecurityContext {
		return &cri.LinuxContainerSecurityContext{RunAsUser: &cri.Int64Value{Value: n}}
	}
	none := &cri.LinuxContainerSecurityContext{}
	tests := []struct {
		name  string
		sec   *cri.LinuxContainerSecurityContext
		image *cri.Image
		ok    bool
	}{
		{"asked for a user", user(1), &cri.Image{}, true},
		{"asked for root", user(0), &cri.Image{Uid: &cri.Int64Value{Value: 1}}, false},
		{"the image has a user", none, &cri.Image{Uid: &cri.Int64Value{Value: 1}}, true},
		{"the image has root", none, &cri.Image{Uid: &cri.Int64Value{}}, false},
		{"the image has none", none, &cri.Image{}, false},
		{"the image has a name", none, &cri.Image{Username: "app"}, false},
	}
	for _, tt := range tests {
		if err := checkNonRoot(tt.sec, tt.image); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
