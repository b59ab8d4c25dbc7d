package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/nats-io/nats.go"

	"github.com/troupe-run/troupe/cluster/member"
	"github.com/troupe-run/troupe/messages"
)

// leading is what runs on the one control plane that leads.
type leading struct {
	mu     sync.Mutex
	ready  bool // the API is there, which actors need
	leads  bool
	actors []*actor.PID // in the order of their start
}

// shared says whether other control planes may keep the same state.
func (c *Cluster) shared() bool { return c.cfg.Outside != nil || c.cfg.MemberAddr != "" }

// elect takes part in the election of the control plane that leads.
func (c *Cluster) elect(ctx context.Context) error {
	if !c.shared() {
		c.leading.leads = true
		return nil
	}
	// Heartbeats of nodes are for everybody: the Leases of nodes are made of them.
	_, err := c.bus.Conn().Subscribe(messages.NodesUp(c.cfg.Region, "heartbeat"), func(m *nats.Msg) {
		if node, _, err := messages.ParseNodeUp(m.Subject); err == nil {
			c.beats.Note(node, c.cfg.Clock.Now())
		}
	})
	if err != nil {
		return fmt.Errorf("listen to nodes: %w", err)
	}
	m, err := member.Run(ctx, member.Config{Conn: c.bus.Conn(), Name: c.cfg.Member, Replicas: c.bus.Replicas(),
		Lead: c.lead, Follow: c.follow, Clock: c.cfg.Clock, Log: c.cfg.Log})
	if err != nil {
		return fmt.Errorf("take part in the election: %w", err)
	}
	c.member.Store(m)
	return nil
}

func (c *Cluster) leased() bool { return c.member.Load().Leased() }

// lead takes both buckets over and starts what only the leading control plane runs.
func (c *Cluster) lead(ctx context.Context) (<-chan struct{}, error) {
	deposed, err := c.state.Lead(ctx)
	if err != nil {
		return nil, err
	}
	eventsDeposed, err := c.events.Lead(ctx)
	if err != nil {
		return nil, errors.Join(err, c.state.StepDown(context.WithoutCancel(ctx)))
	}
	l := &c.leading
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leads = true
	if l.ready {
		if err := c.run(ctx); err != nil {
			return nil, err
		}
		c.cfg.Step("leading", "scheduler and controllers run here now")
	}
	either := make(chan struct{})
	go func() {
		defer close(either)
		select {
		case <-deposed:
		case <-eventsDeposed:
		}
	}()
	return either, nil
}

// follow ends what lead has begun.
func (c *Cluster) follow(ctx context.Context) error {
	l := &c.leading
	l.mu.Lock()
	l.leads = false
	err := c.halt(ctx)
	l.mu.Unlock()
	return errors.Join(err, c.state.StepDown(ctx), c.events.StepDown(ctx))
}

// startLeading starts what needs the API, if this control plane leads; otherwise it starts when it does.
func (c *Cluster) startLeading(ctx context.Context) error {
	l := &c.leading
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ready = true
	if !l.leads {
		c.cfg.Step("standing by", "another control plane leads, or will")
		return nil
	}
	if err := c.run(ctx); err != nil {
		return err
	}
	c.cfg.Step("scheduler and controllers", "")
	return nil
}

// run starts actors and what answers for the cluster. The caller holds the lock.
func (c *Cluster) run(ctx context.Context) error {
	if err := c.startActors(); err != nil {
		return errors.Join(err, c.halt(context.WithoutCancel(ctx)))
	}
	return c.serveControl(ctx)
}

// halt ends what run has started. The caller holds the lock.
func (c *Cluster) halt(ctx context.Context) error {
	c.acting.Store(false)
	var errs []error
	for _, l := range c.services {
		errs = append(errs, l.Close())
	}
	c.services = nil
	c.stopSelf()
	for i := len(c.leading.actors) - 1; i >= 0; i-- {
		errs = append(errs, c.stage.Stop(ctx, c.leading.actors[i]))
	}
	c.leading.actors = nil
	return errors.Join(errs...)
}

// spawn starts an actor of the leading control plane.
func (c *Cluster) spawn(props *actor.Props, name string) (*actor.PID, error) {
	pid, err := c.stage.Spawn(props, name)
	if err == nil {
		c.leading.actors = append(c.leading.actors, pid)
	}
	return pid, err
}
