package server

import (
	"bytes"
	"errors"
	"io"
	"time"
)

// maxLine is the longest piece of a raw line that is held in memory; what is longer is passed on
// in pieces. Runtimes split lines at 16 KiB by themselves.
const maxLine = 1 << 20

// criLine is one raw line of a log in CRI format: "<time> <stream> <tags> <content>".
type criLine struct {
	stamp   []byte // as written
	time    time.Time
	stream  string
	partial bool   // the line goes on in the next raw line of the stream
	content []byte // without the newline
}

var errNotCRI = errors.New("not a line in CRI format")

func parseCRI(raw []byte) (criLine, error) {
	var l criLine
	stamp, rest, ok := bytes.Cut(raw, []byte{' '})
	if !ok {
		return l, errNotCRI
	}
	t, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return l, errNotCRI
	}
	stream, rest, ok := bytes.Cut(rest, []byte{' '})
	if !ok || string(stream) != "stdout" && string(stream) != "stderr" {
		return l, errNotCRI
	}
	// The content may be empty, and then some runtimes write no space after the tags.
	tags, content, _ := bytes.Cut(rest, []byte{' '})
	tag, _, _ := bytes.Cut(tags, []byte{':'})
	switch string(tag) {
	case "P":
		l.partial = true
	case "F":
	default:
		return l, errNotCRI
	}
	l.stamp, l.time, l.stream, l.content = stamp, t, string(stream), content
	return l, nil
}

// lineReader cuts what it reads into raw lines.
type lineReader struct {
	rest []byte // an unfinished raw line
	buf  []byte
}

// drain hands over every finished raw line up to the present end of the file, without newline, and
// returns how many. A line that is too long is handed over in pieces.
func (r *lineReader) drain(in io.Reader, line func(raw []byte, ended bool) error) (n int, err error) {
	if r.buf == nil {
		r.buf = make([]byte, 32<<10)
	}
	for {
		k, rerr := in.Read(r.buf)
		r.rest = append(r.rest, r.buf[:k]...)
		for {
			i := bytes.IndexByte(r.rest, '\n')
			if i < 0 && len(r.rest) < maxLine {
				break
			}
			raw, skip := r.rest, len(r.rest)
			if i >= 0 {
				raw, skip = r.rest[:i], i+1
			}
			if err := line(raw, i >= 0); err != nil {
				return n, err
			}
			n++
			r.rest = r.rest[skip:]
		}
		if len(r.rest) == 0 {
			r.rest = nil // do not keep the memory of what was read
		}
		if rerr == io.EOF {
			return n, nil
		}
		if rerr != nil {
			return n, rerr
		}
	}
}

// last hands over an unfinished raw line when nothing will finish it any more.
func (r *lineReader) last(line func(raw []byte, ended bool) error) error {
	if len(r.rest) == 0 {
		return nil
	}
	err := line(r.rest, true)
	r.rest = nil
	if errors.Is(err, errLimit) {
		return nil
	}
	return err
}

// reset drops an unfinished raw line of a file that is not written any more.
func (r *lineReader) reset() { r.rest = nil }

// printer writes raw lines as the user wants them.
type printer struct {
	out    io.Writer
	opts   logOptions
	within bool // in the middle of a raw line that came in pieces
	show   bool // of that raw line
	joined bool // the last line written was partial: the next one goes on with it
	buf    []byte
}

func (p *printer) line(raw []byte, ended bool) error {
	if p.within {
		p.within = !ended
		if !p.show {
			return nil
		}
		return p.write(raw, ended)
	}
	l, err := parseCRI(raw)
	p.within = !ended
	p.show = err == nil && !l.time.Before(p.opts.since) && (p.opts.stream == "" || p.opts.stream == l.stream)
	if !p.show {
		return nil // also what is no log line: half of one, or another program's
	}
	p.buf = p.buf[:0]
	if p.opts.timestamps && !p.joined {
		p.buf = append(append(p.buf, l.stamp...), ' ')
	}
	p.joined = l.partial
	return p.write(append(p.buf, l.content...), ended && !l.partial)
}

func (p *printer) write(text []byte, newline bool) error {
	if newline {
		text = append(text[:len(text):len(text)], '\n')
	}
	_, err := p.out.Write(text)
	return err
}
