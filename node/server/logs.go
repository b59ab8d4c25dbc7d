package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/troupe-run/troupe/messages"
)

// While a log is followed it is looked at after minPoll, and ever less often up to maxPoll while
// nothing comes. Polling needs no inotify instance per reader, of which a machine has few.
const (
	minPoll = 10 * time.Millisecond
	maxPoll = 200 * time.Millisecond
)

// logOptions are a user's wishes, as in core/v1 PodLogOptions.
type logOptions struct {
	follow, previous, timestamps bool
	tail                         int64 // lines; -1 means all
	limit                        int64 // bytes; -1 means no limit
	since                        time.Time
	stream                       string // "stdout", "stderr" or empty for both
}

// parseLogOptions reads the query of a log request; the error names the parameter.
func parseLogOptions(q url.Values, now time.Time) (logOptions, error) {
	o := logOptions{tail: -1, limit: -1}
	var errs []error
	bad := func(name string) {
		errs = append(errs, fmt.Errorf("%s %q: %w", name, q.Get(name), messages.ErrInvalid))
	}
	for name, to := range map[string]*bool{"follow": &o.follow, "previous": &o.previous, "timestamps": &o.timestamps} {
		if v := q.Get(name); v != "" {
			var err error
			if *to, err = strconv.ParseBool(v); err != nil {
				bad(name)
			}
		}
	}
	number := func(name string, min int64, to *int64) {
		if v := q.Get(name); v != "" {
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil || n < min {
				bad(name)
				return
			}
			*to = n
		}
	}
	number("tailLines", 0, &o.tail)
	number("limitBytes", 1, &o.limit)
	seconds := int64(-1)
	number("sinceSeconds", 1, &seconds)
	if seconds > 0 {
		o.since = now.Add(-time.Duration(seconds) * time.Second)
	}
	if v := q.Get("sinceTime"); v != "" {
		t, err := time.Parse(time.RFC3339, v)
		if err != nil || seconds > 0 {
			bad("sinceTime")
		}
		o.since = t
	}
	switch q.Get("stream") {
	case "", "All":
	case "Stdout":
		o.stream = "stdout"
	case "Stderr":
		o.stream = "stderr"
	default:
		bad("stream")
	}
	return o, errors.Join(errs...)
}

func (s *Server) logs(w http.ResponseWriter, r *http.Request) {
	opts, err := parseLogOptions(r.URL.Query(), time.Now()) //nolint:forbidigo // "since" is relative to the wall clock
	if err != nil {
		fail(w, err)
		return
	}
	c, err := s.containers(r)
	if err != nil {
		fail(w, err)
		return
	}
	log, err := c.Log(r.Context(), containerOf(r), opts.previous)
	if err != nil {
		fail(w, err)
		return
	}
	in, err := openLog(log)
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("log of %s: %w", containerOf(r), messages.ErrNotFound)
	}
	if err != nil {
		fail(w, err)
		return
	}
	defer func() { _ = in.Close() }() // nothing was written
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusOK)
	out := &limitedWriter{w: w, left: opts.limit}
	if err := copyLog(r.Context(), out, in, log, opts); err != nil && r.Context().Err() == nil {
		s.cfg.Log.Warn("log not sent to its end", "key", containerOf(r).String(), "err", err)
	}
}

// logFile is an open log.
type logFile interface {
	io.ReadSeekCloser
	io.ReaderAt
}

type textFile struct{ *bytes.Reader }

func (textFile) Close() error { return nil }

func openLog(l Log) (logFile, error) {
	if l.Path == "" {
		return textFile{bytes.NewReader(l.Text)}, nil
	}
	return os.Open(l.Path)
}

// errLimit ends a log that has reached limitBytes.
var errLimit = errors.New("limit reached")

// limitedWriter ends after so many bytes, in the middle of a line if need be.
type limitedWriter struct {
	w    http.ResponseWriter
	left int64 // -1 means no limit
}

func (l *limitedWriter) Write(p []byte) (int, error) {
	if l.left >= 0 && int64(len(p)) >= l.left {
		n, err := l.w.Write(p[:l.left])
		l.left = 0
		return n, errors.Join(errLimit, err)
	}
	n, err := l.w.Write(p)
	if l.left > 0 {
		l.left -= int64(n)
	}
	return n, err
}

func (l *limitedWriter) flush() { _ = http.NewResponseController(l.w).Flush() } // fails only with a writer that has none

// copyLog writes a log as the options say and, when they ask for it, what is written later, across
// rotations, until the container has ended.
func copyLog(ctx context.Context, out *limitedWriter, in logFile, log Log, opts logOptions) error {
	if opts.tail >= 0 {
		start, err := tailStart(in, opts.tail)
		if err != nil {
			return err
		}
		if _, err := in.Seek(start, io.SeekStart); err != nil {
			return err
		}
	}
	out.flush() // a follower learns at once that it follows
	lines := &lineReader{}
	print := &printer{out: out, opts: opts}
	poll := minPoll
	for {
		// Asked before reading, so that everything from before the end is read.
		ended := !opts.follow || log.Running == nil || !log.Running()
		n, err := lines.drain(in, print.line)
		if err == nil && n > 0 {
			out.flush()
			poll = minPoll
		}
		if err != nil {
			if errors.Is(err, errLimit) {
				return nil
			}
			return err
		}
		next, err := rotated(in, log, opts.follow)
		if err != nil {
			return err
		}
		if next != nil {
			// The last of the old file may have been written after it was read.
			if _, err := lines.drain(in, print.line); err != nil && !errors.Is(err, errLimit) {
				return err
			}
			lines.reset()
			defer func() { _ = next.Close() }()
			in = next
			continue
		}
		if ended {
			return lines.last(print.line)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(poll):
			poll = min(2*poll, maxPoll)
		}
	}
}

// rotated opens the file that has taken the place of the one being followed; nil when none has.
func rotated(in logFile, log Log, follow bool) (logFile, error) {
	f, ok := in.(*os.File)
	if !ok || !follow {
		return nil, nil
	}
	was, err := f.Stat()
	if err != nil {
		return nil, err
	}
	now, err := os.Stat(log.Path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // between its renaming and the runtime's reopening, or the container was removed
	}
	if err != nil || os.SameFile(was, now) {
		return nil, err
	}
	return os.Open(log.Path)
}
