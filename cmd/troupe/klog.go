package main

import (
	"context"
	"log/slog"

	"k8s.io/klog/v2"
)

// routeKlog sends what Kubernetes' libraries tell klog, a logger of the whole process, to log. What
// they call information is of use to a developer only.
func routeKlog(log *slog.Logger) { klog.SetSlogLogger(slog.New(demoted{log.Handler()})) }

// demoted turns information into debug messages.
type demoted struct{ slog.Handler }

func (d demoted) level(l slog.Level) slog.Level {
	if l == slog.LevelInfo {
		return slog.LevelDebug
	}
	return l
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
