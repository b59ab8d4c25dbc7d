package api

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/troupe-run/troupe/cluster/state/storage"
)

type plainList struct{}

// withPlainLists marks requests for lists that want the objects themselves and not tables or
// metadata of them.
func withPlainLists(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		info, ok := request.RequestInfoFrom(req.Context())
		if ok && info.Verb == "list" && !strings.Contains(strings.Join(req.Header["Accept"], ","), "as=") {
			req = req.WithContext(context.WithValue(req.Context(), plainList{}, true))
		}
		next.ServeHTTP(w, req)
	})
}

// List answers with a list whose JSON is put together from that of its items, as long as nothing but
// the list is needed.
func (r *registry) List(ctx context.Context, opts *internalversion.ListOptions) (runtime.Object, error) {
	if r.plainJSON == "" || ctx.Value(plainList{}) == nil || audited(ctx) {
		return r.Store.List(ctx, opts)
	}
	items := &storage.Collected{}
	list, err := r.Store.List(storage.WithCollected(ctx, items), opts)
	if err != nil || !items.Done() {
		return list, err
	}
	return &sharedList{list: list, items: items, plainJSON: r.plainJSON}, nil
}

// audited says whether the answer goes into the audit log, which may want to change it.
func audited(ctx context.Context) bool {
	a := audit.AuditContextFrom(ctx)
	return a != nil && !a.GetEventLevel().Less(auditinternal.LevelRequestResponse)
}

// plainJSON identifies the encoder that answers in JSON with the objects of one version.
func plainJSON(c codecs, gv schema.GroupVersion) runtime.Identifier {
	info, ok := runtime.SerializerInfoForMediaType(c.factory.SupportedMediaTypes(), runtime.ContentTypeJSON)
	if !ok {
		return ""
	}
	return c.factory.EncoderForVersion(info.Serializer, gv).Identifier()
}

// sharedList is a list that shares its items, and their JSON, with the store.
type sharedList struct {
	list      runtime.Object // without its items
	items     *storage.Collected
	plainJSON runtime.Identifier
}

// CacheEncode implements runtime.CacheableObject.
func (l *sharedList) CacheEncode(id runtime.Identifier, encode func(runtime.Object, io.Writer) error, w io.Writer) error {
	if id != l.plainJSON {
		list := l.list.DeepCopyObject()
		if err := l.items.Into(list); err != nil {
			return err
		}
		return encode(list, w)
	}
	var frame bytes.Buffer
	if err := encode(l.list, &frame); err != nil {
		return err
	}
	// What is around the items of an empty list is around those of any.
	begin, end, ok := bytes.Cut(frame.Bytes(), []byte(`"items":[]`))
	if !ok {
		panic("api: a list without items: " + frame.String())
	}
	out := bufio.NewWriterSize(w, 64<<10) // keeps the first error
	_, _ = out.Write(begin)
	_, _ = out.WriteString(`"items":[`)
	for i := range l.items.Len() {
		item, err := l.items.JSON(i)
		if err != nil {
			return err
		}
		if i > 0 {
			_ = out.WriteByte(',')
		}
		_, _ = out.Write(item)
	}
	_ = out.WriteByte(']')
	_, _ = out.Write(end)
	return out.Flush()
}

// GetObject implements runtime.CacheableObject.
func (l *sharedList) GetObject() runtime.Object {
	list := l.list.DeepCopyObject()
	if err := l.items.Into(list); err != nil {
		panic(err) // the list has had items already
	}
	return list
}

// GetObjectKind implements runtime.Object.
func (l *sharedList) GetObjectKind() schema.ObjectKind { return l.list.GetObjectKind() }

// DeepCopyObject implements runtime.Object: nothing in it is ever changed.
func (l *sharedList) DeepCopyObject() runtime.Object { return l }

var _ runtime.CacheableObject = (*sharedList)(nil)
