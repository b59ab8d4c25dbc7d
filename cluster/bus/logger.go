package bus

import (
	"fmt"
	"log/slog"
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

func (l *logger) Warnf(format string, v ...any) {
	l.log.Warn("nats-server warning", "text", fmt.Sprintf(format, v...))
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
