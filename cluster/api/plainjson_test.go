package api

import (
	"io"
	"net/http/httptest"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/endpoints/handlers/negotiation"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"

	"github.com/troupe-run/troupe/cluster/api/kinds"
)

// askedFor notes the encoder it is asked for.
type askedFor struct {
	corev1.ConfigMapList
	by runtime.Identifier
}

func (a *askedFor) CacheEncode(id runtime.Identifier, _ func(runtime.Object, io.Writer) error, _ io.Writer) error {
	a.by = id
	return nil
}

func (a *askedFor) GetObject() runtime.Object { return &a.ConfigMapList }

// Without this lists would be right, but slow.
func TestPlainJSONIsWhatClientsGet(t *testing.T) {
	c, err := newCodecs(kinds.All())
	if err != nil {
		t.Fatal(err)
	}
	for accept, want := range map[string]bool{
		"": true, "application/json": true, "application/json, */*": true,
		"application/yaml": false, "application/vnd.kubernetes.protobuf": false,
	} {
		req := httptest.NewRequest("GET", "/api/v1/configmaps", nil)
		req.Header.Set("Accept", accept)
		var list askedFor
		responsewriters.WriteObjectNegotiated(c.factory, negotiation.DefaultEndpointRestrictions, corev1.SchemeGroupVersion, httptest.NewRecorder(), req, 200, &list, false)
		if got := list.by == plainJSON(c, corev1.SchemeGroupVersion); got != want || list.by == "" {
			t.Errorf("%q is answered by %s, plain JSON: %t, want %t", accept, list.by, got, want)
		}
	}
}
