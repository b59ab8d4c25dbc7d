package server

import (
	"bytes"
	"io"
)

const (
	// headSize holds a raw line up to its tags.
	headSize  = 96
	tailBlock = 32 << 10
)

// tailStart finds where the last n lines of a log begin, reading backwards no further than it
// must. Raw lines that belong together count as one.
func tailStart(in logFile, n int64) (int64, error) {
	end, err := in.Seek(0, io.SeekEnd)
	if err != nil || n == 0 {
		return end, err
	}
	b := &backwards{in: in, from: end}
	for pos, found := end, int64(0); pos > 0; {
		start, err := b.lineStart(pos)
		if err != nil {
			return 0, err
		}
		full, err := b.endsLine(start, pos)
		if err != nil {
			return 0, err
		}
		if full || pos == end {
			if found == n {
				return pos, nil
			}
			found++
		}
		pos = start
	}
	return 0, nil
}

// backwards reads a file from its end in blocks.
type backwards struct {
	in    io.ReaderAt
	from  int64 // offset of block
	block []byte
}

// lineStart finds the start of the raw line that ends, newline included, at end.
func (b *backwards) lineStart(end int64) (int64, error) {
	for pos := end - 1; pos > 0; pos = b.from {
		if pos <= b.from || pos > b.from+int64(len(b.block)) {
			if err := b.load(pos); err != nil {
				return 0, err
			}
		}
		if i := bytes.LastIndexByte(b.block[:pos-b.from], '\n'); i >= 0 {
			return b.from + int64(i) + 1, nil
		}
	}
	return 0, nil
}

// load reads the block that ends at end.
func (b *backwards) load(end int64) error {
	b.from = max(0, end-tailBlock)
	b.block = make([]byte, end-b.from)
	_, err := b.in.ReadAt(b.block, b.from)
	if err == io.EOF {
		err = nil // read to the last byte
	}
	return err
}

// endsLine says whether the raw line between start and end is the last one of its line. What is no
// log line stands for itself.
func (b *backwards) endsLine(start, end int64) (bool, error) {
	head := make([]byte, min(headSize, end-start))
	if _, err := b.in.ReadAt(head, start); err != nil && err != io.EOF {
		return false, err
	}
	l, err := parseCRI(bytes.TrimSuffix(head, []byte{'\n'}))
	return err != nil || !l.partial, nil
}
