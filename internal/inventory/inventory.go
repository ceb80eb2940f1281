// Package inventory keeps who still uses legacy authentication: not each request, but what many of them have in common, with
// counts and with first and last seen.
//
// # Rows
//
// A row is a class, an application, the first folders of a path, a user, a family of clients and a network (/24, or /56). It counts
// what became of the requests, and what would have become of them without report mode.
//
// # Names
//
// People type passwords into the field for the name. So a name is kept as it is only if a directory knows it. Of any other the row
// has a mark, "(unknown 4f9k2m8q)": the same for the same name, keyed with a secret, and found again by whoever knows the name.
// Settings.ShowUnknown keeps them as they are, for applications whose users no directory knows.
//
// # Bounds
//
// Nobody can fill the store, whatever he sends. Names that no directory knows have room for MaxUnknown rows of a class and
// application, and for a quarter of all; a user whom one knows has room for MaxOfUser rows of a class and application, and then one
// more, without path, client and network. What has no room is counted in one row of its class and application, in which
// everything is Other. A row that is there is never taken for another one's sake.
//
// # Writing
//
// Add never waits and never fails. What it takes is counted in memory and written by Run a few seconds later; while the store
// doesn't answer, it is counted further, and tried again for as long as it takes. A batch is written with a number, so that one
// of which nobody knows whether it was written is not counted twice. Several processes add to the same rows. What was not
// written yet when the process is killed is lost.
package inventory

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

const (
	// MaxRows is how many rows are kept, besides one for each class and application.
	MaxRows = 10000

	// MaxUnknown is how many rows of a class and application are for names that no directory knows.
	MaxUnknown = 100

	// MaxOfUser is how many rows of a class and application are for one user.
	MaxOfUser = 32

	maxUnknowns = MaxRows / 4 // of all rows, for names that no directory knows
	maxDetailed = MaxRows / 2 // of all rows, for users with path, client and network; from there on a user has one row

	// maxIncoming bounds what is counted in memory before names are looked up; half of it is for names that were known a
	// moment ago, whatever else comes.
	maxIncoming = 8192

	// maxKnown bounds how many such names are remembered.
	maxKnown = 8192

	interval      = 5 * time.Second  // from write to write
	lookInterval  = 30 * time.Second // from one look at what other processes have written to the next, at least
	trimInterval  = time.Hour
	knownInterval = 10 * time.Minute
	maxPause      = 30 * time.Second // between two tries while the store doesn't answer

	// flushPatience is for how long what is left is written at the end.
	flushPatience = 5 * time.Second
)

// Settings say what is kept.
type Settings struct {
	Keep time.Duration // for how long after a row was last seen

	// Known finds the canonical name of a user whom a directory knows, by what was typed. It may take a while. Nil knows nobody.
	Known func(ctx context.Context, typed string) (canonical string, known bool)

	// Mark gives what stands for a name that no directory knows, with the newest key first and then with older ones. Nil: all
	// of them look the same.
	Mark func(name string) []string

	// ShowUnknown keeps such names as they are.
	ShowUnknown bool

	// Exceptions are those that are configured.
	Exceptions []ExceptionName

	Log     *slog.Logger
	Dropped func(n int) // is told when n sightings could not be kept; must not block
}

// Inventory keeps what it is told. Its methods are safe for concurrent use.
type Inventory struct {
	store    store.Store
	settings Settings
	process  string
	wake     chan struct{}

	mu       sync.Mutex
	incoming map[key]*tally
	uses     map[ExceptionName]*tally
	known    map[string]bool // names, as they were typed, that a directory knew a moment ago
	ended    bool            // Run has returned

	// What only Run touches.
	rows      rows
	dirty     map[key]*tally           // to be written
	dirtyUses map[ExceptionName]*tally // to be written
	batch     *batch                   // that was tried to be written
	sequence  int64
	looked    time.Time // when the rows in the store were read
	forgotten time.Time // when known was begun anew
	declared  time.Time // when the configured exceptions were written down
	failing   bool
}

// New makes an inventory in s. Nothing is written before Run runs.
func New(s store.Store, settings Settings) *Inventory {
	if settings.Log == nil {
		settings.Log = slog.New(slog.DiscardHandler)
	}
	if settings.Dropped == nil {
		settings.Dropped = func(int) {}
	}
	if settings.Known == nil {
		settings.Known = func(context.Context, string) (string, bool) { return "", false }
	}
	return &Inventory{
		store: s, settings: settings, process: rand.Text(), wake: make(chan struct{}, 1),
		incoming: map[key]*tally{}, uses: map[ExceptionName]*tally{}, known: map[string]bool{},
		dirty: map[key]*tally{}, dirtyUses: map[ExceptionName]*tally{},
	}
}

// Add takes a sighting, to be written soon. It does not block.
func (i *Inventory) Add(s Sighting) {
	at := s.At
	if at.IsZero() {
		at = time.Now()
	}
	at = at.UTC().Round(time.Millisecond)
	k := keyOf(&s)
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ended {
		i.settings.Dropped(1)
		return
	}
	t := i.incoming[k]
	if t == nil {
		room := maxIncoming / 2
		if k.known || i.known[k.user] {
			room = maxIncoming
		}
		if len(i.incoming) >= room {
			k = k.other()
		}
		if t = i.incoming[k]; t == nil {
			if len(i.incoming) >= 2*maxIncoming { // as many classes and applications there aren't
				i.settings.Dropped(1)
				return
			}
			t = &tally{}
			i.incoming[k] = t
		}
		if len(i.incoming) > maxIncoming/4 {
			select {
			case i.wake <- struct{}{}:
			default:
			}
		}
	}
	t.add(&s, at)
	if s.Exception != "" {
		name := NameException(s.Application, s.Exception)
		use := i.uses[name]
		if use == nil && len(i.uses) < maxIncoming {
			use = &tally{}
			i.uses[name] = use
		}
		if use != nil {
			use.add(&s, at)
		}
	}
}

// Run writes what is added until ctx ends, and then what is left, for a few seconds at most. It is called once.
func (i *Inventory) Run(ctx context.Context) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var next time.Time
	pause := interval
	for ctx.Err() == nil {
		i.fold(ctx)
		if now := time.Now(); !now.Before(next) {
			if err := i.write(context.WithoutCancel(ctx)); err != nil {
				next, pause = now.Add(pause), min(2*pause, maxPause)
			} else {
				pause = interval
			}
		}
		// In a flood, names are looked up at once, and still written every few seconds.
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				waiting = false
			case <-tick.C:
				waiting = false
			case <-i.wake:
				i.fold(ctx)
			}
		}
	}
	i.end(ctx)
}

// end writes what is left, after ctx has ended.
func (i *Inventory) end(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushPatience)
	defer cancel()
	i.mu.Lock()
	i.ended = true
	i.mu.Unlock()
	i.fold(ctx)
	for pause := 100 * time.Millisecond; i.write(ctx) != nil; pause *= 2 {
		select {
		case <-ctx.Done():
		case <-time.After(pause):
			continue
		}
		break
	}
	i.leave(ctx)
	var left uint64
	for _, t := range i.dirty {
		left += t.count
	}
	if i.batch != nil {
		for _, t := range i.batch.rows {
			left += t.count
		}
	}
	if left > 0 {
		i.settings.Log.Error("sightings of legacy authentication could not be kept at the end", "count", left)
		i.settings.Dropped(int(left))
	}
}

// write writes what is to be written. While the store doesn't answer, it is left for the next time.
func (i *Inventory) write(ctx context.Context) error {
	now := time.Now()
	if now.Sub(i.looked) >= trimInterval {
		i.look(ctx, now) // also to find out what has expired
	}
	i.declare(now)
	for {
		if i.batch == nil {
			i.batch = i.take()
		}
		if i.batch == nil {
			if i.failing {
				i.failing = false
				i.settings.Log.Info("the inventory of legacy authentication is written again")
			}
			return nil
		}
		err := i.commit(ctx, i.batch)
		if errors.Is(err, store.ErrUnavailable) || ctx.Err() != nil {
			if !i.failing {
				i.failing = true
				i.settings.Log.Warn("the inventory of legacy authentication can't be written now; it is counted further", "error", err)
			}
			return err
		}
		if err != nil {
			i.settings.Log.Error("sightings of legacy authentication could not be kept", "rows", len(i.batch.rows), "error", err)
			i.settings.Dropped(i.batch.count())
		}
		i.batch = nil
	}
}
