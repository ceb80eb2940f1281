package bolt

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/caddy-mfa/caddy-mfa/internal/clocktest"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

func put(key string, old store.Version) store.Change {
	return store.Change{Key: key, If: old, Value: []byte("1")}
}

func TestCommitsThatWaitTogetherAreWrittenTogether(t *testing.T) {
	s := newStore(t, filepath.Join(t.TempDir(), "store"))
	w := opened(t, s).writer
	before := transactions(t, s)
	outcomes := make(map[string]error)
	release := holdWriter(t, s)
	var mu sync.Mutex
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			key, change := strconv.Itoa(i), put(strconv.Itoa(i), 0)
			if i%3 == 0 {
				change.If = 4711 // there is no such version
			}
			_, err := s.Commit(t.Context(), store.Commit{Partition: "p", Changes: []store.Change{change, put("with "+key, 0)}})
			mu.Lock()
			defer mu.Unlock()
			outcomes[key] = err
		})
	}
	awaitQueued(t, w, 100)
	release()
	all.Wait()
	for i := range 100 {
		key := strconv.Itoa(i)
		want := error(nil)
		if i%3 == 0 {
			want = store.ErrConflict
		}
		records, err := s.Get(t.Context(), "p", key, "with "+key)
		if err != nil || !errors.Is(outcomes[key], want) || (records[0].Version == 0) != (want != nil) || (records[1].Version == 0) != (want != nil) {
			t.Errorf("commit %d: got %v, want %v; then %+v, %v", i, outcomes[key], want, records, err)
		}
	}
	// One for what was held, one or two for the rest.
	if n := transactions(t, s) - before; n > 4 {
		t.Errorf("100 commits took %d transactions", n)
	}
}

func TestCommitOfOneKeyInOneBatchSucceedsOnce(t *testing.T) {
	s := newStore(t, filepath.Join(t.TempDir(), "store"))
	w := opened(t, s).writer
	release := holdWriter(t, s)
	var all sync.WaitGroup
	won := make(chan int, 50)
	for i := range 50 {
		all.Go(func() {
			_, err := s.Commit(t.Context(), store.Commit{Partition: "p", Changes: []store.Change{put("a", 0)}})
			switch {
			case err == nil:
				won <- i
			case !errors.Is(err, store.ErrConflict):
				t.Error(err)
			}
		})
	}
	awaitQueued(t, w, 50)
	release()
	all.Wait()
	if len(won) != 1 {
		t.Errorf("%d succeeded", len(won))
	}
}

func TestConflictsAndExpectationsDontWrite(t *testing.T) {
	s := newStore(t, filepath.Join(t.TempDir(), "store"))
	opened(t, s)
	before := transactions(t, s)
	for range 10 {
		_, err := s.Commit(t.Context(), store.Commit{Partition: "p", Changes: []store.Change{put("a", 1)}})
		if !errors.Is(err, store.ErrConflict) {
			t.Fatal(err)
		}
		_, err = s.Commit(t.Context(), store.Commit{Partition: "p", Changes: []store.Change{{Key: "a", Op: store.Expect}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	if after := transactions(t, s); after != before {
		t.Errorf("%d transactions were written", after-before)
	}
}

func TestCommitThatIsGivenUpWhileItWaitsDoesNotHappen(t *testing.T) {
	s := newStore(t, filepath.Join(t.TempDir(), "store"))
	w := opened(t, s).writer
	release := holdWriter(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := s.Commit(ctx, store.Commit{Partition: "p", Changes: []store.Change{put("a", 0)}})
		done <- err
	}()
	awaitQueued(t, w, 1)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	release()
	if _, err := s.Commit(t.Context(), store.Commit{Partition: "p", Changes: []store.Change{put("a", 0)}}); err != nil {
		t.Error(err)
	}
}

func TestOperationsDontWaitLongerThanASecond(t *testing.T) {
	s := newStore(t, filepath.Join(t.TempDir(), "store"))
	w := opened(t, s).writer
	release := holdWriter(t, s)
	s.patience = patience
	w.proven.Store(nil)
	for name, do := range map[string]func() error{
		"Commit": func() error {
			_, err := s.Commit(t.Context(), store.Commit{Partition: "p", Changes: []store.Change{put("a", 0)}})
			return err
		},
		"Ping": func() error { return s.Ping(t.Context()) },
	} {
		elapsed := clocktest.Running(t)
		if err := do(); !errors.Is(err, store.ErrUnavailable) || elapsed() > 2*time.Second {
			t.Errorf("%s: got %v after %v", name, err, elapsed())
		}
	}
	if _, err := s.Get(t.Context(), "p", "a"); err != nil {
		t.Errorf("reading while the disk is busy: %v", err)
	}
	s.patience = time.Minute
	release()
	if err := s.Ping(t.Context()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// bbolt shows what is written before it is on disk. A reader that has seen it must not act on it.
func TestReadersWaitUntilWhatTheySawIsOnDisk(t *testing.T) {
	s := newStore(t, filepath.Join(t.TempDir(), "store"))
	w := opened(t, s).writer
	commit(t, s, put("a", 0))

	// As if the disk had failed after the last transaction could be seen.
	seen := w.durable.Load()
	w.durable.Store(seen - 1)
	before := transactions(t, s)
	if records, err := s.Get(t.Context(), "p", "a"); err != nil || records[0].Version == 0 {
		t.Errorf("got %+v, %v", records, err)
	}
	if after := transactions(t, s); after != before+1 || w.durable.Load() != int64(after) {
		t.Errorf("%d transactions were written to put it on disk, %d is known to be there", after-before, w.durable.Load())
	}

	// As if a transaction were being put on disk.
	w.durable.Add(-1)
	round := make(chan struct{})
	w.round.Store(&round)
	read := make(chan error)
	go func() {
		_, err := s.List(t.Context(), "p", "")
		read <- err
	}()
	select {
	case err := <-read:
		t.Errorf("read what is not on disk yet (%v)", err)
	case <-time.After(50 * time.Millisecond):
	}
	w.durable.Add(1)
	close(round)
	if err := <-read; err != nil {
		t.Error(err)
	}
}

func TestExpiredRecordsAreRemovedByLaterCommits(t *testing.T) {
	s := newStore(t, filepath.Join(t.TempDir(), "store"))
	fill(t, s, 1000, 100, time.Now().Add(-time.Hour))
	fill(t, s, 100, 100, time.Now().Add(time.Hour))
	commit(t, s, put("stays", 0))
	for range 400 {
		commit(t, s, put("stays", store.Any))
	}
	records, expiries := stored(t, s)
	if records != 101 || expiries != 100 {
		t.Errorf("the file holds %d records, %d of them expiring", records, expiries)
	}
	for range 30 { // renewed, made to stay, deleted
		fill(t, s, 100, 100, time.Now().Add(2*time.Hour))
	}
	if records, expiries := stored(t, s); records != 101 || expiries != 100 {
		t.Errorf("after being renewed: the file holds %d records, %d of them expiring", records, expiries)
	}
	fill(t, s, 100, 100, time.Time{})
	if records, expiries := stored(t, s); records != 101 || expiries != 0 {
		t.Errorf("after being made to stay: the file holds %d records, %d of them expiring", records, expiries)
	}
	if err := errors.Join(s.Close(), verifyFile(s.path)); err != nil {
		t.Error(err)
	}
}

func TestExpiredRecordsAreRemovedAtABoundedCost(t *testing.T) {
	for life := time.Second; ; life *= 2 {
		s := newStore(t, filepath.Join(t.TempDir(), "store"))
		soon := time.Now().Add(life)
		for begin := 0; begin < 5000; begin += 1000 {
			var changes []store.Change
			for i := range 1000 {
				changes = append(changes, store.Change{Key: strconv.Itoa(begin + i), Expires: soon})
			}
			commit(t, s, changes...)
		}
		if !time.Now().Before(soon) {
			continue // filling has taken longer than they live
		}
		for len(list(t, s)) > 0 {
			time.Sleep(10 * time.Millisecond)
		}
		for n := range 10 {
			commit(t, s, put("a", store.Any))
			if records, _ := stored(t, s); records != 5001-3*(n+1) {
				t.Errorf("%d records after %d commits", records, n+1)
			}
		}
		return
	}
}

func list(t *testing.T, s *Store) []store.Record {
	t.Helper()
	records, err := s.List(t.Context(), "p", "")
	if err != nil {
		t.Fatal(err)
	}
	return records
}

func TestCloseWaitsForRunningOperations(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	s := newStore(t, path)
	opened(t, s)
	release := holdWriter(t, s)
	committed := make(chan error)
	go func() {
		_, err := s.Commit(t.Context(), store.Commit{Partition: "p", Changes: []store.Change{put("a", 0)}})
		committed <- err
	}()
	awaitQueued(t, s.file.Load().writer, 1)
	closed := make(chan error)
	go func() { closed <- s.Close() }()
	for !s.closing.Load() {
		runtime.Gosched()
	}
	if _, err := s.Get(t.Context(), "p", "a"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("reading from a store that is closing: %v", err)
	}
	select {
	case err := <-closed:
		t.Errorf("closed before the commit had ended (%v)", err)
	case <-time.After(50 * time.Millisecond):
	}
	release()
	if err := <-committed; err != nil {
		t.Errorf("the commit: %v", err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if records, err := newStore(t, path).Get(t.Context(), "p", "a"); err != nil || records[0].Version == 0 {
		t.Errorf("after opening it again: %+v, %v", records, err)
	}
}

func TestCloseLeavesNoGoroutines(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 10 {
		s := newPatient(filepath.Join(t.TempDir(), "store"))
		s.Watch(func(string) {})
		commit(t, s, put("a", 0))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(time.Minute); runtime.NumGoroutine() > before; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

func TestCommitThatBboltPanicsInIsTheLast(t *testing.T) {
	s := newStore(t, filepath.Join(t.TempDir(), "store"))
	w := opened(t, s).writer
	commit(t, s, put("a", 0))
	w.broken = errors.New("it broke") // the writer is idle, and reads this with the next request
	_, err := s.Commit(t.Context(), store.Commit{Partition: "p", Changes: []store.Change{put("b", 0)}})
	if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "it broke") {
		t.Errorf("got %v", err)
	}
	if records, err := s.Get(t.Context(), "p", "a"); err != nil || records[0].Version == 0 {
		t.Errorf("reading: %+v, %v", records, err)
	}
	w.broken = nil // so that the file is closed
}

// opened opens s and returns what that gives.
func opened(t *testing.T, s *Store) *file {
	t.Helper()
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s.file.Load()
}

func commit(t *testing.T, s *Store, changes ...store.Change) {
	t.Helper()
	if _, err := s.Commit(t.Context(), store.Commit{Partition: "p", Changes: changes}); err != nil {
		t.Fatal(err)
	}
}

// holdWriter makes the writer wait as if for the disk, until release is called.
func holdWriter(t *testing.T, s *Store) (release func()) {
	t.Helper()
	held, free := make(chan struct{}), make(chan struct{})
	var once sync.Once
	stop := s.Watch(func(partition string) {
		if partition == "held" {
			close(held)
			<-free
		}
	})
	done := make(chan error, 1)
	go func() {
		_, err := s.Commit(context.Background(), store.Commit{Partition: "held", Notify: true, Changes: []store.Change{put("a", store.Any)}})
		done <- err
	}()
	<-held
	release = func() {
		once.Do(func() {
			stop()
			close(free)
			if err := <-done; err != nil {
				t.Errorf("the commit that was held: %v", err)
			}
		})
	}
	t.Cleanup(release)
	return release
}

func awaitQueued(t *testing.T, w *writer, n int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); len(w.queue) < n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d requests are queued, not %d", len(w.queue), n)
		}
	}
}

// transactions is the number of the last transaction in the file.
func transactions(t *testing.T, s *Store) int {
	t.Helper()
	last := 0
	if err := opened(t, s).db.View(func(tx *bbolt.Tx) error { last = tx.ID(); return nil }); err != nil {
		t.Fatal(err)
	}
	return last
}

// stored counts what is in the file.
func stored(t *testing.T, s *Store) (records, expiries int) {
	t.Helper()
	err := opened(t, s).db.View(func(tx *bbolt.Tx) error {
		for name, n := range map[string]*int{string(recordsBucket): &records, string(expiriesBucket): &expiries} {
			if err := tx.Bucket([]byte(name)).ForEach(func(_, _ []byte) error { *n++; return nil }); err != nil {
				return fmt.Errorf("bucket %s: %w", name, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return records, expiries
}
