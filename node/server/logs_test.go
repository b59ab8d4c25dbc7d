package server

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const sample = `2026-01-01T00:00:00.000000001Z stdout F one
2026-01-01T00:00:01Z stderr F two
2026-01-01T00:00:02Z stdout P thr
2026-01-01T00:00:02.5Z stdout F ee
not a log line
2026-01-01T00:00:03Z stdout F 
2026-01-01T00:00:04Z stdout F five
`

func TestLogOptions(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 5, 0, time.UTC)
	tests := []struct {
		name, query, want string
	}{
		{"everything", "", "one\ntwo\nthree\n\nfive\n"},
		{"tail", "tailLines=2", "\nfive\n"},
		{"tail counts joined lines once", "tailLines=4", "three\n\nfive\n"}, // the stray line counts, as it stands for itself
		{"tail of all", "tailLines=100", "one\ntwo\nthree\n\nfive\n"},
		{"tail of none", "tailLines=0", ""},
		{"since time", "sinceTime=2026-01-01T00:00:03Z", "\nfive\n"},
		{"since seconds", "sinceSeconds=2", "\nfive\n"},
		{"limit", "limitBytes=6", "one\ntw"},
		{"limit at the end of a line", "limitBytes=4", "one\n"},
		{"stream", "stream=Stderr", "two\n"},
		{"timestamps", "timestamps=true&tailLines=1", "2026-01-01T00:00:04Z five\n"},
		{"timestamps of a joined line", "timestamps=1&sinceTime=2026-01-01T00:00:02Z&limitBytes=34",
			"2026-01-01T00:00:02Z three\n2026-01"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q, _ := url.ParseQuery(tt.query)
			opts, err := parseLogOptions(q, now)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range []Log{{Text: []byte(sample)}, {Path: write(t, sample)}} {
				if got := read(t, l, opts); got != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			}
		})
	}
}

func TestBadLogOptions(t *testing.T) {
	for _, q := range []string{"tailLines=-1", "tailLines=x", "limitBytes=0", "sinceSeconds=0", "sinceTime=yesterday",
		"follow=perhaps", "stream=both", "sinceSeconds=1&sinceTime=2026-01-01T00:00:03Z"} {
		v, _ := url.ParseQuery(q)
		if _, err := parseLogOptions(v, time.Time{}); err == nil {
			t.Errorf("%s: accepted", q)
		}
	}
}

func write(t *testing.T, text string) string {
	path := filepath.Join(t.TempDir(), "0.log")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, l Log, opts logOptions) string {
	t.Helper()
	in, err := openLog(l)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	w := httptest.NewRecorder()
	if err := copyLog(t.Context(), &limitedWriter{w: w, left: opts.limit}, in, l, opts); err != nil {
		t.Fatal(err)
	}
	return w.Body.String()
}

// TestTailOfAnything compares tails with a plain reading from the front, over files of many shapes
// and sizes around the block size.
func TestTailOfAnything(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		var text strings.Builder
		var lines []string
		var open string
		for range rnd.IntN(400) {
			content := strings.Repeat("x", rnd.IntN(1+rnd.IntN(2000)))
			tag := "F"
			if rnd.IntN(4) == 0 {
				tag = "P"
			}
			fmt.Fprintf(&text, "2026-01-01T00:00:02Z stdout %s %s\n", tag, content)
			open += content
			if tag == "F" {
				lines, open = append(lines, open+"\n"), ""
			}
		}
		if open != "" {
			lines = append(lines, open)
		}
		n := rnd.IntN(len(lines) + 2)
		want := strings.Join(lines[max(0, len(lines)-n):], "")
		if got := read(t, Log{Text: []byte(text.String())}, logOptions{tail: int64(n), limit: -1}); got != want {
			t.Fatalf("tail %d of %d lines: got %d bytes, want %d", n, len(lines), len(got), len(want))
		}
	}
}

func TestHugeLineIsPassedOnInPieces(t *testing.T) {
	content := strings.Repeat("y", 5*maxLine+17)
	text := "2026-01-01T00:00:02Z stdout F " + content + "\n2026-01-01T00:00:03Z stdout F end\n"
	if got := read(t, Log{Text: []byte(text)}, logOptions{tail: -1, limit: -1}); got != content+"\nend\n" {
		t.Errorf("got %d bytes, want %d", len(got), len(content)+5)
	}
	if got := read(t, Log{Text: []byte(text)}, logOptions{tail: -1, limit: -1, stream: "stderr"}); got != "" {
		t.Errorf("got %d bytes of another stream", len(got))
	}
}

// screen is a ResponseWriter that may be read while it is written.
type screen struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *screen) Header() http.Header { return http.Header{} }
func (s *screen) WriteHeader(int)     {}
func (s *screen) Flush()              {}
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

func TestFollowAcrossRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := write(t, "2026-01-01T00:00:00Z stdout F old\n2026-01-01T00:00:01Z stdout F one\n")
		var running atomic.Bool
		running.Store(true)
		l := Log{Path: path, Running: running.Load}
		in, err := openLog(l)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		out := &screen{}
		done := make(chan error)
		go func() {
			done <- copyLog(t.Context(), &limitedWriter{w: out, left: -1}, in, l, logOptions{follow: true, tail: 1, limit: -1})
		}()
		want := "one\n"
		check := func(more string) {
			t.Helper()
			want += more
			time.Sleep(time.Second)
			synctest.Wait()
			if got := out.String(); got != want {
				t.Errorf("followed %q, want %q", got, want)
			}
		}
		check("")
		appendTo(t, path, "2026-01-01T00:00:02Z stdout F two\n2026-01-01T00:00:03Z std")
		check("two\n") // half a line waits for its rest
		appendTo(t, path, "out F three\n")
		check("three\n")

		if err := os.Rename(path, path+".20260101-000004"); err != nil {
			t.Fatal(err)
		}
		appendTo(t, path+".20260101-000004", "2026-01-01T00:00:04Z stdout F four\n")
		check("four\n")
		appendTo(t, path+".20260101-000004", "2026-01-01T00:00:05Z stdout F five\n")
		appendTo(t, path, "2026-01-01T00:00:06Z stdout F six\n")
		check("five\nsix\n")

		appendTo(t, path, "2026-01-01T00:00:07Z stdout F last\n")
		running.Store(false)
		check("last\n")
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestFollowEndsWithItsReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := Log{Text: []byte(sample), Running: func() bool { return true }}
		in, _ := openLog(l)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- copyLog(ctx, &limitedWriter{w: &screen{}, left: -1}, in, l, logOptions{follow: true, tail: -1, limit: -1})
		}()
		time.Sleep(time.Minute)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	f.Close()
}

func FuzzParseCRI(f *testing.F) {
	for _, s := range strings.SplitAfter(sample, "\n") {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := parseCRI(raw)
		if err == nil && (l.stream != "stdout" && l.stream != "stderr" || len(l.content) > len(raw)) {
			t.Errorf("%q: %+v", raw, l)
		}
	})
}
