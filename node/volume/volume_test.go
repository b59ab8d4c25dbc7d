package volume_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/sys/mountinfo"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/node/volume"
)

// world is the cluster as a volume sees it.
type world struct {
	maps    map[string]*corev1.ConfigMap
	secrets map[string]*corev1.Secret
	asked   int   // tokens asked for
	cutOff  error // the answer to every request for a token
	clock   *clocktesting.FakePassiveClock
}

func (w *world) ConfigMap(_, name string) (*corev1.ConfigMap, bool) {
	cm, ok := w.maps[name]
	return cm, ok
}

func (w *world) Secret(_, name string) (*corev1.Secret, bool) {
	s, ok := w.secrets[name]
	return s, ok
}

func (w *world) Token(_ context.Context, pod *corev1.Pod, audience string, lifetime time.Duration) (string, time.Time, error) {
	if w.cutOff != nil {
		return "", time.Time{}, w.cutOff
	}
	w.asked++
	return fmt.Sprintf("%s/%s/%d", pod.Name, audience, w.asked), w.clock.Now().Add(lifetime), nil
}

func newManager(t *testing.T) (*volume.Manager, *world, string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	w := &world{maps: map[string]*corev1.ConfigMap{}, secrets: map[string]*corev1.Secret{},
		clock: clocktesting.NewFakePassiveClock(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))}
	dir := t.TempDir()
	m, err := volume.NewManager(volume.Config{Dir: dir, Objects: w, Tokens: w, Clock: w.clock,
		Allocatable: func() corev1.ResourceList {
			return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2")}
		},
		Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Sweep(nil); err != nil {
			t.Errorf("sweep: %v", err)
		}
		if left, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir)); err != nil || len(left) > 0 {
			t.Errorf("mounts left: %v, %v", left, err)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("folders left: %v", left)
		}
	})
	return m, w, dir
}

func newPod(volumes ...corev1.Volume) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default", UID: "uid-1", Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{Volumes: volumes, Containers: []corev1.Container{{Name: "main"}}},
	}
}

func setup(t *testing.T, m *volume.Manager, pod *corev1.Pod) {
	t.Helper()
	if err := m.Setup(t.Context(), pod); err != nil {
		t.Fatalf("setup: %v", err)
	}
}

// tree reads the visible files of a volume: path, mode, group and content.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "..") {
			continue
		}
		real, err := filepath.EvalSymlinks(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Errorf("dangling %s: %v", e.Name(), err)
			continue
		}
		err = filepath.WalkDir(real, func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			out[e.Name()+strings.TrimPrefix(p, real)] = fmt.Sprintf("%o %s", info.Mode().Perm(), text)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func configMapVolume(items ...corev1.KeyToPath) corev1.Volume {
	return corev1.Volume{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
		LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}, Items: items}}}
}

func ptr[T any](v T) *T { return &v }

func TestConfigMapIsUpdatedAtOnce(t *testing.T) {
	m, w, dir := newManager(t)
	pod := newPod(configMapVolume())
	files := filepath.Join(dir, "uid-1/volumes/config")

	err := m.Setup(t.Context(), pod)
	var ve *volume.Error
	if !errors.As(err, &ve) || ve.Volume != "config" || !errors.Is(err, messages.ErrNotFound) {
		t.Fatalf("setup without the ConfigMap: %v", err)
	}
	if want := `MountVolume.SetUp failed for volume "config" : configmap "settings" not found`; err.Error() != want {
		t.Errorf("error is %q, want %q", err, want)
	}

	w.maps["settings"] = &corev1.ConfigMap{Data: map[string]string{"a": "1", "b": "2"}, BinaryData: map[string][]byte{"c": {0xff}}}
	setup(t, m, pod)
	if diff := cmp.Diff(map[string]string{"a": "644 1", "b": "644 2", "c": "644 \xff"}, tree(t, files)); diff != "" {
		t.Errorf("first content (-want +got):\n%s", diff)
	}
	before, err := os.Readlink(files + "/..data")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Refresh(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	if now, _ := os.Readlink(files + "/..data"); now != before {
		t.Error("unchanged content was written again")
	}

	w.maps["settings"] = &corev1.ConfigMap{Data: map[string]string{"a": "new", "d": "4"}}
	if err := m.Refresh(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"a": "644 new", "d": "644 4"}, tree(t, files)); diff != "" {
		t.Errorf("second content (-want +got):\n%s", diff)
	}
	if _, err := os.Stat(filepath.Join(files, before)); err == nil {
		t.Error("the former content is left")
	}

	// A source that vanished leaves running containers what they have.
	delete(w.maps, "settings")
	if err := m.Refresh(t.Context(), pod); !errors.Is(err, messages.ErrNotFound) {
		t.Errorf("refresh without the ConfigMap: %v", err)
	}
	if got := tree(t, files)["a"]; got != "644 new" {
		t.Errorf("content is %q after its source vanished", got)
	}
}

func TestContentFollowsItsManifest(t *testing.T) {
	m, w, dir := newManager(t)
	w.maps["settings"] = &corev1.ConfigMap{Data: map[string]string{"a": "1", "b": "2"}}
	w.secrets["keys"] = &corev1.Secret{Data: map[string][]byte{"k": []byte("s3cret")}}
	missing := func(name string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: name} }
	pod := newPod(
		configMapVolume(corev1.KeyToPath{Key: "a", Path: "deep/er/x", Mode: ptr(int32(0o400))}),
		corev1.Volume{Name: "secret", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "keys", DefaultMode: ptr(int32(0o400))}}},
		corev1.Volume{Name: "optional", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: missing("none"), Optional: ptr(true)}}},
		corev1.Volume{Name: "about", VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{
			{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}},
			{Path: "cpu", ResourceFieldRef: &corev1.ResourceFieldSelector{ContainerName: "main", Resource: "limits.cpu"}},
		}}}},
		corev1.Volume{Name: "mix", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{DefaultMode: ptr(int32(0o440)), Sources: []corev1.VolumeProjection{
			{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: missing("settings"), Items: []corev1.KeyToPath{{Key: "b", Path: "b"}}}},
			{Secret: &corev1.SecretProjection{LocalObjectReference: missing("keys"), Items: []corev1.KeyToPath{{Key: "k", Path: "private/k"}}}},
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", Audience: "vault"}},
		}}}},
	)
	setup(t, m, pod)
	for name, want := range map[string]map[string]string{
		"config":   {"deep/er/x": "400 1"},
		"secret":   {"k": "400 s3cret"},
		"optional": {},
		"about":    {"labels": `644 app="web"`, "cpu": "644 2"},
		"mix":      {"b": "440 2", "private/k": "440 s3cret", "token": "440 web/vault/1"},
	} {
		if diff := cmp.Diff(want, tree(t, filepath.Join(dir, "uid-1/volumes", name))); diff != "" {
			t.Errorf("volume %s (-want +got):\n%s", name, diff)
		}
	}
	for name, want := range map[string]bool{"config": false, "secret": true, "mix": true, "about": true} {
		if got, err := mountinfo.Mounted(filepath.Join(dir, "uid-1/volumes", name)); err != nil || got != want {
			t.Errorf("volume %s is in memory: %v, want %v (%v)", name, got, want, err)
		}
	}
	if err := m.Teardown("uid-1"); err != nil {
		t.Fatal(err)
	}
	if err := m.Teardown("uid-1"); err != nil {
		t.Errorf("teardown again: %v", err)
	}
}

func TestContentBelongsToTheGroup(t *testing.T) {
	m, w, dir := newManager(t)
	w.maps["settings"] = &corev1.ConfigMap{Data: map[string]string{"a": "1"}}
	pod := newPod(
		configMapVolume(corev1.KeyToPath{Key: "a", Path: "a", Mode: ptr(int32(0o400))}),
		corev1.Volume{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		corev1.Volume{Name: "memory", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}},
		corev1.Volume{Name: "token", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}}}}}},
	)
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: ptr(int64(4242)), RunAsUser: ptr(int64(1000))}
	setup(t, m, pod)
	for path, want := range map[string]string{
		"config/a":    "-r--r----- 0 4242",
		"scratch":     "dgrwxrwxrwx 0 4242",
		"memory":      "dgrwxrwxrwx 0 4242",
		"token/token": "-rw-r----- 1000 4242",
	} {
		if got := owner(t, filepath.Join(dir, "uid-1/volumes", path)); got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
	// Modes with the group's share are the same content as before.
	before, _ := os.Readlink(filepath.Join(dir, "uid-1/volumes/config/..data"))
	if err := m.Refresh(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	if now, _ := os.Readlink(filepath.Join(dir, "uid-1/volumes/config/..data")); now != before {
		t.Error("unchanged content was written again")
	}
}

func TestTokensAreRenewedInTime(t *testing.T) {
	m, w, dir := newManager(t)
	pod := newPod(corev1.Volume{Name: "token", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
		{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: ptr(int64(1000))}}}}}})
	read := func() string { return tree(t, filepath.Join(dir, "uid-1/volumes/token"))["token"] }
	setup(t, m, pod)
	for _, step := range []struct {
		name   string
		after  time.Duration
		cutOff error
		want   string
	}{
		{name: "young", after: 799 * time.Second, want: "644 web//1"},
		{name: "four fifths over", after: 801 * time.Second, want: "644 web//2"},
		{name: "cut off", after: 1800 * time.Second, cutOff: errors.New("cut off"), want: "644 web//2"},
		{name: "back", after: 1801 * time.Second, want: "644 web//3"},
	} {
		w.cutOff = step.cutOff
		w.clock.SetTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(step.after))
		if err := m.Refresh(t.Context(), pod); err != nil {
			t.Errorf("%s: %v", step.name, err)
		}
		if got := read(); got != step.want {
			t.Errorf("%s: token is %q, want %q", step.name, got, step.want)
		}
	}
}

func TestEmptyDirKeepsWhatWasWritten(t *testing.T) {
	m, _, dir := newManager(t)
	pod := newPod(
		corev1.Volume{Name: "disk", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		corev1.Volume{Name: "memory", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{
			Medium: corev1.StorageMediumMemory, SizeLimit: ptr(resource.MustParse("1Mi"))}}},
	)
	setup(t, m, pod)
	for _, name := range []string{"disk", "memory"} {
		if err := os.WriteFile(filepath.Join(dir, "uid-1/volumes", name, "f"), []byte("kept"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	setup(t, m, pod)
	for _, name := range []string{"disk", "memory"} {
		at := filepath.Join(dir, "uid-1/volumes", name)
		if got, err := os.ReadFile(at + "/f"); string(got) != "kept" {
			t.Errorf("%s lost its file: %v", name, err)
		}
		if got, want := owner(t, at), "drwxrwxrwx 0 0"; got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "uid-1/volumes/memory/big"), make([]byte, 2<<20), 0o600); err == nil {
		t.Error("the size limit of memory does not hold")
	}
}

func TestSweepSparesTheLiving(t *testing.T) {
	m, w, dir := newManager(t)
	w.secrets["keys"] = &corev1.Secret{Data: map[string][]byte{"k": []byte("v")}}
	for _, uid := range []types.UID{"alive", "dead"} {
		pod := newPod(corev1.Volume{Name: "s", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "keys"}}})
		pod.UID = uid
		setup(t, m, pod)
	}
	if err := m.Sweep([]types.UID{"alive"}); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "alive" {
		t.Errorf("left: %v, %v", entries, err)
	}
}

func TestBadNamesLeadNowhere(t *testing.T) {
	m, w, _ := newManager(t)
	for _, uid := range []types.UID{"", ".", "..", "a/b", "../x"} {
		if err := m.Teardown(uid); err == nil {
			t.Errorf("teardown of UID %q did not fail", uid)
		}
	}
	w.maps["settings"] = &corev1.ConfigMap{Data: map[string]string{"a": "1"}}
	for _, path := range []string{"../x", "/etc/x", "a/../../x", "..data", "..x/y", ""} {
		if err := m.Setup(t.Context(), newPod(configMapVolume(corev1.KeyToPath{Key: "a", Path: path}))); err == nil {
			t.Errorf("item path %q was accepted", path)
		}
	}
	if err := m.Setup(t.Context(), newPod(configMapVolume(corev1.KeyToPath{Key: "nope", Path: "x"}))); !errors.Is(err, messages.ErrNotFound) {
		t.Errorf("missing key: %v", err)
	}
	if err := m.Setup(t.Context(), newPod(corev1.Volume{Name: "disk", VolumeSource: corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{}}})); err == nil {
		t.Error("an unsupported volume was accepted")
	}
}
