package core

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

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

		Validate: func(_ context.Context, obj kind.Object) field.ErrorList {
			return validateEvent(obj.(*corev1.Event))
		},
		AllowCreateOnUpdate: true,

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

func validateEvent(e *corev1.Event) field.ErrorList {
	path := field.NewPath("involvedObject", "namespace")
	about := e.InvolvedObject.Namespace
	const differs = "does not match event.namespace"
	if e.EventTime.IsZero() {
		// Events of the old sort: those about cluster-scoped objects live in "default".
		if about == "" && e.Namespace != "" && e.Namespace != metav1.NamespaceDefault || about != "" && about != e.Namespace {
			return field.ErrorList{field.Invalid(path, about, differs)}
		}
		return nil
	}
	var errs field.ErrorList
	if about == "" && e.Namespace != metav1.NamespaceDefault && e.Namespace != metav1.NamespaceSystem || about != "" && about != e.Namespace {
		errs = append(errs, field.Invalid(path, about, differs))
	}
	if e.ReportingController == "" {
		errs = append(errs, field.Required(field.NewPath("reportingController"), ""))
	}
	errs = append(errs, check.QualifiedName(e.ReportingController, field.NewPath("reportingController"))...)
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
