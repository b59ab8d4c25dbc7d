package eviction

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
)

// Threshold says from where on too little is left: less than a quantity, or less than a share of
// what there is.
type Threshold struct {
	Signal Signal
	// Quantity is in the signal's unit; it counts while Share is 0.
	Quantity int64
	// Share is of the capacity, between 0 and 1.
	Share float64
}

// Default is what kubelets have.
const Default = "memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%,imagefs.available<15%,imagefs.inodesFree<5%"

// Of returns the threshold in the signal's unit, for a capacity.
func (t Threshold) Of(capacity int64) int64 {
	if t.Share > 0 {
		return int64(t.Share * float64(capacity))
	}
	return t.Quantity
}

func (t Threshold) crossed(a Amount) bool { return a.Available < t.Of(a.Capacity) }

// Reserved returns what thresholds hold back of a capacity, 0 when none is about the signal.
func Reserved(list []Threshold, s Signal, capacity int64) int64 {
	for _, t := range list {
		if t.Signal == s {
			return t.Of(capacity)
		}
	}
	return 0
}

// Parse reads thresholds as a kubelet's --eviction-hard has them, such as
// "memory.available<100Mi,nodefs.available<10%". Shares of 0% and 100% switch a signal off. The
// error names every part that is wrong.
func Parse(text string) ([]Threshold, error) {
	var out []Threshold
	var errs []error
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		t, on, err := parse(part)
		switch {
		case err != nil:
			errs = append(errs, err)
		case slices.ContainsFunc(out, func(o Threshold) bool { return o.Signal == t.Signal }):
			errs = append(errs, fmt.Errorf("%s: a second threshold for %s", part, t.Signal))
		case on:
			out = append(out, t)
		}
	}
	return out, errors.Join(errs...)
}

func parse(part string) (t Threshold, on bool, err error) {
	name, value, ok := strings.Cut(part, "<")
	if !ok {
		return t, false, fmt.Errorf("%s: a threshold is written like memory.available<100Mi", part)
	}
	t.Signal = Signal(name)
	if _, known := signals[t.Signal]; !known {
		return t, false, fmt.Errorf("%s: signal %q is not known", part, name)
	}
	if percent, ok := strings.CutSuffix(value, "%"); ok {
		n, err := strconv.ParseFloat(percent, 64)
		if err != nil || !(n >= 0 && n <= 100) {
			return t, false, fmt.Errorf("%s: a share is between 0%% and 100%%", part)
		}
		t.Share = n / 100
		return t, n > 0 && n < 100, nil
	}
	q, err := resource.ParseQuantity(value)
	if err != nil || q.Sign() <= 0 {
		return t, false, fmt.Errorf("%s: %q is no quantity above 0", part, value)
	}
	t.Quantity = q.Value()
	return t, true, nil
}
