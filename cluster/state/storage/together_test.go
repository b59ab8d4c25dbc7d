package storage_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	apistorage "k8s.io/apiserver/pkg/storage"

	"github.com/troupe-run/troupe/cluster/state/storage"
)

// write is one part of a transaction.
type write = func(context.Context) error

func TestAllOrNone(t *testing.T) {
	t.Parallel()
	errNo := errors.New("no")
	for name, tt := range map[string]struct {
		writes func(s *storage.Storage) []write
		fails  func(error) bool // nil means that all is done
		want   string
	}{
		"updates":             {func(s *storage.Storage) []write { return []write{to(s, "a", "2"), to(s, "b", "2"), to(s, "c", "2")} }, nil, "map[a:2 b:2 c:2]"},
		"create and delete":   {func(s *storage.Storage) []write { return []write{makes(s, "new"), drops(s, "a"), to(s, "b", "2")} }, nil, "map[b:2 c:1 new:1]"},
		"one is refused":      {func(s *storage.Storage) []write { return []write{to(s, "a", "2"), refuses(s, "b", errNo)} }, func(err error) bool { return errors.Is(err, errNo) }, ""},
		"one is missing":      {func(s *storage.Storage) []write { return []write{to(s, "a", "2"), to(s, "none", "2")} }, apistorage.IsNotFound, ""},
		"one is there":        {func(s *storage.Storage) []write { return []write{to(s, "a", "2"), makes(s, "b")} }, apistorage.IsExist, ""},
		"the same twice":      {func(s *storage.Storage) []write { return []write{to(s, "a", "2"), to(s, "a", "3")} }, func(err error) bool { return err != nil }, ""},
		"one changes nothing": {func(s *storage.Storage) []write { return []write{to(s, "a", "2"), to(s, "b", "1")} }, nil, "map[a:2 b:1 c:1]"},
		"none changes":        {func(s *storage.Storage) []write { return []write{to(s, "a", "1"), to(s, "b", "1")} }, nil, "map[a:1 b:1 c:1]"},
		"one writes nothing": {func(s *storage.Storage) []write {
			return []write{to(s, "a", "2"), func(context.Context) error { return nil }}
		}, nil, "map[a:2 b:1 c:1]"},
		"nothing at all": {func(*storage.Storage) []write { return nil }, nil, "map[a:1 b:1 c:1]"},
		// What one of the functions has read is overtaken before all of them have come.
		"a conflict":                          {func(s *storage.Storage) []write { return []write{to(s, "a", "2"), overtaken(s, "b")} }, apistorage.IsConflict, ""},
		"a conflict with what did not change": {func(s *storage.Storage) []write { return []write{to(s, "a", "2"), overtakenUnchanged(s, "b")} }, apistorage.IsConflict, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, openStore(t, configMaps))
			for _, n := range []string{"a", "b", "c"} {
				create(t, s, n, "1")
			}
			before := dump(t, s)
			err := storage.All(t.Context(), tt.writes(s)...)
			if tt.fails == nil {
				if got := fmt.Sprint(dump(t, s)); err != nil || got != tt.want {
					t.Errorf("%v, now %s; want %s", err, got, tt.want)
				}
				return
			}
			if !tt.fails(err) {
				t.Errorf("fails with %v", err)
			}
			after := dump(t, s)
			for n, v := range before {
				// Others write 9.
				if got, ok := after[n]; !ok || got != v && got != "9" {
					t.Errorf("%s was %s, is %q", n, v, got)
				}
			}
			if len(after) != len(before) {
				t.Errorf("%v became %v", before, after)
			}
		})
	}
}

func dump(t *testing.T, s *storage.Storage) map[string]string {
	t.Helper()
	var list corev1.ConfigMapList
	if err := s.GetList(t.Context(), prefix, apistorage.ListOptions{Recursive: true, Predicate: apistorage.Everything}, &list); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for i := range list.Items {
		out[list.Items[i].Name] = list.Items[i].Data["key"]
	}
	return out
}

func to(s *storage.Storage, name, value string) write {
	return func(ctx context.Context) error {
		return s.GuaranteedUpdate(ctx, key(name), &corev1.ConfigMap{}, false, nil, set(value), nil)
	}
}

func makes(s *storage.Storage, name string) write {
	return func(ctx context.Context) error { return s.Create(ctx, key(name), configMap(name, "1"), nil, 0) }
}

func drops(s *storage.Storage, name string) write {
	return func(ctx context.Context) error {
		return s.Delete(ctx, key(name), &corev1.ConfigMap{}, nil, apistorage.ValidateAllObjectFunc, nil, apistorage.DeleteOptions{})
	}
}

func refuses(s *storage.Storage, name string, err error) write {
	return func(ctx context.Context) error {
		return s.GuaranteedUpdate(ctx, key(name), &corev1.ConfigMap{}, false, nil, func(runtime.Object, apistorage.ResponseMeta) (runtime.Object, *uint64, error) {
			return nil, nil, err
		}, nil)
	}
}

// overtaken updates an object that somebody else writes between its read and its write.
func overtaken(s *storage.Storage, name string) write { return after(s, name, "2") }

// overtakenUnchanged is the same with an update that would change nothing.
func overtakenUnchanged(s *storage.Storage, name string) write { return after(s, name, "1") }

func after(s *storage.Storage, name, value string) write {
	return func(ctx context.Context) error {
		return s.GuaranteedUpdate(ctx, key(name), &corev1.ConfigMap{}, false, nil, func(in runtime.Object, m apistorage.ResponseMeta) (runtime.Object, *uint64, error) {
			if err := to(s, name, "9")(context.Background()); err != nil {
				return nil, nil, err
			}
			return set(value)(in, m)
		}, nil)
	}
}

// TestTransactionsOfMany lets goroutines move an amount between two objects while others do the
// same: the sum stays.
func TestTransactionsOfMany(t *testing.T) {
	t.Parallel()
	s := serve(t, openStore(t, configMaps))
	const n = 8
	for i := range n {
		create(t, s, fmt.Sprint("m", i), "100")
	}
	add := func(name string, by int) write {
		return func(ctx context.Context) error {
			return s.GuaranteedUpdate(ctx, key(name), &corev1.ConfigMap{}, false, nil, func(in runtime.Object, m apistorage.ResponseMeta) (runtime.Object, *uint64, error) {
				var have int
				if _, err := fmt.Sscan(in.(*corev1.ConfigMap).Data["key"], &have); err != nil {
					return nil, nil, err
				}
				return set(fmt.Sprint(have+by))(in, m)
			}, nil)
		}
	}
	var moving sync.WaitGroup
	for w := range 8 {
		moving.Go(func() {
			for i := range 40 {
				from, into := fmt.Sprint("m", (w+i)%n), fmt.Sprint("m", (w+3*i+1)%n)
				if from == into {
					continue
				}
				if err := storage.All(t.Context(), add(from, -1), add(into, 1)); err != nil && !apistorage.IsConflict(err) {
					t.Error(err)
				}
			}
		})
	}
	moving.Wait()
	sum := 0
	for name, v := range dump(t, s) {
		var have int
		if _, err := fmt.Sscan(v, &have); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		sum += have
	}
	if sum != 100*n {
		t.Errorf("the sum is %d", sum)
	}
}
