package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/troupe-run/troupe/cluster/bus"
	"github.com/troupe-run/troupe/messages"
)

// ErrTurned says that the way in which the state is kept has changed: the control plane must be started
// again, on the same data folder.
var ErrTurned = errors.New("the control plane has to be started again, in another role")

// ErrLeft says that this control plane is no member any more.
var ErrLeft = errors.New("this member has left the control plane")

// The parts a member can have, as [MemberInfo.Phase] says.
const (
	phaseAlone   = "alone"
	phaseLeads   = "leads"
	phaseFollows = "follows"
	phaseGives   = "gives its state to all"
	phaseWaits   = "waits for the state"
	phaseTakes   = "takes the state for itself"
	phaseLeaves  = "leaves"
	phaseWitness = "has left its part to another"
	phaseLeft    = "has left"
)

// MemberInfo is one member of a control plane, as it tells of itself.
type MemberInfo struct {
	Name  string `json:"name"`
	Addr  string `json:"addr,omitempty"` // for the other members
	API   string `json:"api,omitempty"`
	Phase string `json:"phase"`
	// Coming are those that have joined a control plane that is alone still.
	Coming []string `json:"coming,omitempty"`
}

// memberCall is what is asked of members.
type memberCall struct {
	// Op is one of those below.
	Op string `json:"op"`
	// Addr is where the others shall reach this member (opGrow).
	Addr string `json:"addr,omitempty"`
	// Keeper is the member that takes the state (opLeave, opLeft).
	Keeper string `json:"keeper,omitempty"`
	// Lost is the member that was to take the state before, and is gone (opShrink, opLeave).
	Lost string `json:"lost,omitempty"`
}

const (
	opList   = "list"
	opGrow   = "grow"   // let others join
	opShrink = "shrink" // take the state for yourself
	opLeave  = "leave"  // write no more: another takes the state
	opLeft   = "left"   // another has the state
)

// memberAnswer is what a member says to it.
type memberAnswer struct {
	MemberInfo
	Token  string `json:"token,omitempty"`
	Failed string `json:"failed,omitempty"`
}

// membership is what a control plane knows of how the state is kept.
type membership struct {
	mu      sync.Mutex
	mode    mode
	phase   string        // until the API is served
	changed chan struct{} // closed and replaced when mode changes
	turned  chan struct{} // closed when the control plane has to be started again
	subs    []*nats.Subscription
}

// growing is what lets others join.
type growing struct {
	mu     sync.Mutex
	server *joinServer
}

// Turned is closed when the control plane has to be closed and started again: it becomes one of three, or
// ceases to be.
func (c *Cluster) Turned() <-chan struct{} { return c.membership.turned }

func (c *Cluster) currentMode() mode {
	c.membership.mu.Lock()
	defer c.membership.mu.Unlock()
	return c.membership.mode
}

// setMode writes down another mode; change says whether it takes a new start.
func (c *Cluster) setMode(change func(*mode) (turn bool, err error)) error {
	s := &c.membership
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.mode
	turn, err := change(&m)
	if err != nil {
		return err
	}
	if err := m.write(c.cfg.DataDir); err != nil {
		return err
	}
	s.mode = m
	close(s.changed)
	s.changed = make(chan struct{})
	if turn {
		select {
		case <-s.turned:
		default:
			close(s.turned)
		}
	}
	return nil
}

func (c *Cluster) setPhase(phase string) {
	c.membership.mu.Lock()
	defer c.membership.mu.Unlock()
	c.membership.phase = phase
}

func (c *Cluster) growth() *growth {
	g, _ := c.growthNow()
	return g
}

// growthNow returns who has joined so far, and a channel that is closed when that changes.
func (c *Cluster) growthNow() (*growth, <-chan struct{}) {
	c.membership.mu.Lock()
	defer c.membership.mu.Unlock()
	return c.membership.mode.Grow, c.membership.changed
}

// regrow writes down who has joined. When all are ready the control plane becomes one of three.
func (c *Cluster) regrow(change func(*growth) (*growth, error)) error {
	return c.setMode(func(m *mode) (turn bool, err error) {
		if m.Grow == nil {
			return false, fmt.Errorf("nobody is to join: %w", messages.ErrInvalid)
		}
		if m.Grow, err = change(m.Grow); err != nil {
			return false, err
		}
		next := m.Grow.next(c.cfg.Member)
		if next == nil {
			return false, nil
		}
		c.cfg.Step("all members have come", "starting as one of three")
		*m = *next
		return true, nil
	})
}

// info is what this member tells of itself.
func (c *Cluster) info() MemberInfo {
	c.membership.mu.Lock()
	m, phase := c.membership.mode, c.membership.phase
	c.membership.mu.Unlock()
	out := MemberInfo{Name: c.cfg.Member, Addr: m.Addr, Phase: phase}
	if phase != "" {
		return out
	}
	out.API = c.URL()
	switch {
	case !c.shared():
		out.Phase = phaseAlone
	case c.acting.Load():
		out.Phase = phaseLeads
	default:
		out.Phase = phaseFollows
	}
	if m.Grow != nil {
		out.Addr = m.Grow.Addr
		for _, o := range m.Grow.Others {
			out.Coming = append(out.Coming, o.Name+" at "+o.Addr)
		}
	}
	return out
}

// serveMembers answers what is asked of this member, from whoever may use all subjects.
func (c *Cluster) serveMembers(context.Context) error {
	for _, subject := range []string{messages.Members(c.cfg.Region), messages.Member(c.cfg.Region, c.cfg.Member)} {
		sub, err := c.bus.Conn().Subscribe(subject, func(m *nats.Msg) {
			go c.answerMember(m) // it may write to disk
		})
		if err != nil {
			return fmt.Errorf("serve %s: %w", subject, err)
		}
		c.membership.subs = append(c.membership.subs, sub)
	}
	return nil
}

func (c *Cluster) answerMember(m *nats.Msg) {
	var call memberCall
	var out memberAnswer
	err := json.Unmarshal(m.Data, &call)
	if err == nil {
		out.Token, err = c.obey(call)
	}
	if out.MemberInfo = c.info(); err != nil {
		out.Failed = err.Error()
		c.cfg.Log.Warn("not done", "op", call.Op, "err", err)
	}
	data, err := json.Marshal(out)
	if err == nil {
		err = m.Respond(data)
	}
	if err != nil {
		c.cfg.Log.Debug("member's answer not sent", "err", err)
	}
}

// obey does what was asked.
func (c *Cluster) obey(call memberCall) (token string, err error) {
	switch call.Op {
	case opGrow:
		return c.grow(call.Addr)
	case opShrink:
		return "", c.setMode(func(m *mode) (bool, error) { return m.shrink(call.Lost) })
	case opLeave, opLeft:
		if call.Keeper != c.cfg.Member {
			return "", c.setMode(func(m *mode) (bool, error) { return m.leave(c.cfg.Member, call) })
		}
	}
	return "", nil
}

// grow lets others join, and returns the token that they need.
func (c *Cluster) grow(addr string) (string, error) {
	var token string
	err := c.setMode(func(m *mode) (bool, error) {
		switch {
		case m.Kind != modeAlone || c.cfg.DataDir == "":
			return false, fmt.Errorf("only a control plane of its own can grow: this is %s: %w", modeWords[m.Kind], messages.ErrInvalid)
		case addr == "" && m.Grow != nil:
			addr = m.Grow.Addr
		}
		if _, port, err := net.SplitHostPort(addr); err != nil || port == "0" {
			return false, fmt.Errorf("the others need a host:port where they reach this member, --member-addr: %w", messages.ErrInvalid)
		}
		m.Grow = m.Grow.renewed(addr, c.cfg.Clock.Now())
		token = m.Grow.token(c.authority.CAHash())
		return false, nil
	})
	if err != nil {
		return "", err
	}
	return token, c.serveJoins(addr)
}

// askMembers asks all members, or one, and collects the answers that come within a time; one answer
// ends it when only one member was asked.
func askMembers(ctx context.Context, nc *nats.Conn, subject string, call memberCall, wait time.Duration, one bool) ([]memberAnswer, error) {
	data, err := json.Marshal(call)
	if err != nil {
		return nil, err
	}
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }() // the connection may be closed
	if err := nc.PublishRequest(subject, inbox, data); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	var out []memberAnswer
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			if len(out) == 0 && ctx.Err() == nil {
				return nil, fmt.Errorf("ask the members: %w", err)
			}
			return out, nil
		}
		var a memberAnswer
		if err := json.Unmarshal(m.Data, &a); err != nil || a.Name == "" {
			continue // nobody is there
		}
		if out = append(out, a); one {
			return out, nil
		}
	}
}

// listWait is how long a command waits for the members' answers, of which nobody knows how many come.
const listWait = time.Second

// ListMembers asks the cluster of a data folder, whose NATS is at url or outside, for its members, in the order of
// their names.
func ListMembers(ctx context.Context, dataDir, url string, outside *bus.Outside, region string) ([]MemberInfo, error) {
	nc, err := connectControl(dataDir, url, outside, "troupe-members")
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	answers, err := askMembers(ctx, nc, messages.Members(region), memberCall{Op: opList}, listWait, false)
	if err != nil {
		return nil, err
	}
	var out []MemberInfo
	for _, a := range answers {
		out = append(out, a.MemberInfo)
	}
	slices.SortFunc(out, func(a, b MemberInfo) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// commandWait bounds what a member is asked to do.
const commandWait = 20 * time.Second

// Grow makes the cluster of a data folder let two others join; addr is the host:port where they reach it. It
// returns the token they need, and that address.
func Grow(ctx context.Context, dataDir, url, region, member, addr string) (token, at string, err error) {
	a, err := command(ctx, dataDir, url, region, member, memberCall{Op: opGrow, Addr: addr})
	return a.Token, a.Addr, err
}

// Shrink makes the named member the only one, in place of the lost one if that has a name, which was to be
// the only one and will not come back.
func Shrink(ctx context.Context, dataDir, url, region, member, lost string) error {
	_, err := command(ctx, dataDir, url, region, member, memberCall{Op: opShrink, Lost: lost})
	return err
}

func command(ctx context.Context, dataDir, url, region, member string, call memberCall) (memberAnswer, error) {
	nc, err := connectControl(dataDir, url, nil, "troupe-members")
	if err != nil {
		return memberAnswer{}, err
	}
	defer nc.Close()
	answers, err := askMembers(ctx, nc, messages.Member(region, member), call, commandWait, true)
	switch {
	case err != nil:
		return memberAnswer{}, err
	case len(answers) == 0:
		return memberAnswer{}, fmt.Errorf("member %s does not answer: %w", member, messages.ErrUnavailable)
	case answers[0].Failed != "":
		return answers[0], errors.New(answers[0].Failed)
	}
	return answers[0], nil
}
