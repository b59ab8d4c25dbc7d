package member

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
	"k8s.io/utils/clock"
)

// Config says who takes part and what leading means.
type Config struct {
	// Conn is a connection of the control plane. Required.
	Conn *nats.Conn
	// Name is the member's own. Required.
	Name string
	// Replicas is how many servers keep the lease.
	Replicas int
	// Lead is called when this member is to lead. It returns once it does, and what it has begun ends
	// when the channel closes, of which Lead itself takes care; an error gives the lease back. Required.
	Lead func(ctx context.Context) (deposed <-chan struct{}, err error)
	// Follow ends what Lead has begun, and returns when another may lead. Required.
	Follow func(ctx context.Context) error
	// Clock is the source of time. Nil means the real one.
	Clock clock.WithTicker
	// Log gets what an operator should know. Required.
	Log *slog.Logger
}

// Member takes part in the election.
type Member struct {
	cfg   Config
	log   *slog.Logger
	lease *lease
	stop  context.CancelFunc
	done  sync.WaitGroup

	mu     sync.Mutex
	leader Holder
}

// followWait bounds the handing over of a member that goes on.
const followWait = 10 * time.Second

// Run opens the lease, or makes it, and takes part until [Member.Close]. ctx bounds the opening only.
func Run(ctx context.Context, cfg Config) (*Member, error) {
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	m := &Member{cfg: cfg, log: cfg.Log.With("actor", "member")}
	l, err := openLease(ctx, cfg.Conn, cfg.Replicas, Holder{Name: cfg.Name, ID: nuid.Next()}, cfg.Clock)
	if err != nil {
		return nil, err
	}
	m.lease = l
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	m.stop = stop
	m.done.Go(func() { m.run(run) })
	return m, nil
}

// Leased says whether certainly no other member leads at this moment.
func (m *Member) Leased() bool { return m != nil && m.lease.held() }

// Leader is the name of the member that leads, as far as is known.
func (m *Member) Leader() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.leader.Name
}

func (m *Member) saw(h Holder) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.leader = h
}

// Close hands over, if this member leads, and ends its part.
func (m *Member) Close(ctx context.Context) error {
	m.stop()
	ended := make(chan struct{})
	go func() {
		m.done.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m *Member) run(ctx context.Context) {
	for ctx.Err() == nil {
		h, free, err := m.lease.look(ctx)
		if err == nil {
			m.saw(h)
			if free {
				var ok bool
				if ok, err = m.lease.write(ctx, m.lease.me); ok {
					m.lead(ctx)
					continue
				}
			}
		}
		if err != nil && ctx.Err() == nil {
			m.log.Debug("lease cannot be had", "err", err)
			m.lease.revive(ctx)
		}
		sleep(ctx, m.cfg.Clock, lookEvery)
	}
}

// lead holds the lease until it is lost or ctx ends.
func (m *Member) lead(ctx context.Context) {
	m.saw(m.lease.me)
	lost, stop := context.WithCancel(ctx)
	defer stop()
	var renewing sync.WaitGroup
	renewing.Go(func() {
		defer stop()
		m.renew(lost)
	})
	deposed, err := m.cfg.Lead(lost)
	if err != nil {
		if ctx.Err() == nil {
			m.log.Warn("could not lead", "err", err)
		}
	} else {
		m.log.Info("leading")
		select {
		case <-deposed:
		case <-lost.Done():
		}
	}
	handOver, cancel := context.WithTimeout(context.WithoutCancel(ctx), followWait)
	defer cancel()
	if err := m.cfg.Follow(handOver); err != nil {
		m.log.Warn("did not hand over in order", "err", err)
	}
	stop()
	renewing.Wait()
	m.lease.until.Store(nil)
	// Given back, so that another need not wait for its end.
	if _, err := m.lease.write(handOver, Holder{}); err != nil {
		m.log.Debug("lease not given back", "err", err)
	}
	m.log.Info("following")
	if ctx.Err() == nil {
		sleep(ctx, m.cfg.Clock, leaseTime/2) // others first
	}
}

// renew keeps the lease until another has it or ctx ends. While the servers elect a leader it cannot be
// renewed; it then runs out, and with it the right to answer without asking, but not this member's turn.
func (m *Member) renew(ctx context.Context) {
	for sleep(ctx, m.cfg.Clock, renewEvery) {
		ok, err := m.lease.write(ctx, m.lease.me)
		if ok {
			continue
		}
		h, _, lookErr := m.lease.look(ctx) // an unanswered renewal may have been stored
		if lookErr == nil && h.ID != m.lease.me.ID {
			m.saw(h)
			return
		}
		m.log.Debug("lease not renewed", "err", errors.Join(err, lookErr))
		m.lease.revive(ctx)
	}
}
