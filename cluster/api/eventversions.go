package api

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
)

// eventFieldLabels are the selectable fields of events.k8s.io/v1 that have another name in core/v1.
var eventFieldLabels = map[string]string{
	"regarding.kind":            "involvedObject.kind",
	"regarding.namespace":       "involvedObject.namespace",
	"regarding.name":            "involvedObject.name",
	"regarding.uid":             "involvedObject.uid",
	"regarding.apiVersion":      "involvedObject.apiVersion",
	"regarding.resourceVersion": "involvedObject.resourceVersion",
	"regarding.fieldPath":       "involvedObject.fieldPath",
	"reportingController":       "reportingComponent",
}

// registerEventConversions maps events.k8s.io/v1 onto core/v1 and back. Both carry the same facts
// under different names; the "deprecated" fields of the newer one are the older one's own.
func registerEventConversions(s *runtime.Scheme) error {
	for _, add := range []func() error{
		func() error {
			return s.AddConversionFunc((*eventsv1.Event)(nil), (*corev1.Event)(nil), func(in, out any, _ conversion.Scope) error {
				*out.(*corev1.Event) = toCoreEvent(in.(*eventsv1.Event))
				return nil
			})
		},
		func() error {
			return s.AddConversionFunc((*corev1.Event)(nil), (*eventsv1.Event)(nil), func(in, out any, _ conversion.Scope) error {
				*out.(*eventsv1.Event) = fromCoreEvent(in.(*corev1.Event))
				return nil
			})
		},
		func() error {
			return s.AddConversionFunc((*eventsv1.EventList)(nil), (*corev1.EventList)(nil), func(in, out any, _ conversion.Scope) error {
				from, to := in.(*eventsv1.EventList), out.(*corev1.EventList)
				to.ListMeta, to.Items = from.ListMeta, make([]corev1.Event, len(from.Items))
				for i := range from.Items {
					to.Items[i] = toCoreEvent(&from.Items[i])
				}
				return nil
			})
		},
		func() error {
			return s.AddConversionFunc((*corev1.EventList)(nil), (*eventsv1.EventList)(nil), func(in, out any, _ conversion.Scope) error {
				from, to := in.(*corev1.EventList), out.(*eventsv1.EventList)
				to.ListMeta, to.Items = from.ListMeta, make([]eventsv1.Event, len(from.Items))
				for i := range from.Items {
					to.Items[i] = fromCoreEvent(&from.Items[i])
				}
				return nil
			})
		},
	} {
		if err := add(); err != nil {
			return fmt.Errorf("register event conversions: %w", err)
		}
	}
	return nil
}

func toCoreEvent(in *eventsv1.Event) corev1.Event {
	out := corev1.Event{
		ObjectMeta: in.ObjectMeta, InvolvedObject: in.Regarding, Related: in.Related,
		Reason: in.Reason, Message: in.Note, Type: in.Type, Action: in.Action, EventTime: in.EventTime,
		ReportingController: in.ReportingController, ReportingInstance: in.ReportingInstance,
		Source: in.DeprecatedSource, Count: in.DeprecatedCount,
		FirstTimestamp: in.DeprecatedFirstTimestamp, LastTimestamp: in.DeprecatedLastTimestamp,
	}
	if in.Series != nil {
		out.Series = &corev1.EventSeries{Count: in.Series.Count, LastObservedTime: in.Series.LastObservedTime}
	}
	return out
}

func fromCoreEvent(in *corev1.Event) eventsv1.Event {
	out := eventsv1.Event{
		TypeMeta:   metav1.TypeMeta{},
		ObjectMeta: in.ObjectMeta, Regarding: in.InvolvedObject, Related: in.Related,
		Reason: in.Reason, Note: in.Message, Type: in.Type, Action: in.Action, EventTime: in.EventTime,
		ReportingController: in.ReportingController, ReportingInstance: in.ReportingInstance,
		DeprecatedSource: in.Source, DeprecatedCount: in.Count,
		DeprecatedFirstTimestamp: in.FirstTimestamp, DeprecatedLastTimestamp: in.LastTimestamp,
	}
	if in.Series != nil {
		out.Series = &eventsv1.EventSeries{Count: in.Series.Count, LastObservedTime: in.Series.LastObservedTime}
	}
	return out
}
