package messages_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/troupe-run/troupe/messages"
)

// legal is the alphabet that clients of a key-value bucket accept for keys, less the dot, which
// parts tokens.
var legal = regexp.MustCompile(`^[-/_=a-zA-Z0-9]+$`)

// FuzzEscapeToken escapes two strings: each comes back, and they never become the same token.
func FuzzEscapeToken(f *testing.F) {
	for _, s := range []string{
		"", "_", "__", "=5F", "a.b", "a/b", "a=2Eb", ".", "/", "=", "*", ">", "a b", "ü", "\x00", "\xff",
		"system:node:worker-1.example.org", "kube-root-ca.crt", strings.Repeat("x.", 126),
	} {
		f.Add(s, "_")
		f.Add(s, messages.EscapeToken(s))
		f.Add(s, strings.ToUpper(s))
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		ta, tb := messages.EscapeToken(a), messages.EscapeToken(b)
		if !legal.MatchString(ta) {
			t.Errorf("%q became %q, which is no key", a, ta)
		}
		if back, err := messages.UnescapeToken(ta); err != nil || back != a {
			t.Errorf("%q became %q and came back as %q, %v", a, ta, back, err)
		}
		if (ta == tb) != (a == b) {
			t.Errorf("%q and %q became %q and %q", a, b, ta, tb)
		}
	})
}

// FuzzUnescapeToken takes any text for a token: what is accepted is written in one way only.
func FuzzUnescapeToken(f *testing.F) {
	for _, s := range []string{"", "_", "=5F", "=5f", "=2E", "=41", "a/b", "=", "=4", "=4G", "=+1", "a.b", "ü", "*", "=FF=00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, token string) {
		s, err := messages.UnescapeToken(token)
		if err != nil {
			if !errors.Is(err, messages.ErrInvalid) {
				t.Errorf("%q: %v", token, err)
			}
			return
		}
		if again := messages.EscapeToken(s); again != token {
			t.Errorf("%q stands for %q, which is written %q", token, s, again)
		}
	})
}

// FuzzParseSubject parses any subject as one of a record and as one of a change: what is accepted is
// the subject of the key it gave.
func FuzzParseSubject(f *testing.F) {
	for _, k := range []messages.Key{
		messages.KeyOf(messages.Pods, "default", "web-0"),
		messages.KeyOf(messages.Nodes, "", "n1.example.org"),
		messages.KeyOf(messages.Resource{Group: "rbac.authorization.k8s.io", Resource: "clusterroles"}, "", "system:node"),
		{},
	} {
		f.Add(messages.StateSubject(messages.StateBucket, k))
		f.Add(messages.Change("local", k))
	}
	for _, s := range []string{"", ".", ".....", "......", "$KV.state.epoch", "$KV.state.a.b.c.d.e", "$KV.state.a.b.c.=", "$KV..a.b.c.d", "troupe.local.changes....", "troupe.=.changes.a.b.c.d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, subject string) {
		if bucket, k, err := messages.ParseStateSubject(subject); err == nil {
			if back := messages.StateSubject(bucket, k); back != subject {
				t.Errorf("%q is of %s, whose subject is %q", subject, k, back)
			}
		} else if !errors.Is(err, messages.ErrInvalid) {
			t.Errorf("%q: %v", subject, err)
		}
		if region, k, err := messages.ParseChange(subject); err == nil {
			if back := messages.Change(region, k); back != subject {
				t.Errorf("%q is of %s, whose subject is %q", subject, k, back)
			}
		} else if !errors.Is(err, messages.ErrInvalid) {
			t.Errorf("%q: %v", subject, err)
		}
	})
}
