package host

import "testing"

func TestTooOld(t *testing.T) {
	for version, want := range map[string]bool{
		"1.6.33": true, "v1.6.0~ds1": true, "0.9": true,
		"1.7.0": false, "v1.7.24": false, "2.0.0-rc.1": false, "v2.3.7": false, "10.1": false, "unknown": false,
	} {
		if got := tooOld(version); got != want {
			t.Errorf("%s is too old: %v, want %v", version, got, want)
		}
	}
}
