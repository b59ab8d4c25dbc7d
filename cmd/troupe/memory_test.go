package main

import "testing"

func TestGarbageMayPileUpWhileBusy(t *testing.T) {
	t.Parallel()
	const mb = 1 << 20
	for _, tc := range []struct {
		name            string
		live, allocated uint64
		want            int
	}{
		{"at rest", 30 * mb, 2 * mb, 100},
		{"busy and small", 40 * mb, 100 * mb, 400},
		{"busy and tiny", 1 * mb, 100 * mb, 800},
		{"busy and large", 120 * mb, 500 * mb, 100},
		{"nothing known", 0, 500 * mb, 100},
	} {
		if got := gcPercent(tc.live, tc.allocated); got != tc.want {
			t.Errorf("%s: %d percent, want %d", tc.name, got, tc.want)
		}
		if garbage := tc.live * uint64(tc.want) / 100; tc.live > 0 && tc.live < busyHeap/2 && tc.live+garbage > busyHeap {
			t.Errorf("%s: the heap may be %d MB", tc.name, (tc.live+garbage)/mb)
		}
	}
}

func TestRestIsCountedFromTheLastWork(t *testing.T) {
	t.Parallel()
	rested, freed := 0, 0
	for _, allocated := range []uint64{busyRate * 9, 0, 0, busyRate, 0, 1, busyRate - 1, 0, 0, 0, 0, busyRate, 0, 0, 0, 0, 0} {
		if rested = restedFor(rested, allocated); rested == restLooks {
			freed++
		}
	}
	if freed != 2 {
		t.Errorf("memory is given back %d times", freed)
	}
}
