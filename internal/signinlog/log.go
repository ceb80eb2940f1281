// Package signinlog keeps sign-ins in a store, for a time and up to a number, and finds them again.
//
// # Writing
//
// Add never waits and never fails: what it takes is written by Run a moment later. While the store doesn't answer, a bounded number
// waits in memory, and a batch is tried again for two minutes; what is lost is counted. What was not written yet when the process
// is killed is lost uncounted.
//
// # Floods
//
// Three classes of sign-ins have room of their own: those in which something was proven, those that failed for a user who exists,
// and those that failed for nobody known. A class may fill what the others leave free, and is the first to lose its oldest
// records when it holds more than its share. So nobody without a password can push out the record of a sign-in. Beyond that, of the
// sign-ins of one kind only so many a minute are kept one by one; one more record stands for the others, and says how many they were.
//
// # Layout
//
// Records lie in chunks. A chunk is a partition signins/<class>/<id> of at most a few hundred records, in batches. The partition
// signins is the index: a record <class>/<id> for each chunk says how many sign-ins it holds, from when until when, and of whom.
// Every process writes to the newest chunk until it is full. It counts a batch in the index first, and then puts it into the chunk:
// the index may say too much, and never too little. Whoever opens a chunk removes the oldest ones until there is room for it.
package signinlog

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

const (
	// MaxQueue is how many sign-ins wait in memory at most.
	MaxQueue = 4096

	// patience is for how long a batch is tried again while the store doesn't answer.
	patience = 2 * time.Minute

	// flushPatience is for how long what is queued is written at the end.
	flushPatience = 5 * time.Second

	// maxBatch is how many sign-ins are written together. With each at its largest, they fit into one value of a store.
	maxBatch = 64

	trimInterval = time.Hour
)

// Settings say how much is kept.
type Settings struct {
	Keep time.Duration // for how long
	Max  int           // how many sign-ins

	Log     *slog.Logger
	Dropped func(n int) // is told when n sign-ins could not be kept; must not block
}

// Log is a log of sign-ins. Its methods are safe for concurrent use.
type Log struct {
	store    store.Store
	settings Settings
	wake     chan struct{} // something was queued

	mu     sync.Mutex
	queue  []entry
	window window
	ended  bool // Run has returned

	// What only Run touches.
	current [classes]string // the chunk that was written to last, by class
	trimmed time.Time       // when everything that was too much had gone
	encoder encoder
}

// entry is a sign-in on its way.
type entry struct {
	class  class
	signIn audit.SignIn
}

// New makes a log in s. Nothing is written before Run runs.
func New(s store.Store, settings Settings) *Log {
	if settings.Log == nil {
		settings.Log = slog.New(slog.DiscardHandler)
	}
	if settings.Dropped == nil {
		settings.Dropped = func(int) {}
	}
	return &Log{store: s, settings: settings, wake: make(chan struct{}, 1)}
}

// Add takes a sign-in, to be written soon. It does not block. Texts that are longer than anything honest are cut.
func (l *Log) Add(r audit.SignIn) {
	now := time.Now()
	e := entry{classOf(&r), cut(r)}
	if e.signIn.Created.IsZero() {
		e.signIn.Created = now.UTC()
	}
	l.mu.Lock()
	dropped := l.push(l.window.roll(now)...)
	if l.window.admit(e, now) {
		dropped += l.push(e)
	}
	l.mu.Unlock()
	l.drop(dropped)
}

// push queues what there is room for, and says how many there was none for. It is called under the lock.
func (l *Log) push(entries ...entry) (dropped int) {
	if l.ended {
		return len(entries)
	}
	room := min(len(entries), MaxQueue-len(l.queue))
	l.queue = append(l.queue, entries[:room]...)
	if room > 0 {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
	return len(entries) - room
}

func (l *Log) drop(n int) {
	if n > 0 {
		l.settings.Dropped(n)
	}
}

// take gives the next sign-ins that can be written together.
func (l *Log) take() *batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		return nil
	}
	b := &batch{class: l.queue[0].class}
	l.queue = slices.DeleteFunc(l.queue, func(e entry) bool {
		if e.class != b.class || len(b.signIns) == maxBatch {
			return false
		}
		b.signIns = append(b.signIns, e.signIn)
		return true
	})
	return b
}

// Run writes what is added until ctx ends, and then what is left, for a few seconds at most. It is called once.
func (l *Log) Run(ctx context.Context) {
	tick := time.NewTicker(windowLength)
	defer tick.Stop()
	l.trim(ctx)
	for {
		for b := l.take(); b != nil; b = l.take() {
			if !l.write(ctx, b, patience) {
				l.flush(ctx, b)
				return
			}
		}
		select {
		case <-ctx.Done():
			l.flush(ctx, nil)
			return
		case <-l.wake:
		case now := <-tick.C:
			l.mu.Lock()
			dropped := l.push(l.window.roll(now)...)
			l.mu.Unlock()
			l.drop(dropped)
			if now.Sub(l.trimmed) >= trimInterval {
				l.trim(ctx)
			}
		}
	}
}

// flush writes b and what is queued, after ctx has ended.
func (l *Log) flush(ctx context.Context, b *batch) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushPatience)
	defer cancel()
	l.mu.Lock()
	dropped := l.push(l.window.close()...)
	l.ended = true
	l.mu.Unlock()
	if b == nil {
		b = l.take()
	}
	for ; b != nil; b = l.take() {
		if !l.write(ctx, b, flushPatience) {
			dropped += len(b.signIns)
		}
	}
	if dropped > 0 {
		l.settings.Log.Error("sign-ins could not be kept at the end", "count", dropped)
	}
	l.drop(dropped)
}

// write writes a batch, and tries again while the store doesn't answer. It says false when ctx has ended before the batch was
// written; one that was given up counts as written.
func (l *Log) write(ctx context.Context, b *batch, patience time.Duration) bool {
	begun := time.Now()
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		if ctx.Err() != nil {
			return false
		}
		// A write is not broken off by the end: whether it has happened could not be told.
		err := l.append(context.WithoutCancel(ctx), b)
		if err == nil {
			return true
		}
		if !errors.Is(err, store.ErrUnavailable) || time.Since(begun) >= patience {
			l.settings.Log.Error("sign-ins could not be kept", "count", len(b.signIns), "error", err)
			l.drop(len(b.signIns))
			return true
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}
