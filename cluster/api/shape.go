package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"
)

// How large a body may be when it is unpacked. A few bytes of text can become a kilobyte of memory,
// so their number says little; no object that is stored comes near these.
const (
	maxDepth    = 1000    // lists and maps in each other
	maxElements = 20_000  // in one list
	maxValues   = 300_000 // in all
	maxLines    = 200_000 // of YAML
)

// guardBody makes a request's body fail where it becomes too large to unpack.
func guardBody(r *http.Request) {
	if r.Body == nil || r.Body == http.NoBody {
		return
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case kind == string(types.JSONPatchType):
		r.Body = &wholeBody{from: r.Body, check: checkJSONPatch}
	case strings.HasSuffix(kind, "json"), kind == "":
		r.Body = &jsonBody{ReadCloser: r.Body}
	case strings.HasSuffix(kind, "yaml"):
		r.Body = &wholeBody{from: r.Body, check: checkYAML}
	case kind == "application/vnd.kubernetes.protobuf":
		r.Body = &wholeBody{from: r.Body, check: checkProtobuf}
	}
}

func refused(problem string) error {
	return apierrors.NewBadRequest("the body of the request is refused: " + problem)
}

// jsonBody looks at what passes through it.
type jsonBody struct {
	io.ReadCloser
	shape jsonShape
}

func (b *jsonBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if problem := b.shape.scan(p[:n]); problem != "" {
		return 0, refused(problem)
	}
	return n, err
}

// wholeBody reads a body to its end before it passes anything on.
type wholeBody struct {
	from  io.ReadCloser
	check func([]byte) (problem string)
	rest  io.Reader // once it is read
}

func (b *wholeBody) Read(p []byte) (int, error) {
	if b.rest == nil {
		all, err := io.ReadAll(io.LimitReader(b.from, maxRequestBody+1))
		if err != nil {
			return 0, err
		}
		if len(all) <= maxRequestBody { // what is longer is refused for that
			if problem := b.check(all); problem != "" {
				return 0, refused(problem)
			}
		}
		b.rest = bytes.NewReader(all)
	}
	return b.rest.Read(p)
}

func (b *wholeBody) Close() error { return b.from.Close() }

// checkYAML looks at YAML as JSON. It has too many ways to write a list to be looked at itself, but
// its lines and marks can be counted before it is unpacked.
func checkYAML(body []byte) string {
	var s jsonShape
	if start := bytes.TrimLeft(body, " \t\r\n"); len(start) > 0 && start[0] == '{' {
		return s.scan(body) // as clients write it
	}
	if bytes.Count(body, []byte{'\n'}) > maxLines {
		return fmt.Sprintf("YAML of more than %d lines", maxLines)
	}
	marks := 0
	for _, b := range body {
		if b == ',' || b == '[' || b == '{' {
			marks++
		}
	}
	if marks > maxValues {
		return tooManyValues
	}
	converted, err := yaml.YAMLToJSON(body)
	if err != nil {
		return err.Error()
	}
	return s.scan(converted)
}

// checkJSONPatch looks at each value in the light of its path.
func checkJSONPatch(body []byte) string {
	var all jsonShape
	if problem := all.scan(body); problem != "" {
		return problem
	}
	var steps []struct {
		Path  string          `json:"path"`
		Value json.RawMessage `json:"value"`
	}
	if json.Unmarshal(body, &steps) != nil {
		return "" // whoever applies it says what is wrong
	}
	for _, step := range steps {
		keys := strings.Split(step.Path, "/")
		s := jsonShape{open: []level{{key: keys[max(len(keys)-2, 0)]}, {key: keys[len(keys)-1]}}}
		if problem := s.scan(append(step.Value, ' ')); problem != "" {
			return problem
		}
	}
	return ""
}

// checkProtobuf finds quantities: messages of one text field, the first.
func checkProtobuf(body []byte) string {
	for i := 1; i+2 < len(body); i++ {
		n := int(body[i+1])
		if body[i] != 0x0a || n < 8 || int(body[i-1]) != n+2 || i+2+n > len(body) {
			continue
		}
		var num number
		for _, b := range body[i+2 : i+2+n] {
			num.add(b)
		}
		if num.tooLarge() {
			return tooLargeNumber
		}
	}
	return ""
}

var (
	tooManyValues  = fmt.Sprintf("more than %d values", maxValues)
	tooLargeNumber = fmt.Sprintf("a quantity with more than %d digits in its exponent or %d in all", maxExponentDigits, maxDigits)
)
