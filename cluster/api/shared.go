package api

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/troupe-run/troupe/cluster/state/storage"
)

type plain struct{}

// withPlain marks requests that are answered with objects themselves, and not with tables or metadata
// of them or by a subresource.
func withPlain(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if info, ok := request.RequestInfoFrom(req.Context()); ok && isPlain(info, req.Header["Accept"]) {
			req = req.WithContext(context.WithValue(req.Context(), plain{}, info.Verb))
		}
		next.ServeHTTP(w, req)
	})
}

func isPlain(info *request.RequestInfo, accept []string) bool {
	if !info.IsResourceRequest || info.Subresource != "" {
		return false
	}
	switch info.Verb {
	case "list", "get":
		return !slices.ContainsFunc(accept, func(a string) bool { return strings.Contains(a, "as=") })
	}
	return false
}

// shares says whether the answer to a request is made of JSON that the store shares.
func (r *registry) shares(ctx context.Context, verb string) bool {
	return r.plainJSON != "" && ctx.Value(plain{}) == verb && !audited(ctx)
}

// List answers with a list whose JSON is put together from that of its items, as long as nothing but
// the list is needed.
func (r *registry) List(ctx context.Context, opts *internalversion.ListOptions) (runtime.Object, error) {
	if !r.shares(ctx, "list") {
		return r.Store.List(ctx, opts)
	}
	items := &storage.Collected{}
	list, err := r.Store.List(storage.WithCollected(ctx, items), opts)
	if err != nil || !items.Done() {
		return list, err
	}
	return &sharedList{list: list, items: items, plainJSON: r.plainJSON}, nil
}

// Get answers with an object that shares its JSON with the store.
func (r *registry) Get(ctx context.Context, name string, opts *metav1.GetOptions) (runtime.Object, error) {
	if !r.shares(ctx, "get") {
		return r.Store.Get(ctx, name, opts)
	}
	ctx, one := storage.WithSingle(ctx, resourceName(r.kind))
	out, err := r.Store.Get(ctx, name, opts)
	if err != nil || !one.Done() {
		return out, err
	}
	return &sharedObject{kind: r.kind.GVK, one: one, plainJSON: r.plainJSON}, nil
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

// sharedObject is an object that shares itself, and its JSON, with the store.
type sharedObject struct {
	kind      schema.GroupVersionKind
	one       *storage.Single
	plainJSON runtime.Identifier
}

// CacheEncode implements runtime.CacheableObject.
func (o *sharedObject) CacheEncode(id runtime.Identifier, encode func(runtime.Object, io.Writer) error, w io.Writer) error {
	if id != o.plainJSON {
		return encode(o.GetObject(), w)
	}
	text, err := o.one.JSON()
	if err != nil {
		return err
	}
	apiVersion, kind := o.kind.ToAPIVersionAndKind()
	head := `{"kind":"` + kind + `","apiVersion":"` + apiVersion + `",`
	whole := make([]byte, 0, len(head)+len(text))
	whole = append(append(append(whole, head...), text[1:]...), '\n')
	_, err = w.Write(whole)
	return err
}

// GetObject implements runtime.CacheableObject.
func (o *sharedObject) GetObject() runtime.Object { return o.one.Object().DeepCopyObject() }

// GetObjectKind implements runtime.Object.
func (o *sharedObject) GetObjectKind() schema.ObjectKind { return o.one.Object().GetObjectKind() }

// DeepCopyObject implements runtime.Object: nothing in it is ever changed.
func (o *sharedObject) DeepCopyObject() runtime.Object { return o }

var _ runtime.CacheableObject = (*sharedObject)(nil)
