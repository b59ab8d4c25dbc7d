package bus

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/troupe-run/troupe/messages"
)

// logger passes nats-server's messages on. The stock logger ends the process on a fatal message;
// this one keeps the message for the health check, so that the control plane decides.
type logger struct {
	log  *slog.Logger
	last atomic.Pointer[string]
}

func newLogger(log *slog.Logger) *logger { return &logger{log: log.With("actor", "bus")} }

func (l *logger) fatal() error {
	if s := l.last.Load(); s != nil {
		return fmt.Errorf("bus: %s: %w", *s, messages.ErrUnavailable)
	}
	return nil
}

func (l *logger) Fatalf(format string, v ...any) {
	s := fmt.Sprintf(format, v...)
	l.last.CompareAndSwap(nil, &s)
	l.log.Error("nats-server fatal", "text", s)
}

// Notices are nats-server's start and stop banners, of no use to a user of troupe.
func (l *logger) Noticef(format string, v ...any) {
	l.log.Debug("nats-server notice", "text", fmt.Sprintf(format, v...))
}

// selfHealing are parts of the warnings by which nats-server says that what it keeps beside the
// messages is older than they are, as it is after a kill, and that it makes it anew from them.
// Nobody has to act on these.
var selfHealing = []string{
	"state is outdated; attempting to recover",
	"Stream state outdated, ",
	"Stream state detected prior state, ",
	"Recovering stream state from index errored: prior state file",
}

func (l *logger) Warnf(format string, v ...any) {
	text, level := fmt.Sprintf(format, v...), slog.LevelWarn
	for _, part := range selfHealing {
		if strings.Contains(text, part) {
			level = slog.LevelInfo
		}
	}
	l.log.Log(context.Background(), level, "nats-server warning", "text", text) //nolint:forbidigo // nats-server has no context for us
}

func (l *logger) Errorf(format string, v ...any) {
	l.log.Error("nats-server error", "text", fmt.Sprintf(format, v...))
}

func (l *logger) Debugf(format string, v ...any) {
	l.log.Debug("nats-server debug", "text", fmt.Sprintf(format, v...))
}

func (l *logger) Tracef(format string, v ...any) {
	l.log.Debug("nats-server trace", "text", fmt.Sprintf(format, v...))
}

var _ server.Logger = (*logger)(nil)
