package state

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"k8s.io/utils/clock"

	"github.com/troupe-run/troupe/messages"
)

// syncPause is the least time between two fsyncs of a mark.
const syncPause = time.Second

// mark remembers, in a file beside the bucket, what the bucket holds: the sequence of its newest
// acknowledged write, and the live objects at that point by number and digest. A server that finds
// its files damaged leaves out what it cannot read and goes on as if that had never been; with the
// mark it is noticed.
//
// The mark is written after the write it stands for is on disk and before anybody hears of that
// write, so it is never ahead of an undamaged bucket, however the process or the machine ends. It
// reaches the disk itself within syncPause, without holding up a write: after a kill it is exact,
// after a power cut it may be that much behind.
type mark struct {
	path string
	file *os.File
	content
	dirty chan struct{}
}

// content is what a mark says of a bucket.
type content struct {
	seq   uint64 // of the newest record
	count uint64 // of live objects
	// sum is the sum over all live objects of an identity each, so that it can be carried along.
	sum uint64
}

// put and remove carry the content along when an object appears or goes at a revision.
func (c *content) put(key messages.Key, rev uint64) {
	c.count++
	c.sum += identity(key, rev)
}

func (c *content) remove(key messages.Key, rev uint64) {
	c.count--
	c.sum -= identity(key, rev)
}

func identity(key messages.Key, rev uint64) uint64 {
	h := sha256.Sum256(strconv.AppendUint(append([]byte(key.String()), ' '), rev, 10))
	return binary.LittleEndian.Uint64(h[:8])
}

// markSize is a content and its checksum; less than a disk's sector, so never half written.
const markSize = 3*8 + 4

func (c content) encode() []byte {
	b := make([]byte, 0, markSize)
	for _, n := range []uint64{c.seq, c.count, c.sum} {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

func decodeMark(b []byte) (content, bool) {
	if len(b) != markSize || crc32.ChecksumIEEE(b[:markSize-4]) != binary.LittleEndian.Uint32(b[markSize-4:]) {
		return content{}, false
	}
	n := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	return content{n(0), n(1), n(2)}, true
}

// openMark reads the mark of a bucket, or makes one that stands for nothing.
func openMark(dir, bucket string) (*mark, error) {
	m := &mark{path: filepath.Join(dir, bucket+".mark"), dirty: make(chan struct{}, 1)}
	b, err := os.ReadFile(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = writeWhole(m.path, content{}.encode()); err == nil {
			b, err = os.ReadFile(m.path)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("mark: %w", err)
	}
	var ok bool
	if m.content, ok = decodeMark(b); !ok {
		return nil, fmt.Errorf("%s, which says what the bucket holds, cannot be read; restore a backup, or remove the file to go on with what is there: %w",
			m.path, messages.ErrDamaged)
	}
	m.file, err = os.OpenFile(m.path, os.O_WRONLY, 0)
	return m, err
}

// checkEnd refuses a bucket that ends before the mark.
func (m *mark) checkEnd(last uint64) error {
	if last >= m.seq {
		return nil
	}
	return m.damaged("it ends at revision %d, but writes up to %d were acknowledged", last, m.seq)
}

// checkWhole refuses a bucket that lacks objects, or has them at other revisions than it should.
// last is where the bucket ends, and old the content without what was written after the mark,
// which nobody has heard of: each such write stands for at most one object that was there before.
func (m *mark) checkWhole(last uint64, old content) error {
	after := last - m.seq
	switch {
	case m.seq == 0:
		return nil // new, or removed by somebody who wants to go on
	case after == 0 && (old.count != m.count || old.sum != m.sum):
		return m.damaged("%d objects are there, not all of them or not all at the revisions of the %d that were", old.count, m.count)
	case old.count > m.count || old.count+after < m.count:
		return m.damaged("%d of its %d objects are there", old.count, m.count)
	}
	return nil
}

func (m *mark) damaged(format string, args ...any) error {
	return fmt.Errorf("%s; restore a backup, or remove %s to go on with what is there: %w", fmt.Sprintf(format, args...), m.path, messages.ErrDamaged)
}

// set moves the mark to what the bucket has on disk.
func (m *mark) set(c content) error {
	m.content = c
	if _, err := m.file.WriteAt(c.encode(), 0); err != nil {
		return fmt.Errorf("mark revision %d: %w", c.seq, err)
	}
	select {
	case m.dirty <- struct{}{}:
	default:
	}
	return nil
}

// run brings the mark to disk until ctx ends.
func (m *mark) run(ctx context.Context, clock clock.WithTicker) {
	pause := clock.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-pause.C():
		case <-ctx.Done():
			return
		}
		select {
		case <-m.dirty:
			_ = m.file.Sync() // the next one tries again; the bucket itself reports a broken disk
			pause.Reset(syncPause)
		case <-ctx.Done():
			return
		}
	}
}

func (m *mark) close() error { return errors.Join(m.file.Sync(), m.file.Close()) }

// writeWhole makes a file with mode 0600, of which after a crash there is all or nothing.
func writeWhole(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
