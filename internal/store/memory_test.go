package store_test

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/store"
	"github.com/caddy-mfa/caddy-mfa/internal/store/storetest"
)

func TestMemory(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		m := store.NewMemory()
		t.Cleanup(func() { m.Close() })
		return m
	})
}

func TestMemoryFollowsTheClockOfABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := store.NewMemory()
		defer m.Close()
		put(t, m, "p", "a", time.Now().Add(12*time.Hour))
		for _, step := range []struct {
			wait  time.Duration
			there bool
		}{{12*time.Hour - time.Millisecond, true}, {time.Millisecond, false}} {
			time.Sleep(step.wait)
			records, err := m.Get(t.Context(), "p", "a")
			if err != nil || (records[0].Version != 0) != step.there {
				t.Errorf("after %v more: %+v, %v", step.wait, records, err)
			}
		}
	})
}

func TestMemoryStaysBoundedWhileRecordsComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := store.NewMemory()
		defer m.Close()
		const alive = 100
		for n := range 100_000 {
			put(t, m, strconv.Itoa(n), "a", time.Now().Add(alive*time.Second))
			put(t, m, "touched", "a", time.Now().Add(time.Hour)) // replaced all the time, never expired
			time.Sleep(time.Second)
		}
		if records, partitions, queued := m.Kept(); max(records, partitions, queued) > alive+3 {
			t.Errorf("%d records in %d partitions are kept, %d of them to expire", records, partitions, queued)
		}
	})
}

func TestMemoryForgetsExpiredRecordsLittleByLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := store.NewMemory()
		defer m.Close()
		for n := range 1000 {
			put(t, m, strconv.Itoa(n), "a", time.Now().Add(time.Minute))
		}
		time.Sleep(time.Minute)
		for n := range 500 {
			put(t, m, "p", "a", time.Time{})
			if records, _, _ := m.Kept(); records != 1001-2*(n+1) {
				t.Fatalf("%d records are kept after %d commits", records, n+1)
			}
		}
	})
}

func put(tb testing.TB, s store.Store, partition, key string, expires time.Time) {
	tb.Helper()
	_, err := s.Commit(tb.Context(), store.Commit{Partition: partition, Changes: []store.Change{
		{Key: key, If: store.Any, Value: []byte("1"), Expires: expires},
	}})
	if err != nil {
		tb.Fatal(err)
	}
}

func BenchmarkMemory(b *testing.B) { storetest.Benchmark(b, store.NewMemory()) }
