package endpoints

import (
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/troupe-run/troupe/actors/controller"
	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// Slices follow changes at once when it is quiet and in bundles when it is not. Endpoints hold all
// addresses in one object that is written whole, and nothing of troupe reads them: seldom will do.
const (
	every   = 100 * time.Millisecond
	everyV1 = time.Second
)

// services is what both controllers are made of; their keys are those of Services.
type services struct {
	controller.Deps
}

// Spec returns the controller that keeps EndpointSlices, of pods and mirrored.
func Spec(d controller.Deps) controller.Spec {
	s := &services{d}
	return controller.Spec{
		Name: "endpointslice",
		Watches: []controller.Watch{
			{Resource: messages.Services},
			{Resource: messages.Pods, Keys: s.ofPod},
			{Resource: messages.Nodes, Keys: s.ofNode},
			{Resource: messages.Endpoints, Keys: ofSameName},
			{Resource: messages.EndpointSlices, Keys: ofSlice},
		},
		Reconcile: s.reconcileSlices,
		Every:     every,
	}
}

// V1Spec returns the controller that keeps Endpoints.
func V1Spec(d controller.Deps) controller.Spec {
	s := &v1{services: services{d}}
	return controller.Spec{
		Name: "endpoints",
		Watches: []controller.Watch{
			{Resource: messages.Services, Keys: s.ofService},
			{Resource: messages.Pods, Keys: s.ofPod},
			{Resource: messages.Endpoints, Keys: ofSameName},
		},
		Reconcile: s.reconcile,
		Every:     everyV1,
	}
}

// v1 remembers which Services it saw deleted: their Endpoints go with them, hand-made ones too,
// while Endpoints made before their Service stay.
type v1 struct {
	services
	deleted sync.Map
}

func (s *v1) ofService(ch objects.Change) []messages.Key {
	if ch.New == nil {
		s.deleted.Store(ch.Key, true)
	} else {
		s.deleted.Delete(ch.Key)
	}
	return []messages.Key{ch.Key}
}

// ofPod returns the Services that select a pod, before and now.
func (s *services) ofPod(ch objects.Change) []messages.Key {
	old, _ := ch.Old.(*corev1.Pod)
	pod, _ := ch.New.(*corev1.Pod)
	if old != nil && pod != nil && !matters(old, pod) {
		return nil
	}
	var out []messages.Key
	for _, svc := range objects.List[*corev1.Service](s.Reader, messages.Services, ch.Key.Namespace) {
		if old != nil && selects(svc, old) || pod != nil && selects(svc, pod) {
			out = append(out, messages.KeyOf(messages.Services, svc.Namespace, svc.Name))
		}
	}
	return out
}

// ofNode returns the Services of a node's pods when the node's zone changed.
func (s *services) ofNode(ch objects.Change) []messages.Key {
	if zoneOf(ch.Old) == zoneOf(ch.New) {
		return nil
	}
	var out []messages.Key
	for _, pod := range objects.Index[*corev1.Pod](s.Reader, messages.Pods, objects.IndexNode, ch.Key.Name) {
		for _, key := range s.ofPod(objects.Change{Key: messages.KeyOf(messages.Pods, pod.Namespace, pod.Name), New: pod}) {
			if !slices.Contains(out, key) {
				out = append(out, key)
			}
		}
	}
	return out
}

func zoneOf(node objects.Object) string {
	if node == nil {
		return ""
	}
	return node.GetLabels()[corev1.LabelTopologyZone]
}

func ofSameName(ch objects.Change) []messages.Key {
	return []messages.Key{messages.KeyOf(messages.Services, ch.Key.Namespace, ch.Key.Name)}
}

// ofSlice returns the Service a slice of ours is for.
func ofSlice(ch objects.Change) []messages.Key {
	obj := ch.New
	if obj == nil {
		obj = ch.Old
	}
	l := obj.GetLabels()
	if by := l[discoveryv1.LabelManagedBy]; by != managedBy && by != mirroredBy {
		return nil
	}
	return []messages.Key{messages.KeyOf(messages.Services, ch.Key.Namespace, l[discoveryv1.LabelServiceName])}
}

// matters says whether an endpoint may look different after a change of its pod.
func matters(old, pod *corev1.Pod) bool {
	return old.UID != pod.UID || old.Status.Phase != pod.Status.Phase || ready(old) != ready(pod) ||
		(old.DeletionTimestamp == nil) != (pod.DeletionTimestamp == nil) || old.Spec.NodeName != pod.Spec.NodeName ||
		!slices.Equal(old.Status.PodIPs, pod.Status.PodIPs) || old.Status.PodIP != pod.Status.PodIP ||
		!maps.Equal(old.Labels, pod.Labels)
}

// selects says whether a Service has a selector that a pod matches.
func selects(svc *corev1.Service, pod *corev1.Pod) bool {
	if len(svc.Spec.Selector) == 0 || svc.Spec.Type == corev1.ServiceTypeExternalName {
		return false
	}
	for k, v := range svc.Spec.Selector {
		if have, ok := pod.Labels[k]; !ok || have != v {
			return false
		}
	}
	return true
}

// pods returns the pods a Service selects.
func (s *services) pods(svc *corev1.Service) (out []*corev1.Pod) {
	for _, obj := range s.Reader.List(messages.Pods, svc.Namespace) {
		if pod, ok := obj.(*corev1.Pod); ok && selects(svc, pod) {
			out = append(out, pod)
		}
	}
	return out
}
