package table

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/duration"
)

// What cells say when there is nothing to say.
const (
	None    = "<none>"
	Unknown = "<unknown>"
)

var metaDoc = metav1.ObjectMeta{}.SwaggerDoc()

// Name is the column of the object's name.
func Name() metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: "Name", Type: "string", Format: "name", Description: metaDoc["name"]}
}

// Age is the column of the time since the object was created; its cell is [Since] that time.
func Age() metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: "Age", Type: "string", Description: metaDoc["creationTimestamp"]}
}

// Col is a column that is always shown.
func Col(name, description string) metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: name, Type: "string", Description: description}
}

// Int is a column of whole numbers that is always shown.
func Int(name, description string) metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: name, Type: "integer", Description: description}
}

// Wide makes a column appear in the wide form only.
func Wide(col metav1.TableColumnDefinition) metav1.TableColumnDefinition {
	col.Priority = 1
	return col
}

// Since is the age of something that happened at t.
func Since(t metav1.Time) string {
	if t.IsZero() {
		return Unknown
	}
	return duration.HumanDuration(time.Since(t.Time))
}

// Labels is a plain label selector in its short form.
func Labels(set map[string]string) string {
	return labels.FormatLabels(set)
}

// Selector is a label selector in its short form.
func Selector(sel *metav1.LabelSelector) string {
	return metav1.FormatLabelSelector(sel)
}

// Containers lists names and images of a pod template's containers, for the wide form of
// workloads.
func Containers(containers []corev1.Container) (names, images string) {
	n, i := make([]string, len(containers)), make([]string, len(containers))
	for at := range containers {
		n[at], i[at] = containers[at].Name, containers[at].Image
	}
	return strings.Join(n, ","), strings.Join(i, ",")
}
