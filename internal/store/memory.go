package store

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Memory is a Store that keeps everything in this process and loses it when the process ends. It is meant for tests and for
// trying things out.
type Memory struct {
	watchers Watchers

	closed atomic.Bool

	mu         sync.RWMutex
	version    Version // the last one given out; one row of numbers for all keys, so none comes twice
	partitions map[string]map[string]*memoryRecord
	expiries   expiryQueue // the records that expire, the next one first
}

// NewMemory returns an empty store, ready for use.
func NewMemory() *Memory {
	return &Memory{partitions: make(map[string]map[string]*memoryRecord)}
}

// Get implements Store.
func (m *Memory) Get(ctx context.Context, partition string, keys ...string) ([]Record, error) {
	if err := CheckGet(partition, keys); err != nil {
		return nil, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	if err := m.ready(ctx); err != nil {
		return nil, err
	}
	now, records := time.Now(), make([]Record, len(keys))
	for i, key := range keys {
		records[i].Key = key
		if r := m.partitions[partition][key]; r != nil && !r.Gone(now) {
			records[i] = r.Record
		}
	}
	return records, nil
}

// List implements Store.
func (m *Memory) List(ctx context.Context, partition, prefix string) ([]Record, error) {
	if err := CheckList(partition, prefix); err != nil {
		return nil, err
	}
	records, err := m.matching(ctx, partition, prefix)
	slices.SortFunc(records, func(a, b Record) int { return cmp.Compare(a.Key, b.Key) })
	return records, err
}

func (m *Memory) matching(ctx context.Context, partition, prefix string) ([]Record, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if err := m.ready(ctx); err != nil {
		return nil, err
	}
	now, records := time.Now(), []Record(nil)
	for key, r := range m.partitions[partition] {
		if strings.HasPrefix(key, prefix) && !r.Gone(now) {
			records = append(records, r.Record)
		}
	}
	return records, nil
}

// Commit implements Store.
func (m *Memory) Commit(ctx context.Context, c Commit) ([]Version, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	versions, err := m.apply(ctx, c)
	if err == nil && c.Notify {
		m.watchers.Notify(c.Partition)
	}
	return versions, err
}

func (m *Memory) apply(ctx context.Context, c Commit) ([]Version, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.ready(ctx); err != nil {
		return nil, err
	}
	now := time.Now()
	for _, ch := range c.Changes {
		var there Version
		if r := m.partitions[c.Partition][ch.Key]; r != nil && !r.Gone(now) {
			there = r.Version
		}
		if ch.If != Any && ch.If != there {
			return nil, ErrConflict
		}
	}
	versions := make([]Version, len(c.Changes))
	for i, ch := range c.Changes {
		switch ch.Op {
		case Put:
			m.version++
			versions[i] = m.version
			r := ch.Record(m.version)
			r.Value = slices.Clip(bytes.Clone(r.Value))
			m.remove(c.Partition, ch.Key)
			m.add(c.Partition, r)
		case Delete:
			m.remove(c.Partition, ch.Key)
		}
	}
	// More than a commit can add, so what has expired becomes less with every commit, at a cost that is bounded by the commit.
	for range len(c.Changes) + 1 {
		if len(m.expiries) == 0 || !m.expiries[0].Gone(now) {
			break
		}
		m.remove(m.expiries[0].partition, m.expiries[0].Key)
	}
	return versions, nil
}

// Watch implements Store.
func (m *Memory) Watch(changed func(partition string)) (stop func()) {
	return m.watchers.Watch(changed)
}

// Fresh implements Store.
func (m *Memory) Fresh() bool {
	return !m.closed.Load()
}

// Ping implements Store.
func (m *Memory) Ping(ctx context.Context) error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.ready(ctx)
}

// Close forgets everything. From then on every operation answers ErrUnavailable.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed.Store(true)
	m.partitions, m.expiries = nil, nil
	return nil
}

func (m *Memory) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if m.closed.Load() {
		return fmt.Errorf("%w: it is closed", ErrUnavailable)
	}
	return nil
}

func (m *Memory) add(partition string, r Record) {
	kept := &memoryRecord{Record: r, partition: partition}
	if m.partitions[partition] == nil {
		m.partitions[partition] = make(map[string]*memoryRecord)
	}
	m.partitions[partition][r.Key] = kept
	if !r.Expires.IsZero() {
		heap.Push(&m.expiries, kept)
	}
}

func (m *Memory) remove(partition, key string) {
	kept := m.partitions[partition][key]
	if kept == nil {
		return
	}
	if !kept.Expires.IsZero() {
		heap.Remove(&m.expiries, kept.place)
	}
	delete(m.partitions[partition], key)
	if len(m.partitions[partition]) == 0 {
		delete(m.partitions, partition)
	}
}

type memoryRecord struct {
	Record
	partition string
	place     int // in the expiryQueue
}

// expiryQueue is a heap of records by expiry.
type expiryQueue []*memoryRecord

func (q expiryQueue) Len() int           { return len(q) }
func (q expiryQueue) Less(i, j int) bool { return q[i].Expires.Before(q[j].Expires) }

func (q expiryQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

func (q *expiryQueue) Push(x any) {
	r := x.(*memoryRecord)
	r.place = len(*q)
	*q = append(*q, r)
}

func (q *expiryQueue) Pop() any {
	last := len(*q) - 1
	r := (*q)[last]
	(*q)[last] = nil // let the garbage collector have it
	*q = (*q)[:last]
	return r
}

var _ Store = (*Memory)(nil)
