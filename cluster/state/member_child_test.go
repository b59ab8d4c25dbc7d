package state_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/troupe-run/troupe/cluster/auth"
	"github.com/troupe-run/troupe/cluster/bus"
	"github.com/troupe-run/troupe/cluster/member"
	"github.com/troupe-run/troupe/cluster/state"
	"github.com/troupe-run/troupe/messages"
)

// memberEnv tells the test binary that it is one member of several.
const memberEnv = "TROUPE_TEST_MEMBER"

// memberSetup is what a member is started with.
type memberSetup struct {
	Name, Dir, Keys string
	Peers           []string
	Debug           bool
}

// memberCall is one operation that the test asks a member to do. Value "" with Expect 0 reads, with
// another Expect deletes.
type memberCall struct {
	ID      int
	Key     string
	Value   string
	Expect  uint64
	Timeout time.Duration
	Stop    bool
}

// memberSays is what a member says: where it listens, that it began or ceased to lead, or an answer.
type memberSays struct {
	Addr  string `json:",omitempty"`
	Ready bool   `json:",omitempty"`
	Leads *bool  `json:",omitempty"`

	ID      int    `json:",omitempty"`
	Outcome string `json:",omitempty"` // done, refused or unknown
	Value   string `json:",omitempty"`
	Rev     uint64 `json:",omitempty"`
	Text    string `json:",omitempty"`
}

// runMember is the life of a child process: bus, store and election as in a control plane.
func runMember(setup string) error {
	var cfg memberSetup
	if err := json.Unmarshal([]byte(setup), &cfg); err != nil {
		return err
	}
	var mu sync.Mutex
	say := func(s memberSays) {
		mu.Lock()
		defer mu.Unlock()
		_ = json.NewEncoder(os.Stdout).Encode(s)
	}
	log := discard()
	if cfg.Debug {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("me", cfg.Name)
	}
	ctx := context.Background()
	authority, err := auth.Open(auth.Config{Dir: cfg.Keys})
	if err != nil {
		return err
	}
	tls, err := authority.MemberTLS(cfg.Name)
	if err != nil {
		return err
	}
	b, err := bus.Start(ctx, bus.Config{DataDir: cfg.Dir, Log: log, Members: &bus.Members{
		Name: cfg.Name, ListenAddr: "127.0.0.1:0", Peers: cfg.Peers, TLS: tls,
		Advertise: "127.0.0.1:1", // nobody: the others come through the test's proxies
	}})
	if err != nil {
		return err
	}
	say(memberSays{Addr: b.MemberAddr()})
	var m *member.Member
	s, err := state.Open(ctx, state.Config{Bus: b, Resources: []state.Resource{pods}, Changes: &state.Changes{}, Shared: true,
		Leased: func() bool { return m.Leased() }, Log: log})
	if err != nil {
		return err
	}
	yes, no := true, false
	m, err = member.Run(ctx, member.Config{Conn: b.Conn(), Name: cfg.Name, Replicas: bus.Replicas, Log: log,
		Lead: func(ctx context.Context) (<-chan struct{}, error) {
			deposed, err := s.Lead(ctx)
			if err == nil {
				say(memberSays{Leads: &yes})
			}
			return deposed, err
		},
		Follow: func(ctx context.Context) error {
			say(memberSays{Leads: &no})
			return s.StepDown(ctx)
		},
	})
	if err != nil {
		return err
	}
	// A member is ready when its server has caught up: until then no other may go.
	for b.Healthy() != nil {
		time.Sleep(50 * time.Millisecond)
	}
	say(memberSays{Ready: true})
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var call memberCall
		if err := json.Unmarshal(lines.Bytes(), &call); err != nil {
			return err
		}
		if call.Stop {
			break
		}
		go func() { say(serveCall(ctx, s, call)) }()
	}
	end, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	return errors.Join(m.Close(end), s.Close(end), b.Close(end))
}

func serveCall(ctx context.Context, s *state.Store, call memberCall) memberSays {
	ctx, cancel := context.WithTimeout(ctx, call.Timeout)
	defer cancel()
	key := podKey(call.Key)
	fail := func(err error) memberSays {
		for _, definite := range []error{messages.ErrConflict, messages.ErrExists, messages.ErrNotFound} {
			if errors.Is(err, definite) {
				return memberSays{ID: call.ID, Outcome: refused, Text: err.Error()}
			}
		}
		return memberSays{ID: call.ID, Outcome: unknown, Text: err.Error()}
	}
	if call.Value == "" && call.Expect == 0 {
		if err := s.Consistent(ctx); err != nil {
			return fail(err)
		}
		e, _, ok := s.Lookup(key)
		if !ok {
			return memberSays{ID: call.ID, Outcome: done}
		}
		return memberSays{ID: call.ID, Outcome: done, Value: e.Object.(*corev1.Pod).Spec.NodeName, Rev: e.Rev}
	}
	op := state.Op{Key: key, Expect: call.Expect}
	if call.Value != "" {
		p := pod(call.Key, call.Value)
		data, err := s.Encode(messages.Pods, p)
		if err != nil {
			return fail(err)
		}
		op.Object, op.Data = p, data
	}
	rev, err := s.Commit(ctx, op)
	if err != nil {
		return fail(err)
	}
	if e, at, ok := s.Lookup(key); ok && e.Rev < rev || at < rev {
		return fail(fmt.Errorf("own write of %q over %d at %d is not visible (%v, %d) at %d, leads %v", call.Value, call.Expect, rev, ok, e.Rev, at, s.Leads()))
	}
	if op.Object != nil && op.Object.GetResourceVersion() != fmt.Sprint(rev) {
		return fail(fmt.Errorf("own write at %d says %s", rev, op.Object.GetResourceVersion()))
	}
	return memberSays{ID: call.ID, Outcome: done, Rev: rev}
}

// Outcomes of a call.
const (
	done    = "done"
	refused = "refused"
	unknown = "unknown"
)

// ourOwnFault tells an error of the test's own checks from trouble that is to be expected.
func ourOwnFault(text string) bool { return strings.HasPrefix(text, "own write") }
