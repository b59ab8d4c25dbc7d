package compare

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"
)

// normal takes out of an answer what differs by nature: identities, times, revisions, addresses.
func (a *answer) normal() {
	if a.Body["kind"] == "Status" {
		a.normalStatus()
		return
	}
	normalMeta(a.Body)
}

func normalMeta(v any) {
	switch v := v.(type) {
	case map[string]any:
		if meta, ok := v["metadata"].(map[string]any); ok {
			for _, k := range []string{"uid", "resourceVersion", "creationTimestamp", "selfLink", "managedFields"} {
				delete(meta, k)
			}
			if g, ok := meta["generateName"].(string); ok {
				meta["name"] = g + "?"
			}
		}
		for k, e := range v {
			if s, ok := e.(string); ok {
				v[k] = normalText(s)
				continue
			}
			if list, ok := e.([]any); ok && len(list) == 0 { // which protobuf does not tell from none
				v[k] = nil
			}
			normalMeta(e)
		}
	case []any:
		for i, e := range v {
			if s, ok := e.(string); ok {
				v[i] = normalText(s)
				continue
			}
			normalMeta(e)
		}
	}
}

var (
	uidLike  = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	timeLike = regexp.MustCompile(`20\d\d-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z| \+0000 UTC)?( m=\+\S+)?`)
	ageLike  = regexp.MustCompile(`^\d+[smhd](\d+[smhd])?( ago)?$`)
	pointer  = regexp.MustCompile(`0xc[0-9a-f]{6,}`)
	// The value of a wrong object is spelled by the names of Go's fields, which differ.
	objectLike = regexp.MustCompile(`value: [{\[].*[}\]]`)
	volumeEnd  = regexp.MustCompile(`kube-api-access-[a-z0-9]{5}`)
)

func normalText(s string) string {
	if ageLike.MatchString(s) {
		return "AGE"
	}
	s = uidLike.ReplaceAllString(s, "UID")
	s = timeLike.ReplaceAllString(s, "TIME")
	if text, _, more := strings.Cut(s, "\n@@"); more { // how an object has changed, by the names of Go's fields
		s = text
	}
	s = objectLike.ReplaceAllString(s, "value: OBJECT")
	s = volumeEnd.ReplaceAllString(s, "kube-api-access-?")
	return pointer.ReplaceAllString(s, "POINTER")
}

// normalStatus keeps the reason, what was asked about, and the causes, in whatever order.
func (a *answer) normalStatus() {
	out := map[string]any{"kind": "Status", "status": a.Body["status"], "reason": a.Body["reason"], "code": a.Body["code"]}
	details, _ := a.Body["details"].(map[string]any)
	causes, _ := details["causes"].([]any)
	if len(causes) == 0 {
		out["message"] = normalText(fmt.Sprint(a.Body["message"]))
	} else {
		var list []string
		for _, c := range causes {
			c := c.(map[string]any)
			list = append(list, sortValues(normalText(fmt.Sprintf("%v %v: %v", c["reason"], c["field"], c["message"]))))
		}
		slices.Sort(list)
		out["causes"] = slices.Compact(list) // one rule may be checked twice
	}
	for _, k := range []string{"name", "group", "kind"} {
		if v, ok := details[k]; ok {
			out["details."+k] = v
		}
	}
	a.Body = out
}

// valuesLike is a list of what would be right, which has no fixed order.
var valuesLike = regexp.MustCompile(`supported values: (".*")`)

func sortValues(s string) string {
	return valuesLike.ReplaceAllStringFunc(s, func(list string) string {
		values := strings.Split(strings.TrimPrefix(list, "supported values: "), ", ")
		slices.Sort(values)
		return "supported values: " + strings.Join(values, ", ")
	})
}

// difference tells how two answers differ, "" when they do not.
func difference(reference, subject answer) string {
	if cmp.Equal(reference, subject) {
		return ""
	}
	if reference.Code == subject.Code && reference.Body["kind"] != "Status" {
		return strings.Join(deep("", map[string]any{"warnings": reference.Warnings, "body": reference.Body},
			map[string]any{"warnings": subject.Warnings, "body": subject.Body}), "\n")
	}
	if reference.Code == subject.Code && reference.Body["causes"] != nil && subject.Body["causes"] != nil {
		return strings.Join(onlyIn("-", reference, subject), "\n") + strings.Join(onlyIn("+", subject, reference), "\n")
	}
	return "-" + reference.outcome() + "\n+" + subject.outcome()
}

// onlyIn lists the causes of one refusal that another has not.
func onlyIn(sign string, one, other answer) (out []string) {
	have, _ := other.Body["causes"].([]string)
	causes, _ := one.Body["causes"].([]string)
	for _, c := range causes {
		if !slices.Contains(have, c) {
			out = append(out, sign+c)
		}
	}
	if len(out) == 0 {
		out = append(out, fmt.Sprint(sign, one.Warnings, one.Body))
	}
	return out
}

// outcome is an answer in a line.
func (a answer) outcome() string {
	if a.Body["kind"] != "Status" {
		return fmt.Sprint(a.Code, " ", a.Warnings)
	}
	return fmt.Sprint(a.Code, " ", a.Body["causes"], a.Body["message"])
}

func short(s string) string {
	if len(s) > 3000 {
		return s[:3000] + " ..."
	}
	return strings.TrimSpace(s)
}
