package store

import (
	"context"
	"hash/maphash"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
)

// View keeps values that were computed from records, for as long as they are true: until the partition changes, by whichever
// process, until the store stops telling of changes, or until they are older than the caller accepts. It is safe for
// concurrent use, and takes no lock that all requests share.
type View[T any] struct {
	store Store
	load  func(ctx context.Context, partition, key string) (T, error)
	cache *otter.Cache[viewKey, *Place[T]]
	stop  func()

	closed atomic.Bool

	// A change to a partition makes everything untrue that was read before it. The partitions share these
	// counters by their hash, so that telling them costs no list of what is kept.
	seed    maphash.Seed
	changes [viewShards]atomic.Uint64

	hits, misses atomic.Uint64
}

const viewShards = 1 << 12

type viewKey struct{ partition, key string }

// Place is where a view keeps one value. It can be held on to, and then costs no look-up: what is in it is not trusted for longer.
type Place[T any] struct {
	view           *View[T]
	partition, key string
	changes        *atomic.Uint64 // of the partition
	entry          atomic.Pointer[viewEntry[T]]
}

type viewEntry[T any] struct {
	value   T
	changes uint64
	read    time.Time
}

// holds says whether the entry is true and young enough now, when its partition has changed so many times.
func (e *viewEntry[T]) holds(changes uint64, maxAge time.Duration) bool {
	return e != nil && e.changes == changes && time.Since(e.read) < maxAge // by the clock that is never set
}

// NewView makes a view that keeps at most size values of load, which reads the store. Close ends it.
func NewView[T any](s Store, size int, load func(ctx context.Context, partition, key string) (T, error)) *View[T] {
	v := &View[T]{
		store: s,
		load:  load,
		cache: otter.Must(&otter.Options[viewKey, *Place[T]]{MaximumSize: size}),
		seed:  maphash.MakeSeed(),
	}
	v.stop = s.Watch(v.changed)
	return v
}

// Close stops watching the store. A closed view reads through.
func (v *View[T]) Close() {
	v.closed.Store(true)
	v.stop()
	v.cache.InvalidateAll()
}

func (v *View[T]) changed(partition string) {
	if partition != "" {
		v.shard(partition).Add(1)
		return
	}
	for i := range v.changes {
		v.changes[i].Add(1)
	}
}

func (v *View[T]) shard(partition string) *atomic.Uint64 {
	return &v.changes[maphash.String(v.seed, partition)%viewShards]
}

// Place gives the place of a key.
func (v *View[T]) Place(partition, key string) *Place[T] {
	k := viewKey{partition, key}
	if p, ok := v.cache.GetIfPresent(k); ok {
		return p
	}
	p, _ := v.cache.SetIfAbsent(k, &Place[T]{view: v, partition: partition, key: key, changes: v.shard(partition)})
	return p
}

// Get gives the value for a key, as At does for its place.
func (v *View[T]) Get(ctx context.Context, partition, key string, maxAge time.Duration) (T, error) {
	return v.At(ctx, v.Place(partition, key), maxAge)
}

// At gives the value for a place, from what is kept if that is true and was read less than maxAge ago, else from load. Of another
// view's place it takes only which value that is. The value is shared: the caller must not change it. An error of load is returned, and not kept.
func (v *View[T]) At(ctx context.Context, p *Place[T], maxAge time.Duration) (T, error) {
	if p.view != v {
		p = v.Place(p.partition, p.key)
	}
	// Both are read before the store is: a change, or a gap in the news, that comes while it is being read makes
	// the entry untrue from the start.
	changes, fresh := p.changes.Load(), v.store.Fresh() && !v.closed.Load()
	if !fresh || maxAge <= 0 {
		v.misses.Add(1)
		return v.load(ctx, p.partition, p.key)
	}
	if e := p.entry.Load(); e.holds(changes, maxAge) {
		v.hits.Add(1)
		return e.value, nil
	}
	v.misses.Add(1)
	now := time.Now()
	value, err := v.load(ctx, p.partition, p.key)
	if err != nil {
		return value, err
	}
	mine := &viewEntry[T]{value, changes, now}
	for {
		// Whoever has read the same at the same time gets the same value: what hangs on it is shared too.
		e := p.entry.Load()
		if e.holds(p.changes.Load(), maxAge) {
			return e.value, nil
		}
		if p.entry.CompareAndSwap(e, mine) {
			return value, nil
		}
	}
}

// Counts says how many values came from memory and how many were read, since the view was made.
func (v *View[T]) Counts() (hits, misses uint64) { return v.hits.Load(), v.misses.Load() }

// Forget makes a partition untrue in this view, as a change to it does.
func (v *View[T]) Forget(partition string) { v.changed(partition) }
