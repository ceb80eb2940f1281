package storetest

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

var concurrencyTests = []contractTest{
	{"a counter loses no increment", func(t *testing.T, s store.Store) { countTogether(t, 10, 30, s) }},
	{"of many that create one record, one succeeds", func(t *testing.T, s store.Store) { createTogether(t, s) }},
	{"of many that consume one record, one succeeds", func(t *testing.T, s store.Store) {
		for range 10 {
			v := commit(t, s, "p", put("code", "1", 0))[0]
			together(t, 20, []store.Store{s}, func(s store.Store) error {
				_, err := s.Commit(t.Context(), store.Commit{Partition: "p", Changes: []store.Change{del("code", v)}})
				return err
			})
		}
	}},
	{"partitions don't disturb each other", func(t *testing.T, s store.Store) {
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				partition, v := strconv.Itoa(i), store.Version(0)
				for n := range 20 {
					versions, err := s.Commit(t.Context(), store.Commit{Partition: partition, Changes: []store.Change{put("n", strconv.Itoa(n), v)}})
					if err != nil {
						t.Errorf("partition %s: %v", partition, err)
						return
					}
					v = versions[0]
				}
			})
		}
		all.Wait()
		for i := range 20 {
			wantValues(t, get(t, s, strconv.Itoa(i), "n"), "19")
		}
	}},
}

// countTogether has goroutines increment one counter, each through the next of the stores, and looks that none is lost and
// that each goroutine reads at least what it has written.
func countTogether(t *testing.T, goroutines, increments int, stores ...store.Store) {
	t.Helper()
	var all sync.WaitGroup
	for i := range goroutines {
		all.Go(func() {
			s := stores[i%len(stores)]
			for range increments {
				written, err := increment(t.Context(), s)
				if err != nil {
					t.Errorf("incrementing: %v", err)
					return
				}
				records, err := s.List(t.Context(), "p", "counter")
				if err != nil {
					t.Errorf("reading after writing: %v", err)
					return
				}
				if read, _ := strconv.Atoi(string(records[0].Value)); read < written {
					t.Errorf("read %d after %d was written", read, written)
				}
			}
		})
	}
	all.Wait()
	for _, s := range stores {
		wantValues(t, get(t, s, "p", "counter"), strconv.Itoa(goroutines*increments))
	}
}

func increment(ctx context.Context, s store.Store) (int, error) {
	for {
		records, err := s.Get(ctx, "p", "counter")
		if err != nil {
			return 0, err
		}
		n, _ := strconv.Atoi(string(records[0].Value))
		_, err = s.Commit(ctx, store.Commit{Partition: "p", Changes: []store.Change{
			put("counter", strconv.Itoa(n+1), records[0].Version),
		}})
		if !errors.Is(err, store.ErrConflict) {
			return n + 1, err
		}
	}
}

// createTogether has goroutines create one record, each through the next of the stores.
func createTogether(t *testing.T, stores ...store.Store) {
	t.Helper()
	for n := range 10 {
		together(t, 20, stores, func(s store.Store) error {
			_, err := s.Commit(t.Context(), store.Commit{Partition: "p", Changes: []store.Change{put(strconv.Itoa(n), "1", 0)}})
			return err
		})
	}
}

// together calls try from many goroutines at once. One must succeed, all others must get ErrConflict.
func together(t *testing.T, goroutines int, stores []store.Store, try func(store.Store) error) {
	t.Helper()
	var all sync.WaitGroup
	var won atomic.Int32
	start := make(chan struct{})
	for i := range goroutines {
		all.Go(func() {
			<-start
			switch err := try(stores[i%len(stores)]); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, store.ErrConflict):
				t.Errorf("got %v, want %v", err, store.ErrConflict)
			}
		})
	}
	close(start)
	all.Wait()
	if won.Load() != 1 {
		t.Fatalf("%d succeeded", won.Load())
	}
}

var watchTests = []contractTest{
	{"changed has been called when Commit returns", func(t *testing.T, s store.Store) {
		var told tally
		defer s.Watch(told.add)()
		for n := range 20 {
			partition := strconv.Itoa(n)
			notify(t, s, partition)
			if told.count(partition) == 0 {
				t.Fatalf("partition %s was not told", partition)
			}
		}
	}},
	{"every watcher is called", func(t *testing.T, s store.Store) {
		var one, two tally
		defer s.Watch(one.add)()
		defer s.Watch(two.add)()
		notify(t, s, "p")
		if one.count("p") == 0 || two.count("p") == 0 {
			t.Errorf("told %d and %d times", one.count("p"), two.count("p"))
		}
	}},
	{"a commit without Notify tells nobody", func(t *testing.T, s store.Store) {
		var told tally
		defer s.Watch(told.add)()
		commit(t, s, "silent", put("a", "1", 0))
		notify(t, s, "loud")
		if told.count("loud") == 0 || told.count("silent") != 0 {
			t.Errorf("told loud %d times, silent %d times", told.count("loud"), told.count("silent"))
		}
	}},
	{"a watcher that was stopped is not called again", func(t *testing.T, s store.Store) {
		var stopped, other tally
		stop := s.Watch(stopped.add)
		defer s.Watch(other.add)()
		stop()
		stop()
		notify(t, s, "p")
		if stopped.count("p") != 0 || other.count("p") == 0 {
			t.Errorf("told the stopped one %d times, the other %d times", stopped.count("p"), other.count("p"))
		}
	}},
	{"a watcher may stop itself", func(t *testing.T, s store.Store) {
		var told tally
		var stop func()
		ready := make(chan struct{})
		stop = s.Watch(func(partition string) {
			<-ready
			told.add(partition)
			stop()
		})
		close(ready)
		notify(t, s, "p")
		await(t, "it was told", func() bool { return told.total() > 0 })
		before := told.total()
		notify(t, s, "q")
		if told.count("q") != 0 {
			t.Errorf("told %d times, then %d times", before, told.total())
		}
	}},
	{"watchers come and go while others commit", func(t *testing.T, s store.Store) {
		var told tally
		defer s.Watch(told.add)()
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				for n := range 20 {
					stop := s.Watch(func(string) {})
					partition := strconv.Itoa(i) + "/" + strconv.Itoa(n)
					_, err := s.Commit(t.Context(), store.Commit{Partition: partition, Notify: true, Changes: []store.Change{put("a", "1", 0)}})
					if err != nil || told.count(partition) == 0 {
						t.Errorf("committing to %s: %v, told %d times", partition, err, told.count(partition))
					}
					stop()
				}
			})
		}
		all.Wait()
	}},
	{"a store in use is fresh, and stays it", func(t *testing.T, s store.Store) {
		// Except where the machine is so busy that it can't keep up.
		await(t, "it is fresh for a while", func() bool {
			awaitFresh(t, s)
			for begin := time.Now(); time.Since(begin) < 300*time.Millisecond; time.Sleep(time.Millisecond) {
				if !s.Fresh() {
					return false
				}
			}
			return true
		})
	}},
}

func notify(t *testing.T, s store.Store, partition string) {
	t.Helper()
	_, err := s.Commit(t.Context(), store.Commit{Partition: partition, Notify: true, Changes: []store.Change{put("a", "1", store.Any)}})
	if err != nil {
		t.Fatal(err)
	}
}

// tally counts what a watcher was told.
type tally struct {
	mu   sync.Mutex
	told map[string]int
}

func (a *tally) add(partition string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.told == nil {
		a.told = make(map[string]int)
	}
	a.told[partition]++
}

func (a *tally) count(partition string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.told[partition]
}

func (a *tally) total() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, times := range a.told {
		n += times
	}
	return n
}
