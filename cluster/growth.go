package cluster

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/troupe-run/troupe/cluster/bus"
	"github.com/troupe-run/troupe/messages"
)

// tokenLife is how long a token lets others join.
const tokenLife = 24 * time.Hour

// tokenHead begins a token and numbers its layout: troupe1.<hash of the authority>.<secret>.
const tokenHead = "troupe1"

// growth is what a control plane that is alone knows of those that shall join it.
type growth struct {
	// Addr is the host:port where the others reach this one, now to join and later as a member.
	Addr string `json:"addr"`
	// Secret is what a token proves, until Expires.
	Secret  string    `json:"secret"`
	Expires time.Time `json:"expires"`
	// Others are those that have come.
	Others []joiner `json:"others,omitempty"`
}

// joiner is a member to be.
type joiner struct {
	Name string `json:"name"`
	Addr string `json:"addr"`
	// Ready says that it has written down that it is a member, and of which others.
	Ready bool `json:"ready,omitempty"`
}

// renewed is the growth with a token that is good for tokenLife from now on, and those that have come.
func (g *growth) renewed(addr string, now time.Time) *growth {
	out := &growth{Addr: addr, Expires: now.Add(tokenLife).UTC().Truncate(time.Second)}
	if g != nil {
		out.Secret, out.Others = g.Secret, slices.Clone(g.Others)
	}
	if out.Secret == "" {
		var secret [24]byte
		rand.Read(secret[:])
		out.Secret = hex.EncodeToString(secret[:])
	}
	return out
}

func (g *growth) token(caHash string) string {
	return tokenHead + "." + strings.TrimPrefix(caHash, "sha256:") + "." + g.Secret
}

// parseToken reverts token.
func parseToken(token string) (caHash, secret string, err error) {
	parts := strings.Split(strings.TrimSpace(token), ".")
	if len(parts) != 3 || parts[0] != tokenHead || len(parts[1]) != 64 || parts[2] == "" {
		return "", "", fmt.Errorf("the token is not one of troupe members grow: %w", messages.ErrInvalid)
	}
	return "sha256:" + parts[1], parts[2], nil
}

// knows says whether secret lets somebody join now.
func (g *growth) knows(secret string, now time.Time) bool {
	return subtle.ConstantTimeCompare([]byte(g.Secret), []byte(secret)) == 1 && now.Before(g.Expires)
}

// admit is the growth with one more that has come, or again. me is the name of the member that is there.
func (g *growth) admit(me string, j joiner) (*growth, error) {
	if _, _, err := net.SplitHostPort(j.Addr); err != nil || j.Name == "" {
		return nil, fmt.Errorf("a member needs a name and a host:port: %w", messages.ErrInvalid)
	}
	if j.Name == me || j.Addr == g.Addr {
		return nil, fmt.Errorf("%s at %s is the member that is there already; choose another --node-name and --member-addr: %w", me, g.Addr, messages.ErrInvalid)
	}
	out := *g
	out.Others = slices.Clone(g.Others)
	at := slices.IndexFunc(out.Others, func(o joiner) bool { return o.Name == j.Name })
	other := slices.IndexFunc(out.Others, func(o joiner) bool { return o.Name != j.Name && o.Addr == j.Addr })
	switch {
	case other >= 0:
		return nil, fmt.Errorf("%s has the address %s already: %w", out.Others[other].Name, j.Addr, messages.ErrInvalid)
	case at >= 0 && out.Others[at].Addr == j.Addr:
	case at >= 0 && out.complete():
		return nil, fmt.Errorf("%s has the address %s, which the others have been told: %w", j.Name, out.Others[at].Addr, messages.ErrInvalid)
	case at >= 0:
		out.Others[at] = joiner{Name: j.Name, Addr: j.Addr}
	case out.complete():
		return nil, fmt.Errorf("the control plane has its three members: %s, %s and %s: %w", me, out.Others[0].Name, out.Others[1].Name, messages.ErrInvalid)
	default:
		out.Others = append(out.Others, joiner{Name: j.Name, Addr: j.Addr})
	}
	return &out, nil
}

// complete says that all have come.
func (g *growth) complete() bool { return len(g.Others) == bus.Replicas-1 }

// peers are the addresses of the other members for the one named, which is not the one that was there.
func (g *growth) peers(name string) []string {
	out := []string{g.Addr}
	for _, o := range g.Others {
		if o.Name != name {
			out = append(out, o.Addr)
		}
	}
	return out
}

// ready is the growth when the named one has written down that it is a member.
func (g *growth) ready(name string) (*growth, error) {
	at := slices.IndexFunc(g.Others, func(o joiner) bool { return o.Name == name })
	if at < 0 || !g.complete() {
		return nil, fmt.Errorf("%s has not joined: %w", name, messages.ErrInvalid)
	}
	out := *g
	out.Others = slices.Clone(g.Others)
	out.Others[at].Ready = true
	return &out, nil
}

// next is the mode of the member that was there, once the others are ready: nil before.
func (g *growth) next(me string) *mode {
	if !g.complete() || slices.ContainsFunc(g.Others, func(o joiner) bool { return !o.Ready }) {
		return nil
	}
	m := &mode{Kind: modeMembers, Member: me, Addr: g.Addr, Move: moveIn}
	for _, o := range g.Others {
		m.Peers = append(m.Peers, o.Addr)
	}
	return m
}
