package bolt

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

const (
	// What is written together at most, so that nobody waits for long behind others.
	batchRequests = 1024
	batchBytes    = 8 << 20

	// provenFor is how long a write that succeeded answers for the next probe.
	provenFor = time.Second
)

// writer is the one goroutine that writes to the file. It writes what has queued up while it was waiting for the disk in one
// transaction of bbolt, and so waits for the disk once for all of it.
type writer struct {
	db       *bbolt.DB
	watchers *store.Watchers
	queue    chan *request
	ended    chan struct{}

	// bbolt shows a transaction to readers as soon as it is written, which is before it is on disk. So readers compare what they
	// have seen with the last transaction that is known to be on disk, and wait for it if it is older.
	durable atomic.Int64
	round   atomic.Pointer[chan struct{}] // the batch being written, or the last one; closed when it has ended
	proven  atomic.Pointer[time.Time]     // when a write last succeeded, nil after one that didn't

	// broken is set when bbolt panicked while it was writing: what it has in memory is not to be relied on any more.
	broken error
}

// request is one commit on its way. Without changes it only asks for a write to be made.
type request struct {
	commit store.Commit
	size   int
	state  atomic.Int32

	done     chan struct{} // closed when what is below is valid
	versions []store.Version
	err      error
}

// States of a request: who gives up and who takes it can't both succeed.
const (
	queued = iota
	taken
	abandoned
)

var errNothingToWrite = errors.New("nothing to write")

func newWriter(db *bbolt.DB, watchers *store.Watchers) *writer {
	w := &writer{db: db, watchers: watchers, queue: make(chan *request, batchRequests), ended: make(chan struct{})}
	db.View(func(tx *bbolt.Tx) error {
		w.durable.Store(int64(tx.ID()))
		return nil
	})
	go w.run()
	return w
}

// close ends the goroutine, which has no requests any more, and closes the file.
func (w *writer) close() error {
	close(w.queue)
	<-w.ended
	if w.broken != nil {
		return nil // bbolt may hold its own lock for ever; the file closes with the process
	}
	return w.db.Close()
}

// commit queues c and waits until it is on disk.
func (w *writer) commit(ctx context.Context, until time.Time, c store.Commit) ([]store.Version, error) {
	// The caller may use its slices again when this returns, and it may return before the request has been looked at.
	c.Changes = slices.Clone(c.Changes)
	size := 0
	for i := range c.Changes {
		c.Changes[i].Value = bytes.Clone(c.Changes[i].Value)
		size += len(c.Changes[i].Value)
	}
	r := &request{commit: c, size: size, done: make(chan struct{})}
	if err := w.submit(ctx, until, r); err != nil {
		return nil, err
	}
	return r.versions, r.err
}

// probe asks for a write, unless one has just succeeded.
func (w *writer) probe(ctx context.Context, until time.Time) error {
	if at := w.proven.Load(); at != nil && time.Since(*at) < provenFor {
		return nil
	}
	r := &request{done: make(chan struct{})}
	if err := w.submit(ctx, until, r); err != nil {
		return err
	}
	return r.err
}

func (w *writer) submit(ctx context.Context, until time.Time, r *request) error {
	const late = "the disk takes too long to write"
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case w.queue <- r:
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return unavailable(errors.New(late))
	}
	err := wait(ctx, until, r.done, late)
	if err != nil {
		r.state.CompareAndSwap(queued, abandoned)
	}
	return err
}

// awaitDurable waits until transaction is on disk.
func (w *writer) awaitDurable(ctx context.Context, until time.Time, transaction int) error {
	if int64(transaction) <= w.durable.Load() {
		return nil
	}
	// The transaction was seen, so the round that wrote it, or a later one, is there.
	if err := wait(ctx, until, *w.round.Load(), "the disk takes too long to write"); err != nil {
		return err
	}
	if int64(transaction) <= w.durable.Load() {
		return nil
	}
	// The disk failed after the transaction could be seen: nobody knows whether it will still be there after a crash. One more
	// write, if it succeeds, puts it there too.
	r := &request{done: make(chan struct{})}
	if err := w.submit(ctx, until, r); err != nil {
		return err
	}
	return r.err
}

func (w *writer) run() {
	defer close(w.ended)
	for first := range w.queue {
		if batch := w.collect(first); len(batch) > 0 {
			w.write(batch)
		}
	}
}

// collect takes what else is queued, without waiting for more.
func (w *writer) collect(first *request) []*request {
	var batch []*request
	size := 0
	take := func(r *request) {
		if r.state.CompareAndSwap(queued, taken) {
			batch, size = append(batch, r), size+r.size
		}
	}
	take(first)
	for len(batch) < batchRequests && size < batchBytes {
		select {
		case r, ok := <-w.queue:
			if !ok {
				return batch
			}
			take(r)
		default:
			return batch
		}
	}
	return batch
}

// write writes a batch, and tells those who wait for it. A request that fails leaves the others as they are.
func (w *writer) write(batch []*request) {
	round := make(chan struct{})
	w.round.Store(&round)
	transaction, err := w.update(batch)
	switch {
	case err == nil:
		now := time.Now()
		w.proven.Store(&now)
		w.durable.Store(int64(transaction))
	case err != errNothingToWrite:
		w.proven.Store(nil)
	}
	close(round)
	for _, r := range batch {
		// Also a conflict is worth nothing then: it may have been one with another request of the batch.
		if err != nil && err != errNothingToWrite {
			r.versions, r.err = nil, unavailable(err)
		}
		// What failed on disk may yet turn out to have happened.
		if r.commit.Notify && !errors.Is(r.err, store.ErrConflict) {
			w.watchers.Notify(r.commit.Partition)
		}
		close(r.done)
	}
}

func (w *writer) update(batch []*request) (transaction int, err error) {
	if w.broken != nil {
		return 0, w.broken
	}
	panicked := true
	err = safely(func() error {
		err := w.db.Update(func(tx *bbolt.Tx) error {
			transaction = tx.ID()
			return w.apply(tx, batch)
		})
		panicked = false
		return err
	})
	if panicked {
		w.broken = err
	}
	return transaction, err
}

func (w *writer) apply(tx *bbolt.Tx, batch []*request) error {
	t := &transaction{
		records:  tx.Bucket(recordsBucket),
		expiries: tx.Bucket(expiriesBucket),
		now:      time.Now(),
	}
	// A transaction that failed after it became visible has to be followed by one that succeeds, whoever asks first.
	write := int64(tx.ID()-1) > w.durable.Load()
	changes := 0
	for _, r := range batch {
		var wrote bool
		var err error
		r.versions, wrote, r.err, err = t.commit(r.commit)
		if err != nil {
			return err
		}
		write = write || wrote || len(r.commit.Changes) == 0
		changes += len(r.commit.Changes)
	}
	if !write {
		return errNothingToWrite
	}
	// More than the batch can have added, so what has expired becomes less with every batch, at a cost that it bounds.
	return t.sweep(2*changes + 1)
}

// transaction is what commits are applied to.
type transaction struct {
	records, expiries *bbolt.Bucket
	now               time.Time
}

// commit applies c. It looks before it writes, so one that is refused has written nothing. An error that concerns the whole
// transaction is fatal.
func (t *transaction) commit(c store.Commit) (versions []store.Version, wrote bool, refused, fatal error) {
	type line struct {
		key []byte
		old store.Record // with a zero version if there is none, but possibly expired
	}
	lines := make([]line, len(c.Changes))
	for i, ch := range c.Changes {
		lines[i].key = recordKey(c.Partition, ch.Key)
		if b := t.records.Get(lines[i].key); b != nil {
			r, err := store.Unmarshal(ch.Key, b)
			if err != nil {
				return nil, false, unavailable(err), nil
			}
			lines[i].old = r
		}
		there := lines[i].old.Version
		if lines[i].old.Gone(t.now) {
			there = 0
		}
		if ch.If != store.Any && ch.If != there {
			return nil, false, store.ErrConflict, nil
		}
	}
	versions = make([]store.Version, len(c.Changes))
	for i, ch := range c.Changes {
		key, old := lines[i].key, lines[i].old
		if ch.Op == store.Expect {
			continue
		}
		wrote = true
		if old.Version != 0 && !old.Expires.IsZero() {
			if err := t.expiries.Delete(expiryKey(old.Expires, key)); err != nil {
				return nil, false, nil, err
			}
		}
		if ch.Op == store.Delete {
			if err := t.records.Delete(key); err != nil {
				return nil, false, nil, err
			}
			continue
		}
		// The sequence is part of the file, and goes up with every put in it, so no version comes twice.
		next, err := t.records.NextSequence()
		if err != nil {
			return nil, false, nil, err
		}
		versions[i] = store.Version(next)
		r := ch.Record(versions[i])
		if err := t.records.Put(key, r.Marshal()); err != nil {
			return nil, false, nil, err
		}
		if !r.Expires.IsZero() {
			if err := t.expiries.Put(expiryKey(r.Expires, key), nil); err != nil {
				return nil, false, nil, err
			}
		}
	}
	return versions, wrote, nil, nil
}

// sweep removes up to n records that have expired.
func (t *transaction) sweep(n int) error {
	var expired [][]byte
	c := t.expiries.Cursor()
	end := expiryKey(t.now.Add(time.Millisecond), nil) // what expires at now is gone too
	for k, _ := c.First(); k != nil && len(expired) < n && bytes.Compare(k, end) < 0; k, _ = c.Next() {
		expired = append(expired, bytes.Clone(k))
	}
	for _, k := range expired {
		if err := t.expiries.Delete(k); err != nil {
			return err
		}
		if err := t.records.Delete(k[expiryLen:]); err != nil {
			return err
		}
	}
	return nil
}
