package volume_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/troupe-run/troupe/node/volume"
)

func owner(t *testing.T, path string) string {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%s %d %d", info.Mode(), st.Uid, st.Gid)
}

func noEnv(string) (string, error) { return "", errors.New("no environment here") }

func mounts(t *testing.T, m *volume.Manager, pod *corev1.Pod, want ...corev1.VolumeMount) ([]*runtimeapi.Mount, error) {
	t.Helper()
	pod.Spec.Containers[0].VolumeMounts = want
	return m.Mounts(pod, &pod.Spec.Containers[0], noEnv)
}

func scratch() corev1.Volume {
	return corev1.Volume{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}
}

func TestImagesAreMountedByTheRuntime(t *testing.T) {
	m, _, _ := newManager(t)
	pod := newPod(corev1.Volume{Name: "model", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "example/model:1"}}})
	setup(t, m, pod)
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "model", MountPath: "/m", SubPath: "a/b"}, {Name: "model", MountPath: "n"}}
	got, err := m.Mounts(pod, &pod.Spec.Containers[0], noEnv)
	if err != nil || len(got) != 2 {
		t.Fatal(got, err)
	}
	for i, want := range []string{"/m a/b example/model:1 example/model:1 true", "/n  example/model:1 example/model:1 true"} {
		x := got[i]
		if have := fmt.Sprintf("%s %s %s %s %v", x.ContainerPath, x.ImageSubPath, x.Image.GetImage(), x.Image.GetUserSpecifiedImage(), x.Readonly); have != want || x.HostPath != "" {
			t.Errorf("%s%s, want %s", x.HostPath, have, want)
		}
	}
}

func TestMountsSayWhatTheManifestSays(t *testing.T) {
	m, w, dir := newManager(t)
	w.maps["settings"] = &corev1.ConfigMap{Data: map[string]string{"a": "1"}}
	pod := newPod(scratch(), configMapVolume(), corev1.Volume{Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/usr"}}})
	setup(t, m, pod)
	got, err := mounts(t, m, pod,
		corev1.VolumeMount{Name: "scratch", MountPath: "/s"},
		corev1.VolumeMount{Name: "config", MountPath: "/c"},
		corev1.VolumeMount{Name: "host", MountPath: "/h", ReadOnly: true, MountPropagation: ptr(corev1.MountPropagationHostToContainer)},
	)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		dir + "/uid-1/volumes/scratch /s false PROPAGATION_PRIVATE",
		dir + "/uid-1/volumes/config /c true PROPAGATION_PRIVATE",
		"/usr /h true PROPAGATION_HOST_TO_CONTAINER",
	}
	for i, mt := range got {
		if have := fmt.Sprintln(mt.HostPath, mt.ContainerPath, mt.Readonly, mt.Propagation); strings.TrimSpace(have) != want[i] {
			t.Errorf("mount %d is %s, want %s", i, have, want[i])
		}
	}
	if _, err := mounts(t, m, pod, corev1.VolumeMount{Name: "none", MountPath: "/n"}); err == nil {
		t.Error("a mount of a volume that is not there was accepted")
	}
}

func TestSubPathStaysInItsVolume(t *testing.T) {
	m, w, dir := newManager(t)
	w.maps["settings"] = &corev1.ConfigMap{Data: map[string]string{"a": "1"}}
	pod := newPod(scratch(), configMapVolume())
	setup(t, m, pod)
	vol := filepath.Join(dir, "uid-1/volumes/scratch")

	// A missing folder is made, like the volume itself; a link inside the volume is followed.
	got, err := mounts(t, m, pod, corev1.VolumeMount{Name: "scratch", MountPath: "/x", SubPath: "new/deep"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(got[0].HostPath+"/f", []byte("through the bind"), 0o600); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(vol + "/new/deep/f"); string(text) != "through the bind" {
		t.Errorf("the bind leads elsewhere: %v", err)
	}
	if got, want := owner(t, vol+"/new/deep"), "drwxrwxrwx 0 0"; got != want {
		t.Errorf("the new folder is %s, want %s", got, want)
	}
	if err := os.Symlink("new", vol+"/inside"); err != nil {
		t.Fatal(err)
	}
	again, err := mounts(t, m, pod, corev1.VolumeMount{Name: "scratch", MountPath: "/x", SubPath: "inside/deep"})
	if err != nil || again[0].HostPath != got[0].HostPath {
		t.Errorf("a link inside the volume: %v, %v", again, err)
	}

	// Links that lead out are refused, be they the last part or in the middle, relative or not.
	for name, target := range map[string]string{"etc": "/etc", "up": "../../../..", "self": "/proc/self/root", "loop": "loop"} {
		if err := os.Symlink(target, filepath.Join(vol, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, sub := range []string{"etc", "etc/passwd", "up", "up/etc", "self/etc", "loop", "../config", "/etc", "etc/new/folder"} {
		if got, err := mounts(t, m, pod, corev1.VolumeMount{Name: "scratch", MountPath: "/x", SubPath: sub}); err == nil {
			t.Errorf("subPath %q was bound to %v", sub, got)
		}
	}

	// A file of a configMap is followed through the layout, and bound anew after an update.
	file := corev1.VolumeMount{Name: "config", MountPath: "/a", SubPath: "a"}
	got, err = mounts(t, m, pod, file)
	if err != nil {
		t.Fatal(err)
	}
	w.maps["settings"] = &corev1.ConfigMap{Data: map[string]string{"a": "2"}}
	if err := m.Refresh(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(got[0].HostPath); string(text) != "1" {
		t.Errorf("a running container sees %q", text)
	}
	if got, err = mounts(t, m, pod, file); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(got[0].HostPath); string(text) != "2" {
		t.Errorf("a restarted container sees %q", text)
	}
	if _, err := mounts(t, m, pod, corev1.VolumeMount{Name: "config", MountPath: "/b", SubPath: "b"}); err == nil {
		t.Error("a key that is not there was bound")
	}
}

func TestSubPathExprIsExpanded(t *testing.T) {
	m, _, dir := newManager(t)
	pod := newPod(scratch())
	setup(t, m, pod)
	env := map[string]string{"POD": "web-0", "UP": "../up"}
	lookup := func(name string) (string, error) {
		if v, ok := env[name]; ok {
			return v, nil
		}
		return "", errors.New("not defined")
	}
	for _, c := range []struct{ expr, want string }{
		{"$(POD)", "web-0"},
		{"a/$(POD)/b$(POD)", "a/web-0/bweb-0"},
		{"$$(POD)", "$(POD)"},
		{"plain$", "plain$"},
		{"$(POD", "$(POD"},
		{"$(NONE)", ""},
		{"$(UP)", ""},
	} {
		pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "scratch", MountPath: "/x", SubPathExpr: c.expr}}
		_, err := m.Mounts(pod, &pod.Spec.Containers[0], lookup)
		if (err == nil) != (c.want != "") {
			t.Errorf("%s: %v", c.expr, err)
		}
		if c.want == "" {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, "uid-1/volumes/scratch", c.want)); err != nil {
			t.Errorf("%s: %v", c.expr, err)
		}
	}
}

func TestHostPathTypes(t *testing.T) {
	m, _, _ := newManager(t)
	at := t.TempDir()
	if err := os.WriteFile(at+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", at+"/socket")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	for _, c := range []struct {
		kind corev1.HostPathType
		path string
		ok   bool
	}{
		{corev1.HostPathUnset, at + "/none", true},
		{corev1.HostPathDirectory, at, true},
		{corev1.HostPathDirectory, at + "/file", false},
		{corev1.HostPathDirectory, at + "/none", false},
		{corev1.HostPathDirectoryOrCreate, at + "/made/deep", true},
		{corev1.HostPathDirectoryOrCreate, at + "/file", false},
		{corev1.HostPathFile, at + "/file", true},
		{corev1.HostPathFile, at, false},
		{corev1.HostPathFileOrCreate, at + "/touched", true},
		{corev1.HostPathFileOrCreate, at, false},
		{corev1.HostPathSocket, at + "/socket", true},
		{corev1.HostPathSocket, at + "/file", false},
		{corev1.HostPathCharDev, "/dev/null", true},
		{corev1.HostPathCharDev, at + "/file", false},
		{corev1.HostPathBlockDev, "/dev/null", false},
		{"Nonsense", at, false},
	} {
		err := m.Setup(t.Context(), newPod(corev1.Volume{Name: "host", VolumeSource: corev1.VolumeSource{
			HostPath: &corev1.HostPathVolumeSource{Path: c.path, Type: &c.kind}}}))
		if (err == nil) != c.ok {
			t.Errorf("%s as %q: %v", c.path, c.kind, err)
		}
	}
}

func TestHostsFile(t *testing.T) {
	m, _, _ := newManager(t)
	pod := newPod()
	pod.Spec.HostAliases = []corev1.HostAlias{{IP: "1.2.3.4", Hostnames: []string{"foo", "bar"}}}
	mount, err := m.Hosts(pod, []string{"10.1.2.3"}, "web", "sub.default.svc.cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(mount.HostPath)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"127.0.0.1\tlocalhost\n", "10.1.2.3\tweb.sub.default.svc.cluster.local\tweb\n", "1.2.3.4\tfoo\tbar\n"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("hosts file lacks %q:\n%s", want, text)
		}
	}
}

func TestTerminationMessage(t *testing.T) {
	m, _, dir := newManager(t)
	c := &corev1.Container{Name: "main"}
	if got, err := m.Termination("uid-1", "main", 0); got != "" || err != nil {
		t.Errorf("message before any run: %q, %v", got, err)
	}
	for attempt := range uint32(3) {
		mount, err := m.TerminationFile("uid-1", c, attempt)
		if err != nil {
			t.Fatal(err)
		}
		if mount.ContainerPath != "/dev/termination-log" {
			t.Errorf("mounted at %s", mount.ContainerPath)
		}
		text := strings.Repeat("x", 5000) + fmt.Sprint("end ", attempt)
		if err := os.WriteFile(mount.HostPath, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for attempt, want := range []string{"", "end 1", "end 2"} {
		got, err := m.Termination("uid-1", "main", uint32(attempt))
		if err != nil || !strings.HasSuffix(got, want) || len(got) > 4096 || want == "" && got != "" {
			t.Errorf("message of run %d is %d bytes: %v", attempt, len(got), err)
		}
	}
	if err := os.Remove(dir + "/uid-1/termination/main/2"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", dir+"/uid-1/termination/main/2"); err != nil {
		t.Fatal(err)
	}
	if got, err := m.Termination("uid-1", "main", 2); err == nil {
		t.Errorf("a link was read: %q", got)
	}
}
