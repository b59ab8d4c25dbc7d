package state_test

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/troupe-run/troupe/messages"
)

// BenchmarkRatios compares, in one run on one disk, durable creates with publishes of one fsync each
// that follow one another: how many times as many there are with 64 and 256 writers, and how many
// times as long a lone one takes.
func BenchmarkRatios(b *testing.B) {
	const turns = 5
	nats := startBus(b, b.TempDir())
	s := open(b, nats, nil)
	js, err := jetstream.New(nats.Conn())
	if err != nil {
		b.Fatal(err)
	}
	if _, err := js.CreateStream(b.Context(), jetstream.StreamConfig{Name: "yardstick", Subjects: []string{"yardstick.>"}}); err != nil {
		b.Fatal(err)
	}
	data := op(b, s, realPod(0), 0).Data
	var next atomic.Int64
	rate := func(writers, each int, write func(i int) error) float64 {
		begun := time.Now()
		var all sync.WaitGroup
		for range writers {
			all.Go(func() {
				for range each {
					if err := write(int(next.Add(1))); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
		return float64(writers*each) / time.Since(begun).Seconds()
	}
	create := func(i int) error {
		_, err := s.Commit(b.Context(), op(b, s, realPod(i), 0))
		return err
	}
	publish := func(i int) error {
		_, err := js.Publish(b.Context(), "yardstick."+strconv.Itoa(i), data)
		return err
	}
	// The first ones of a process pay for what is made once.
	rate(1, 100, publish)
	rate(1, 100, create)
	for b.Loop() {
		// By turns, for the disk is not the same from one second to the next.
		var one, lone float64
		for range turns {
			one += rate(1, 300, publish) / turns
			lone += rate(1, 300, create) / turns
		}
		b.ReportMetric(one, "publishes/s")
		b.ReportMetric(one/lone, "x-time-lone")
		b.ReportMetric(rate(64, 200, create)/one, "x-rate-64")
		b.ReportMetric(rate(256, 100, create)/one, "x-rate-256")
	}
}

// BenchmarkWatchers has 1,000 cursors follow one resource that is written 500 times a second, and
// tells how long an event takes from the begin of its write to a cursor.
func BenchmarkWatchers(b *testing.B) {
	const watchers, writes, pause = 1000, 1000, 2 * time.Millisecond
	s := open(b, startBus(b, b.TempDir()), nil)
	for b.Loop() {
		var begun [writes]time.Time
		first := s.Revision()
		late := make([][]time.Duration, watchers)
		ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
		var all sync.WaitGroup
		for w := range watchers {
			cursor, err := s.Watch(messages.Pods, first)
			if err != nil {
				b.Fatal(err)
			}
			all.Go(func() {
				for len(late[w]) < writes {
					events, _, err := cursor.Next(ctx)
					if err != nil {
						b.Errorf("watcher %d after %d events: %v", w, len(late[w]), err)
						return
					}
					for _, e := range events {
						late[w] = append(late[w], time.Since(begun[e.Rev-first-1]))
					}
				}
			})
		}
		tick := time.NewTicker(pause)
		for i := range writes { // in order: the revision tells which one an event is of
			<-tick.C
			begun[i] = time.Now()
			if _, err := s.Commit(ctx, op(b, s, realPod(int(first)*writes+i), 0)); err != nil {
				b.Fatal(err)
			}
		}
		tick.Stop()
		all.Wait()
		cancel()
		flat := slices.Concat(late...)
		slices.Sort(flat)
		b.ReportMetric(float64(flat[len(flat)*99/100].Microseconds())/1000, "ms-p99")
		b.ReportMetric(float64(flat[len(flat)/2].Microseconds())/1000, "ms-median")
	}
}
