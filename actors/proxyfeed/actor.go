package proxyfeed

import (
	"context"
	"crypto/rand"
	"log/slog"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/types"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/actors/stage"
	"github.com/troupe-run/troupe/messages"
	"github.com/troupe-run/troupe/proto/proxypb"
)

// lifeSign is how often a delta is sent when nothing changes; proxies get uneasy after three.
const lifeSign = 5 * time.Second

// followed are the resources that proxies hear of, in any form.
var followed = []messages.Resource{messages.Services, messages.EndpointSlices, messages.Namespaces, messages.Nodes}

// Props returns the feed's actor.
func Props(cfg Config) *actor.Props {
	if cfg.Window == 0 {
		cfg.Window = 10 * time.Millisecond
	}
	slots := stage.NewSemaphore(4)
	return stage.Props(func() actor.Actor {
		return &broadcaster{cfg: cfg, log: cfg.Log.With("actor", "proxyfeed"), slots: slots,
			catalog: newCatalog(), proxies: newProxies(), leaving: make(map[types.UID]leaver), intake: &intake{}}
	})
}

// broadcaster owns what proxies know.
//
// Accepts: AwaitApplied, GetApplied, AwaitPodsLeft; changes of the state, snapshot requests and reports of
// proxies, its own timers.
// Sends:   deltas on the proxies' broadcast subject, parts of a snapshot to who asked.
// Restart: reads the state again under a new source, which makes every proxy ask for a snapshot.
// Mailbox: bounded by the number of nodes; changes gather in the intake, by object.
type broadcaster struct {
	cfg     Config
	log     *slog.Logger
	slots   stage.Semaphore
	catalog *catalog
	proxies *proxies
	leaving map[types.UID]leaver
	intake  *intake

	source   string
	sequence uint64
	sent     uint64 // revision of the last delta
	waiting  bool   // a window is open: windowDue will send
	parts    [][]byte
	stop     []func()
}

type (
	// changesCame says that the intake is not empty.
	changesCame struct{}
	// windowDue ends the time in which changes are gathered.
	windowDue struct{}
	// lifeSignDue sends a sign of life.
	lifeSignDue struct{}
	// snapshotAsked brings a proxy's request into the actor.
	snapshotAsked struct {
		request *proxypb.SnapshotRequest
		reply   string
	}
	// appliedCame brings a proxy's report into the actor.
	appliedCame struct {
		node string
		rev  uint64
	}
)

// CoalesceKey keeps only the newest report of a node.
func (m appliedCame) CoalesceKey() any { return "applied/" + m.node }

func (b *broadcaster) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		b.start(c)
	case *actor.Stopping, *actor.Restarting:
		b.end()
	case changesCame:
		b.gather(c)
	case windowDue:
		b.waiting = false
		b.send(c)
	case lifeSignDue:
		b.live(c)
	case snapshotAsked:
		b.answer(c, m)
	case appliedCame:
		b.proxies.report(m.node, m.rev, now())
		b.release(c)
	case AwaitApplied:
		b.proxies.await(m.Rev, c.Sender(), RevisionApplied(m), now())
		b.release(c)
	case messages.AwaitPodsLeft:
		b.awaitLeft(c, m)
	case GetApplied:
		c.Respond(GetAppliedReply{Nodes: b.proxies.revisions(now())})
	}
}

// start follows the state before it reads it, so that no change falls in between: what comes
// twice changes nothing.
func (b *broadcaster) start(c actor.Context) {
	b.source = rand.Text()
	self, root := c.Self(), c.ActorSystem().Root
	b.stop = append(b.stop, b.cfg.Feed.Follow(followed, func(ch objects.Change) {
		if b.intake.put(ch) {
			root.Send(self, changesCame{})
		}
	}))
	for _, res := range []messages.Resource{messages.Services, messages.EndpointSlices, messages.Namespaces} {
		for _, obj := range b.cfg.Reader.List(res, "") {
			b.catalog.load(messages.KeyOf(res, obj.GetNamespace(), obj.GetName()), obj)
		}
	}
	b.sent = b.catalog.seen
	b.subscribe(messages.ProxySnapshot(b.cfg.Region), func(msg *nats.Msg) {
		request := &proxypb.SnapshotRequest{}
		if err := proto.Unmarshal(msg.Data, request); err != nil || msg.Reply == "" {
			b.log.Warn("snapshot request cannot be read", "err", err)
			return
		}
		root.Send(self, snapshotAsked{request, msg.Reply})
	})
	b.subscribe(messages.NodesUp(b.cfg.Region, "applied"), func(msg *nats.Msg) {
		node, _, err := messages.ParseNodeUp(msg.Subject)
		report := &proxypb.Applied{}
		if err == nil {
			err = proto.Unmarshal(msg.Data, report)
		}
		if err != nil {
			b.log.Warn("report of a proxy cannot be read", "err", err)
			return
		}
		root.Send(self, appliedCame{node, report.Revision})
	})
	b.live(c)
}

func (b *broadcaster) subscribe(subject string, fn nats.MsgHandler) {
	sub, err := b.cfg.Conn.Subscribe(subject, fn)
	if err != nil {
		panic(err) // only a closed connection refuses; the supervisor tries again later
	}
	b.stop = append(b.stop, func() { _ = sub.Unsubscribe() }) // a closed connection has none
}

func (b *broadcaster) end() {
	for _, stop := range b.stop {
		stop()
	}
}

// gather takes changes in and sends them: at once when nothing was sent lately, else together
// with what else comes before the window closes.
func (b *broadcaster) gather(c actor.Context) {
	changes, rev := b.intake.take()
	for _, ch := range changes {
		if ch.Key.Resource == messages.Nodes {
			if ch.New == nil {
				b.proxies.forget(ch.Key.Name)
			}
			continue
		}
		b.catalog.take(ch)
	}
	b.catalog.seen = max(b.catalog.seen, rev)
	b.leave(now())
	if !b.waiting {
		b.send(c)
	}
	b.release(c)
}

// send broadcasts what changed, if anything, and opens the next window. Only the last of several
// pieces carries the new revision, for only then the state is whole.
func (b *broadcaster) send(c actor.Context) {
	deltas := b.catalog.drain()
	for i, d := range deltas {
		if i == len(deltas)-1 {
			b.sent = b.catalog.seen
		}
		b.sequence++
		b.publish(d)
	}
	if len(deltas) > 0 {
		b.parts, b.waiting = nil, true
		stage.After(c, b.cfg.Window, windowDue{})
	}
}

func (b *broadcaster) publish(d *proxypb.Delta) {
	d.Source, d.Sequence, d.Revision = b.source, b.sequence, b.sent
	data, err := proto.Marshal(d)
	if err == nil {
		err = b.cfg.Conn.Publish(messages.ProxyDeltas(b.cfg.Region), data)
	}
	if err != nil { // proxies see the gap and ask
		b.log.Warn("delta not sent", "rev", b.sent, "err", err)
	}
}

func (b *broadcaster) live(c actor.Context) {
	b.publish(&proxypb.Delta{Alive: true})
	stage.After(c, lifeSign, lifeSignDue{})
	b.release(c)
	b.tidy(now())
}

// answer sends the whole set to a proxy, unless it has it. What gathers in an open window is in
// the snapshot already and comes once more with the next delta, which does no harm.
func (b *broadcaster) answer(c actor.Context, m snapshotAsked) {
	parts := b.parts
	if m.request.Source == b.source && m.request.Sequence == b.sequence {
		parts = b.encode([]*proxypb.Part{{Unchanged: true}})
	} else if parts == nil {
		parts = b.encode(b.catalog.parts())
		b.parts = parts
	}
	stage.Go(c, b.slots, time.Minute, func(ctx context.Context) (struct{}, error) {
		for _, part := range parts {
			if err := b.cfg.Conn.Publish(m.reply, part); err != nil {
				return struct{}{}, err
			}
		}
		return struct{}{}, nil
	}, func(_ struct{}, err error) {
		if err != nil { // the proxy asks again
			b.log.Warn("snapshot not sent", "node", m.request.Node, "err", err)
		}
	})
}

func (b *broadcaster) encode(parts []*proxypb.Part) [][]byte {
	out := make([][]byte, 0, len(parts))
	for i, p := range parts {
		p.Source, p.Sequence, p.Revision = b.source, b.sequence, b.sent
		p.Index, p.Total = uint32(i), uint32(len(parts))
		data, err := proto.Marshal(p)
		if err != nil {
			panic(err) // our own types: strings that are not UTF-8 never pass the API
		}
		out = append(out, data)
	}
	return out
}

// release answers those who wait for a revision that every living proxy has reached.
func (b *broadcaster) release(c actor.Context) {
	for _, w := range b.proxies.ready(b.catalog.seen, b.catalog.visible, now()) {
		c.Send(w.who, w.answer)
	}
}

func now() time.Time {
	return time.Now() //nolint:forbidigo // fake inside a synctest bubble
}

// intake gathers changes by object between the feed's goroutine and the actor.
type intake struct {
	mu      sync.Mutex
	pending map[messages.Key]objects.Change
	rev     uint64
}

// put adds a change and says whether it is the first one since take.
func (in *intake) put(ch objects.Change) (first bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	first = in.pending == nil
	if first {
		in.pending = make(map[messages.Key]objects.Change)
	}
	in.pending[ch.Key] = ch
	in.rev = max(in.rev, ch.Rev)
	return first
}

func (in *intake) take() (changes map[messages.Key]objects.Change, rev uint64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	changes, in.pending = in.pending, nil
	return changes, in.rev
}
