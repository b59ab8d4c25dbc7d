package api

import (
	"net/http"
	"sync"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apiserver/pkg/endpoints/responsewriter"
	"k8s.io/apiserver/pkg/warning"
)

const (
	// warningCode is that of a miscellaneous persistent warning, RFC 7234, section 5.5.7.
	warningCode = 299
	// warningsTotal is how many characters of warnings an answer carries; when there are more, each is
	// cut to warningLength.
	warningsTotal = 4 << 10
	warningLength = 256
)

// withWarnings has an answer carry the warnings of its request in headers.
func withWarnings(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ww := &warningWriter{ResponseWriter: w}
		ctx := warning.WithWarningRecorder(r.Context(), ww)
		handler.ServeHTTP(responsewriter.WrapForHTTP1Or2(ww), r.WithContext(ctx))
	})
}

// warningWriter collects warnings until the answer begins. Those of a write that goes on after its
// request was given up come too late and touch nothing.
type warningWriter struct {
	http.ResponseWriter
	mu    sync.Mutex
	all   []warningText // each once
	begun bool
}

type warningText struct{ agent, text string }

// AddWarning is called from any goroutine.
func (w *warningWriter) AddWarning(agent, text string) {
	if text == "" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, have := range w.all {
		if have.text == text {
			return
		}
	}
	w.all = append(w.all, warningText{agent, text})
}

func (w *warningWriter) WriteHeader(code int) {
	w.begin()
	w.ResponseWriter.WriteHeader(code)
}

func (w *warningWriter) Write(p []byte) (int, error) {
	w.begin()
	return w.ResponseWriter.Write(p)
}

func (w *warningWriter) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.begun {
		return
	}
	w.begun = true
	total := 0
	for _, a := range w.all {
		total += utf8.RuneCountInString(a.text)
	}
	cut, total := total > warningsTotal, 0
	for _, a := range w.all {
		text := a.text
		if cut && total >= warningsTotal {
			break
		}
		if runes := []rune(text); cut && len(runes) > warningLength {
			text = string(runes[:warningLength])
		}
		total += utf8.RuneCountInString(text)
		if header, err := net.NewWarningHeader(warningCode, a.agent, text); err == nil {
			w.Header().Add("Warning", header)
		}
	}
}

// Unwrap lets whoever flushes, streams or takes the connection over reach what is below.
func (w *warningWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

var (
	_ warning.Recorder                     = (*warningWriter)(nil)
	_ responsewriter.UserProvidedDecorator = (*warningWriter)(nil)
)
