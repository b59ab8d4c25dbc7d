package core

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/check"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

// Endpoints describes v1 Endpoints.
func Endpoints() kind.Kind {
	return kind.Kind{
		GVK:        corev1.SchemeGroupVersion.WithKind("Endpoints"),
		Resource:   "endpoints",
		Singular:   "endpoints",
		ShortNames: []string{"ep"},
		Namespaced: true,
		New:        func() kind.Object { return &corev1.Endpoints{} },
		NewList:    func() runtime.Object { return &corev1.EndpointsList{} },

		Default: func(obj kind.Object) {
			for _, subset := range obj.(*corev1.Endpoints).Subsets {
				for i := range subset.Ports {
					if subset.Ports[i].Protocol == "" {
						subset.Ports[i].Protocol = corev1.ProtocolTCP
					}
				}
			}
		},
		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return validateSubsets(obj.(*corev1.Endpoints).Subsets)
		},
		// What an older version let through may stay as long as nobody touches it.
		ValidateUpdate: func(_ context.Context, obj, old kind.Object) field.ErrorList {
			now, was := obj.(*corev1.Endpoints).Subsets, old.(*corev1.Endpoints).Subsets
			errs := validateSubsets(now)
			if len(errs) > 0 && apiequality.Semantic.DeepEqual(now, was) {
				return nil
			}
			return errs
		},
		AllowCreateOnUpdate: true,
		Warnings: func(context.Context, kind.Object, kind.Object) []string {
			return []string{"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"}
		},

		Columns: []metav1.TableColumnDefinition{
			table.Name(),
			table.Col("Endpoints", corev1.Endpoints{}.SwaggerDoc()["subsets"]),
			table.Age(),
		},
		Row: func(obj kind.Object) []any {
			e := obj.(*corev1.Endpoints)
			return []any{e.Name, endpointsCell(e.Subsets), table.Since(e.CreationTimestamp)}
		},
	}
}

func validateSubsets(subsets []corev1.EndpointSubset) field.ErrorList {
	var errs field.ErrorList
	for i := range subsets {
		subset, path := &subsets[i], field.NewPath("subsets").Index(i)
		if len(subset.Addresses)+len(subset.NotReadyAddresses) == 0 {
			errs = append(errs, field.Required(path, "must specify `addresses` or `notReadyAddresses`"))
		}
		for a := range subset.Addresses {
			errs = append(errs, validateEndpointAddress(&subset.Addresses[a], path.Child("addresses").Index(a))...)
		}
		for a := range subset.NotReadyAddresses {
			errs = append(errs, validateEndpointAddress(&subset.NotReadyAddresses[a], path.Child("notReadyAddresses").Index(a))...)
		}
		for p := range subset.Ports {
			port, path := &subset.Ports[p], path.Child("ports").Index(p)
			if port.Name == "" {
				if len(subset.Ports) > 1 {
					errs = append(errs, field.Required(path.Child("name"), ""))
				}
			} else {
				errs = append(errs, check.DNSLabel(port.Name, path.Child("name"))...)
			}
			errs = append(errs, check.Port(port.Port, path.Child("port"))...)
			errs = append(errs, check.OneOf(port.Protocol, protocols, path.Child("protocol"))...)
			if port.AppProtocol != nil {
				errs = append(errs, check.QualifiedName(*port.AppProtocol, path.Child("appProtocol"))...)
			}
		}
	}
	return errs
}

func validateEndpointAddress(a *corev1.EndpointAddress, path *field.Path) field.ErrorList {
	errs := validation.IsValidIPForLegacyField(path.Child("ip"), a.IP, true, nil)
	errs = append(errs, check.NonSpecialIP(a.IP, path.Child("ip"))...)
	if a.Hostname != "" {
		errs = append(errs, check.DNSLabel(a.Hostname, path.Child("hostname"))...)
	}
	if a.NodeName != nil {
		errs = append(errs, check.DNSSubdomain(*a.NodeName, path.Child("nodeName"))...)
	}
	return errs
}

// shownEndpoints is how many endpoints a cell shows.
const shownEndpoints = 3

func endpointsCell(subsets []corev1.EndpointSubset) string {
	var list []string
	total := 0
	add := func(s string) {
		if total++; total <= shownEndpoints {
			list = append(list, s)
		}
	}
	for _, subset := range subsets {
		if len(subset.Ports) == 0 {
			for _, a := range subset.Addresses {
				add(a.IP)
			}
		}
		for _, port := range subset.Ports {
			for _, a := range subset.Addresses {
				add(net.JoinHostPort(a.IP, strconv.Itoa(int(port.Port))))
			}
		}
	}
	switch {
	case total == 0:
		return table.None
	case total > shownEndpoints:
		return fmt.Sprintf("%s + %d more...", strings.Join(list, ","), total-shownEndpoints)
	}
	return strings.Join(list, ",")
}
