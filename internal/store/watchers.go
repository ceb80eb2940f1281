package store

import (
	"slices"
	"sync"
	"sync/atomic"
)

// Watchers are the functions that were given to Watch. Backends hold one and call it; the zero value has none.
type Watchers struct {
	mu  sync.Mutex // held to change the list, not to read it: a watcher may stop itself, or another one
	all atomic.Pointer[[]*func(partition string)]
}

// Watch adds changed. A call of changed that has begun when stop is called may end after stop has returned; none begins later.
func (w *Watchers) Watch(changed func(partition string)) (stop func()) {
	watcher := &changed
	w.replace(func(all []*func(string)) []*func(string) { return append(all, watcher) })
	return func() {
		w.replace(func(all []*func(string)) []*func(string) {
			return slices.DeleteFunc(all, func(other *func(string)) bool { return other == watcher })
		})
	}
}

// Notify calls every watcher with partition, and returns when all have returned.
func (w *Watchers) Notify(partition string) {
	if all := w.all.Load(); all != nil {
		for _, watcher := range *all {
			(*watcher)(partition)
		}
	}
}

// replace changes a copy of the list, since Notify may be walking through the old one.
func (w *Watchers) replace(change func([]*func(string)) []*func(string)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []*func(string)
	if old := w.all.Load(); old != nil {
		all = slices.Clone(*old)
	}
	all = change(all)
	w.all.Store(&all)
}
