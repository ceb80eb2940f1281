package storetest

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

var seed = flag.Uint64("storetest.seed", 0, "repeat the random walk that printed this seed")

// model is what a store should hold: partition, key, record. Expiries are an hour away on either side, so that the clock
// doesn't matter.
type model map[string]map[string]store.Record

// randomWalk does the same things to a store and to a model.
func randomWalk(t *testing.T, s store.Store) {
	seed := *seed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("repeat with -args -storetest.seed=%d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	m := make(model)
	used := make(map[string]bool) // partition, key and version of every put
	names := []string{"a", "a/b", "ab", "b", "a/", "\xff"}
	pick := func() string { return names[r.IntN(len(names))] }
	for step := range 500 {
		partition := pick()
		switch r.IntN(5) {
		case 0:
			wanted := make([]string, r.IntN(4)+1)
			for i := range wanted {
				wanted[i] = pick()
			}
			wantSame(t, get(t, s, partition, wanted...), m.get(partition, wanted))
		case 1:
			prefix := pick()
			if r.IntN(2) == 0 {
				prefix = ""
			}
			wantSame(t, list(t, s, partition, prefix), m.list(partition, prefix))
		default:
			changes := m.randomChanges(r, partition, names)
			versions, err := s.Commit(t.Context(), store.Commit{Partition: partition, Changes: changes})
			if want := m.check(partition, changes); !errors.Is(err, want) {
				t.Fatalf("step %d: commit %+v to %q: got %v, want %v", step, changes, partition, err, want)
			} else if want != nil {
				continue
			}
			for i, ch := range changes {
				if ch.Op != store.Put {
					continue
				}
				id := fmt.Sprintf("%q %q %d", partition, ch.Key, versions[i])
				if used[id] || versions[i] == 0 || versions[i] == store.Any {
					t.Fatalf("step %d: version %s was used before", step, id)
				}
				used[id] = true
			}
			m.apply(partition, changes, versions)
		}
	}
	for _, partition := range names {
		wantSame(t, list(t, s, partition, ""), m.list(partition, ""))
	}
}

func (m model) record(partition, key string) store.Record {
	r, ok := m[partition][key]
	if !ok || r.Gone(time.Now()) {
		return store.Record{Key: key}
	}
	return r
}

func (m model) get(partition string, wanted []string) []store.Record {
	var records []store.Record
	for _, key := range wanted {
		records = append(records, m.record(partition, key))
	}
	return records
}

func (m model) list(partition, prefix string) []store.Record {
	var records []store.Record
	for key := range m[partition] {
		if r := m.record(partition, key); r.Version != 0 && strings.HasPrefix(key, prefix) {
			records = append(records, r)
		}
	}
	slices.SortFunc(records, func(a, b store.Record) int { return strings.Compare(a.Key, b.Key) })
	return records
}

// check says how a commit must end.
func (m model) check(partition string, changes []store.Change) error {
	for _, ch := range changes {
		if ch.If != store.Any && ch.If != m.record(partition, ch.Key).Version {
			return store.ErrConflict
		}
	}
	return nil
}

func (m model) apply(partition string, changes []store.Change, versions []store.Version) {
	if m[partition] == nil {
		m[partition] = make(map[string]store.Record)
	}
	for i, ch := range changes {
		switch ch.Op {
		case store.Put:
			m[partition][ch.Key] = store.Record{
				Key: ch.Key, Value: slices.Clone(ch.Value), Version: versions[i], Expires: ch.Expires,
			}
		case store.Delete:
			delete(m[partition], ch.Key)
		}
	}
}

func (m model) randomChanges(r *rand.Rand, partition string, names []string) []store.Change {
	var changes []store.Change
	for _, i := range r.Perm(len(names))[:r.IntN(3)+1] {
		ch := store.Change{Key: names[i], Op: store.Op(r.IntN(3))}
		switch r.IntN(8) {
		case 0:
			ch.If = store.Any
		case 1:
			ch.If = 0
		case 2: // what an expired or overwritten record had, perhaps
			ch.If = m[partition][ch.Key].Version
		case 3:
			ch.If = store.Version(r.Uint64N(100))
		default:
			ch.If = m.record(partition, ch.Key).Version
		}
		if ch.Op == store.Put {
			ch.Value = []byte(strings.Repeat("x", r.IntN(3)*r.IntN(3000)) + names[r.IntN(len(names))])
			now := time.Now().Truncate(time.Millisecond)
			ch.Expires = []time.Time{{}, now.Add(time.Hour), now.Add(-time.Hour)}[r.IntN(3)]
		}
		changes = append(changes, ch)
	}
	return changes
}
