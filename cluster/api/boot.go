package api

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/scheduling"
	"github.com/troupe-run/troupe/messages"
)

// defaultServiceCIDRName is what Kubernetes calls the range that a cluster is configured with.
const defaultServiceCIDRName = "kubernetes"

// bootWriters is how many first objects are written side by side; the store makes few disk writes
// of them.
const bootWriters = 64

// boot creates what every cluster has and mends what was changed: the namespaces, the roles, and
// the Service that pods reach the API by. On a cluster that has all of it nothing is written.
func (s *Server) boot(ctx context.Context) error {
	if addr, ok := s.outside(); !ok {
		s.log.Info("pods cannot reach the API: it has no address outside of this host", "addr", addr.String())
	}
	w := s.Local(user.APIServerUser)
	if err := s.bootNamespaces(ctx, w); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(bootWriters)
	s.bootPolicy(ctx, g, w)
	s.bootPriorities(ctx, g, w)
	s.bootAPIServices(ctx, g, w)
	g.Go(func() error { return s.bootAuthentication(ctx, w) })
	s.bootFlows(ctx, g, w)
	g.Go(func() error { return s.bootService(ctx, w) })
	s.bootIdentity(ctx, g, w)
	g.Go(func() error { return s.bootServiceCIDR(ctx, w) })
	return g.Wait()
}

func (s *Server) serves(res messages.Resource) bool {
	r, ok := s.resources[res]
	return ok && r.store != nil
}

func (s *Server) bootNamespaces(ctx context.Context, w objects.Writer) error {
	if !s.serves(messages.Namespaces) {
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, name := range []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic, corev1.NamespaceNodeLease} {
		g.Go(func() error {
			return s.ensure(ctx, w, messages.KeyOf(messages.Namespaces, "", name),
				&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, nil)
		})
	}
	return g.Wait()
}

// ensure creates an object, or has mend change the one that is there; a mend that returns its input
// writes nothing.
func (s *Server) ensure(ctx context.Context, w objects.Writer, key messages.Key, obj objects.Object, mend func(have objects.Object) (objects.Object, bool)) error {
	have, ok := s.cfg.Store.Get(key)
	if !ok {
		_, err := w.Create(ctx, obj)
		if err == nil || apierrors.IsAlreadyExists(err) {
			return nil
		}
		return fmt.Errorf("create %s: %w", key, err)
	}
	if mend == nil {
		return nil
	}
	if _, changed := mend(have.DeepCopyObject().(objects.Object)); !changed {
		return nil
	}
	_, err := w.Mutate(ctx, key, "", func(o objects.Object) (objects.Object, error) {
		next, _ := mend(o)
		return next, nil
	})
	if err != nil {
		return fmt.Errorf("mend %s: %w", key, err)
	}
	return nil
}

// bootPriorities makes the classes of pods that a cluster cannot do without.
func (s *Server) bootPriorities(ctx context.Context, g *errgroup.Group, w objects.Writer) {
	res := messages.Resource{Group: schedulingv1.GroupName, Resource: "priorityclasses"}
	if !s.serves(res) {
		return
	}
	for _, class := range scheduling.SystemClasses() {
		g.Go(func() error { return s.ensure(ctx, w, messages.KeyOf(res, "", class.Name), class, nil) })
	}
}

// bootServiceCIDR puts the range of Services on record. It is ready from the start: the API server
// itself hands addresses out of it.
func (s *Server) bootServiceCIDR(ctx context.Context, w objects.Writer) error {
	if !s.serves(messages.ServiceCIDRs) {
		return nil
	}
	key := messages.KeyOf(messages.ServiceCIDRs, "", defaultServiceCIDRName)
	cidr := &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: key.Name}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{s.cfg.ServiceCIDR.String()}}}
	if err := s.ensure(ctx, w, key, cidr, nil); err != nil {
		return err
	}
	have, ok := objects.Get[*networkingv1.ServiceCIDR](s.cfg.Store, key)
	if !ok || have.DeletionTimestamp != nil || apimeta.FindStatusCondition(have.Status.Conditions, networkingv1.ServiceCIDRConditionReady) != nil {
		return nil
	}
	_, err := w.Mutate(ctx, key, "status", func(o objects.Object) (objects.Object, error) {
		c := o.(*networkingv1.ServiceCIDR)
		apimeta.SetStatusCondition(&c.Status.Conditions, metav1.Condition{
			Type: networkingv1.ServiceCIDRConditionReady, Status: metav1.ConditionTrue, LastTransitionTime: metav1.NewTime(s.cfg.Clock.Now()),
			Message: "Kubernetes default Service CIDR is ready",
		})
		return c, nil
	})
	if err != nil {
		return fmt.Errorf("mark %s ready: %w", key, err)
	}
	return nil
}

// bootService makes the Service, Endpoints and EndpointSlice that pods reach the API by.
func (s *Server) bootService(ctx context.Context, w objects.Writer) error {
	if !s.serves(messages.Services) {
		return nil
	}
	ip, _ := s.alloc.Own(metav1.NamespaceDefault, kind.APIService)
	meta := metav1.ObjectMeta{
		Name: kind.APIService, Namespace: metav1.NamespaceDefault,
		Labels: map[string]string{"component": "apiserver", "provider": "kubernetes"},
	}
	target := int(s.cfg.Advertise.Port())
	if target == 0 {
		target = 443
	}
	port := corev1.ServicePort{Name: "https", Protocol: corev1.ProtocolTCP, Port: 443, TargetPort: intstr.FromInt(target)}
	svc := &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
		ClusterIP: ip, ClusterIPs: []string{ip}, Type: corev1.ServiceTypeClusterIP, Ports: []corev1.ServicePort{port},
	}}
	err := s.ensure(ctx, w, messages.KeyOf(messages.Services, metav1.NamespaceDefault, kind.APIService), svc,
		func(o objects.Object) (objects.Object, bool) {
			have := o.(*corev1.Service)
			if len(have.Spec.Ports) == 1 && have.Spec.Ports[0].TargetPort == port.TargetPort {
				return have, false
			}
			have.Spec.Ports = svc.Spec.Ports
			return have, true
		})
	if err != nil {
		return err
	}
	addr, ok := s.outside()
	if !ok {
		return nil
	}
	return errors.Join(s.bootEndpoints(ctx, w, meta, addr), s.bootSlice(ctx, w, meta, addr))
}

// outside is the address that pods reach the API by, if it has one.
func (s *Server) outside() (addr netip.Addr, ok bool) {
	addr = s.cfg.Advertise.Addr()
	return addr, addr.IsValid() && !addr.IsLoopback() && !addr.IsUnspecified()
}

func (s *Server) bootEndpoints(ctx context.Context, w objects.Writer, meta metav1.ObjectMeta, addr netip.Addr) error {
	if !s.serves(messages.Endpoints) {
		return nil
	}
	meta.Labels = map[string]string{discoveryv1.LabelSkipMirror: "true"}
	eps := &corev1.Endpoints{ObjectMeta: meta, Subsets: []corev1.EndpointSubset{{
		Addresses: []corev1.EndpointAddress{{IP: addr.String()}},
		Ports:     []corev1.EndpointPort{{Name: "https", Port: int32(s.cfg.Advertise.Port()), Protocol: corev1.ProtocolTCP}},
	}}}
	return s.ensure(ctx, w, messages.KeyOf(messages.Endpoints, meta.Namespace, meta.Name), eps,
		func(o objects.Object) (objects.Object, bool) {
			have := o.(*corev1.Endpoints)
			changed := !apiequality.Semantic.DeepEqual(have.Subsets, eps.Subsets)
			have.Subsets = eps.Subsets
			return have, changed
		})
}

func (s *Server) bootSlice(ctx context.Context, w objects.Writer, meta metav1.ObjectMeta, addr netip.Addr) error {
	if !s.serves(messages.EndpointSlices) {
		return nil
	}
	meta.Labels = map[string]string{discoveryv1.LabelServiceName: kind.APIService}
	family := discoveryv1.AddressTypeIPv4
	if addr.Is6() {
		family = discoveryv1.AddressTypeIPv6
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  meta,
		AddressType: family,
		Endpoints: []discoveryv1.Endpoint{{
			Addresses:  []string{addr.String()},
			Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true), Serving: ptr.To(true), Terminating: ptr.To(false)},
		}},
		Ports: []discoveryv1.EndpointPort{{Name: ptr.To("https"), Protocol: ptr.To(corev1.ProtocolTCP), Port: ptr.To(int32(s.cfg.Advertise.Port()))}},
	}
	return s.ensure(ctx, w, messages.KeyOf(messages.EndpointSlices, meta.Namespace, meta.Name), slice,
		func(o objects.Object) (objects.Object, bool) {
			have := o.(*discoveryv1.EndpointSlice)
			changed := !apiequality.Semantic.DeepEqual(have.Endpoints, slice.Endpoints) || !apiequality.Semantic.DeepEqual(have.Ports, slice.Ports)
			have.Endpoints, have.Ports = slice.Endpoints, slice.Ports
			return have, changed
		})
}
