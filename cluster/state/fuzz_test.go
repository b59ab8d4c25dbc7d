package state

import (
	"encoding/base64"
	"log/slog"
	"testing"

	"github.com/nats-io/nats.go"
	corev1 "k8s.io/api/core/v1"

	"github.com/troupe-run/troupe/actors/objects"
	"github.com/troupe-run/troupe/messages"
)

// FuzzLoad lets replay meet any record: it is loaded under its key and at its revision, or refused,
// and nothing panics.
func FuzzLoad(f *testing.F) {
	seals, err := loadSealer(f.TempDir(), []messages.Resource{messages.Secrets})
	if err != nil {
		f.Fatal(err)
	}
	secret := messages.KeyOf(messages.Secrets, "ns", "s")
	good, id := seals.seal(secret, []byte(`{"metadata":{"name":"s","namespace":"ns"}}`))
	podSubject := messages.StateSubject("state", messages.KeyOf(messages.Pods, "ns", "p"))
	other := messages.StateSubject("state", messages.KeyOf(messages.Resource{Group: "example.org", Resource: "things"}, "", "t"))
	f.Add(messages.StateSubject("state", secret), id, "", "", good)
	for _, data := range []string{
		"", "null", "[]", "1", `"x"`, "{", "{}", `{"metadata":null}`, `{"metadata":[]}`, `{"metadata":{"name":1}}`,
		`{"metadata":{"ownerReferences":[null,{}]}}`, `{"metadata":{"ownerReferences":"x"}}`, `{"metadata":{"resourceVersion":"9"}}`,
		`{"metadata":{"annotations":{"a":null}},"spec":{"containers":[null]}}`, `{"metadata":{"creationTimestamp":"never"}}`,
		"\xff\xfe", base64.StdEncoding.EncodeToString(good), `"AAAA"`,
	} {
		for _, subject := range []string{podSubject, other, messages.StateSubject("state", secret)} {
			f.Add(subject, "", "", "", []byte(data))
		}
		f.Add(messages.StateSubject("state", secret), id, "", "", []byte(data))
	}
	f.Add(podSubject, "", "soon", "", []byte("{}"))
	f.Add(podSubject, "", "-1", "", []byte("{}"))
	f.Add(podSubject, "", "", kvPurge, []byte("x"))
	f.Add("$KV.state.epoch", "", "", "", []byte(nil))
	log := slog.New(slog.DiscardHandler)
	f.Fuzz(func(t *testing.T, subject, sealed, expires, operation string, data []byte) {
		s := &Store{tables: map[messages.Resource]*table{}, stale: map[messages.Key]string{}, seals: seals, log: log}
		for _, r := range []Resource{
			{Resource: messages.Pods, New: func() objects.Object { return &corev1.Pod{} }},
			{Resource: messages.Secrets, New: func() objects.Object { return &corev1.Secret{} }},
		} {
			s.tables[r.Resource] = newTable(r)
		}
		h := nats.Header{}
		for name, v := range map[string]string{messages.HeaderSealed: sealed, messages.HeaderExpires: expires, kvOperation: operation} {
			if v != "" {
				h.Set(name, v)
			}
		}
		const rev = 7
		if err := s.load(raw{subject: subject, header: h, data: data, seq: rev}); err != nil {
			return
		}
		for _, tab := range s.tables {
			for _, row := range tab.rows {
				if _, key, err := messages.ParseStateSubject(subject); err != nil || row.key != key {
					t.Errorf("%q was loaded as %s", subject, row.key)
				}
				if got := row.Object.GetResourceVersion(); row.Rev != rev || got != "7" {
					t.Errorf("loaded at %d with resourceVersion %q", row.Rev, got)
				}
			}
		}
	})
}
