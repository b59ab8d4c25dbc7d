package stage

import (
	"runtime"
	"runtime/debug"
	"sync"

	"github.com/asynkron/protoactor-go/actor"
)

// Coalescable messages with equal keys occupy one place in a mailbox: the newest replaces the
// queued one and keeps its place. Asked messages (with a sender) are never coalesced.
type Coalescable interface{ CoalesceKey() any }

// throughput is how many messages an actor handles before it lets others run.
const throughput = 300

// mailbox is unbounded but coalescing: its size is bounded by the number of keys. It tolerates
// posts before it is wired, refuses nil, and turns what is left behind at stop into dead letters,
// so that an asker hears at once.
type mailbox struct {
	invoker actor.MessageInvoker
	workers *workers
	self    *actor.PID
	system  *actor.ActorSystem
	process actor.Process

	mu        sync.Mutex
	user, sys []any
	head      int         // first user message not handled yet
	keys      map[any]int // coalesce key to index in user
	wired     bool
	scheduled bool
	suspended bool
	stopped   bool
}

func newMailbox() actor.Mailbox { return &mailbox{} }

func (m *mailbox) RegisterHandlers(invoker actor.MessageInvoker, _ actor.Dispatcher) {
	m.invoker = invoker
	c := invoker.(interface {
		Self() *actor.PID
		ActorSystem() *actor.ActorSystem
	})
	m.self, m.system = c.Self(), c.ActorSystem()
	m.workers = workersOf(m.system)
	m.process, _ = m.system.ProcessRegistry.GetLocal(m.self.Id)
}

func (m *mailbox) Start() {
	m.mu.Lock()
	m.wired = true
	m.schedule()
	m.mu.Unlock()
}

func (m *mailbox) PostUserMessage(msg any) {
	if msg == nil {
		return // protoactor would spin on it for ever
	}
	m.mu.Lock()
	if m.stopped {
		m.mu.Unlock()
		m.deadLetter(msg)
		return
	}
	if c, ok := msg.(Coalescable); ok {
		key := c.CoalesceKey()
		if at, ok := m.keys[key]; ok {
			m.user[at] = msg
			m.mu.Unlock()
			return
		}
		if m.keys == nil {
			m.keys = make(map[any]int)
		}
		m.keys[key] = len(m.user)
	}
	m.user = append(m.user, msg)
	m.schedule()
	m.mu.Unlock()
}

func (m *mailbox) PostSystemMessage(msg any) {
	m.mu.Lock()
	if m.stopped {
		m.mu.Unlock()
		m.deadLetter(msg)
		return
	}
	m.sys = append(m.sys, msg)
	m.schedule()
	m.mu.Unlock()
}

func (m *mailbox) UserMessageCount() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.user) - m.head
}

// schedule has run called when there is something to do; the caller holds mu.
func (m *mailbox) schedule() {
	if !m.wired || m.scheduled || !m.pending() {
		return
	}
	m.scheduled = true
	m.workers.run(m.run)
}

func (m *mailbox) pending() bool {
	return len(m.sys) > 0 || !m.suspended && len(m.user) > m.head
}

// next takes the next message; ok is false when the mailbox went idle.
func (m *mailbox) next() (msg any, system, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.sys) > 0 {
		msg = m.sys[0]
		m.sys[0] = nil
		m.sys = m.sys[1:]
		if len(m.sys) == 0 {
			m.sys = nil
		}
		return msg, true, true
	}
	if m.suspended || len(m.user) == m.head {
		m.scheduled = false
		return nil, false, false
	}
	msg = m.user[m.head]
	m.user[m.head] = nil
	m.head++
	if c, ok := msg.(Coalescable); ok {
		delete(m.keys, c.CoalesceKey())
	}
	switch {
	case m.head == len(m.user): // give a burst's memory back
		if cap(m.user) > 64 {
			m.user, m.keys = nil, nil
		} else {
			m.user = m.user[:0]
		}
		m.head = 0
	case m.head > 1024 && m.head > len(m.user)/2:
		m.shift()
	}
	return msg, false, true
}

// shift moves the unhandled rest to the front so that a queue that never empties does not grow.
func (m *mailbox) shift() {
	n := copy(m.user, m.user[m.head:])
	clear(m.user[n:])
	m.user = m.user[:n]
	for k, at := range m.keys {
		m.keys[k] = at - m.head
	}
	m.head = 0
}

func (m *mailbox) run() {
	for i := 0; ; i++ {
		if i == throughput {
			i = 0
			runtime.Gosched()
		}
		msg, system, ok := m.next()
		if !ok {
			return
		}
		m.invoke(msg, system)
	}
}

// invoke handles one message; a panic becomes a [Panic] for the supervisor.
func (m *mailbox) invoke(msg any, system bool) {
	defer func() {
		if r := recover(); r != nil {
			m.invoker.EscalateFailure(&Panic{Value: r, Stack: debug.Stack()}, msg)
		}
	}()
	if !system {
		m.invoker.InvokeUserMessage(msg)
		return
	}
	switch msg.(type) {
	case *actor.SuspendMailbox:
		m.suspend(true)
	case *actor.ResumeMailbox:
		m.suspend(false)
	default:
		m.invoker.InvokeSystemMessage(msg)
		switch msg.(type) {
		case *actor.Stop, *actor.Terminated:
			m.flushIfStopped()
		}
	}
}

func (m *mailbox) suspend(on bool) {
	m.mu.Lock()
	m.suspended = on
	m.mu.Unlock()
}

// flushIfStopped turns leftovers into dead letters once the actor has left the registry. The name
// may have been taken again at once, hence the comparison of processes.
func (m *mailbox) flushIfStopped() {
	if p, ok := m.system.ProcessRegistry.GetLocal(m.self.Id); ok && p == m.process {
		return
	}
	m.mu.Lock()
	m.stopped, m.suspended = true, false
	left := append(m.sys, m.user[m.head:]...)
	m.user, m.sys, m.keys, m.head = nil, nil, nil, 0
	m.mu.Unlock()
	for _, msg := range left {
		m.deadLetter(msg)
	}
}

func (m *mailbox) deadLetter(msg any) {
	_, body, sender := actor.UnwrapEnvelope(msg)
	m.system.EventStream.Publish(&actor.DeadLetterEvent{PID: m.self, Message: body, Sender: sender})
}

var _ actor.Mailbox = (*mailbox)(nil)
