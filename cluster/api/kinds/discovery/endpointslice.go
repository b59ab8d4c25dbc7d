package discovery

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/check"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

// How large a slice may be.
const (
	maxEndpoints     = 1000
	maxPorts         = 20000
	maxAddresses     = 100
	maxTopologyItems = 16
	maxZoneHints     = 8
)

var (
	addressTypes = sets.New(discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6, discoveryv1.AddressTypeFQDN)
	protocols    = sets.New(corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)
)

// EndpointSlice describes discovery.k8s.io/v1 EndpointSlice.
func EndpointSlice() kind.Kind {
	doc := discoveryv1.EndpointSlice{}.SwaggerDoc()
	return kind.Kind{
		GVK:        discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"),
		Resource:   "endpointslices",
		Singular:   "endpointslice",
		Namespaced: true,
		New:        func() kind.Object { return &discoveryv1.EndpointSlice{} },
		NewList:    func() runtime.Object { return &discoveryv1.EndpointSliceList{} },

		Default: func(obj kind.Object) {
			s := obj.(*discoveryv1.EndpointSlice)
			for i := range s.Ports {
				if s.Ports[i].Name == nil {
					s.Ports[i].Name = ptr.To("")
				}
				if s.Ports[i].Protocol == nil {
					s.Ports[i].Protocol = ptr.To(corev1.ProtocolTCP)
				}
			}
		},
		PrepareForCreate: func(_ context.Context, obj kind.Object) {
			dropTopology(obj.(*discoveryv1.EndpointSlice), nil)
		},
		PrepareForUpdate: func(_ context.Context, obj, old kind.Object) {
			dropTopology(obj.(*discoveryv1.EndpointSlice), old.(*discoveryv1.EndpointSlice))
		},
		Warnings: func(_ context.Context, obj, _ kind.Object) []string {
			s := obj.(*discoveryv1.EndpointSlice)
			var out []string
			if s.AddressType == discoveryv1.AddressTypeFQDN {
				out = append(out, "spec.addressType: FQDN endpoints are deprecated")
			} else {
				for i := range s.Endpoints {
					for j, ip := range s.Endpoints[i].Addresses {
						out = append(out, validation.GetWarningsForIP(field.NewPath("endpoints").Index(i).Child("addresses").Index(j), ip)...)
					}
				}
			}
			return out
		},
		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return validateSlice(obj.(*discoveryv1.EndpointSlice))
		},
		ValidateUpdate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
			s, was := obj.(*discoveryv1.EndpointSlice), old.(*discoveryv1.EndpointSlice)
			return append(validateSlice(s),
				apivalidation.ValidateImmutableField(s.AddressType, was.AddressType, field.NewPath("addressType"))...)
		},
		SpecChanged: func(obj, old kind.Object) bool {
			s, was := obj.(*discoveryv1.EndpointSlice), old.(*discoveryv1.EndpointSlice)
			return !apiequality.Semantic.DeepEqual(s.Endpoints, was.Endpoints) || !apiequality.Semantic.DeepEqual(s.Ports, was.Ports) ||
				!apiequality.Semantic.DeepEqual(s.Labels, was.Labels) || !apiequality.Semantic.DeepEqual(s.Annotations, was.Annotations) || s.AddressType != was.AddressType
		},

		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Col("AddressType", doc["addressType"]),
			table.Col("Ports", doc["ports"]),
			table.Col("Endpoints", doc["endpoints"]),
			table.Age(),
		},
		Row: func(obj kind.Object) []any {
			s := obj.(*discoveryv1.EndpointSlice)
			return []any{s.Name, string(s.AddressType), slicePorts(s.Ports), sliceEndpoints(s.Endpoints), table.Since(s.CreationTimestamp)}
		},
	}
}

// dropTopology removes what v1beta1 said of where an endpoint is, unless nothing of the endpoints changes.
func dropTopology(s, old *discoveryv1.EndpointSlice) {
	if old != nil && apiequality.Semantic.DeepEqual(s.Endpoints, old.Endpoints) {
		return
	}
	s.Endpoints = slices.Clone(s.Endpoints)
	for i := range s.Endpoints {
		s.Endpoints[i].DeprecatedTopology = nil
	}
}

func validateSlice(s *discoveryv1.EndpointSlice) field.ErrorList {
	errs := check.OneOf(s.AddressType, addressTypes, field.NewPath("addressType"))
	errs = append(errs, validateEndpoints(s.Endpoints, s.AddressType, field.NewPath("endpoints"))...)
	return append(errs, validatePorts(s.Ports, field.NewPath("ports"))...)
}

func validateEndpoints(endpoints []discoveryv1.Endpoint, addressType discoveryv1.AddressType, path *field.Path) field.ErrorList {
	if len(endpoints) > maxEndpoints {
		return field.ErrorList{field.TooMany(path, len(endpoints), maxEndpoints)}
	}
	var errs field.ErrorList
	for i := range endpoints {
		e, path := &endpoints[i], path.Index(i)
		at := path.Child("addresses")
		if len(e.Addresses) == 0 {
			errs = append(errs, field.Required(at, "must contain at least 1 address"))
		} else if len(e.Addresses) > maxAddresses {
			errs = append(errs, field.TooMany(at, len(e.Addresses), maxAddresses))
		}
		for a, address := range e.Addresses {
			errs = append(errs, validateAddress(address, addressType, at.Index(a))...)
		}
		if e.NodeName != nil {
			errs = append(errs, check.DNSSubdomain(*e.NodeName, path.Child("nodeName"))...)
		}
		if len(e.DeprecatedTopology) > maxTopologyItems {
			errs = append(errs, field.TooMany(path.Child("deprecatedTopology"), len(e.DeprecatedTopology), maxTopologyItems))
		}
		errs = append(errs, metavalidation.ValidateLabels(e.DeprecatedTopology, path.Child("deprecatedTopology"))...)
		if _, ok := e.DeprecatedTopology[corev1.LabelTopologyZone]; ok {
			errs = append(errs, field.Forbidden(path.Child("deprecatedTopology").Key(corev1.LabelTopologyZone), "use zone field instead"))
		}
		if e.Hostname != nil {
			errs = append(errs, check.DNSLabel(*e.Hostname, path.Child("hostname"))...)
		}
		if e.Hints != nil {
			errs = append(errs, validateHints(e.Hints, path.Child("hints"))...)
		}
	}
	return errs
}

func validateAddress(address string, addressType discoveryv1.AddressType, path *field.Path) field.ErrorList {
	switch addressType {
	case discoveryv1.AddressTypeFQDN:
		return validation.IsFullyQualifiedDomainName(path, address)
	case discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6:
		if errs := validation.IsValidIP(path, address); len(errs) > 0 {
			return errs
		}
		six := strings.Contains(address, ":")
		if six != (addressType == discoveryv1.AddressTypeIPv6) {
			return field.ErrorList{field.Invalid(path, address, fmt.Sprintf("must be an %s address", addressType))}
		}
		return check.NonSpecialIP(address, path)
	}
	return nil
}

func validateHints(h *discoveryv1.EndpointHints, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(h.ForZones) > maxZoneHints {
		return field.ErrorList{field.TooMany(path.Child("forZones"), len(h.ForZones), maxZoneHints)}
	}
	if len(h.ForNodes) > maxZoneHints {
		return field.ErrorList{field.TooMany(path.Child("forNodes"), len(h.ForNodes), maxZoneHints)}
	}
	zones, nodes := sets.New[string](), sets.New[string]()
	for i, zone := range h.ForZones {
		at := path.Child("forZones").Index(i).Child("name")
		if zones.Has(zone.Name) {
			errs = append(errs, field.Duplicate(at, zone.Name))
		}
		zones.Insert(zone.Name)
		errs = append(errs, check.LabelValue(zone.Name, at)...)
	}
	for i, node := range h.ForNodes {
		at := path.Child("forNodes").Index(i).Child("name")
		if nodes.Has(node.Name) {
			errs = append(errs, field.Duplicate(at, node.Name))
		}
		nodes.Insert(node.Name)
		errs = append(errs, check.DNSSubdomain(node.Name, at)...)
	}
	return errs
}

func validatePorts(ports []discoveryv1.EndpointPort, path *field.Path) field.ErrorList {
	if len(ports) > maxPorts {
		return field.ErrorList{field.TooMany(path, len(ports), maxPorts)}
	}
	var errs field.ErrorList
	names := sets.New[string]()
	for i := range ports {
		port, path := &ports[i], path.Index(i)
		name := ptr.Deref(port.Name, "")
		if name != "" {
			errs = append(errs, check.DNSLabel(name, path.Child("name"))...)
		}
		if names.Has(name) {
			errs = append(errs, field.Duplicate(path.Child("name"), port.Name))
		}
		names.Insert(name)
		if port.Protocol == nil {
			errs = append(errs, field.Required(path.Child("protocol"), ""))
		} else {
			errs = append(errs, check.OneOfOrBad(*port.Protocol, protocols, path.Child("protocol"))...)
		}
		if port.AppProtocol != nil {
			errs = append(errs, check.QualifiedName(*port.AppProtocol, path.Child("appProtocol"))...)
		}
	}
	return errs
}

// shown is how many items of a list a cell shows.
const shown = 3

func shorten(items []string) string {
	if len(items) == 0 {
		return "<unset>"
	}
	if len(items) > shown {
		return fmt.Sprintf("%s + %d more...", strings.Join(items[:shown], ","), len(items)-shown)
	}
	return strings.Join(items, ",")
}

func slicePorts(ports []discoveryv1.EndpointPort) string {
	items := make([]string, len(ports))
	for i, port := range ports {
		items[i] = "*"
		switch {
		case port.Port != nil:
			items[i] = fmt.Sprint(*port.Port)
		case ptr.Deref(port.Name, "") != "":
			items[i] = *port.Name
		}
	}
	return shorten(items)
}

func sliceEndpoints(endpoints []discoveryv1.Endpoint) string {
	var items []string
	for i := range endpoints {
		items = append(items, endpoints[i].Addresses...)
	}
	return shorten(items)
}
