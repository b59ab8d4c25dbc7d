package core

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/check"
)

// LimitRange describes v1 LimitRange.
func LimitRange() kind.Kind {
	return kind.Kind{
		GVK:        corev1.SchemeGroupVersion.WithKind("LimitRange"),
		Resource:   "limitranges",
		Singular:   "limitrange",
		ShortNames: []string{"limits"},
		Namespaced: true,
		New:        func() kind.Object { return &corev1.LimitRange{} },
		NewList:    func() runtime.Object { return &corev1.LimitRangeList{} },

		AllowCreateOnUpdate: true,
		PrepareForCreate: func(_ context.Context, obj kind.Object) {
			if l := obj.(*corev1.LimitRange); l.Name == "" { // the one kind that needs none
				l.Name = string(uuid.NewUUID())
			}
		},
		Default: func(obj kind.Object) {
			for i := range obj.(*corev1.LimitRange).Spec.Limits {
				defaultLimits(&obj.(*corev1.LimitRange).Spec.Limits[i])
			}
		},
		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return validateLimitRange(obj.(*corev1.LimitRange))
		},
	}
}

// defaultLimits derives, for containers, what is not said from what is: the limit from the
// maximum, the request from the limit, else from the minimum.
func defaultLimits(item *corev1.LimitRangeItem) {
	if item.Type != corev1.LimitTypeContainer {
		return
	}
	fill := func(list *corev1.ResourceList, from corev1.ResourceList) {
		for name, q := range from {
			if _, ok := (*list)[name]; !ok {
				if *list == nil {
					*list = make(corev1.ResourceList)
				}
				(*list)[name] = q.DeepCopy()
			}
		}
	}
	fill(&item.Default, item.Max)
	fill(&item.DefaultRequest, item.Default)
	fill(&item.DefaultRequest, item.Min)
}

var limitTypes = sets.New(corev1.LimitTypePod, corev1.LimitTypeContainer, corev1.LimitTypePersistentVolumeClaim)

func validateLimitRange(lr *corev1.LimitRange) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[corev1.LimitType]()
	for i := range lr.Spec.Limits {
		item, path := &lr.Spec.Limits[i], specPath.Child("limits").Index(i)
		if bad := check.QualifiedName(string(item.Type), path.Child("type")); len(bad) > 0 {
			errs = append(errs, bad...)
		} else if !limitTypes.Has(item.Type) && !strings.Contains(string(item.Type), "/") {
			errs = append(errs, field.Invalid(path.Child("type"), item.Type, "must be a standard limit type or fully qualified"))
		}
		if seen.Has(item.Type) {
			errs = append(errs, field.Duplicate(path.Child("type"), item.Type))
		}
		seen.Insert(item.Type)
		errs = append(errs, validateLimits(item, path)...)
	}
	return errs
}

func validateLimits(item *corev1.LimitRangeItem, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	names := sets.New[corev1.ResourceName]()
	for _, list := range []struct {
		child string
		of    corev1.ResourceList
	}{
		{"max", item.Max}, {"min", item.Min}, {"default", item.Default}, {"defaultRequest", item.DefaultRequest},
		{"maxLimitRequestRatio", item.MaxLimitRequestRatio},
	} {
		if item.Type == corev1.LimitTypePod && strings.HasPrefix(list.child, "default") {
			if len(list.of) > 0 {
				errs = append(errs, field.Forbidden(path.Child(list.child), "may not be specified when `type` is 'Pod'"))
			}
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(list.of)) {
			at := path.Child(list.child).Key(string(name))
			errs = append(errs, limitResourceName(item.Type, name, at)...)
			names.Insert(name)
		}
	}
	if item.Type == corev1.LimitTypePersistentVolumeClaim {
		_, min := item.Min[corev1.ResourceStorage]
		_, max := item.Max[corev1.ResourceStorage]
		if !min && !max {
			errs = append(errs, field.Required(path.Child("limits"), "either minimum or maximum storage value is required, but neither was provided"))
		}
	}
	for _, name := range sets.List(names) {
		errs = append(errs, compareLimits(item, name, path)...)
	}
	return errs
}

func limitResourceName(t corev1.LimitType, name corev1.ResourceName, path *field.Path) field.ErrorList {
	errs := check.ResourceName(name, path)
	standard := name == corev1.ResourceCPU || name == corev1.ResourceMemory || name == corev1.ResourceEphemeralStorage || check.IsHugePages(name)
	if (t == corev1.LimitTypePod || t == corev1.LimitTypeContainer) && !strings.Contains(string(name), "/") && !standard {
		errs = append(errs, field.Invalid(path, name, "must be a standard resource for containers"))
	}
	return errs
}

// compareLimits checks that minimum, default request, default and maximum are in this order.
func compareLimits(item *corev1.LimitRangeItem, name corev1.ResourceName, path *field.Path) field.ErrorList {
	type bound struct {
		child, text string
		q           resource.Quantity
		set         bool
	}
	get := func(child, text string, list corev1.ResourceList) bound {
		q, ok := list[name]
		return bound{child, text, q, ok}
	}
	least, most := get("min", "min value", item.Min), get("max", "max value", item.Max)
	limit, request := get("default", "default value", item.Default), get("defaultRequest", "default request value", item.DefaultRequest)
	if item.Type == corev1.LimitTypePod {
		limit.set, request.set = false, false
	}
	var errs field.ErrorList
	for _, pair := range []struct {
		low, high bound
		at        string
	}{
		{least, most, "min"}, {least, request, "defaultRequest"}, {request, most, "defaultRequest"},
		{request, limit, "defaultRequest"}, {least, limit, "default"}, {limit, most, "default"},
	} {
		if pair.low.set && pair.high.set && pair.low.q.Cmp(pair.high.q) > 0 {
			at := path.Child(pair.at).Key(string(name))
			high := pair.high.text
			if pair.low.child == "defaultRequest" && pair.high.child == "default" {
				high = "default limit value"
			}
			errs = append(errs, field.Invalid(at, pair.low.q.String(), fmt.Sprintf("%s %s is greater than %s %s", pair.low.text, pair.low.q.String(), high, pair.high.q.String())))
		}
	}
	if ratio, ok := item.MaxLimitRequestRatio[name]; ok {
		at := path.Child("maxLimitRequestRatio").Key(string(name))
		if ratio.Cmp(resource.MustParse("1")) < 0 {
			errs = append(errs, field.Invalid(at, ratio.String(), fmt.Sprintf("ratio %s is less than 1", ratio.String())))
		}
		if least.set && most.set && least.q.Sign() > 0 {
			if limit := most.q.AsApproximateFloat64() / least.q.AsApproximateFloat64(); ratio.AsApproximateFloat64() > limit {
				errs = append(errs, field.Invalid(at, ratio.String(), fmt.Sprintf("ratio %s is greater than max/min = %f", ratio.String(), limit)))
			}
		}
	}
	if !check.MayOvercommit(name) && limit.set && request.set && limit.q.Cmp(request.q) != 0 {
		errs = append(errs, field.Invalid(path.Child("defaultRequest").Key(string(name)), request.q.String(),
			fmt.Sprintf("default value %s must equal to defaultRequest value %s in %s", limit.q.String(), request.q.String(), name)))
	}
	return errs
}
