package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/troupe-run/troupe/cluster/bus"
	"github.com/troupe-run/troupe/messages"
)

// A state moves from a server of its own to three, or back, by JetStream's snapshot and restore of each
// stream, which keep sequences and consumers. Meanwhile nobody writes: when it grows only the member that
// had it opens it, when it shrinks all others have closed it, and the stream takes no more subjects.

// movedStream is a stream that goes along.
type movedStream struct {
	name     string
	subjects []string // it has when it is in use
	changes  bool     // it is in the observers' account
	synced   bool     // each message is on disk when it is acknowledged, also with one server; see package state
}

// movedStreams are all there are, but for the lease, which lives in memory. The state comes last: who waits
// for it finds the others there.
func (c *Cluster) movedStreams() []movedStream {
	bucket := func(name string) (string, []string) { return "KV_" + name, []string{messages.StateAll(name)} }
	events, eventSubjects := bucket(messages.EventsBucket)
	state, stateSubjects := bucket(messages.StateBucket)
	return []movedStream{
		{name: messages.ChangeStream, subjects: []string{messages.ChangePrefix(c.cfg.Region) + ">"}, changes: true},
		{name: events, subjects: eventSubjects},
		{name: state, subjects: stateSubjects, synced: true},
	}
}

// What the state's stream says in its metadata of a move.
const (
	wholeKey  = "troupe.whole"  // it has come to the members as a whole
	keeperKey = "troupe.keeper" // the named member takes it
)

// movePause is how long to wait before something is tried again that other servers are not ready for.
const movePause = 200 * time.Millisecond

// until tries something until it succeeds or ctx ends.
func (c *Cluster) until(ctx context.Context, what string, do func(context.Context) error) error {
	said := ""
	for {
		attempt, cancel := context.WithTimeout(ctx, time.Minute)
		err := do(attempt)
		cancel()
		if err == nil {
			return nil
		}
		if why := err.Error(); why != said && ctx.Err() == nil {
			said = why
			c.cfg.Log.Info("waiting", "for", what, "err", err)
		}
		if !pause(ctx, movePause) {
			return fmt.Errorf("%s: %w", what, errors.Join(err, ctx.Err()))
		}
	}
}

// moveState does what is left of a move once the server runs, and returns when the state can be opened here,
// or ErrTurned or ErrLeft.
func (c *Cluster) moveState(ctx context.Context) error {
	move := map[string]struct {
		phase string
		do    func(context.Context) error
	}{
		moveIn:    {phaseGives, c.giveState},
		moveWait:  {phaseWaits, c.awaitState},
		moveOut:   {phaseTakes, c.takeState},
		moveLeave: {phaseWitness, c.standWitness},
	}[c.currentMode().Move]
	if move.do == nil {
		return nil
	}
	c.setPhase(move.phase)
	if err := c.serveMembers(ctx); err != nil {
		return err
	}
	if err := move.do(ctx); err != nil {
		return err
	}
	for _, sub := range c.membership.subs {
		_ = sub.Unsubscribe() // the connection may be closed
	}
	c.membership.subs = nil
	c.setPhase("")
	return nil
}

// giveState brings the state that was this one's alone to the servers of all members.
func (c *Cluster) giveState(ctx context.Context) error {
	aside := filepath.Join(c.cfg.DataDir, filepath.Dir(streamsAside))
	if _, err := os.Stat(aside); err == nil {
		c.cfg.Step("moving the state", "to three members")
		old, err := bus.Start(ctx, bus.Config{DataDir: aside, Region: c.cfg.Region, Log: c.cfg.Log})
		if err != nil {
			return fmt.Errorf("move the state: %w", err)
		}
		err = c.copyStreams(ctx, old, c.bus, bus.Replicas)
		if err == nil {
			err = c.until(ctx, "the state to be marked as whole", c.markWhole)
		}
		if err = errors.Join(err, old.Close(context.WithoutCancel(ctx))); err != nil {
			return err
		}
	}
	c.cfg.Step("state moved", "three members have it")
	if err := c.setMode(func(m *mode) (bool, error) { m.Move = ""; return false, nil }); err != nil {
		return err
	}
	return remove(c.cfg.DataDir, streamsAside)
}

// awaitState returns when another member has brought the state.
func (c *Cluster) awaitState(ctx context.Context) error {
	c.cfg.Step("waiting for the state", "from "+c.currentMode().From)
	tell, told := context.WithCancel(ctx)
	defer told()
	c.serving.Go(func() { c.currentMode().ready(tell) })
	err := c.until(ctx, "the state", func(ctx context.Context) error {
		js, err := jetstream.New(c.bus.Conn())
		if err != nil {
			return err
		}
		s, err := js.Stream(ctx, "KV_"+messages.StateBucket)
		if err == nil && s.CachedInfo().Config.Metadata[wholeKey] == "" {
			err = errors.New("it is on its way")
		}
		return err
	})
	if err != nil {
		return err
	}
	return c.setMode(func(m *mode) (bool, error) {
		m.Move, m.From, m.Token = "", "", ""
		return false, nil
	})
}

// takeState takes the state from the servers of all members, for this one to be alone with it, unless it is
// given up for lost and another takes it instead.
func (c *Cluster) takeState(ctx context.Context) error {
	c.cfg.Step("taking the state", "the other members leave")
	if err := c.takeStreams(ctx); err != nil {
		if c.currentMode().Move == moveLeave {
			return ErrTurned
		}
		return err
	}
	err := c.setMode(func(m *mode) (turn bool, err error) {
		if m.Move == moveOut {
			*m = mode{Kind: modeAlone, Move: moveSwap}
		}
		return true, nil
	})
	if err != nil || c.currentMode().Move != moveSwap {
		return errors.Join(err, ErrTurned)
	}
	c.cfg.Step("state taken", "starting alone")
	// Who does not hear it now says at each start that it waits for this one.
	for end := c.cfg.Clock.Now().Add(partingWait); c.cfg.Clock.Now().Before(end); {
		answers, err := askMembers(ctx, c.bus.Conn(), messages.Members(c.cfg.Region), memberCall{Op: opLeft, Keeper: c.cfg.Member}, listWait, false)
		if err != nil || allOthers(answers, c.cfg.Member, phaseLeft) {
			break
		}
	}
	return ErrTurned
}

// takeStreams puts the streams of all members where a server of its own finds them. It ends early when this
// member is turned.
func (c *Cluster) takeStreams(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.serving.Go(func() {
		select {
		case <-c.membership.turned:
			cancel()
		case <-ctx.Done():
		}
	})
	if err := c.dismiss(ctx); err != nil {
		return err
	}
	if err := c.until(ctx, "the state to take no more writes", c.fence); err != nil {
		return err
	}
	next, err := bus.Start(ctx, bus.Config{DataDir: filepath.Join(c.cfg.DataDir, filepath.Dir(streamsNext)), Region: c.cfg.Region, Log: c.cfg.Log})
	if err != nil {
		return fmt.Errorf("move the state: %w", err)
	}
	err = c.copyStreams(ctx, c.bus, next, 1)
	return errors.Join(err, next.Close(context.WithoutCancel(ctx)))
}

const (
	// electionWait is within what a consumer that several servers keep has a leader, after one of them died.
	electionWait = 10 * time.Second
	// leaveWait is how long a member that does not answer is waited for before the others go on without it.
	leaveWait = 15 * time.Second
	// partingWait bounds the farewell.
	partingWait = 5 * time.Second
)

// dismiss returns when no other member writes.
func (c *Cluster) dismiss(ctx context.Context) error {
	begun := c.cfg.Clock.Now()
	return c.until(ctx, "the other members to leave", func(ctx context.Context) error {
		answers, err := askMembers(ctx, c.bus.Conn(), messages.Members(c.cfg.Region), memberCall{Op: opLeave, Keeper: c.cfg.Member, Lost: c.currentMode().Lost}, listWait, false)
		if err != nil {
			return err
		}
		for _, a := range answers {
			if a.Failed != "" {
				return fmt.Errorf("%s: %s", a.Name, a.Failed)
			}
		}
		others := len(answers) - 1
		if allOthers(answers, c.cfg.Member, phaseWitness) && (others == bus.Replicas-1 || others > 0 && c.cfg.Clock.Since(begun) > leaveWait) {
			return nil
		}
		return fmt.Errorf("%d of %d have answered, or not all have ended", others, bus.Replicas-1)
	})
}

func allOthers(answers []memberAnswer, me, phase string) bool {
	for _, a := range answers {
		if a.Name != me && a.Phase != phase {
			return false
		}
	}
	return true
}

// standWitness keeps the server up, so that the streams have a majority, until another member has them.
func (c *Cluster) standWitness(ctx context.Context) error {
	keeper := c.currentMode().Keeper
	c.cfg.Step("leaving", keeper+" takes the state; when it runs alone, troupe reset removes what is here")
	select {
	case <-c.membership.turned:
		next := ErrLeft
		if c.currentMode().Move == moveOut { // the keeper is lost, and this one takes the state
			next = ErrTurned
		}
		// The answer to the one that has told must still get out.
		return errors.Join(next, c.bus.Conn().FlushTimeout(partingWait))
	case <-ctx.Done():
		return ctx.Err()
	}
}

// markWhole lets the other members open the state.
func (c *Cluster) markWhole(ctx context.Context) error {
	return c.amend(ctx, "KV_"+messages.StateBucket, func(cfg *jetstream.StreamConfig) { cfg.Metadata[wholeKey] = "true" })
}

// fence lets nobody write to the state any more, whatever a member does that has not been told, and
// says to those that come back why.
func (c *Cluster) fence(ctx context.Context) error {
	for _, bucket := range []string{messages.EventsBucket, messages.StateBucket} {
		err := c.amend(ctx, "KV_"+bucket, func(cfg *jetstream.StreamConfig) {
			cfg.Metadata[keeperKey] = c.cfg.Member
			cfg.Subjects = []string{messages.Fenced(c.cfg.Region, bucket)}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// amend changes the configuration of a stream of all members.
func (c *Cluster) amend(ctx context.Context, name string, change func(*jetstream.StreamConfig)) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	js, err := jetstream.New(c.bus.Conn())
	if err != nil {
		return err
	}
	s, err := js.Stream(ctx, name)
	if err != nil {
		return err
	}
	cfg := s.CachedInfo().Config
	if cfg.Metadata = maps.Clone(cfg.Metadata); cfg.Metadata == nil {
		cfg.Metadata = map[string]string{}
	}
	change(&cfg)
	_, err = js.UpdateStream(ctx, cfg)
	return err
}

// copyStreams brings all streams from one bus to another, which keeps a number of copies of each.
func (c *Cluster) copyStreams(ctx context.Context, from, to *bus.Bus, replicas int) error {
	for _, s := range c.movedStreams() {
		err := c.until(ctx, "stream "+s.name+" to be moved", func(ctx context.Context) error {
			src, dst, closeBoth, err := s.connect(from, to)
			if err != nil {
				return err
			}
			defer closeBoth()
			return s.copy(ctx, src, dst, replicas)
		})
		if err != nil {
			return err
		}
		c.cfg.Step("stream moved", s.name)
	}
	return nil
}

// connect opens what reaches the stream at both ends.
func (s movedStream) connect(from, to *bus.Bus) (src, dst *nats.Conn, closeBoth func(), err error) {
	if !s.changes {
		return from.Conn(), to.Conn(), func() {}, nil
	}
	if src, err = from.ConnectChanges(); err != nil {
		return nil, nil, nil, err
	}
	if dst, err = to.ConnectChanges(); err != nil {
		src.Close()
		return nil, nil, nil, err
	}
	return src, dst, func() { src.Close(); dst.Close() }, nil
}

// copy makes the stream at dst what it is at src. What is there already is believed only if it is as far;
// a part that was left by somebody who was killed is removed.
func (s movedStream) copy(ctx context.Context, src, dst *nats.Conn, replicas int) error {
	have, err := lastOf(ctx, src, s.name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	there, err := lastOf(ctx, dst, s.name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		if err := bus.DropLostConsumers(ctx, src, s.name, electionWait); err != nil {
			return err
		}
		if err := bus.CopyStream(ctx, src, dst, s.name, func(cfg *server.StreamConfig) { s.shape(cfg, replicas) }); err != nil {
			return err
		}
	case err != nil:
		return err
	case there < have:
		js, err := jetstream.New(dst)
		if err != nil {
			return err
		}
		return errors.Join(fmt.Errorf("a part of it was there, up to %d of %d", there, have), js.DeleteStream(ctx, s.name))
	}
	if replicas == 1 {
		return nil
	}
	return bus.AwaitCopies(ctx, dst, s.name, replicas/2+1)
}

// shape makes the configuration of a stream what it is at its new place; see package state, which looks
// after the rest.
func (s movedStream) shape(cfg *server.StreamConfig, replicas int) {
	cfg.Replicas, cfg.Subjects = replicas, s.subjects
	cfg.Compression, cfg.PersistMode = server.NoCompression, server.DefaultPersistMode
	cfg.AllowAtomicPublish = s.synced || replicas > 1 && !s.changes
	if replicas == 1 {
		if cfg.Compression = server.S2Compression; !s.synced {
			cfg.PersistMode = server.AsyncPersistMode
		}
	}
	delete(cfg.Metadata, wholeKey)
	delete(cfg.Metadata, keeperKey)
}

// lastOf returns the sequence that a stream is at.
func lastOf(ctx context.Context, nc *nats.Conn, name string) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	js, err := jetstream.New(nc)
	if err != nil {
		return 0, err
	}
	s, err := js.Stream(ctx, name)
	if err != nil {
		return 0, err
	}
	return s.CachedInfo().State.LastSeq, nil
}
