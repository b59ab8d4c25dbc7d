package cluster

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/troupe-run/troupe/messages"
)

func TestGrowth(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	fresh := (*growth)(nil).renewed("h0:1", now)
	hash, secret, err := parseToken(fresh.token("sha256:" + string(slices.Repeat([]byte("a"), 64))))
	if err != nil || hash != "sha256:"+string(slices.Repeat([]byte("a"), 64)) || !fresh.knows(secret, now) {
		t.Errorf("token: %s, %v", hash, err)
	}
	if fresh.knows(secret, now.Add(tokenLife)) || fresh.knows("", now) || fresh.knows(secret+"x", now) {
		t.Error("a wrong or old token is good")
	}
	for _, bad := range []string{"", "x", "troupe1.a.b", "troupe2." + secret + "." + secret} {
		if _, _, err := parseToken(bad); !errors.Is(err, messages.ErrInvalid) {
			t.Errorf("token %q: %v", bad, err)
		}
	}
	one, both := *fresh, *fresh
	one.Others = []joiner{{Name: "b", Addr: "h1:1"}}
	both.Others = []joiner{{Name: "b", Addr: "h1:1"}, {Name: "c", Addr: "h2:1"}}
	for name, c := range map[string]struct {
		have growth
		who  joiner
		want []joiner // nil is an error
	}{
		"the first":               {*fresh, joiner{Name: "b", Addr: "h1:1"}, one.Others},
		"the second":              {one, joiner{Name: "c", Addr: "h2:1"}, both.Others},
		"again":                   {one, joiner{Name: "b", Addr: "h1:1"}, one.Others},
		"again at another place":  {one, joiner{Name: "b", Addr: "h9:1"}, []joiner{{Name: "b", Addr: "h9:1"}}},
		"too late for that":       {both, joiner{Name: "b", Addr: "h9:1"}, nil},
		"a fourth":                {both, joiner{Name: "d", Addr: "h3:1"}, nil},
		"one that is there":       {*fresh, joiner{Name: "a", Addr: "h1:1"}, nil},
		"at the address of that":  {*fresh, joiner{Name: "b", Addr: "h0:1"}, nil},
		"at another's address":    {one, joiner{Name: "c", Addr: "h1:1"}, nil},
		"without an address":      {*fresh, joiner{Name: "b", Addr: "h1"}, nil},
		"ready is not for saying": {*fresh, joiner{Name: "b", Addr: "h1:1", Ready: true}, one.Others},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := c.have.admit("a", c.who)
			if c.want == nil {
				if !errors.Is(err, messages.ErrInvalid) {
					t.Errorf("got %+v, %v", got, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got.Others); diff != "" {
				t.Error(diff)
			}
		})
	}
	if got := both.peers("c"); !slices.Equal(got, []string{"h0:1", "h1:1"}) {
		t.Errorf("c's peers: %v", got)
	}
	if _, err := one.ready("b"); err == nil {
		t.Error("ready before all have come")
	}
	b, err := both.ready("b")
	if err != nil || b.next("a") != nil {
		t.Errorf("with one ready: %v, %v", b.next("a"), err)
	}
	all, err := b.ready("c")
	if err != nil {
		t.Fatal(err)
	}
	want := &mode{Kind: modeMembers, Member: "a", Addr: "h0:1", Peers: []string{"h1:1", "h2:1"}, Move: moveIn}
	if diff := cmp.Diff(want, all.next("a")); diff != "" {
		t.Error(diff)
	}
	renewed := all.renewed("h0:1", now.Add(tokenLife))
	if !renewed.knows(secret, now.Add(tokenLife)) || len(renewed.Others) != 2 {
		t.Errorf("renewed: %+v", renewed)
	}
}
