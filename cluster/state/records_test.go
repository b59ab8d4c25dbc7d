package state_test

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/troupe-run/troupe/messages"
)

const goldenRecords = "testdata/records.json"

// goldenRecord is a record or a change, without what differs from one writing to the next.
type goldenRecord struct {
	Subject string
	Header  map[string]string
	Body    string
}

// TestRecordsLookAsBefore compares what is written with what other programs have come to rely on. If
// it has to differ, and an older troupe could not read it, messages.Format must grow.
func TestRecordsLookAsBefore(t *testing.T) {
	t.Parallel()
	b := startBus(t, "")
	s := open(t, b, goldenConfig)
	writeGolden(t, s)
	changes, err := b.ConnectChanges()
	if err != nil {
		t.Fatal(err)
	}
	defer changes.Close()
	var got []goldenRecord
	collect := func(nc *nats.Conn, stream string) {
		each(t, nc, stream, func(m *jetstream.RawStreamMsg) {
			r := goldenRecord{Subject: m.Subject, Header: map[string]string{}, Body: string(m.Data)}
			for name := range m.Header {
				switch v := m.Header.Get(name); {
				case strings.HasPrefix(name, "Nats-Batch"), strings.HasPrefix(name, "Nats-Expected"):
				case slices.Contains([]string{"Nats-Stream", "Nats-Subject", "Nats-Sequence", "Nats-Time-Stamp"}, name): // of the answer
				case slices.Contains([]string{messages.HeaderWriter, messages.HeaderSealed, messages.HeaderExpires}, name):
					r.Header[name] = "..."
				default:
					r.Header[name] = v
				}
			}
			if m.Header.Get(messages.HeaderSealed) != "" {
				r.Body = "..."
			}
			got = append(got, r)
		})
	}
	collect(b.Conn(), "KV_state")
	for end := time.Now().Add(10 * time.Second); messagesIn(t, changes, messages.ChangeStream) < 9 && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	collect(changes, messages.ChangeStream)
	if *golden != "" {
		text, err := json.MarshalIndent(got, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(goldenRecords, append(text, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(goldenRecords)
	if err != nil {
		t.Fatal(err)
	}
	var want []goldenRecord
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("records and changes look different (-want +got):\n%s", diff)
	}
}
