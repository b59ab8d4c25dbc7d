package bus

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestWarningsNobodyHasToActOnAreInformation(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ format, want string }{
		{"Filestore [KV_state] TTL state is outdated; attempting to recover using linear scan (seq %d to %d)", "level=INFO"},
		{"Filestore [KV_state] Stream state outdated, last block has additional entries, will rebuild (%d, %d)", "level=INFO"},
		{"Filestore [KV_state] Stream state detected prior state, could not locate msg block %d (%d)", "level=INFO"},
		{"Filestore [changes] Recovering stream state from index errored: prior state file (%d, %d)", "level=INFO"},
		{"Filestore [changes] Recovering stream state from index errored: %d, %d", "level=WARN"},
		{"Filestore [KV_state] Stream state checksum did not match (%d, %d)", "level=WARN"},
		{"Filestore [KV_state] loadBlock error: %d, %d", "level=WARN"},
	} {
		var out bytes.Buffer
		newLogger(slog.New(slog.NewTextHandler(&out, nil))).Warnf(tc.format, 1, 2)
		if got := out.String(); !strings.Contains(got, tc.want) || !strings.Contains(got, "1") || !strings.Contains(got, "2") {
			t.Errorf("%s: logged %q, want %s", tc.format, got, tc.want)
		}
	}
}
