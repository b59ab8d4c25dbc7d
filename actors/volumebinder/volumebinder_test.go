package volumebinder

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/storage/volume"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/actors/controller/controllertest"
	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/actors/objects/objectstest"
)

func pv(name, size string, change ...func(*corev1.PersistentVolume)) *corev1.PersistentVolume {
	v := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PersistentVolumeSpec{
		Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
		PersistentVolumeSource:        corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/srv"}},
	}, Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumePending}}
	for _, f := range change {
		f(v)
	}
	return v
}

func pvc(name, size string, change ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes:      []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		Resources:        corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}},
		StorageClassName: ptr.To(""),
	}, Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending}}
	for _, f := range change {
		f(c)
	}
	return c
}

// reserve makes a volume wait for a claim of a name.
func reserve(name string) func(*corev1.PersistentVolume) {
	return func(v *corev1.PersistentVolume) {
		v.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "ns", Name: name}
	}
}

func ofClass(name string) func(*corev1.PersistentVolumeClaim) {
	return func(c *corev1.PersistentVolumeClaim) { c.Spec.StorageClassName = &name }
}

func policy(p corev1.PersistentVolumeReclaimPolicy) func(*corev1.PersistentVolume) {
	return func(v *corev1.PersistentVolume) { v.Spec.PersistentVolumeReclaimPolicy = p }
}

func modes(m ...corev1.PersistentVolumeAccessMode) func(*corev1.PersistentVolume) {
	return func(v *corev1.PersistentVolume) { v.Spec.AccessModes = m }
}

func class(name, provisioner string, mode storagev1.VolumeBindingMode) *storagev1.StorageClass {
	return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: provisioner, VolumeBindingMode: &mode}
}

func getVolume(t *testing.T, w *controllertest.World, name string) *corev1.PersistentVolume {
	t.Helper()
	return objectstest.Must[*corev1.PersistentVolume](t, w.Store, volumeKey(name))
}

func getClaim(t *testing.T, w *controllertest.World, name string) *corev1.PersistentVolumeClaim {
	t.Helper()
	return objectstest.Must[*corev1.PersistentVolumeClaim](t, w.Store, claimKey("ns", name))
}

// how describes claims and volumes in a line each: phase and who belongs to whom.
func how(w *controllertest.World) string {
	var out []string
	for _, c := range objects.List[*corev1.PersistentVolumeClaim](w, claims, "") {
		out = append(out, fmt.Sprintf("%s %s %s", c.Name, c.Status.Phase, c.Spec.VolumeName))
	}
	for _, v := range objects.List[*corev1.PersistentVolume](w, volumes, "") {
		ref := ""
		if v.Spec.ClaimRef != nil {
			ref = v.Spec.ClaimRef.Name
		}
		out = append(out, fmt.Sprintf("%s %s %s", v.Name, v.Status.Phase, ref))
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

func TestWhoGetsWhich(t *testing.T) {
	t.Parallel()
	block := func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeMode = ptr.To(corev1.PersistentVolumeBlock) }
	named := func(v string) func(*corev1.PersistentVolumeClaim) {
		return func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = v }
	}
	for name, tt := range map[string]struct {
		objs  []objects.Object
		want  string
		event string // one that was told
	}{
		"the smallest that is large enough": {[]objects.Object{pv("v-large", "9Gi"), pv("v-fit", "5Gi"), pv("v-small", "1Gi"), pvc("c", "4Gi")},
			"c Bound v-fit; v-fit Bound c; v-large Available ; v-small Available ", ""},
		"none large enough": {[]objects.Object{pv("v", "1Gi"), pvc("c", "4Gi")}, "c Pending ; v Available ",
			"Normal FailedBinding: no persistent volumes available for this claim and no storage class is set"},
		"the fewest access modes": {[]objects.Object{pv("v-many", "1Gi", modes("ReadWriteOnce", "ReadOnlyMany")), pv("v-one", "2Gi"), pvc("c", "1Gi")},
			"c Bound v-one; v-many Available ; v-one Bound c", ""},
		"no access mode": {[]objects.Object{pv("v", "1Gi", modes("ReadOnlyMany")), pvc("c", "1Gi")}, "c Pending ; v Available ", "FailedBinding"},
		"another mode":   {[]objects.Object{pv("v", "1Gi"), pvc("c", "1Gi", block)}, "c Pending ; v Available ", "FailedBinding"},
		"by selector": {[]objects.Object{pv("v-a", "1Gi"), pv("v-b", "9Gi", func(v *corev1.PersistentVolume) { v.Labels = map[string]string{"disk": "fast"} }),
			pvc("c", "1Gi", func(c *corev1.PersistentVolumeClaim) {
				c.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"disk": "fast"}}
			})}, "c Bound v-b; v-a Available ; v-b Bound c", ""},
		"by class": {[]objects.Object{pv("v-a", "1Gi"), pv("v-b", "9Gi", func(v *corev1.PersistentVolume) { v.Spec.StorageClassName = "fast" }), pvc("c", "1Gi", ofClass("fast")),
			class("fast", volume.NotSupportedProvisioner, storagev1.VolumeBindingImmediate)}, "c Bound v-b; v-a Available ; v-b Bound c", ""},
		"by name":          {[]objects.Object{pv("v-a", "1Gi"), pv("v-b", "9Gi"), pvc("c", "1Gi", named("v-b"))}, "c Bound v-b; v-a Available ; v-b Bound c", ""},
		"by name, no such": {[]objects.Object{pv("v-a", "1Gi"), pvc("c", "1Gi", named("v-b"))}, "c Pending v-b; v-a Available ", ""},
		"by name, too small": {[]objects.Object{pv("v", "1Gi"), pvc("c", "4Gi", named("v"))}, "c Pending v; v Available ",
			`Warning VolumeMismatch: Cannot bind to requested volume "v": requested PV is too small`},
		"by name, taken": {[]objects.Object{pv("v", "1Gi", reserve("other")), pvc("c", "1Gi", named("v"))}, "c Pending v; v Available other",
			`Warning FailedBinding: volume "v" already bound to a different claim.`},
		"reserved":           {[]objects.Object{pv("v-a", "1Gi"), pv("v-b", "9Gi", reserve("c")), pvc("c", "1Gi")}, "c Bound v-b; v-a Available ; v-b Bound c", ""},
		"reserved for other": {[]objects.Object{pv("v", "1Gi", reserve("other")), pvc("c", "1Gi")}, "c Pending ; v Available other", "FailedBinding"},
		"two for one":        {[]objects.Object{pv("v", "1Gi", reserve("d")), pvc("c", "1Gi"), pvc("d", "1Gi")}, "c Pending ; d Bound v; v Bound d", "FailedBinding"},
		"no class":           {[]objects.Object{pvc("c", "1Gi", ofClass("fast"))}, "c Pending ", `Warning ProvisioningFailed: storageclass.storage.k8s.io "fast" not found`},
		"class without provisioner": {[]objects.Object{pvc("c", "1Gi", ofClass("local")), class("local", volume.NotSupportedProvisioner, storagev1.VolumeBindingImmediate)},
			"c Pending ", "Warning ProvisioningFailed: no volume plugin matched name: kubernetes.io/no-provisioner"},
		"provisioner": {[]objects.Object{pvc("c", "1Gi", ofClass("fast")), class("fast", "disks.example.com", storagev1.VolumeBindingImmediate)},
			"c Pending ", "Normal ExternalProvisioning: Waiting for a volume to be created either by the external provisioner 'disks.example.com'"},
		"waits": {[]objects.Object{pv("v", "1Gi", func(v *corev1.PersistentVolume) { v.Spec.StorageClassName = "local" }), pvc("c", "1Gi", ofClass("local")),
			class("local", volume.NotSupportedProvisioner, storagev1.VolumeBindingWaitForFirstConsumer)},
			"c Pending ; v Available ", "Normal WaitForFirstConsumer: waiting for first consumer to be created before binding"},
		"waits, reserved": {[]objects.Object{pv("v", "1Gi", reserve("c")), pvc("c", "1Gi", ofClass("local")),
			class("local", volume.NotSupportedProvisioner, storagev1.VolumeBindingWaitForFirstConsumer)}, "c Bound v; v Bound c", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, obj := range tt.objs {
				if v, ok := obj.(*corev1.PersistentVolume); ok && v.Spec.ClaimRef == nil {
					v.Status.Phase = corev1.VolumeAvailable // or which one is so first would decide
				}
			}
			controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
				w.Start(Spec(w.Deps()))
				w.Settle()
				if got := how(w); got != tt.want {
					t.Errorf("got  %s\nwant %s", got, tt.want)
				}
				if !slices.ContainsFunc(w.Recorder.Events(), func(e string) bool { return strings.Contains(e, tt.event) }) && tt.event != "" {
					t.Errorf("events %q", w.Recorder.Events())
				}
			}, tt.objs...)
		})
	}
}

// TestBoundSaysSo looks at all that Kubernetes' users see of a binding.
func TestBoundSaysSo(t *testing.T) {
	t.Parallel()
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		w.Start(Spec(w.Deps()))
		w.Settle()
		v, c := getVolume(t, w, "v"), getClaim(t, w, "c")
		if ref := v.Spec.ClaimRef; ref.UID != c.UID || ref.Kind != "PersistentVolumeClaim" || ref.APIVersion != "v1" || ref.Namespace != "ns" {
			t.Errorf("claimRef %+v", ref)
		}
		if v.Annotations[volume.AnnBoundByController] != "yes" || c.Annotations[volume.AnnBoundByController] != "yes" || c.Annotations[volume.AnnBindCompleted] != "yes" {
			t.Errorf("annotations %v, %v", v.Annotations, c.Annotations)
		}
		if size := c.Status.Capacity[corev1.ResourceStorage]; size.String() != "5Gi" || len(c.Status.AccessModes) != 1 {
			t.Errorf("status %+v", c.Status)
		}
		if v.Status.LastPhaseTransitionTime == nil {
			t.Error("no time of transition")
		}
		// Nothing more is written.
		w.Writes()
		w.Put(pv("other", "1Gi"))
		w.Settle()
		for _, wr := range w.Writes() {
			if !strings.Contains(wr.String(), "other") {
				t.Errorf("needless %s", wr)
			}
		}
	}, pv("v", "5Gi"), pvc("c", "1Gi"))
}

func TestWhatHappensToABoundPair(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		volume *corev1.PersistentVolume
		do     func(t *testing.T, w *controllertest.World)
		want   string
		event  string
	}{
		"claim deleted, retain": {pv("v", "1Gi"), func(_ *testing.T, w *controllertest.World) { w.Drop(claimKey("ns", "c")) }, "v Released c", ""},
		"claim deleted, delete": {pv("v", "1Gi", policy("Delete")), func(_ *testing.T, w *controllertest.World) { w.Drop(claimKey("ns", "c")) }, "v Failed c",
			`Warning VolumeFailedDelete: error getting deleter volume plugin for volume "v": no deletable volume plugin matched`},
		"claim deleted, delete by its maker": {pv("v", "1Gi", policy("Delete"), func(v *corev1.PersistentVolume) {
			v.Annotations = map[string]string{volume.AnnDynamicallyProvisioned: "disks.example.com"}
		}), func(_ *testing.T, w *controllertest.World) { w.Drop(claimKey("ns", "c")) }, "v Released c", ""},
		"claim deleted, recycle": {pv("v", "1Gi", policy("Recycle")), func(_ *testing.T, w *controllertest.World) { w.Drop(claimKey("ns", "c")) }, "v Failed c",
			"Warning VolumeFailedRecycle: No recycler plugin found for the volume!"},
		"claim made anew": {pv("v", "1Gi"), func(_ *testing.T, w *controllertest.World) {
			w.Drop(claimKey("ns", "c"))
			w.Settle()
			w.Put(pvc("c", "1Gi"))
		}, "c Pending ; v Released c", "FailedBinding"},
		"volume lost": {pv("v", "1Gi"), func(_ *testing.T, w *controllertest.World) { w.Drop(volumeKey("v")) }, "c Lost v",
			"Warning ClaimLost: Bound claim has lost its PersistentVolume. Data on the volume is lost!"},
		"volume taken back": {pv("v", "1Gi"), func(t *testing.T, w *controllertest.World) {
			v := getVolume(t, w, "v").DeepCopy()
			v.Spec.ClaimRef, v.Status.Phase = nil, corev1.VolumeAvailable
			w.Put(v)
		}, "c Bound v; v Bound c", ""},
		"volume given to another": {pv("v", "1Gi"), func(t *testing.T, w *controllertest.World) {
			v := getVolume(t, w, "v").DeepCopy()
			v.Spec.ClaimRef.UID = "another"
			w.Put(v)
		}, "c Lost v; v Released c", "Warning ClaimMisbound: Two claims are bound to the same volume, this one is bound incorrectly"},
		"reference lost": {pv("v", "1Gi"), func(t *testing.T, w *controllertest.World) {
			c := getClaim(t, w, "c").DeepCopy()
			c.Spec.VolumeName = ""
			w.Put(c)
		}, "c Lost ; v Bound c", "Warning ClaimLost: Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"},
		"claim took another": {pv("v", "1Gi"), func(t *testing.T, w *controllertest.World) {
			w.Put(pv("w", "1Gi"))
			c := getClaim(t, w, "c").DeepCopy()
			c.Spec.VolumeName = "w"
			w.Put(c)
		}, "c Bound w; v Available ; w Bound c", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
				w.Start(Spec(w.Deps()))
				w.Settle()
				if got := how(w); got != "c Bound v; v Bound c" {
					t.Fatal(got)
				}
				tt.do(t, w)
				w.Settle()
				w.Settle()
				if got := how(w); got != tt.want {
					t.Errorf("got  %s\nwant %s", got, tt.want)
				}
				if !slices.ContainsFunc(w.Recorder.Events(), func(e string) bool { return strings.Contains(e, tt.event) }) && tt.event != "" {
					t.Errorf("events %q", w.Recorder.Events())
				}
			}, tt.volume, pvc("c", "1Gi"))
		})
	}
}

// TestHalfABindingNeverShows refuses one of the two writes: then the other must not happen either.
func TestHalfABindingNeverShows(t *testing.T) {
	t.Parallel()
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		w.FailWith(func(wr objectstest.Write) error {
			if wr.Verb == "update" && wr.Sub == "" && wr.Key.Resource == claims {
				return errors.New("no")
			}
			return nil
		})
		w.Start(Spec(w.Deps()))
		w.Settle()
		if got := how(w); got != "c Pending ; v Available " {
			t.Errorf("half a binding: %s", got)
		}
		w.FailWith(nil)
		for range 60 {
			w.Settle()
		}
		if got := how(w); got != "c Bound v; v Bound c" {
			t.Errorf("not healed: %s", got)
		}
	}, pv("v", "5Gi"), pvc("c", "1Gi"))
}

// TestClaimsGetADefaultClassLater gives a claim that named no class the newest default one, when there
// is one, and leaves alone what asked for none.
func TestClaimsGetADefaultClassLater(t *testing.T) {
	t.Parallel()
	nameless := pvc("c", "1Gi")
	nameless.Spec.StorageClassName = nil
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		w.Start(Spec(w.Deps()))
		w.Settle()
		if c := getClaim(t, w, "c"); c.Spec.StorageClassName != nil || c.Status.Phase != corev1.ClaimPending {
			t.Fatalf("%+v", c)
		}
		for _, name := range []string{"old", "new"} {
			cl := class(name, "disks.example.com", storagev1.VolumeBindingImmediate)
			cl.Annotations = map[string]string{defaultMark: "true"}
			cl.CreationTimestamp = metav1.Now()
			if name == "old" {
				cl.CreationTimestamp = metav1.Time{Time: metav1.Now().AddDate(0, 0, -1)}
			}
			w.Put(cl)
		}
		w.Settle()
		c, none := getClaim(t, w, "c"), getClaim(t, w, "none")
		if got := ptr.Deref(c.Spec.StorageClassName, ""); got != "old" && got != "new" || c.Annotations[volume.AnnStorageProvisioner] != "disks.example.com" {
			t.Errorf("class %q, annotations %v", got, c.Annotations)
		}
		if *none.Spec.StorageClassName != "" {
			t.Errorf("a claim without a class got %q", *none.Spec.StorageClassName)
		}
		w.Put(func() *corev1.PersistentVolumeClaim {
			d := pvc("d", "1Gi")
			d.Spec.StorageClassName = nil
			return d
		}())
		w.Settle()
		if got := ptr.Deref(getClaim(t, w, "d").Spec.StorageClassName, ""); got != "new" {
			t.Errorf("class %q, want the newest", got)
		}
	}, nameless, pvc("none", "1Gi"))
}
