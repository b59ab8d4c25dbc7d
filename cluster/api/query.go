package api

import (
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
)

// registerQueryOptions teaches the scheme to read the option types of pod and proxy subresources
// from query parameters. k8s.io/api has the types but, unlike for meta types, no such conversions.
func registerQueryOptions(s *runtime.Scheme) error {
	for _, obj := range []runtime.Object{
		&corev1.PodLogOptions{}, &corev1.PodExecOptions{}, &corev1.PodAttachOptions{},
		&corev1.PodPortForwardOptions{}, &corev1.PodProxyOptions{}, &corev1.NodeProxyOptions{},
		&corev1.ServiceProxyOptions{},
	} {
		err := s.AddConversionFunc((*url.Values)(nil), obj, func(in, out any, _ conversion.Scope) error {
			return readQuery(*in.(*url.Values), reflect.ValueOf(out).Elem())
		})
		if err != nil {
			return fmt.Errorf("register query parameters of %T: %w", obj, err)
		}
	}
	return nil
}

var (
	timeType = reflect.TypeFor[metav1.Time]()
	metaType = reflect.TypeFor[metav1.TypeMeta]()
)

// readQuery sets the fields of a flat option struct from the parameters named by their JSON tags;
// absent parameters leave a field alone.
func readQuery(q url.Values, out reflect.Value) error {
	for i := range out.NumField() {
		f := out.Type().Field(i)
		if f.Type == metaType {
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		values, ok := q[name]
		if !ok || len(values) == 0 {
			continue
		}
		if err := setField(out.Field(i), values); err != nil {
			return fmt.Errorf("parameter %s: %w", name, err)
		}
	}
	return nil
}

func setField(v reflect.Value, values []string) error {
	if v.Kind() == reflect.Pointer {
		p := reflect.New(v.Type().Elem())
		if err := setField(p.Elem(), values); err != nil {
			return err
		}
		v.Set(p)
		return nil
	}
	s := values[0]
	switch {
	case v.Type() == timeType:
		t, err := time.Parse(time.RFC3339, s)
		if err != nil {
			return err
		}
		v.Set(reflect.ValueOf(metav1.NewTime(t)))
	case v.Kind() == reflect.String:
		v.SetString(s)
	case v.Kind() == reflect.Bool:
		// As elsewhere in the API, a parameter that is merely present counts as true.
		v.SetBool(s == "" || !slices.Contains([]string{"false", "0"}, strings.ToLower(s)))
	case v.CanInt():
		n, err := strconv.ParseInt(s, 10, v.Type().Bits())
		if err != nil {
			return err
		}
		v.SetInt(n)
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.String:
		v.Set(reflect.ValueOf(slices.Clone(values)))
	case v.Kind() == reflect.Slice:
		out := reflect.MakeSlice(v.Type(), len(values), len(values))
		for i := range values {
			if err := setField(out.Index(i), values[i:i+1]); err != nil {
				return err
			}
		}
		v.Set(out)
	default:
		return fmt.Errorf("type %s cannot be given as a parameter", v.Type())
	}
	return nil
}

func sortedKeys[V any](m map[string]V) string {
	return strings.Join(slices.Sorted(maps.Keys(m)), ", ")
}
