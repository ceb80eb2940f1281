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
	cache *otter.Cache[viewKey, viewEntry[T]]
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

type viewEntry[T any] struct {
	value   T
	changes uint64
	read    time.Time
}

// holds says whether the entry is true and young enough, when a partition has changed so many times.
func (e viewEntry[T]) holds(changes uint64, now time.Time, maxAge time.Duration) bool {
	age := now.Sub(e.read)
	return e.changes == changes && age >= 0 && age < maxAge
}

// NewView makes a view that keeps at most size values of load, which reads the store. Close ends it.
func NewView[T any](s Store, size int, load func(ctx context.Context, partition, key string) (T, error)) *View[T] {
	v := &View[T]{
		store: s,
		load:  load,
		cache: otter.Must(&otter.Options[viewKey, viewEntry[T]]{MaximumSize: size}),
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

// Get gives the value for a key, from what is kept if that is true and was read less than maxAge ago, else from load.
// The value is shared: the caller must not change it. An error of load is returned, and not kept.
func (v *View[T]) Get(ctx context.Context, partition, key string, maxAge time.Duration) (T, error) {
	shard := v.shard(partition)
	// Both are read before the store is: a change, or a gap in the news, that comes while it is being read makes
	// the entry untrue from the start.
	changes, fresh := shard.Load(), v.store.Fresh() && !v.closed.Load()
	if !fresh || maxAge <= 0 {
		v.misses.Add(1)
		return v.load(ctx, partition, key)
	}
	k, now := viewKey{partition, key}, time.Now()
	if e, ok := v.cache.GetIfPresent(k); ok && e.holds(changes, now, maxAge) {
		v.hits.Add(1)
		return e.value, nil
	}
	v.misses.Add(1)
	value, err := v.load(ctx, partition, key)
	if err != nil {
		return value, err
	}
	mine := viewEntry[T]{value, changes, now}
	// Whoever has read the same at the same time gets the same value: what hangs on it is shared too.
	e, _ := v.cache.Compute(k, func(e viewEntry[T], found bool) (viewEntry[T], otter.ComputeOp) {
		if found && e.holds(shard.Load(), time.Now(), maxAge) {
			return e, otter.CancelOp
		}
		return mine, otter.WriteOp
	})
	return e.value, nil
}

// Counts says how many values came from memory and how many were read, since the view was made.
func (v *View[T]) Counts() (hits, misses uint64) { return v.hits.Load(), v.misses.Load() }

// Forget makes a partition untrue in this view, as a change to it does.
func (v *View[T]) Forget(partition string) { v.changed(partition) }
