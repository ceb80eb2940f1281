// Package clocktest measures time for tests of what is promised within a time.
package clocktest

import (
	"sync/atomic"
	"testing"
	"time"
)

const tick = 10 * time.Millisecond

// Running begins to measure for how long this process runs: one tick for each that it is there to see. A machine that stands still, or
// that gives the processor to others, adds next to nothing, and so makes nothing late. It ends with the test.
func Running(tb testing.TB) (elapsed func() time.Duration) {
	tb.Helper()
	var seen atomic.Int64
	ticker := time.NewTicker(tick)
	done := make(chan struct{})
	tb.Cleanup(func() {
		ticker.Stop()
		close(done)
	})
	go func() {
		for {
			select {
			case <-ticker.C:
				seen.Add(1)
			case <-done:
				return
			}
		}
	}()
	return func() time.Duration { return time.Duration(seen.Load()) * tick }
}

// Await waits until a channel is closed or something comes, and says whether that was within a time of running.
func Await[T any](tb testing.TB, within time.Duration, c <-chan T) (value T, ok bool) {
	tb.Helper()
	elapsed := Running(tb)
	for {
		select {
		case value = <-c:
			return value, true
		case <-time.After(tick):
			if elapsed() > within {
				return value, false
			}
		}
	}
}
