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
	uidLike   = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	timeLike  = regexp.MustCompile(`20\d\d-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z| \+0000 UTC)?( m=\+\S+)?`)
	ageLike   = regexp.MustCompile(`^\d+[smhd](\d+[smhd])?( ago)?$`)
	pointer   = regexp.MustCompile(`0xc[0-9a-f]{6,}`)
	volumeEnd = regexp.MustCompile(`kube-api-access-[a-z0-9]{5}`)
)

func normalText(s string) string {
	if ageLike.MatchString(s) {
		return "AGE"
	}
	s = uidLike.ReplaceAllString(s, "UID")
	s = timeLike.ReplaceAllString(s, "TIME")
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
		out["causes"] = list
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
	full := cmp.Diff(reference, subject)
	if full == "" || reference.Code == subject.Code {
		return full
	}
	return "-" + reference.outcome() + "\n+" + subject.outcome()
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
