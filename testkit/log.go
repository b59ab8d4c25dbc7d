package testkit

import (
	"io"
	"log/slog"
	"sync"
	"testing"
)

// testLog writes to a test's log until the cluster has ended. Libraries keep loggers for longer than
// they need them; they must neither write after the test nor keep it in memory.
type testLog struct {
	mu sync.Mutex
	w  io.Writer
}

func newTestLog(t testing.TB) (*slog.Logger, *testLog) {
	l := &testLog{w: t.Output()}
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelError})), l
}

func (l *testLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// end drops what comes from now on.
func (l *testLog) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.w = io.Discard
}
