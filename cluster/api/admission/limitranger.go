package admission

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apiserver/pkg/admission"
	helper "k8s.io/component-helpers/resource"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

var (
	limitRanges    = messages.Resource{Resource: "limitranges"}
	claimsResource = corev1.Resource("persistentvolumeclaims")
)

// limitAnnotation tells the author of a pod what was filled in.
const limitAnnotation = "kubernetes.io/limit-ranger"

// limitRanger fills in what containers request and may use, and refuses pods and claims outside
// of the bounds of their namespace.
type limitRanger struct {
	*admission.Handler
	reader objects.Reader
}

func newLimitRanger(reader objects.Reader) *limitRanger {
	return &limitRanger{admission.NewHandler(admission.Create, admission.Update), reader}
}

// items are the limits of a namespace, in the order of the names of their objects.
func (l *limitRanger) items(namespace string) []corev1.LimitRangeItem {
	ranges := objects.List[*corev1.LimitRange](l.reader, limitRanges, namespace)
	slices.SortFunc(ranges, func(a, b *corev1.LimitRange) int { return strings.Compare(a.Name, b.Name) })
	var out []corev1.LimitRangeItem
	for _, r := range ranges {
		out = append(out, r.Spec.Limits...)
	}
	return out
}

// Admit fills in the defaults of new pods.
func (l *limitRanger) Admit(_ context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if !is(a, podsResource, "") || a.GetOperation() != admission.Create {
		return nil
	}
	pod, ok := a.GetObject().(*corev1.Pod)
	if !ok {
		return nil
	}
	for _, item := range l.items(a.GetNamespace()) {
		if item.Type == corev1.LimitTypeContainer {
			fillPod(pod, item.DefaultRequest, item.Default)
		}
	}
	return nil
}

func fillPod(pod *corev1.Pod, requests, limits corev1.ResourceList) {
	var said []string
	fill := func(containers []corev1.Container, kind string) {
		for i := range containers {
			c := &containers[i]
			for _, list := range []struct {
				word string
				to   *corev1.ResourceList
				from corev1.ResourceList
			}{{"request", &c.Resources.Requests, requests}, {"limit", &c.Resources.Limits, limits}} {
				if set := fillList(list.to, list.from); len(set) > 0 {
					said = append(said, fmt.Sprintf("%s %s for %s %s", strings.Join(set, ", "), list.word, kind, c.Name))
				}
			}
		}
	}
	fill(pod.Spec.Containers, "container")
	fill(pod.Spec.InitContainers, "init container")
	if len(said) == 0 {
		return
	}
	if pod.Annotations == nil {
		pod.Annotations = make(map[string]string)
	}
	pod.Annotations[limitAnnotation] = "LimitRanger plugin set: " + strings.Join(said, "; ")
}

// fillList sets what to lacks and returns the names of it.
func fillList(to *corev1.ResourceList, from corev1.ResourceList) []string {
	var set []string
	for _, name := range slices.Sorted(maps.Keys(from)) {
		if _, ok := (*to)[name]; ok {
			continue
		}
		if *to == nil {
			*to = make(corev1.ResourceList)
		}
		(*to)[name] = from[name].DeepCopy()
		set = append(set, string(name))
	}
	return set
}

// Validate refuses what is outside of the bounds. The resources of a pod only change by resize.
func (l *limitRanger) Validate(_ context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	var errs []error
	switch obj := a.GetObject().(type) {
	case *corev1.Pod:
		if !is(a, podsResource, "resize") && (!is(a, podsResource, "") || a.GetOperation() != admission.Create) {
			return nil
		}
		for _, item := range l.items(a.GetNamespace()) {
			errs = append(errs, boundPod(&item, obj)...)
		}
	case *corev1.PersistentVolumeClaim:
		if !is(a, claimsResource, "") {
			return nil
		}
		for _, item := range l.items(a.GetNamespace()) {
			if item.Type == corev1.LimitTypePersistentVolumeClaim {
				errs = append(errs, boundClaim(&item, obj.Spec.Resources.Requests)...)
			}
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return admission.NewForbidden(a, utilerrors.NewAggregate(errs))
}

func boundPod(item *corev1.LimitRangeItem, pod *corev1.Pod) []error {
	var errs []error
	switch item.Type {
	case corev1.LimitTypeContainer:
		for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
			for i := range list {
				errs = append(errs, bound(item, list[i].Resources.Requests, list[i].Resources.Limits)...)
			}
		}
	case corev1.LimitTypePod:
		errs = bound(item, helper.PodRequests(pod, helper.PodResourcesOptions{}), helper.PodLimits(pod, helper.PodResourcesOptions{}))
	}
	return errs
}

// bound checks requests and limits against all bounds of an item.
func bound(item *corev1.LimitRangeItem, requests, limits corev1.ResourceList) []error {
	var errs []error
	add := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(item.Min)) {
		add(atLeast(item.Type, name, item.Min[name], requests, limits))
	}
	for _, name := range slices.Sorted(maps.Keys(item.Max)) {
		add(atMost(item.Type, name, item.Max[name], requests, limits))
	}
	for _, name := range slices.Sorted(maps.Keys(item.MaxLimitRequestRatio)) {
		add(withinRatio(item.Type, name, item.MaxLimitRequestRatio[name], requests, limits))
	}
	return errs
}

func atLeast(t corev1.LimitType, name corev1.ResourceName, min resource.Quantity, requests, limits corev1.ResourceList) error {
	text := fmt.Sprintf("minimum %s usage per %s is %s", name, t, min.String())
	request, requested := requests[name]
	limit, limited := limits[name]
	switch {
	case !requested:
		return fmt.Errorf("%s.  No request is specified", text)
	case request.Cmp(min) < 0:
		return fmt.Errorf("%s, but request is %s", text, request.String())
	case limited && limit.Cmp(min) < 0:
		return fmt.Errorf("%s, but limit is %s", text, limit.String())
	}
	return nil
}

func atMost(t corev1.LimitType, name corev1.ResourceName, max resource.Quantity, requests, limits corev1.ResourceList) error {
	text := fmt.Sprintf("maximum %s usage per %s is %s", name, t, max.String())
	request, requested := requests[name]
	limit, limited := limits[name]
	switch {
	case !limited:
		return fmt.Errorf("%s.  No limit is specified", text)
	case limit.Cmp(max) > 0:
		return fmt.Errorf("%s, but limit is %s", text, limit.String())
	case requested && request.Cmp(max) > 0:
		return fmt.Errorf("%s, but request is %s", text, request.String())
	}
	return nil
}

func withinRatio(t corev1.LimitType, name corev1.ResourceName, max resource.Quantity, requests, limits corev1.ResourceList) error {
	text := fmt.Sprintf("%s max limit to request ratio per %s is %s", name, t, max.String())
	request, limit := requests[name], limits[name]
	if request.IsZero() {
		return fmt.Errorf("%s, but no request is specified or request is 0", text)
	}
	if limit.IsZero() {
		return fmt.Errorf("%s, but no limit is specified or limit is 0", text)
	}
	if ratio := limit.AsApproximateFloat64() / request.AsApproximateFloat64(); ratio > max.AsApproximateFloat64() {
		return fmt.Errorf("%s, but provided ratio is %f", text, ratio)
	}
	return nil
}

// boundClaim checks a claim, which only requests.
func boundClaim(item *corev1.LimitRangeItem, requests corev1.ResourceList) []error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(item.Min)) {
		if err := atLeast(item.Type, name, item.Min[name], requests, nil); err != nil {
			errs = append(errs, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(item.Max)) {
		max := item.Max[name]
		text := fmt.Sprintf("maximum %s usage per %s is %s", name, item.Type, max.String())
		if request, ok := requests[name]; !ok {
			errs = append(errs, fmt.Errorf("%s.  No request is specified", text))
		} else if request.Cmp(max) > 0 {
			errs = append(errs, fmt.Errorf("%s, but request is %s", text, request.String()))
		}
	}
	return errs
}

var (
	_ admission.MutationInterface   = (*limitRanger)(nil)
	_ admission.ValidationInterface = (*limitRanger)(nil)
)
