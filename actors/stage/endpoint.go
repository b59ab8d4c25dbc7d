package stage

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/troupe-run/troupe/messages"
)

// Headers of an actor message on the wire.
const (
	headerTo   = "Troupe-To"   // id of the receiving actor
	headerFrom = "Troupe-From" // address and id of the sender, for answers
	headerType = "Troupe-Type" // full name of the protobuf message
)

// EndpointConfig of an [Endpoint].
type EndpointConfig struct {
	// Conn carries the messages; its permissions are the wire's access control.
	Conn *nats.Conn
	// Region is part of the subjects.
	Region string
	// Address names this process. It must be new for each start of a process: ids of short-lived
	// actors begin anew then, and a late answer must not reach another's.
	Address string
	// Accept says which message types may come in; nil means all that are linked in.
	Accept func(protoreflect.FullName) bool
	// Log receives what is refused; nil discards.
	Log *slog.Logger
}

// Endpoint makes actors reachable from other processes over NATS: a PID with the address of
// another process is sent to as if it were local. Messages are protobuf; anything else ends as a
// dead letter at the sender. Order holds per sending process. Answers and dead letters come back;
// asking an unknown actor or process fails at once.
type Endpoint struct {
	cfg EndpointConfig
	sys *actor.ActorSystem
	sub *nats.Subscription
	dls *nats.Subscription
}

// Listen gives the system its address and starts to receive. Call it before the first PID leaves
// the process, once per system.
func (s *System) Listen(cfg EndpointConfig) (*Endpoint, error) {
	if cfg.Address == "" || cfg.Conn == nil {
		return nil, errors.New("endpoint needs an address and a connection")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	e := &Endpoint{cfg: cfg, sys: s.actors}
	s.actors.ProcessRegistry.Address = cfg.Address
	s.actors.ProcessRegistry.RegisterAddressResolver(func(pid *actor.PID) (actor.Process, bool) {
		return remote{e}, true
	})
	var err error
	if e.sub, err = cfg.Conn.Subscribe(messages.ActorInbox(cfg.Region, cfg.Address), e.receive); err != nil {
		return nil, fmt.Errorf("listen as %s: %w", cfg.Address, err)
	}
	// Answers of NATS itself: nobody listens at the address a message went to.
	if e.dls, err = cfg.Conn.Subscribe(messages.ActorBounces(cfg.Region, cfg.Address), e.bounce); err != nil {
		return nil, fmt.Errorf("listen as %s: %w", cfg.Address, errors.Join(err, e.sub.Unsubscribe()))
	}
	return e, nil
}

// Close stops receiving; PIDs of other processes keep working for sending.
func (e *Endpoint) Close() error {
	return errors.Join(e.sub.Unsubscribe(), e.dls.Unsubscribe())
}

// PID addresses an actor of another process by its name there.
func (e *Endpoint) PID(address, id string) *actor.PID { return actor.NewPID(address, id) }

// remote is the process behind every PID of another address. PIDs cache it, so it has no state.
type remote struct{ e *Endpoint }

func (r remote) SendUserMessage(to *actor.PID, msg any)   { r.e.send(to, msg) }
func (r remote) SendSystemMessage(to *actor.PID, msg any) { r.e.send(to, msg) }
func (r remote) Stop(to *actor.PID)                       { r.e.send(to, &actor.Stop{}) }

func (e *Endpoint) send(to *actor.PID, msg any) {
	_, body, from := actor.UnwrapEnvelope(msg)
	if _, ok := body.(*actor.DeadLetterResponse); ok {
		body = &actor.Terminated{Who: to, Why: actor.TerminatedReason_NotFound}
	}
	m, ok := body.(proto.Message)
	if !ok {
		e.undelivered(to, body, from, fmt.Errorf("%T is not a protobuf message", body))
		return
	}
	data, err := proto.Marshal(m)
	if err != nil {
		e.undelivered(to, body, from, err)
		return
	}
	out := nats.NewMsg(messages.ActorInbox(e.cfg.Region, to.Address))
	out.Data = data
	out.Header.Set(headerTo, to.Id)
	out.Header.Set(headerType, string(m.ProtoReflect().Descriptor().FullName()))
	if from != nil {
		out.Header.Set(headerFrom, from.Address+"/"+from.Id)
		out.Reply = messages.ActorBounce(e.cfg.Region, from.Address, from.Id)
	}
	if err := e.cfg.Conn.PublishMsg(out); err != nil {
		e.undelivered(to, body, from, err)
	}
}

func (e *Endpoint) undelivered(to *actor.PID, body any, from *actor.PID, err error) {
	e.cfg.Log.Warn("message to another process not sent", "actor", to.Id, "node", to.Address, "err", err)
	e.sys.EventStream.Publish(&actor.DeadLetterEvent{PID: to, Message: body, Sender: from})
}

// receive delivers one message from another process.
func (e *Endpoint) receive(m *nats.Msg) {
	body, err := e.decode(m)
	if err != nil {
		e.cfg.Log.Warn("message from another process refused", "actor", m.Header.Get(headerTo), "err", err)
		return
	}
	to := actor.NewPID(e.cfg.Address, m.Header.Get(headerTo))
	var from *actor.PID
	if address, id, ok := strings.Cut(m.Header.Get(headerFrom), "/"); ok {
		from = actor.NewPID(address, id)
	}
	if _, local := e.sys.ProcessRegistry.GetLocal(to.Id); !local && from != nil {
		e.sys.Root.Send(from, &actor.Terminated{Who: to, Why: actor.TerminatedReason_NotFound})
		return
	}
	switch body.(type) {
	case *actor.Watch, *actor.Unwatch, *actor.Terminated, *actor.Stop:
		sendSystem(e.sys, to, body)
	default:
		e.sys.Root.RequestWithCustomSender(to, body, from)
	}
}

func (e *Endpoint) decode(m *nats.Msg) (proto.Message, error) {
	name := protoreflect.FullName(m.Header.Get(headerType))
	if e.cfg.Accept != nil && !e.cfg.Accept(name) {
		return nil, fmt.Errorf("type %q is not accepted here", name)
	}
	t, err := protoregistry.GlobalTypes.FindMessageByName(name)
	if err != nil {
		return nil, fmt.Errorf("type %q: %w", name, err)
	}
	body := t.New().Interface()
	return body, proto.Unmarshal(m.Data, body)
}

// bounce tells a sender that nobody is at the address it wrote to.
func (e *Endpoint) bounce(m *nats.Msg) {
	id, err := messages.ParseActorBounce(m.Subject)
	if err == nil && m.Header.Get("Status") == "503" {
		e.sys.Root.Send(actor.NewPID(e.cfg.Address, id), &actor.DeadLetterResponse{})
	}
}

var _ actor.Process = remote{}
