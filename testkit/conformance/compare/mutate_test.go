package compare

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// mutation is an object with one thing changed.
type mutation struct {
	name string
	obj  map[string]any
}

// mutations are variants of an object, each with one field removed or given a value that may not be right.
func mutations(obj map[string]any) []mutation {
	var out []mutation
	visit(obj, nil, func(path []any, value any) {
		if len(path) == 1 && (path[0] == "apiVersion" || path[0] == "kind") {
			return
		}
		for _, m := range variants(value) {
			changed := deepCopy(obj).(map[string]any)
			set(changed, path, m.value)
			out = append(out, mutation{fmt.Sprintf("%s %s", spell(path), m.name), changed})
		}
	})
	return out
}

func spell(path []any) string {
	var b strings.Builder
	for i, p := range path {
		switch p := p.(type) {
		case string:
			if i > 0 {
				b.WriteByte('.')
			}
			b.WriteString(p)
		case int:
			fmt.Fprintf(&b, "[%d]", p)
		}
	}
	return b.String()
}

// visit calls see for every value below obj, in a fixed order.
func visit(v any, path []any, see func([]any, any)) {
	switch v := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			at := append(slices.Clone(path), k)
			see(at, v[k])
			visit(v[k], at, see)
		}
	case []any:
		for i := range v {
			at := append(slices.Clone(path), i)
			see(at, v[i])
			visit(v[i], at, see)
		}
	}
}

type variant struct {
	name  string
	value any // removed when it is of type gone
}

type gone struct{}

func variants(v any) []variant {
	out := []variant{{"removed", gone{}}}
	add := func(name string, value any) { out = append(out, variant{name, value}) }
	switch v := v.(type) {
	case string:
		add("empty", "")
		add("strange", "Not_Valid !")
		add("long", strings.Repeat("a", 300))
		add("another", v+"-x")
		add("a number", "8080")
	case float64:
		for _, n := range []float64{-1, 0, 1, 65536, v + 1} {
			add(fmt.Sprint(n), n)
		}
	case bool:
		add("not", !v)
	case map[string]any:
		add("empty", map[string]any{})
		more := maps.Clone(v)
		more["strange key!"] = "x"
		add("with a strange key", more)
	case []any:
		add("empty", []any{})
		if len(v) > 0 {
			add("with the first twice", append(slices.Clone(v), v[0]))
		}
	}
	return out
}

func set(obj any, path []any, value any) {
	for _, p := range path[:len(path)-1] {
		switch p := p.(type) {
		case string:
			obj = obj.(map[string]any)[p]
		case int:
			obj = obj.([]any)[p]
		}
	}
	_, remove := value.(gone)
	switch p := path[len(path)-1].(type) {
	case string:
		if remove {
			delete(obj.(map[string]any), p)
		} else {
			obj.(map[string]any)[p] = value
		}
	case int:
		if !remove {
			obj.([]any)[p] = value
		} else {
			obj.([]any)[p] = nil
		}
	}
}

func deepCopy(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = deepCopy(e)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = deepCopy(e)
		}
		return out
	}
	return v
}
