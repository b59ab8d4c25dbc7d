package admission

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// request is a write of obj by joe; with old it is an update.
func request(obj, old objects.Object, kind schema.GroupVersionKind, resource, sub string) admission.Attributes {
	op := admission.Create
	var was runtime.Object
	if old != nil {
		op, was = admission.Update, old
	}
	return admission.NewAttributesRecord(obj, was, kind, obj.GetNamespace(), obj.GetName(), kind.GroupVersion().WithResource(resource), sub, op, nil, false,
		&user.DefaultInfo{Name: "joe"})
}

func wantErr(t *testing.T, err error, want string) {
	t.Helper()
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("error %v, want %q", err, want)
	}
}

func class(name string, age time.Duration, annotation, value string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(time.Unix(1000, 0).Add(-age)), Annotations: map[string]string{annotation: value}}
}

func TestDefaultClasses(t *testing.T) {
	t.Parallel()
	reader := world{}
	for _, c := range []*storagev1.StorageClass{
		{ObjectMeta: class("old", 9*time.Second, "storageclass.kubernetes.io/is-default-class", "true")},
		{ObjectMeta: class("b", 0, "storageclass.kubernetes.io/is-default-class", "true")},
		{ObjectMeta: class("a", 0, "storageclass.beta.kubernetes.io/is-default-class", "true")},
		{ObjectMeta: class("0", 0, "storageclass.kubernetes.io/is-default-class", "false")},
	} {
		reader[messages.KeyOf(storageClasses, "", c.Name)] = c
	}
	reader[messages.KeyOf(ingressClasses, "", "web")] = &networkingv1.IngressClass{ObjectMeta: class("web", 0, networkingv1.AnnotationIsDefaultIngressClass, "true")}
	claim := func(name *string, annotations map[string]string) *corev1.PersistentVolumeClaim {
		c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Annotations: annotations}, Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: name}}
		if err := newStorageClass(reader).Admit(t.Context(), request(c, nil, corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim"), "persistentvolumeclaims", ""), nil); err != nil {
			t.Error(err)
		}
		return c
	}
	if got := claim(nil, nil).Spec.StorageClassName; got == nil || *got != "a" {
		t.Errorf("class %v, want the newest, then the first by name", got)
	}
	if got := claim(ptr.To(""), nil).Spec.StorageClassName; *got != "" {
		t.Errorf("the wish for no class is overruled by %q", *got)
	}
	if got := claim(nil, map[string]string{corev1.BetaStorageClassAnnotation: "x"}).Spec.StorageClassName; got != nil {
		t.Errorf("a class by annotation is overruled by %q", *got)
	}
	ingress := &networkingv1.Ingress{}
	if err := newIngressClass(reader).Admit(t.Context(), request(ingress, nil, networkingv1.SchemeGroupVersion.WithKind("Ingress"), "ingresses", ""), nil); err != nil {
		t.Error(err)
	}
	if got := ptr.Deref(ingress.Spec.IngressClassName, ""); got != "web" {
		t.Errorf("ingress class %q", got)
	}
}

func TestRuntimeClasses(t *testing.T) {
	t.Parallel()
	overhead := corev1.ResourceList{"cpu": resource.MustParse("100m")}
	same := corev1.Toleration{Key: "k", Operator: corev1.TolerationOpExists}
	r := newRuntimeClass(world{
		messages.KeyOf(runtimeClasses, "", "kata"): &nodev1.RuntimeClass{Handler: "kata", Overhead: &nodev1.Overhead{PodFixed: overhead},
			Scheduling: &nodev1.Scheduling{NodeSelector: map[string]string{"vm": "yes"}, Tolerations: []corev1.Toleration{same}}},
	})
	for name, tc := range map[string]struct {
		spec corev1.PodSpec
		err  string
	}{
		"merged":         {corev1.PodSpec{RuntimeClassName: ptr.To("kata"), Tolerations: []corev1.Toleration{same}}, ""},
		"none":           {corev1.PodSpec{}, ""},
		"unknown":        {corev1.PodSpec{RuntimeClassName: ptr.To("x")}, `pod rejected: RuntimeClass "x" not found`},
		"other overhead": {corev1.PodSpec{RuntimeClassName: ptr.To("kata"), Overhead: corev1.ResourceList{"cpu": resource.MustParse("1")}}, "Pod's Overhead doesn't match"},
		"own overhead":   {corev1.PodSpec{Overhead: overhead}, "Pod Overhead set without corresponding RuntimeClass"},
		"conflict":       {corev1.PodSpec{RuntimeClassName: ptr.To("kata"), NodeSelector: map[string]string{"vm": "no"}}, "conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pod := &corev1.Pod{Spec: tc.spec}
			a := request(pod, nil, corev1.SchemeGroupVersion.WithKind("Pod"), "pods", "")
			err := r.Admit(t.Context(), a, nil)
			if err == nil {
				err = r.Validate(t.Context(), a, nil)
			}
			wantErr(t, err, tc.err)
			if name == "merged" && (len(pod.Spec.Tolerations) != 1 || pod.Spec.NodeSelector["vm"] != "yes" || len(pod.Spec.Overhead) != 1) {
				t.Errorf("%+v", pod.Spec)
			}
		})
	}
}

func TestClaimsGrowOnlyWhereTheyCan(t *testing.T) {
	t.Parallel()
	r := newResize(world{
		messages.KeyOf(storageClasses, "", "grows"): &storagev1.StorageClass{AllowVolumeExpansion: ptr.To(true)},
		messages.KeyOf(storageClasses, "", "fixed"): &storagev1.StorageClass{},
	})
	claim := func(class, size string, phase corev1.PersistentVolumeClaimPhase) *corev1.PersistentVolumeClaim {
		return &corev1.PersistentVolumeClaim{Status: corev1.PersistentVolumeClaimStatus{Phase: phase}, Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: &class,
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{"storage": resource.MustParse(size)}}}}
	}
	for name, tc := range map[string]struct {
		now, old *corev1.PersistentVolumeClaim
		err      string
	}{
		"grows":     {claim("grows", "2Gi", ""), claim("grows", "1Gi", corev1.ClaimBound), ""},
		"same":      {claim("fixed", "1Gi", ""), claim("fixed", "1Gi", corev1.ClaimPending), ""},
		"not bound": {claim("grows", "2Gi", ""), claim("grows", "1Gi", corev1.ClaimPending), "Only bound persistent volume claims can be expanded"},
		"fixed":     {claim("fixed", "2Gi", ""), claim("fixed", "1Gi", corev1.ClaimBound), "only dynamically provisioned pvc can be resized"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantErr(t, r.Validate(t.Context(), request(tc.now, tc.old, corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim"), "persistentvolumeclaims", ""), nil), tc.err)
		})
	}
}

func TestWhatStoresDataIsMarked(t *testing.T) {
	t.Parallel()
	v := &corev1.PersistentVolume{}
	for range 2 {
		if err := newInUse().Admit(t.Context(), request(v, nil, corev1.SchemeGroupVersion.WithKind("PersistentVolume"), "persistentvolumes", ""), nil); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"kubernetes.io/pv-protection"}, v.Finalizers); diff != "" {
		t.Error(diff)
	}
}

func TestPodsLearnWhereTheyAre(t *testing.T) {
	t.Parallel()
	reader := world{messages.KeyOf(messages.Nodes, "", "n"): &corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{corev1.LabelTopologyZone: "z", "other": "x"}}}}
	have := map[string]string{"app": "a"}
	if diff := cmp.Diff(map[string]string{"app": "a", corev1.LabelTopologyZone: "z"}, TopologyLabels(reader, "n", have)); diff != "" {
		t.Error(diff)
	}
	if len(have) != 1 {
		t.Error("the labels that were passed changed")
	}
	pod := &corev1.Pod{Spec: corev1.PodSpec{NodeName: "n"}}
	if err := newTopology(reader).Admit(t.Context(), request(pod, nil, corev1.SchemeGroupVersion.WithKind("Pod"), "pods", ""), nil); err != nil || pod.Labels[corev1.LabelTopologyZone] != "z" {
		t.Error(err, pod.Labels)
	}
}

func TestOwnersAreChecked(t *testing.T) {
	t.Parallel()
	mapper := meta.NewDefaultRESTMapper(nil)
	mapper.Add(schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "ReplicaSet"}, meta.RESTScopeNamespace)
	may := func(verbs string) authorizer.Authorizer {
		return authorizer.AuthorizerFunc(func(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
			if strings.Contains(verbs, a.GetVerb()+" "+a.GetResource()+"/"+a.GetSubresource()+" "+a.GetNamespace()) {
				return authorizer.DecisionAllow, "", nil
			}
			return authorizer.DecisionNoOpinion, "no", nil
		})
	}
	pod := func(refs ...metav1.OwnerReference) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", OwnerReferences: refs}}
	}
	ref := metav1.OwnerReference{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "r", UID: "u"}
	blocks, alien := ref, ref
	blocks.BlockOwnerDeletion = ptr.To(true)
	alien.Kind, alien.BlockOwnerDeletion = "Alien", ptr.To(true)
	for name, tc := range map[string]struct {
		now, old *corev1.Pod
		may, err string
	}{
		"new":            {pod(ref), nil, "", ""},
		"new, blocking":  {pod(blocks), nil, "update replicasets/finalizers ns", ""},
		"may not":        {pod(blocks), nil, "", "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: no, <nil>"},
		"unknown kind":   {pod(alien), nil, "", "cannot find RESTMapping for APIVersion apps/v1 Kind Alien"},
		"added":          {pod(ref), pod(), "delete pods/ ns", ""},
		"may not delete": {pod(ref), pod(), "", "cannot set an ownerRef on a resource you can't delete: no, <nil>"},
		"unchanged":      {pod(blocks), pod(blocks), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var old objects.Object
			if tc.old != nil {
				old = tc.old
			}
			wantErr(t, newOwners(may(tc.may), mapper).Validate(t.Context(), request(tc.now, old, corev1.SchemeGroupVersion.WithKind("Pod"), "pods", ""), nil), tc.err)
		})
	}
}

func TestPodSecurity(t *testing.T) {
	t.Parallel()
	ns := func(labels map[string]string) *corev1.Namespace {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns", Labels: labels}}
	}
	restricted := map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}
	plain := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
	for name, tc := range map[string]struct {
		ns  *corev1.Namespace
		a   admission.Attributes
		err string
	}{
		"no level": {ns(nil), request(plain, nil, corev1.SchemeGroupVersion.WithKind("Pod"), "pods", ""), ""},
		"restricted": {ns(restricted), request(plain, nil, corev1.SchemeGroupVersion.WithKind("Pod"), "pods", ""),
			`pods "p" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false)`},
		"baseline":  {ns(map[string]string{"pod-security.kubernetes.io/enforce": "baseline"}), request(plain, nil, corev1.SchemeGroupVersion.WithKind("Pod"), "pods", ""), ""},
		"bad label": {ns(nil), request(ns(map[string]string{"pod-security.kubernetes.io/enforce": "loose"}), nil, corev1.SchemeGroupVersion.WithKind("Namespace"), "namespaces", ""), `Invalid value: "loose"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := newPodSecurity(world{messages.KeyOf(messages.Namespaces, "", "ns"): tc.ns})
			if err != nil {
				t.Fatal(err)
			}
			wantErr(t, p.Validate(t.Context(), tc.a, nil), tc.err)
		})
	}
}
