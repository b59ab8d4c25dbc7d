package cluster

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/troupe-run/troupe/cluster/auth"
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

// TestJoinOnAFolderWithState says when the flags of one that has joined long ago still do: never to bring
// a state into another cluster.
func TestJoinOnAFolderWithState(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, err := auth.Open(auth.Config{Dir: keysDir(dir)})
	if err != nil {
		t.Fatal(err)
	}
	own := (&growth{Secret: "s"}).token(a.CAHash())
	strange := (&growth{Secret: "s"}).token("sha256:" + strings.Repeat("a", 64))
	for name, c := range map[string]struct {
		kind, token, want string
	}{
		"a member":                    {modeMembers, strange, ""},
		"alone since":                 {modeAlone, own, ""},
		"alone in another cluster":    {modeAlone, strange, "has a state of its own"},
		"outside, in another cluster": {modeOutside, strange, "has a state of its own"},
		"not a token":                 {modeAlone, "x", "is not one of troupe members grow"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := (mode{Kind: c.kind}).write(dir); err != nil {
				t.Fatal(err)
			}
			err := Join(t.Context(), JoinConfig{DataDir: dir, Token: c.token})
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestWhoLeavesAndWhoStays is who takes the state when members shrink, and what becomes of the others.
func TestWhoLeavesAndWhoStays(t *testing.T) {
	t.Parallel()
	of := func(move, keeper, lost string) mode {
		return mode{Kind: modeMembers, Member: "a", Move: move, Keeper: keeper, Lost: lost}
	}
	shrink := func(lost string) func(*mode) (bool, error) {
		return func(m *mode) (bool, error) { return m.shrink(lost) }
	}
	leave := func(op, keeper, lost string) func(*mode) (bool, error) {
		return func(m *mode) (bool, error) { return m.leave("a", memberCall{Op: op, Keeper: keeper, Lost: lost}) }
	}
	for name, c := range map[string]struct {
		have mode
		do   func(*mode) (bool, error)
		want mode
		turn bool
		err  string
	}{
		"takes it":                     {of("", "", ""), shrink(""), of(moveOut, "", ""), true, ""},
		"takes it, told again":         {of(moveOut, "", ""), shrink(""), of(moveOut, "", ""), false, ""},
		"in place of one it has not":   {of(moveOut, "", ""), shrink("b"), mode{}, false, "already"},
		"another takes it":             {of(moveLeave, "b", ""), shrink(""), mode{}, false, "--lost b"},
		"in place of the wrong one":    {of(moveLeave, "b", ""), shrink("c"), mode{}, false, "it is b"},
		"in place of the right one":    {of(moveLeave, "b", ""), shrink("b"), of(moveOut, "", "b"), true, ""},
		"on its way to three":          {of(moveIn, "", ""), shrink(""), mode{}, false, "on its way elsewhere"},
		"alone":                        {mode{Kind: modeAlone}, shrink(""), mode{}, false, "only one of several"},
		"leaves":                       {of("", "", ""), leave(opLeave, "b", ""), of(moveLeave, "b", ""), true, ""},
		"leaves, told again":           {of(moveLeave, "b", ""), leave(opLeave, "b", ""), of(moveLeave, "b", ""), false, ""},
		"leaves to another":            {of(moveLeave, "b", ""), leave(opLeave, "c", "b"), of(moveLeave, "c", ""), false, ""},
		"has left":                     {of(moveLeave, "b", ""), leave(opLeft, "b", ""), of(moveLeft, "b", ""), true, ""},
		"two take it":                  {of(moveOut, "", ""), leave(opLeave, "b", ""), mode{}, false, "already"},
		"taken for lost, and is there": {of(moveOut, "", ""), leave(opLeave, "b", "a"), of(moveLeave, "b", ""), true, ""},
		"taken for lost, and has it":   {mode{Kind: modeAlone, Move: moveSwap}, leave(opLeave, "b", "a"), mode{}, false, "for itself already"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := c.have
			turn, err := c.do(&got)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("%+v, %v", got, err)
				}
				return
			}
			if diff := cmp.Diff(c.want, got); diff != "" || turn != c.turn || err != nil {
				t.Errorf("turn %t, %v\n%s", turn, err, diff)
			}
		})
	}
}
