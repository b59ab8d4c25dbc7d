package proxy

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/troupe-run/troupe/proxy/feed"
)

// services keeps the services of each namespace as API objects, reduced to what is known of them.
// One goroutine applies, any may read; what is read is immutable.
type services struct {
	lists sync.Map // namespace to []*corev1.Service, sorted by name
	// known is the writer's own.
	known map[string]map[string]*corev1.Service
}

// in returns the services of a namespace.
func (s *services) in(namespace string) []*corev1.Service {
	list, _ := s.lists.Load(namespace)
	out, _ := list.([]*corev1.Service)
	return out
}

func (s *services) apply(u feed.Update) {
	changed := make(map[string]bool)
	if u.Reset {
		for ns := range s.known {
			changed[ns] = true
		}
		s.known = make(map[string]map[string]*corev1.Service)
	}
	for name, svc := range u.Services {
		changed[name.Namespace] = true
		if s.known[name.Namespace] == nil {
			s.known[name.Namespace] = make(map[string]*corev1.Service)
		}
		delete(s.known[name.Namespace], name.Name)
		if svc != nil && len(svc.ClusterIPs) > 0 {
			s.known[name.Namespace][name.Name] = restore(svc)
		}
	}
	for ns := range changed {
		if len(s.known[ns]) == 0 {
			delete(s.known, ns)
			s.lists.Delete(ns)
			continue
		}
		s.lists.Store(ns, slices.SortedFunc(maps.Values(s.known[ns]), func(a, b *corev1.Service) int { return cmp.Compare(a.Name, b.Name) }))
	}
}

// restore makes an API object of what proxies know of a service.
func restore(in *feed.Service) *corev1.Service {
	out := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: in.Namespace, Name: in.Name.Name}}
	for _, ip := range in.ClusterIPs {
		out.Spec.ClusterIPs = append(out.Spec.ClusterIPs, ip.String())
	}
	out.Spec.ClusterIP = out.Spec.ClusterIPs[0]
	for _, p := range in.Ports {
		out.Spec.Ports = append(out.Spec.Ports, corev1.ServicePort{Name: p.Name, Protocol: corev1.Protocol(p.Protocol), Port: int32(p.Port), NodePort: int32(p.NodePort)})
	}
	return out
}
