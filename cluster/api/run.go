package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/waitgroup"
	genericfilters "k8s.io/apiserver/pkg/server/filters"
	"k8s.io/apiserver/pkg/server/healthz"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// Run serves until ctx is done, then lets requests in flight finish for a moment and ends watches
// and streams. It returns when everything it started has ended.
func (s *Server) Run(ctx context.Context) error {
	base, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	var started sync.WaitGroup
	var requests waitgroup.SafeWaitGroup
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if requests.Add(1) != nil {
				http.Error(w, errStopping.Error(), http.StatusServiceUnavailable)
				return
			}
			defer requests.Done()
			s.generic.Handler.ServeHTTP(w, r)
		}),
		ErrorLog:    slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return base },
	}
	bound(srv)
	serve := func(ln net.Listener) error { return srv.Serve(ln) }
	if !s.cfg.Insecure {
		cfg, follow, err := s.tls()
		if err != nil {
			return err
		}
		srv.TLSConfig = cfg
		started.Go(func() { follow(base) })
		serve = func(ln net.Listener) error { return srv.ServeTLS(ln, "", "") }
	}
	if err := s.extend(); err != nil {
		return err
	}
	extensions := s.extensions.Load()
	listeners := append([]net.Listener{s.cfg.Listener}, s.cfg.Also...)
	served, booted := make(chan error, len(listeners)), make(chan error, 1)
	for _, ln := range listeners {
		started.Go(func() { served <- serve(ln) })
	}
	started.Go(func() { extensions.run(base) })
	started.Go(func() {
		err := s.boot(base)
		select { // ready is, too, that custom resources are served
		case <-extensions.custom.Synced():
		case <-base.Done():
		}
		booted <- err
	})
	started.Go(func() { s.authenticator.Run(base) })
	started.Go(func() { s.aggregate(base) })
	started.Go(func() { s.keep(base) })
	if s.claims != nil {
		started.Go(func() { s.claims.run(base) })
	}
	defer s.followServices()()
	started.Go(func() { s.typeCheck(base) })
	if s.fairness != nil {
		genericfilters.StartPriorityAndFairnessWatermarkMaintenance(base.Done())
		started.Go(func() {
			if err := s.fairness.Run(base.Done()); err != nil {
				s.log.Error("priority and fairness ended", "err", err)
			}
		})
		s.factory.Start(nil)
	}
	for _, lane := range s.recorder.lanes {
		started.Go(func() { s.recorder.run(base, lane) })
	}

	var err error
	select {
	case err = <-booted:
		if err == nil {
			close(s.ready)
			select {
			case <-ctx.Done():
			case err = <-served:
			}
		}
	case <-ctx.Done():
	case err = <-served:
	}
	for _, ln := range listeners {
		_ = ln.Close() // no new connections; Serve reports it
	}
	// First what answers soon, then what would go on for ever.
	s.within(shutdownGrace, s.generic.NonLongRunningRequestWaitGroup.Wait)
	stop(errStopping)
	s.within(shutdownGrace, requests.Wait)
	_ = srv.Close()
	started.Wait()
	s.factory.Shutdown()
	s.generic.Destroy()
	if s.audit != nil {
		err = errors.Join(err, s.audit.close())
	}
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("serve the API: %w", err)
	}
	return nil
}

// followServices keeps the allocator up to date with what other control planes hand out.
func (s *Server) followServices() (stop func()) {
	store := s.cfg.Store
	if !store.Shared() {
		return func() {}
	}
	return store.Follow([]messages.Resource{messages.Services}, func(c objects.Change) {
		if store.Leads() {
			return // it was asked itself
		}
		old, _ := c.Old.(*corev1.Service)
		now, _ := c.New.(*corev1.Service)
		s.alloc.Changed(old, now)
	})
}

// shutdownGrace is how long each step of stopping may take.
const shutdownGrace = 2 * time.Second

var errStopping = errors.New("server is stopping")

// within waits for something to end, but no longer than d.
func (s *Server) within(d time.Duration, wait func()) {
	done := make(chan struct{})
	go func() {
		wait()
		close(done)
	}()
	timer := s.cfg.Clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C():
	}
}

func (s *Server) checks() []healthz.HealthChecker {
	out := []healthz.HealthChecker{healthz.PingHealthz}
	for name, check := range s.cfg.Checks {
		out = append(out, healthz.NamedCheck(name, func(*http.Request) error { return check() }))
	}
	return out
}

// readyCheck holds /readyz back until the cluster's first objects exist.
func (s *Server) readyCheck() healthz.HealthChecker {
	return healthz.NamedCheck("bootstrap", func(*http.Request) error {
		select {
		case <-s.ready:
			return nil
		default:
			return errors.New("first objects are being created")
		}
	})
}
