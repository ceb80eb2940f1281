package inventory

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

// partition is where everything is: rows, the uses of exceptions, and of each process the number of the batch that it wrote last.
const (
	partition     = "legacy"
	rowPrefix     = "r/"
	usePrefix     = "x/"
	processPrefix = "p/"
)

const (
	// maxBatch is how many rows are written together.
	maxBatch = 128

	// keepNumber is for how long the number of a batch is remembered: one that is tried again later may be counted twice.
	keepNumber = day

	// keepUse is for how long the uses of an exception are remembered that is not configured any more.
	keepUse = 400 * day
)

// batch is what is written together.
type batch struct {
	number int64
	rows   map[key]*tally
	uses   map[ExceptionName]*tally
}

func (b *batch) count() (n int) {
	for _, t := range b.rows {
		n += int(t.count)
	}
	return n
}

// take gives what can be written together, or nil.
func (i *Inventory) take() *batch {
	if len(i.dirty) == 0 && len(i.dirtyUses) == 0 {
		return nil
	}
	i.sequence++
	b := &batch{i.sequence, map[key]*tally{}, map[ExceptionName]*tally{}}
	move(b.rows, i.dirty)
	move(b.uses, i.dirtyUses)
	return b
}

func move[K comparable](to, from map[K]*tally) {
	for k, t := range from {
		if len(to) == maxBatch {
			return
		}
		to[k] = t
		delete(from, k)
	}
}

// commit writes a batch, once: after an error it may be called again.
func (i *Inventory) commit(ctx context.Context, b *batch) error {
	own := processPrefix + i.process
	rows, names := slices.Collect(maps.Keys(b.rows)), slices.Collect(maps.Keys(b.uses))
	keys := []string{own}
	for _, k := range rows {
		keys = append(keys, k.record())
	}
	for _, name := range names {
		keys = append(keys, name.record())
	}
	now := time.Now()
	return store.Modify(ctx, i.store, partition, keys, false, func(records []store.Record) ([]store.Change, error) {
		number := strconv.FormatInt(b.number, 10)
		if string(records[0].Value) == number {
			return nil, nil // it was written, and nobody could say so
		}
		changes := []store.Change{{Key: own, If: records[0].Version, Value: []byte(number), Expires: now.Add(keepNumber)}}
		for n, k := range rows {
			old := records[1+n]
			all := *b.rows[k]
			all.exceptions = maps.Clone(all.exceptions)
			if row, err := parseRow(old); err == nil && row.LastSeen.Add(i.settings.Keep).After(now) {
				all.merge(row.tally())
			}
			row := newRow(k, &all)
			changes = append(changes, store.Change{Key: old.Key, If: old.Version, Value: marshal(row), Expires: row.until(i.settings.Keep)})
		}
		for n, name := range names {
			old := records[1+len(rows)+n]
			u, err := parseUse(old)
			if err != nil {
				u = &Use{ExceptionName: name, Since: now.UTC().Round(time.Millisecond)}
			}
			u.count(b.uses[name])
			changes = append(changes, store.Change{Key: old.Key, If: old.Version, Value: marshal(u), Expires: now.Add(keepUse)})
		}
		return changes, nil
	})
}

// leave takes this process's number out of the store.
func (i *Inventory) leave(ctx context.Context) {
	if i.sequence == 0 || i.batch != nil {
		return
	}
	_, err := i.store.Commit(ctx, store.Commit{Partition: partition, Changes: []store.Change{
		{Key: processPrefix + i.process, Op: store.Delete, If: store.Any},
	}})
	if err != nil {
		i.settings.Log.Debug("leaving inventory of legacy authentication", "error", err) // it expires
	}
}

// list reads the rows. What can't be read is left out: it expires.
func (i *Inventory) list(ctx context.Context, now time.Time) (all []*stored, err error) {
	records, err := i.store.List(ctx, partition, rowPrefix)
	if err != nil {
		return nil, fmt.Errorf("listing legacy authentication: %w", err)
	}
	for _, r := range records {
		row, err := parseRow(r)
		if err != nil {
			i.settings.Log.Debug("a part of the inventory of legacy authentication can't be read", "error", err)
			continue
		}
		if row.until(i.settings.Keep).After(now) {
			all = append(all, &stored{*row, r.Key, r.Version})
		}
	}
	return all, nil
}

// stored is a row as it is in the store.
type stored struct {
	Row
	name    string // of its record
	version store.Version
}

// maxFolded bounds how many rows are folded at once.
const maxFolded = 256

// look finds out which rows there are, and folds those that are too many because several processes have made them at once. What
// fails is tried again later.
func (i *Inventory) look(ctx context.Context, now time.Time) {
	i.looked = now
	all, err := i.list(ctx, now)
	if err != nil {
		i.settings.Log.Debug("looking at inventory of legacy authentication", "error", err)
		return
	}
	// Those that were there first have the room.
	slices.SortFunc(all, func(a, b *stored) int {
		return cmp.Or(a.FirstSeen.Compare(b.FirstSeen), cmp.Compare(a.name, b.name))
	})
	var there rows
	var surplus []*stored
	for _, row := range all {
		if k := row.key(); there.room(k) == k {
			there.add(k)
		} else {
			surplus = append(surplus, row)
		}
	}
	for _, row := range surplus[:min(len(surplus), maxFolded)] {
		k := there.room(row.key())
		if err := i.move(ctx, row, k); err != nil {
			i.settings.Log.Debug("folding inventory of legacy authentication", "error", err)
			break
		}
		there.add(k)
	}
	for k := range i.dirty {
		there.add(k)
	}
	if i.batch != nil {
		for k := range i.batch.rows {
			there.add(k)
		}
	}
	i.rows = there
}

// move counts a row in another one, unless it has changed since it was looked at.
func (i *Inventory) move(ctx context.Context, row *stored, to key) error {
	return store.Modify(ctx, i.store, partition, []string{row.name, to.record()}, false, func(records []store.Record) ([]store.Change, error) {
		if records[0].Version != row.version {
			return nil, nil
		}
		all := row.tally()
		if old, err := parseRow(records[1]); err == nil {
			all.merge(old.tally())
		}
		sum := newRow(to, all)
		return []store.Change{
			{Key: row.name, Op: store.Delete, If: row.version},
			{Key: records[1].Key, If: records[1].Version, Value: marshal(sum), Expires: sum.until(i.settings.Keep)},
		}, nil
	})
}

func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain values can be written
	}
	return b
}
