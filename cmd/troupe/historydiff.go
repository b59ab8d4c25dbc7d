package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/troupe-run/troupe/messages"
)

// fieldChange is a field that differs between two revisions; an empty side means that it was not
// there.
type fieldChange struct{ path, before, after string }

func (c fieldChange) String() string {
	switch {
	case c.before == "":
		return "+ " + c.path + ": " + c.after
	case c.after == "":
		return "- " + c.path + ": " + c.before
	}
	return "~ " + c.path + ": " + c.before + " -> " + c.after
}

// unread are fields that say nothing about the object: who owns which field changes with each write.
var unread = []string{"metadata.managedFields", "metadata.resourceVersion"}

// changes returns the fields by which a write differs from the state before it, in order.
func changes(before map[string]any, p past) []fieldChange {
	if p.sealed || p.verb == messages.VerbDelete || before == nil && p.verb != messages.VerbCreate {
		return nil // what it was before is not known
	}
	was, is := map[string]string{}, map[string]string{}
	flatten("", before, was)
	flatten("", p.object, is)
	var out []fieldChange
	for path, value := range is {
		if value != was[path] {
			out = append(out, fieldChange{path, was[path], value})
		}
	}
	for path, value := range was {
		if _, ok := is[path]; !ok {
			out = append(out, fieldChange{path, value, ""})
		}
	}
	slices.SortFunc(out, func(a, b fieldChange) int { return strings.Compare(a.path, b.path) })
	return out
}

// flatten lists the leaves of a JSON value by their paths. Items of lists go by their name, if they
// have one, so that one more at the front does not change all of them.
func flatten(path string, v any, into map[string]string) {
	if slices.Contains(unread, path) {
		return
	}
	switch v := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			at := k
			switch {
			case strings.ContainsAny(k, "./"):
				at = path + fmt.Sprintf("[%q]", k)
			case path != "":
				at = path + "." + k
			}
			flatten(at, v[k], into)
		}
	case []any:
		for i, item := range v {
			at := fmt.Sprintf("%s[%d]", path, i)
			if m, ok := item.(map[string]any); ok {
				if name, ok := m["name"].(string); ok && name != "" {
					at = fmt.Sprintf("%s[%s]", path, name)
				}
			}
			flatten(at, item, into)
		}
	default:
		text, err := json.Marshal(v)
		if err != nil {
			panic(err) // it was JSON
		}
		into[path] = string(text)
	}
}

// summary words what a write changed in a few words.
func summary(p past, changed []fieldChange) string {
	switch {
	case p.sealed:
		return "(sealed)"
	case p.verb != messages.VerbUpdate || len(changed) == 0:
		return ""
	}
	const shown = 3
	var words []string
	for _, c := range changed[:min(shown, len(changed))] {
		words = append(words, c.path)
	}
	if more := len(changed) - shown; more > 0 {
		words = append(words, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(words, ", ")
}
