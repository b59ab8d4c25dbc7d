package core

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/troupe-run/troupe/cluster/api/kind"
	"github.com/troupe-run/troupe/cluster/api/kinds/check"
	"github.com/troupe-run/troupe/cluster/api/kinds/table"
)

// How long the texts of an event with a time of its own may be.
const (
	maxEventText    = 128
	maxEventMessage = 1024
)

// Event describes v1 Event.
func Event() kind.Kind {
	doc := corev1.Event{}.SwaggerDoc()
	return kind.Kind{
		GVK:        corev1.SchemeGroupVersion.WithKind("Event"),
		Resource:   "events",
		Singular:   "event",
		ShortNames: []string{"ev"},
		Namespaced: true,
		New:        func() kind.Object { return &corev1.Event{} },
		NewList:    func() runtime.Object { return &corev1.EventList{} },

		ValidateName: path.ValidatePathSegmentName,
		Validate: func(ctx context.Context, obj kind.Object) field.ErrorList {
			return validateNewEvent(ctx, obj.(*corev1.Event))
		},
		ValidateUpdate: func(ctx context.Context, obj, old kind.Object) field.ErrorList {
			return validateEventUpdate(ctx, obj.(*corev1.Event), old.(*corev1.Event))
		},
		AllowCreateOnUpdate: true,
		Versions:            []kind.Version{eventsGroup()},

		Columns: []metav1.TableColumnDefinition{
			table.Col("Last Seen", doc["lastTimestamp"]),
			table.Col("Type", doc["type"]),
			table.Col("Reason", doc["reason"]),
			table.Col("Object", doc["involvedObject"]),
			table.Wide(table.Col("Subobject", corev1.ObjectReference{}.SwaggerDoc()["fieldPath"])),
			table.Wide(table.Col("Source", doc["source"])),
			table.Col("Message", doc["message"]),
			table.Wide(table.Col("First Seen", doc["firstTimestamp"])),
			table.Wide(table.Col("Count", doc["count"])),
			table.Wide(table.Name()),
		},
		Row: func(obj kind.Object) []any { return eventRow(obj.(*corev1.Event)) },
		Fields: func(obj kind.Object) fields.Set {
			e := obj.(*corev1.Event)
			source := e.Source.Component
			if source == "" {
				source = e.ReportingController
			}
			return fields.Set{
				"involvedObject.kind":            e.InvolvedObject.Kind,
				"involvedObject.namespace":       e.InvolvedObject.Namespace,
				"involvedObject.name":            e.InvolvedObject.Name,
				"involvedObject.uid":             string(e.InvolvedObject.UID),
				"involvedObject.apiVersion":      e.InvolvedObject.APIVersion,
				"involvedObject.resourceVersion": e.InvolvedObject.ResourceVersion,
				"involvedObject.fieldPath":       e.InvolvedObject.FieldPath,
				"reason":                         e.Reason,
				"reportingComponent":             e.ReportingController,
				"source":                         source,
				"type":                           e.Type,
			}
		},
	}
}

// viaEventsGroup says that a request came through events.k8s.io, which knows only events of the new sort.
func viaEventsGroup(ctx context.Context) bool {
	info, ok := request.RequestInfoFrom(ctx)
	return ok && info.APIGroup == eventsv1.GroupName
}

func validateNewEvent(ctx context.Context, e *corev1.Event) field.ErrorList {
	errs := validateEvent(ctx, e)
	if !viaEventsGroup(ctx) {
		return errs
	}
	if e.Name != "" {
		errs = append(errs, check.DNSSubdomain(e.Name, field.NewPath("metadata", "name"))...)
	}
	errs = append(errs, validateEventSeries(e.Series)...)
	if e.EventTime.IsZero() {
		errs = append(errs, field.Required(field.NewPath("eventTime"), ""))
	}
	if e.Type != corev1.EventTypeNormal && e.Type != corev1.EventTypeWarning {
		errs = append(errs, field.Invalid(field.NewPath("type"), "", fmt.Sprintf("has invalid value: %v", e.Type)))
	}
	for _, old := range []struct {
		child string
		set   bool
	}{
		{"firstTimestamp", !e.FirstTimestamp.IsZero()}, {"lastTimestamp", !e.LastTimestamp.IsZero()},
		{"count", e.Count != 0}, {"source", e.Source != corev1.EventSource{}},
	} {
		if old.set {
			errs = append(errs, field.Invalid(field.NewPath(old.child), "", "needs to be unset"))
		}
	}
	return errs
}

func validateEventSeries(series *corev1.EventSeries) field.ErrorList {
	if series == nil {
		return nil
	}
	var errs field.ErrorList
	if series.Count < 2 {
		errs = append(errs, field.Invalid(field.NewPath("series.count"), "", "should be at least 2"))
	}
	if series.LastObservedTime.IsZero() {
		errs = append(errs, field.Required(field.NewPath("series.lastObservedTime"), ""))
	}
	return errs
}

func validateEventUpdate(ctx context.Context, e, old *corev1.Event) field.ErrorList {
	errs := validateEvent(ctx, e)
	if !viaEventsGroup(ctx) {
		return errs
	}
	if !apiequality.Semantic.DeepEqual(e.Series, old.Series) {
		errs = append(errs, validateEventSeries(e.Series)...)
	}
	same := func(child string, is, was any) {
		errs = append(errs, apivalidation.ValidateImmutableField(is, was, field.NewPath(child))...)
	}
	same("involvedObject", e.InvolvedObject, old.InvolvedObject)
	same("reason", e.Reason, old.Reason)
	same("message", e.Message, old.Message)
	same("source", e.Source, old.Source)
	same("firstTimestamp", e.FirstTimestamp, old.FirstTimestamp)
	same("lastTimestamp", e.LastTimestamp, old.LastTimestamp)
	same("count", e.Count, old.Count)
	same("type", e.Type, old.Type)
	// Protobuf carries times to the nanosecond, JSON to the microsecond.
	if is, was := e.EventTime.Truncate(time.Microsecond), old.EventTime.Truncate(time.Microsecond); !is.Equal(was) {
		same("eventTime", e.EventTime, old.EventTime)
	}
	same("action", e.Action, old.Action)
	same("related", e.Related, old.Related)
	same("reportingController", e.ReportingController, old.ReportingController)
	same("reportingInstance", e.ReportingInstance, old.ReportingInstance)
	return errs
}

// validateEvent holds for events of both sorts; those with a time of their own are the new one.
func validateEvent(ctx context.Context, e *corev1.Event) field.ErrorList {
	at := field.NewPath("involvedObject", "namespace")
	about := e.InvolvedObject.Namespace
	const differs = "does not match event.namespace"
	if e.EventTime.IsZero() {
		// Those about cluster-scoped objects live in "default".
		if about == "" && e.Namespace != "" && e.Namespace != metav1.NamespaceDefault || about != "" && about != e.Namespace {
			return field.ErrorList{field.Invalid(at, about, differs)}
		}
		return nil
	}
	var errs field.ErrorList
	if about == "" && e.Namespace != metav1.NamespaceDefault && e.Namespace != metav1.NamespaceSystem {
		errs = append(errs, field.Invalid(at, about, differs))
	}
	reporter := field.NewPath("reportingComponent")
	if viaEventsGroup(ctx) {
		reporter = field.NewPath("reportingController")
	}
	if e.ReportingController == "" {
		errs = append(errs, field.Required(reporter, ""))
	}
	errs = append(errs, check.QualifiedName(e.ReportingController, reporter)...)
	for _, text := range []struct{ child, value string }{
		{"reportingInstance", e.ReportingInstance}, {"action", e.Action}, {"reason", e.Reason},
	} {
		switch {
		case text.value == "":
			errs = append(errs, field.Required(field.NewPath(text.child), ""))
		case len(text.value) > maxEventText:
			errs = append(errs, field.Invalid(field.NewPath(text.child), "", fmt.Sprintf("can have at most %v characters", maxEventText)))
		}
	}
	if len(e.Message) > maxEventMessage {
		errs = append(errs, field.Invalid(field.NewPath("message"), "", fmt.Sprintf("can have at most %v characters", maxEventMessage)))
	}
	return errs
}

func eventRow(e *corev1.Event) []any {
	first := table.Since(e.FirstTimestamp)
	if e.FirstTimestamp.IsZero() {
		first = table.Since(metav1.Time{Time: e.EventTime.Time})
	}
	last := first
	if !e.LastTimestamp.IsZero() {
		last = table.Since(e.LastTimestamp)
	}
	count := e.Count
	if e.Series != nil {
		last = table.Since(metav1.Time{Time: e.Series.LastObservedTime.Time})
		count = e.Series.Count
	} else if count == 0 {
		count = 1
	}
	target := strings.ToLower(e.InvolvedObject.Kind)
	if e.InvolvedObject.Name != "" {
		target += "/" + e.InvolvedObject.Name
	}
	source := e.Source.Component
	if source == "" {
		source = e.ReportingController
	}
	if host := e.Source.Host; host != "" {
		source += ", " + host
	} else if e.Source.Component == "" && e.ReportingInstance != "" {
		source += ", " + e.ReportingInstance
	}
	return []any{last, e.Type, e.Reason, target, e.InvolvedObject.FieldPath, source, strings.TrimSpace(e.Message), first, int64(count), e.Name}
}
