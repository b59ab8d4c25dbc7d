package main

import (
	"context"
	"log/slog"
	"runtime"
	"strings"

	"k8s.io/klog/v2"
)

// routeKlog sends what Kubernetes' libraries tell klog, a logger of the whole process, to log. What
// they call information is of use to a developer only, unless it is the last thing they say: klog
// passes on the words of Fatal and Exit as information, too, and then ends the process.
func routeKlog(log *slog.Logger) { klog.SetSlogLogger(slog.New(demoted{log.Handler()})) }

// demoted turns information into debug messages, and last words into errors.
type demoted struct{ slog.Handler }

func (d demoted) level(l slog.Level) slog.Level {
	switch {
	case l != slog.LevelInfo:
		return l
	case lastWords():
		return slog.LevelError
	}
	return slog.LevelDebug
}

// lastWords says whether klog is about to end the process. Only the stack tells.
func lastWords() bool {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for {
		f, more := frames.Next()
		if name, ok := strings.CutPrefix(f.Function, "k8s.io/klog/v2."); ok && (strings.HasPrefix(name, "Fatal") || strings.HasPrefix(name, "Exit")) {
			return true
		}
		if !more {
			return false
		}
	}
}

func (d demoted) Enabled(ctx context.Context, l slog.Level) bool {
	return d.Handler.Enabled(ctx, d.level(l))
}

func (d demoted) Handle(ctx context.Context, r slog.Record) error {
	r.Level = d.level(r.Level)
	return d.Handler.Handle(ctx, r)
}

func (d demoted) WithAttrs(attrs []slog.Attr) slog.Handler {
	return demoted{d.Handler.WithAttrs(attrs)}
}

func (d demoted) WithGroup(name string) slog.Handler { return demoted{d.Handler.WithGroup(name)} }

var _ slog.Handler = demoted{}
