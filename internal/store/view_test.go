package store

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// toldStore is a memory store that can stop telling of changes.
type toldStore struct {
	*Memory
	stale atomic.Bool
}

func (s *toldStore) Fresh() bool { return !s.stale.Load() && s.Memory.Fresh() }

type viewFixture struct {
	t     testing.TB
	store *toldStore
	view  *View[string]
	loads atomic.Int64
	hold  func() // called between reading the store and returning
}

func newViewFixture(t testing.TB) *viewFixture {
	f := &viewFixture{t: t, store: &toldStore{Memory: NewMemory()}}
	f.view = NewView(f.store, 100, func(ctx context.Context, partition, key string) (string, error) {
		f.loads.Add(1)
		records, err := f.store.Get(ctx, partition, key)
		if err != nil {
			return "", err
		}
		if f.hold != nil {
			f.hold()
		}
		return string(records[0].Value), nil
	})
	return f
}

func (f *viewFixture) put(partition, value string, notify bool) {
	f.t.Helper()
	if _, err := f.store.Commit(context.Background(), Commit{Partition: partition, Notify: notify, Changes: []Change{{Key: "k", If: Any, Value: []byte(value)}}}); err != nil {
		f.t.Fatal(err)
	}
}

func (f *viewFixture) want(partition, value string) {
	f.t.Helper()
	if got, err := f.view.Get(context.Background(), partition, "k", time.Minute); err != nil || got != value {
		f.t.Fatalf("%s: %q, %v; want %q", partition, got, err, value)
	}
}

func TestViewReadsOnceUntilAPartitionChanges(t *testing.T) {
	f := newViewFixture(t)
	f.put("a", "1", true)
	f.put("b", "1", true)
	for range 10 {
		f.want("a", "1")
		f.want("b", "1")
	}
	if n := f.loads.Load(); n != 2 {
		t.Fatalf("%d reads", n)
	}
	f.put("a", "2", true)
	f.want("a", "2")
	f.want("b", "1")
	if n := f.loads.Load(); n > 4 { // b's shard may be a's
		t.Fatalf("%d reads", n)
	}
	if hits, misses := f.view.Counts(); hits < 18 || misses < 3 {
		t.Fatalf("%d hits, %d misses", hits, misses)
	}
}

func TestViewTrustsNothingWhileTheStoreTellsNothing(t *testing.T) {
	f := newViewFixture(t)
	f.put("a", "1", true)
	f.want("a", "1")
	f.store.stale.Store(true)
	f.put("a", "2", false)
	f.want("a", "2")
	f.put("a", "3", false)
	f.want("a", "3")
	// When it tells again, it first says that anything may have changed.
	f.view.changed("")
	f.store.stale.Store(false)
	f.want("a", "3")
}

func TestViewForgetsWhatIsTooOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newViewFixture(t)
		f.put("a", "1", true)
		f.want("a", "1")
		f.put("a", "2", false)
		time.Sleep(time.Minute - 1)
		f.want("a", "1")
		time.Sleep(time.Nanosecond)
		f.want("a", "2")
	})
}

func TestViewKeepsNothingThatChangedWhileItWasRead(t *testing.T) {
	f := newViewFixture(t)
	f.put("a", "1", true)
	f.hold = func() {
		f.hold = nil
		f.put("a", "2", true) // after "1" was read, and before it is kept
	}
	f.want("a", "1")
	f.want("a", "2")
}

func TestViewKeepsNoErrors(t *testing.T) {
	f := newViewFixture(t)
	fault := errors.New("fault")
	f.view.load = func(context.Context, string, string) (string, error) { return "", fault }
	for range 2 {
		if _, err := f.view.Get(context.Background(), "a", "k", time.Minute); err != fault {
			t.Fatal(err)
		}
	}
	f.view.load = func(context.Context, string, string) (string, error) { return "1", nil }
	f.want("a", "1")
}

func TestViewWithoutAnAgeReadsThrough(t *testing.T) {
	f := newViewFixture(t)
	f.put("a", "1", true)
	for range 3 {
		if got, err := f.view.Get(context.Background(), "a", "k", 0); err != nil || got != "1" {
			t.Fatal(got, err)
		}
	}
	if n := f.loads.Load(); n != 3 {
		t.Fatalf("%d reads", n)
	}
}

func TestClosedViewReadsThrough(t *testing.T) {
	f := newViewFixture(t)
	f.put("a", "1", true)
	f.want("a", "1")
	f.view.Close()
	f.put("a", "2", true)
	f.want("a", "2")
}

func TestPlaceIsNotTrustedForLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newViewFixture(t)
		place := f.view.Place("a", "k")
		want := func(value string) {
			t.Helper()
			if got, err := f.view.At(context.Background(), place, time.Minute); err != nil || got != value {
				t.Fatalf("%q, %v; want %q", got, err, value)
			}
		}
		f.put("a", "1", true)
		want("1")
		f.put("a", "2", true) // told
		want("2")
		f.put("a", "3", false) // not told
		want("2")
		time.Sleep(time.Minute)
		want("3")
		f.put("a", "4", false)
		f.view.Forget("a")
		want("4")
		f.put("a", "5", false)
		f.store.stale.Store(true)
		want("5")
		f.store.stale.Store(false)
		f.view.cache.InvalidateAll() // there is room for others
		f.put("a", "6", true)
		want("6")
		f.view.Close()
		f.put("a", "7", true)
		want("7")
	})
}

func TestPlaceOfAnotherViewHoldsNothing(t *testing.T) {
	f, other := newViewFixture(t), newViewFixture(t)
	other.put("a", "theirs", true)
	other.want("a", "theirs")
	f.put("a", "mine", true)
	if got, err := f.view.At(context.Background(), other.view.Place("a", "k"), time.Minute); err != nil || got != "mine" {
		t.Fatal(got, err)
	}
}

func TestViewNeverGoesBack(t *testing.T) {
	f := newViewFixture(t)
	f.put("a", "0", true)
	var written atomic.Int64
	var wg sync.WaitGroup
	done := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				least := written.Load()
				got, err := f.view.Get(context.Background(), "a", "k", time.Minute)
				n, numErr := strconv.ParseInt(got, 10, 64)
				if err != nil || numErr != nil || n < least {
					t.Errorf("read %q after %d was written: %v", got, least, err)
					return
				}
			}
		})
	}
	for n := range int64(2000) {
		f.put("a", strconv.FormatInt(n, 10), true)
		written.Store(n)
	}
	close(done)
	wg.Wait()
}

func TestModifyStartsAgainUntilItWins(t *testing.T) {
	s := NewMemory()
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			err := Modify(context.Background(), s, "p", []string{"n"}, false, func(records []Record) ([]Change, error) {
				n, _ := strconv.Atoi(string(records[0].Value)) // absent is zero
				return []Change{{Key: "n", If: records[0].Version, Value: []byte(strconv.Itoa(n + 1))}}, nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	records, err := s.Get(context.Background(), "p", "n")
	if err != nil || string(records[0].Value) != "100" {
		t.Fatalf("%s, %v", records[0].Value, err)
	}
}

func TestModifyEndsWithItsContextAndItsOwnError(t *testing.T) {
	s := NewMemory()
	mine := errors.New("mine")
	if err := Modify(context.Background(), s, "p", []string{"n"}, false, func([]Record) ([]Change, error) { return nil, mine }); err != mine {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	err := Retry(ctx, func() error { cancel(); return ErrConflict })
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		if err := Retry(context.Background(), func() error { return ErrConflict }); !errors.Is(err, ErrUnavailable) {
			t.Fatalf("never wins: %v", err)
		}
	})
}

func BenchmarkView(b *testing.B) {
	f := newViewFixture(b)
	f.put("session/file/alice", "1", true)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.view.Get(context.Background(), "session/file/alice", "k", time.Minute); err != nil {
			b.Fatal(err)
		}
	}
}
