package storage_test

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	apistorage "k8s.io/apiserver/pkg/storage"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/cluster/state/storage"
)

// selected lists what a selector of labels and one of fields find, in order.
func selected(t testing.TB, s *storage.Storage, at, label, field string) (names []string, list corev1.ConfigMapList) {
	t.Helper()
	l, err := labels.Parse(label)
	if err != nil {
		t.Fatal(err)
	}
	f, err := fields.ParseSelector(field)
	if err != nil {
		t.Fatal(err)
	}
	pred := apistorage.SelectionPredicate{Label: l, Field: f, GetAttrs: func(obj runtime.Object) (labels.Set, fields.Set, error) {
		m := obj.(*corev1.ConfigMap)
		return m.Labels, fields.Set{"metadata.name": m.Name, "metadata.namespace": m.Namespace, "data.key": m.Data["key"]}, nil
	}}
	if err := s.GetList(t.Context(), prefix+at, apistorage.ListOptions{Recursive: true, Predicate: pred}, &list); err != nil {
		t.Fatal(err)
	}
	for i := range list.Items {
		names = append(names, list.Items[i].Name)
	}
	return names, list
}

// TestIndexesFindWhatScansFind asks the same of many objects, for which indexes are made, as of what a
// loop over all of them says, also after labels and fields have changed.
func TestIndexesFindWhatScansFind(t *testing.T) {
	t.Parallel()
	res := configMaps
	res.Indexes = map[string]func(objects.Object) []string{"data.key": func(obj objects.Object) []string { return []string{obj.(*corev1.ConfigMap).Data["key"]} }}
	s := serve(t, openStore(t, res))
	have := map[string]*corev1.ConfigMap{}
	const n = 700
	for i := range n {
		m := configMap(fmt.Sprintf("m%03d", i), fmt.Sprint(i%5))
		m.Labels = map[string]string{"app": fmt.Sprint("a", i%7), "tier": fmt.Sprint("t", i%3)}
		if i%11 == 0 {
			m.Labels = nil
		}
		if err := s.Create(t.Context(), key(m.Name), m, nil, 0); err != nil {
			t.Fatal(err)
		}
		have[m.Name] = m
	}
	check := func() {
		t.Helper()
		for _, q := range [][2]string{{"app=a1", ""}, {"app in (a1,a3)", ""}, {"app==a1,tier!=t0", ""}, {"app", ""}, {"!app", ""}, {"app=none", ""}, {"tier=t1", "data.key=2"},
			{"", "data.key=3"}, {"", "data.key!=3"}, {"", "metadata.name=m007"}, {"app notin (a1)", "data.key=none"}} {
			l, _ := labels.Parse(q[0])
			f, _ := fields.ParseSelector(q[1])
			var want []string
			for i := range n {
				name := fmt.Sprintf("m%03d", i)
				if m := have[name]; m != nil && l.Matches(labels.Set(m.Labels)) && f.Matches(fields.Set{"metadata.name": name, "data.key": m.Data["key"]}) {
					want = append(want, name)
				}
			}
			for _, at := range []string{"", "/ns"} {
				if got, list := selected(t, s, at, q[0], q[1]); fmt.Sprint(got) != fmt.Sprint(want) || list.ResourceVersion == "" {
					t.Errorf("%q %q in %q at %q: got %d, want %d\n%v\n%v", q[0], q[1], at, list.ResourceVersion, len(got), len(want), got, want)
				}
			}
			if got, _ := selected(t, s, "/other", q[0], q[1]); len(got) != 0 {
				t.Errorf("%q: found %v in another namespace", q, got)
			}
		}
	}
	check()
	for i := range n {
		name := fmt.Sprintf("m%03d", i)
		switch i % 4 {
		case 0:
			if err := s.Delete(t.Context(), key(name), &corev1.ConfigMap{}, nil, apistorage.ValidateAllObjectFunc, nil, apistorage.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			delete(have, name)
		case 1:
			err := s.GuaranteedUpdate(t.Context(), key(name), &corev1.ConfigMap{}, false, nil, apistorage.SimpleUpdate(func(in runtime.Object) (runtime.Object, error) {
				m := in.(*corev1.ConfigMap)
				m.Labels, m.Data = map[string]string{"app": "a1"}, map[string]string{"key": "3"}
				have[name] = m.DeepCopy()
				return m, nil
			}), nil)
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	check()
}

// BenchmarkListLabelled finds 20 of 20,000 objects by a label.
func BenchmarkListLabelled(b *testing.B) {
	s := serve(b, openStore(b, configMaps))
	for i := range 20_000 {
		m := configMap(fmt.Sprint("m", i), "")
		m.Labels = map[string]string{"app": fmt.Sprint("a", i%1000)}
		if err := s.Create(b.Context(), key(m.Name), m, nil, 0); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("indexed", func(b *testing.B) {
		for b.Loop() {
			if got, _ := selected(b, s, "", "app=a77", ""); len(got) != 20 {
				b.Fatal(len(got))
			}
		}
	})
	b.Run("scanned", func(b *testing.B) {
		for b.Loop() {
			if got, _ := selected(b, s, "", "app,app notin (x)", ""); len(got) != 20_000 {
				b.Fatal(len(got))
			}
		}
	})
}
