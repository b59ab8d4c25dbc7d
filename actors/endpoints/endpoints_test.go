package endpoints

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/troupe-run/troupe/actors/controller/controllertest"
	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/actors/objects/objectstest"
	"github.com/troupe-run/troupe/messages"
)

func start(w *controllertest.World) {
	w.Start(Spec(w.Deps()))
	w.Start(V1Spec(w.Deps()))
}

func listSlices(w *controllertest.World) []*discoveryv1.EndpointSlice {
	return objects.List[*discoveryv1.EndpointSlice](w, messages.EndpointSlices, "default")
}

func TestFollowsItsPods(t *testing.T) {
	t.Parallel()
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		start(w)
		w.Put(readyPod(1), readyPod(2))
		w.Settle()
		all := listSlices(w)
		if len(all) != 1 || len(all[0].Endpoints) != 2 || *all[0].Endpoints[0].Zone != "z" {
			t.Fatalf("slices %+v", all)
		}
		w.Put(readyPod(1, unready), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{corev1.LabelTopologyZone: "y"}}})
		w.Drop(objectstest.KeyOf(readyPod(2)))
		time.Sleep(2 * time.Second)
		all = listSlices(w)
		if len(all) != 1 || len(all[0].Endpoints) != 1 || *all[0].Endpoints[0].Conditions.Ready || *all[0].Endpoints[0].Zone != "y" {
			t.Errorf("slices %+v", all)
		}
		ep := objectstest.Must[*corev1.Endpoints](t, w.Store, messages.KeyOf(messages.Endpoints, "default", "web"))
		if len(ep.Subsets) != 1 || len(ep.Subsets[0].NotReadyAddresses) != 1 || len(ep.Subsets[0].Addresses) != 0 {
			t.Errorf("endpoints %+v", ep.Subsets)
		}
		w.Writes()
		w.Put(readyPod(1, unready, func(p *corev1.Pod) { p.Annotations = map[string]string{"a": "b"} }))
		time.Sleep(2 * time.Second)
		if got := w.Writes(); len(got) != 0 {
			t.Errorf("writes %v for a change that shows nowhere", got)
		}
	}, service(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{corev1.LabelTopologyZone: "z"}}})
}

func TestRepairsWhatOthersBreak(t *testing.T) {
	t.Parallel()
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		start(w)
		w.Drop(objectstest.KeyOf(listSlices(w)[0]))
		w.Settle()
		if all := listSlices(w); len(all) != 1 || len(all[0].Endpoints) != 1 {
			t.Errorf("slices %+v", all)
		}
	}, service(), readyPod(1))
}

func TestMirrorsHandMadeEndpoints(t *testing.T) {
	t.Parallel()
	ep := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Subsets: []corev1.EndpointSubset{{Addresses: []corev1.EndpointAddress{{IP: "192.0.2.1"}}, Ports: []corev1.EndpointPort{{Port: 80}}}}}
	svc := service(func(s *corev1.Service) { s.Spec.Selector = nil })
	controllertest.Run(t, func(t *testing.T, w *controllertest.World) {
		start(w)
		if all := listSlices(w); len(all) != 0 {
			t.Errorf("slices %+v before the Service exists", all)
		}
		w.Put(svc)
		w.Settle()
		if all := listSlices(w); len(all) != 1 || all[0].Labels[discoveryv1.LabelManagedBy] != mirroredBy {
			t.Fatalf("slices %+v", all)
		}
		skipped := objectstest.Must[*corev1.Endpoints](t, w.Store, objectstest.KeyOf(ep))
		skipped.Labels = map[string]string{discoveryv1.LabelSkipMirror: "true"}
		w.Put(skipped)
		w.Settle()
		if all := listSlices(w); len(all) != 0 {
			t.Errorf("slices %+v though mirroring is off", all)
		}
		w.Drop(objectstest.KeyOf(svc))
		w.Settle()
		if _, ok := w.Get(objectstest.KeyOf(ep)); ok {
			t.Error("the Endpoints outlived their Service")
		}
	}, ep)
}
