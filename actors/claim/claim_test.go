package claim

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/actors/objects/objectstest"
	"github.com/troupe-run/troupe/messages"
)

func pod(name, label, controller string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-of-" + name), Labels: map[string]string{"app": label}}}
	if controller != "" {
		yes := true
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Owner", Name: controller, UID: types.UID(controller), Controller: &yes}}
	}
	return p
}

func names(pods []*corev1.Pod) (out []string) {
	for _, p := range pods {
		out = append(out, p.Name)
	}
	return out
}

func TestSort(t *testing.T) {
	t.Parallel()
	leaving := metav1.NewTime(time.Unix(1, 0))
	going := pod("going", "web", "")
	going.DeletionTimestamp = &leaving
	all := []*corev1.Pod{pod("mine", "web", "me"), pod("strayed", "db", "me"), pod("other", "web", "you"),
		pod("free", "web", ""), pod("unrelated", "db", ""), going}
	for _, tc := range []struct {
		name                 string
		owner                metav1.ObjectMeta
		mine, adopt, release []string
	}{
		{name: "living owner", owner: metav1.ObjectMeta{UID: "me"}, mine: []string{"mine"}, adopt: []string{"free"}, release: []string{"strayed"}},
		{name: "leaving owner", owner: metav1.ObjectMeta{UID: "me", DeletionTimestamp: &leaving}, mine: []string{"mine"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			mine, adopt, release := Sort(&tc.owner, labels.SelectorFromSet(labels.Set{"app": "web"}), all)
			if diff := cmp.Diff([][]string{tc.mine, tc.adopt, tc.release}, [][]string{names(mine), names(adopt), names(release)}); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAdoptChecksTheOwnersUID(t *testing.T) {
	t.Parallel()
	owner := pod("owner", "", "")
	free := pod("free", "web", "")
	s := objectstest.New(clock.RealClock{}, owner, free)
	ownerKey, key := objectstest.KeyOf(owner), objectstest.KeyOf(free)
	yes := true
	ref := metav1.OwnerReference{APIVersion: "v1", Kind: "Pod", Name: "owner", UID: "an earlier one", Controller: &yes}
	if got, err := Adopt(t.Context(), s, s, ownerKey, ref, key, free); got != nil || err != nil {
		t.Errorf("adopted %v, %v for an owner that was replaced", got, err)
	}
	ref.UID = owner.UID
	got, err := Adopt(t.Context(), s, s, ownerKey, ref, key, free)
	if err != nil || !metav1.IsControlledBy(got, owner) {
		t.Fatalf("not adopted: %v, %v", got, err)
	}
	if err := Release(t.Context(), s, owner, key, free); err != nil {
		t.Fatal(err)
	}
	if p := objectstest.Must[*corev1.Pod](t, s, key); len(p.OwnerReferences) != 0 {
		t.Errorf("owner references left after release: %v", p.OwnerReferences)
	}
}

func TestOrphansFollowsChanges(t *testing.T) {
	t.Parallel()
	s := objectstest.New(clock.RealClock{}, pod("free", "web", ""), pod("owned", "web", "me"))
	o := NewOrphans()
	s.Follow([]messages.Resource{messages.Pods}, func(ch objects.Change) { o.Note(ch) })
	s.Put(pod("later", "web", ""))
	s.Put(pod("free", "web", "me"))
	if diff := cmp.Diff([]string{"later"}, names(Append[*corev1.Pod](nil, o, s, "default"))); diff != "" {
		t.Error(diff)
	}
	s.Drop(messages.KeyOf(messages.Pods, "default", "later"))
	if len(o.keys) != 0 {
		t.Errorf("set keeps %v", o.keys)
	}
}
