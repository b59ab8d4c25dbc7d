package api

import (
	"context"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/troupe-run/troupe/cluster/api/kind"
)

// tables turns objects into the rows that kubectl shows.
type tables struct{ kind *kind.Kind }

func newTables(k *kind.Kind) rest.TableConvertor {
	if k.Row == nil {
		return rest.NewDefaultTableConvertor(schema.GroupResource{Group: k.GVK.Group, Resource: k.Resource})
	}
	return tables{k}
}

// ConvertToTable answers for one object or a list; with NoHeaders, as watches after their first
// event ask for, the column definitions are left out.
func (t tables) ConvertToTable(_ context.Context, obj, options runtime.Object) (*metav1.Table, error) {
	out := &metav1.Table{}
	if opts, ok := options.(*metav1.TableOptions); !ok || !opts.NoHeaders {
		out.ColumnDefinitions = t.kind.Columns
	}
	if list, err := meta.ListAccessor(obj); err == nil {
		out.ResourceVersion = list.GetResourceVersion()
		out.Continue = list.GetContinue()
		out.RemainingItemCount = list.GetRemainingItemCount()
		out.Rows = make([]metav1.TableRow, 0, meta.LenList(obj))
		err := meta.EachListItem(obj, func(item runtime.Object) error {
			out.Rows = append(out.Rows, t.row(item))
			return nil
		})
		return out, err
	}
	if one, err := meta.CommonAccessor(obj); err == nil {
		out.ResourceVersion = one.GetResourceVersion()
	}
	out.Rows = []metav1.TableRow{t.row(obj)}
	return out, nil
}

func (t tables) row(obj runtime.Object) metav1.TableRow {
	return metav1.TableRow{Cells: t.kind.Row(obj.(kind.Object)), Object: runtime.RawExtension{Object: obj}}
}
