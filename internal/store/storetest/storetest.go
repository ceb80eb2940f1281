// Package storetest holds the suite that every implementation of store.Store passes: the sentences of the contract, each as a
// test of that name, and a random walk that is compared with a map.
package storetest

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

// Run tests stores that open returns. Each call of open gives an empty store, and has it closed at the end of t.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for _, group := range []struct {
		name  string
		tests []contractTest
	}{
		{"Get", getTests},
		{"List", listTests},
		{"Commit", commitTests},
		{"Limits", limitTests},
		{"Expiry", expiryTests},
		{"Context", contextTests},
		{"Concurrency", concurrencyTests},
		{"Watch", watchTests},
		{"Close", closeTests},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, test := range group.tests {
				t.Run(test.sentence, func(t *testing.T) { test.run(t, open(t)) })
			}
		})
	}
	t.Run("Model", func(t *testing.T) { randomWalk(t, open(t)) })
}

type contractTest struct {
	sentence string
	run      func(t *testing.T, s store.Store)
}

// patience is how long a test waits for what must happen "soon". Machines that run tests are busy.
const patience = 20 * time.Second

// await calls done until it says so.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain until %s", patience, what)
		}
	}
}

// awaitFresh uses the store, since a store may open on first use, until it is fresh.
func awaitFresh(t *testing.T, s store.Store) {
	t.Helper()
	await(t, "the store is fresh", func() bool {
		_, err := s.Get(t.Context(), "nothing", "nothing")
		return err == nil && s.Fresh()
	})
}

func put(key, value string, old store.Version) store.Change {
	return store.Change{Key: key, Op: store.Put, If: old, Value: []byte(value)}
}

func putUntil(key, value string, old store.Version, expires time.Time) store.Change {
	return store.Change{Key: key, Op: store.Put, If: old, Value: []byte(value), Expires: expires}
}

func del(key string, old store.Version) store.Change {
	return store.Change{Key: key, Op: store.Delete, If: old}
}

func expect(key string, version store.Version) store.Change {
	return store.Change{Key: key, Op: store.Expect, If: version}
}

// commit applies changes to a partition, and fails the test if the store doesn't.
func commit(t *testing.T, s store.Store, partition string, changes ...store.Change) []store.Version {
	t.Helper()
	versions, err := s.Commit(t.Context(), store.Commit{Partition: partition, Changes: changes})
	if err != nil {
		t.Fatalf("commit %v to %q: %v", keys(changes), partition, err)
	}
	if len(versions) != len(changes) {
		t.Fatalf("commit %v to %q gave %d versions for %d changes", keys(changes), partition, len(versions), len(changes))
	}
	for i, v := range versions {
		if isPut := changes[i].Op == store.Put; isPut != (v != 0) || v == store.Any {
			t.Fatalf("commit %v to %q gave version %#x for operation %d", keys(changes), partition, uint64(v), changes[i].Op)
		}
	}
	return versions
}

// refuse applies changes that the store must refuse with the error want.
func refuse(t *testing.T, s store.Store, want error, partition string, changes ...store.Change) {
	t.Helper()
	if _, err := s.Commit(t.Context(), store.Commit{Partition: partition, Changes: changes}); !errors.Is(err, want) {
		t.Fatalf("commit %v to %q: got error %v, want %v", keys(changes), partition, err, want)
	}
}

func get(t *testing.T, s store.Store, partition string, wanted ...string) []store.Record {
	t.Helper()
	records, err := s.Get(t.Context(), partition, wanted...)
	if err != nil {
		t.Fatalf("get %q from %q: %v", wanted, partition, err)
	}
	if len(records) != len(wanted) {
		t.Fatalf("get %q from %q gave %d records", wanted, partition, len(records))
	}
	for i, r := range records {
		if r.Key != wanted[i] {
			t.Fatalf("get %q from %q gave %q in place %d", wanted, partition, r.Key, i)
		}
		if (r.Version == 0) != (r.Value == nil) {
			t.Fatalf("get %q from %q gave version %#x with the value %q", wanted, partition, uint64(r.Version), r.Value)
		}
	}
	return records
}

func list(t *testing.T, s store.Store, partition, prefix string) []store.Record {
	t.Helper()
	records, err := s.List(t.Context(), partition, prefix)
	if err != nil {
		t.Fatalf("list %q in %q: %v", prefix, partition, err)
	}
	for _, r := range records {
		if r.Version == 0 || r.Value == nil {
			t.Fatalf("list %q in %q gave %q with version %#x and value %q", prefix, partition, r.Key, uint64(r.Version), r.Value)
		}
	}
	return records
}

// wantValues compares the values of records; "-" stands for a record that isn't there.
func wantValues(t *testing.T, records []store.Record, want ...string) {
	t.Helper()
	got := make([]string, len(records))
	for i, r := range records {
		if got[i] = string(r.Value); r.Version == 0 {
			got[i] = "-"
		}
	}
	if len(got) != len(want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
}

// wantSame compares records with what is wanted, versions included.
func wantSame(t *testing.T, got, want []store.Record) {
	t.Helper()
	same := len(got) == len(want)
	for i := 0; same && i < len(want); i++ {
		same = got[i].Key == want[i].Key && bytes.Equal(got[i].Value, want[i].Value) &&
			got[i].Version == want[i].Version && got[i].Expires.Equal(want[i].Expires)
	}
	if !same {
		t.Fatalf("got %s, want %s", brief(got), brief(want))
	}
}

func brief(records []store.Record) []string {
	var lines []string
	for _, r := range records {
		lines = append(lines, r.Key+"="+string(r.Value[:min(len(r.Value), 20)])+" until "+r.Expires.String())
	}
	return lines
}

func keys(changes []store.Change) []string {
	var all []string
	for _, ch := range changes {
		all = append(all, ch.Key[:min(len(ch.Key), 20)])
	}
	return all
}
