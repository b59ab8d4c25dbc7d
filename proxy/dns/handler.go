package dns

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	// maxUDP bounds answers by UDP, whatever the client offers: above it they would be fragmented.
	maxUDP = 1232
	// forwardLimit bounds the forwarding of one question.
	forwardLimit = 6 * time.Second
	// maxForwards bounds how many questions are being forwarded at a time.
	maxForwards = 1000
)

// upstream resolves foreign names.
type upstream interface {
	// exchange asks the question in m and returns the answer; network is "udp" or "tcp".
	exchange(ctx context.Context, m *dns.Msg, network string) (*dns.Msg, error)
}

// handler serves queries: names of the cluster from memory, all others by asking elsewhere.
type handler struct {
	zone     *zone
	upstream upstream
	slots    chan struct{}
	ctx      context.Context // ends with the server
	log      *slog.Logger
}

// ServeDNS implements dns.Handler.
func (h *handler) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	network := "udp"
	if w.RemoteAddr().Network() == "tcp" {
		network = "tcp"
	}
	m := h.guarded(q, network)
	if err := w.WriteMsg(fit(m, q, network)); err != nil && h.ctx.Err() == nil {
		h.log.Debug("answer not sent", "client", w.RemoteAddr().String(), "err", err)
	}
}

// guarded keeps a bug in an answer from ending the process: names are resolved for every pod.
func (h *handler) guarded(q *dns.Msg, network string) (m *dns.Msg) {
	defer func() {
		if r := recover(); r != nil {
			h.log.Error("panic while answering", "err", fmt.Sprint(r), "stack", string(debug.Stack()))
			m = refusal(q, dns.RcodeServerFailure)
		}
	}()
	return h.respond(q, network)
}

// respond answers one message.
func (h *handler) respond(q *dns.Msg, network string) *dns.Msg {
	switch {
	case q.Opcode != dns.OpcodeQuery:
		return refusal(q, dns.RcodeNotImplemented)
	case q.Response || len(q.Question) != 1:
		return refusal(q, dns.RcodeFormatError)
	case q.IsEdns0() != nil && q.IsEdns0().Version() != 0:
		return refusal(q, dns.RcodeBadVers)
	case q.Question[0].Qclass != dns.ClassINET:
		return refusal(q, dns.RcodeRefused)
	}
	question := q.Question[0]
	if !h.zone.owns(strings.ToLower(question.Name)) {
		return h.forward(q, network)
	}
	if !h.zone.table.filled.Load() {
		return refusal(q, dns.RcodeServerFailure) // "no such name" would be remembered
	}
	m := refusal(q, dns.RcodeSuccess)
	m.Authoritative = true
	r := h.zone.answer(question)
	m.Answer, m.Extra = r.answer, r.extra
	switch {
	case r.follow != "":
		h.follow(m, r.follow, question.Qtype, network)
	case !r.exists:
		m.Rcode = dns.RcodeNameError
		fallthrough
	case len(m.Answer) == 0:
		m.Ns = []dns.RR{h.zone.soa(strings.ToLower(question.Name))}
	}
	return m
}

// refusal is an answer without records.
func refusal(q *dns.Msg, rcode int) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(q)
	m.Rcode = rcode
	m.RecursionAvailable = true
	return m
}

// forward asks elsewhere and passes the answer on as it is.
func (h *handler) forward(q *dns.Msg, network string) *dns.Msg {
	out := q.Copy()
	out.Id = dns.Id()
	m, err := h.ask(out, network)
	if err != nil {
		h.log.Debug("name not resolved", "name", q.Question[0].Name, "err", err)
		return refusal(q, dns.RcodeServerFailure)
	}
	m.Id = q.Id
	return m
}

// follow adds what stands behind an alias that leads out of the cluster.
func (h *handler) follow(m *dns.Msg, name string, qtype uint16, network string) {
	q := new(dns.Msg)
	q.SetQuestion(name, qtype)
	q.SetEdns0(maxUDP, false)
	behind, err := h.ask(q, network)
	if err != nil {
		h.log.Debug("alias not resolved", "name", name, "err", err)
		m.Rcode = dns.RcodeServerFailure
		return
	}
	m.Rcode, m.Truncated = behind.Rcode, behind.Truncated
	m.Answer = append(m.Answer, behind.Answer...)
	m.Ns = behind.Ns
}

func (h *handler) ask(q *dns.Msg, network string) (*dns.Msg, error) {
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	default:
		return nil, fmt.Errorf("%d questions are being forwarded already", maxForwards)
	}
	ctx, cancel := context.WithTimeout(h.ctx, forwardLimit)
	defer cancel()
	return h.upstream.exchange(ctx, q, network)
}

// fit makes an answer small enough for the client, and speaks EDNS to a client that does.
func fit(m, q *dns.Msg, network string) *dns.Msg {
	size := dns.MaxMsgSize
	opt := q.IsEdns0()
	if network == "udp" {
		size = dns.MinMsgSize
		if opt != nil {
			size = min(max(int(opt.UDPSize()), dns.MinMsgSize), maxUDP)
		}
	}
	if opt == nil {
		m.Extra = withoutOPT(m.Extra)
	} else if m.IsEdns0() == nil {
		m.SetEdns0(maxUDP, opt.Do())
	}
	m.Truncate(size)
	return m
}

func withoutOPT(in []dns.RR) []dns.RR {
	out := in[:0]
	for _, rr := range in {
		if rr.Header().Rrtype != dns.TypeOPT {
			out = append(out, rr)
		}
	}
	return out
}

var _ dns.Handler = (*handler)(nil)
