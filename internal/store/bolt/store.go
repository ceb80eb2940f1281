// Package bolt keeps state in one file, for a single process. It is the default store: nothing to install, nothing to configure.
//
// A commit is on disk when Commit returns, and is seen by nobody before. Commits that arrive while one is being written are
// written together, with one wait for the disk. The file is locked: a second process that opens it is refused.
package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

const (
	// patience bounds every operation; the contract allows one second.
	patience = 900 * time.Millisecond

	// retryAfter is how long a file that could not be opened isn't tried again by operations.
	retryAfter = time.Second
)

// Store is a store.Store in one file.
type Store struct {
	path     string
	patience time.Duration
	watchers store.Watchers

	// gate is held for reading by every operation, so that Close can wait for them. closing says that it is about to be taken,
	// so that operations needn't wait for it.
	gate    sync.RWMutex
	closing atomic.Bool

	mu      sync.Mutex
	opening *opening             // the last try
	file    atomic.Pointer[file] // once a try has succeeded
}

// opening is one try to open the file.
type opening struct {
	done  chan struct{} // closed when what is below is valid
	err   error
	ended time.Time
}

// file is an open file.
type file struct {
	db     *bbolt.DB
	writer *writer
	info   os.FileInfo
}

// New returns a store in the file at path, which is opened (and made, if there is none) by Open or by the first operation.
func New(path string) *Store {
	return &Store{path: path, patience: patience}
}

// Open implements store.Opener. A file that is refused is left as it is.
func (s *Store) Open(ctx context.Context) error {
	_, release, err := s.use(ctx, time.Time{})
	release()
	return err
}

// Close waits for running operations and closes the file. From then on every operation answers store.ErrUnavailable.
func (s *Store) Close() error {
	s.closing.Store(true)
	s.gate.Lock()
	defer s.gate.Unlock()
	if s.opening != nil {
		<-s.opening.done
	}
	f := s.file.Swap(nil)
	if f == nil {
		return nil
	}
	return f.writer.close()
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, partition string, keys ...string) ([]store.Record, error) {
	if err := store.CheckGet(partition, keys); err != nil {
		return nil, err
	}
	records := make([]store.Record, len(keys))
	err := s.read(ctx, func(stored *bbolt.Bucket, now time.Time) error {
		for i, key := range keys {
			records[i].Key = key
			b := stored.Get(recordKey(partition, key))
			if b == nil {
				continue
			}
			r, err := store.Unmarshal(key, b)
			if err != nil {
				return err
			}
			if !r.Gone(now) {
				records[i] = r
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return records, nil
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, partition, prefix string) ([]store.Record, error) {
	if err := store.CheckList(partition, prefix); err != nil {
		return nil, err
	}
	var records []store.Record
	err := s.read(ctx, func(stored *bbolt.Bucket, now time.Time) error {
		begin, nameLen := recordKey(partition, prefix), len(partition)+1
		for c, k, v := first(stored, begin); k != nil && bytes.HasPrefix(k, begin); k, v = c.Next() {
			r, err := store.Unmarshal(string(k[nameLen:]), v)
			if err != nil {
				return err
			}
			if !r.Gone(now) {
				records = append(records, r)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return records, nil
}

func first(b *bbolt.Bucket, seek []byte) (c *bbolt.Cursor, k, v []byte) {
	c = b.Cursor()
	k, v = c.Seek(seek)
	return c, k, v
}

// Commit implements store.Store.
func (s *Store) Commit(ctx context.Context, c store.Commit) ([]store.Version, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	until := time.Now().Add(s.patience)
	f, release, err := s.use(ctx, until)
	defer release()
	if err != nil {
		return nil, err
	}
	return f.writer.commit(ctx, until, c)
}

// Watch implements store.Store. It opens nothing.
func (s *Store) Watch(changed func(partition string)) (stop func()) {
	return s.watchers.Watch(changed)
}

// Fresh implements store.Store. The file is locked, so nobody else can change it while it is open.
func (s *Store) Fresh() bool {
	return s.file.Load() != nil && !s.closing.Load()
}

// Ping implements store.Store.
func (s *Store) Ping(ctx context.Context) error {
	until := time.Now().Add(s.patience)
	f, release, err := s.use(ctx, until)
	defer release()
	if err != nil {
		return err
	}
	if info, err := os.Stat(s.path); err != nil || !os.SameFile(info, f.info) {
		return unavailable(fmt.Errorf("the store file %s was removed or replaced, and what is written now ends with this process: put it back, or start the process again", s.path))
	}
	return f.writer.probe(ctx, until)
}

// read calls look with the bucket of records, and returns when what look has seen is on disk.
func (s *Store) read(ctx context.Context, look func(records *bbolt.Bucket, now time.Time) error) error {
	until := time.Now().Add(s.patience)
	f, release, err := s.use(ctx, until)
	defer release()
	if err != nil {
		return err
	}
	transaction := 0
	err = safely(func() error {
		return f.db.View(func(tx *bbolt.Tx) error {
			transaction = tx.ID()
			return look(tx.Bucket(recordsBucket), time.Now())
		})
	})
	if err != nil {
		return unavailable(err)
	}
	return f.writer.awaitDurable(ctx, until, transaction)
}

// use returns the open file, and opens it if necessary; release must be called when it isn't needed any more. A zero until asks
// for another try where one has just failed, and waits as long as that takes.
func (s *Store) use(ctx context.Context, until time.Time) (f *file, release func(), err error) {
	release = func() {}
	if err := ctx.Err(); err != nil {
		return nil, release, err
	}
	if !s.closing.Load() {
		s.gate.RLock()
		release = s.gate.RUnlock
	}
	if s.closing.Load() {
		return nil, release, unavailable(errors.New("it is closed"))
	}
	if f := s.file.Load(); f != nil {
		return f, release, nil
	}
	try := s.try(until.IsZero())
	if err := wait(ctx, until, try.done, "the file is still being opened"); err != nil {
		return nil, release, err
	}
	switch {
	case try.err != nil && until.IsZero():
		return nil, release, try.err // it is for an operator, who knows what isn't available
	case try.err != nil:
		return nil, release, unavailable(try.err)
	}
	return s.file.Load(), release, nil
}

// try returns the try to open the file that is going on, or was made a moment ago, or else begins one.
func (s *Store) try(again bool) *opening {
	s.mu.Lock()
	defer s.mu.Unlock()
	if try := s.opening; try != nil {
		select {
		case <-try.done:
			if try.err == nil || !again && time.Since(try.ended) < retryAfter {
				return try
			}
		default:
			return try
		}
	}
	try := &opening{done: make(chan struct{})}
	s.opening = try
	go func() {
		defer close(try.done)
		db, info, err := openFile(s.path)
		if err != nil {
			try.err, try.ended = err, time.Now()
			return
		}
		s.file.Store(&file{db, newWriter(db, &s.watchers), info})
	}()
	return try
}

// wait waits until done is closed, at most until then (zero: as long as it takes).
func wait(ctx context.Context, until time.Time, done <-chan struct{}, otherwise string) error {
	var late <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-late:
		return unavailable(errors.New(otherwise))
	}
}

// safely calls do. A page that can't be read, because it is damaged or because the disk gives an error, makes bbolt panic or the
// processor fault; that becomes an error too.
func safely(do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = damaged("%v", p)
		}
	}()
	return do()
}

func unavailable(err error) error {
	return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
}

var (
	_ store.Store  = (*Store)(nil)
	_ store.Opener = (*Store)(nil)
)
