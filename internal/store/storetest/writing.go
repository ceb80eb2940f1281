package storetest

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

var commitTests = []contractTest{
	{"a put that expects no record succeeds once", func(t *testing.T, s store.Store) {
		commit(t, s, "p", put("a", "1", 0))
		refuse(t, s, store.ErrConflict, "p", put("a", "2", 0))
		wantValues(t, get(t, s, "p", "a"), "1")
	}},
	{"a put that expects a version succeeds at that version only", func(t *testing.T, s store.Store) {
		first := commit(t, s, "p", put("a", "1", 0))[0]
		second := commit(t, s, "p", put("a", "2", first))[0]
		refuse(t, s, store.ErrConflict, "p", put("a", "3", first))
		refuse(t, s, store.ErrConflict, "p", put("a", "3", second+1))
		refuse(t, s, store.ErrConflict, "p", put("b", "3", second))
		wantValues(t, get(t, s, "p", "a", "b"), "2", "-")
		commit(t, s, "p", put("a", "3", second))
	}},
	{"a delete that expects a version succeeds at that version only", func(t *testing.T, s store.Store) {
		first := commit(t, s, "p", put("a", "1", 0))[0]
		second := commit(t, s, "p", put("a", "2", first))[0]
		refuse(t, s, store.ErrConflict, "p", del("a", first))
		refuse(t, s, store.ErrConflict, "p", del("a", 0))
		wantValues(t, get(t, s, "p", "a"), "2")
		commit(t, s, "p", del("a", second))
		wantValues(t, get(t, s, "p", "a"), "-")
		refuse(t, s, store.ErrConflict, "p", del("a", second))
	}},
	{"deleting a record that is not there is no error", func(t *testing.T, s store.Store) {
		commit(t, s, "p", del("a", 0))
		commit(t, s, "p", del("a", store.Any))
	}},
	{"Any matches whatever is there, also nothing", func(t *testing.T, s store.Store) {
		commit(t, s, "p", expect("a", store.Any), put("b", "1", store.Any), del("c", store.Any))
		commit(t, s, "p", put("b", "2", store.Any))
		wantValues(t, get(t, s, "p", "a", "b", "c"), "-", "2", "-")
		commit(t, s, "p", expect("b", store.Any))
		commit(t, s, "p", del("b", store.Any))
		wantValues(t, get(t, s, "p", "b"), "-")
	}},
	{"an expectation writes nothing", func(t *testing.T, s store.Store) {
		v := commit(t, s, "p", put("a", "1", 0))
		before := get(t, s, "p", "a", "b")
		commit(t, s, "p", expect("a", v[0]), expect("b", 0))
		wantSame(t, get(t, s, "p", "a", "b"), before)
	}},
	{"an expectation that doesn't hold makes the commit fail", func(t *testing.T, s store.Store) {
		v := commit(t, s, "p", put("a", "1", 0))
		refuse(t, s, store.ErrConflict, "p", put("b", "2", 0), expect("a", 0))
		refuse(t, s, store.ErrConflict, "p", put("b", "2", 0), expect("a", v[0]+1))
		refuse(t, s, store.ErrConflict, "p", put("b", "2", 0), expect("c", v[0]))
		wantValues(t, get(t, s, "p", "a", "b", "c"), "1", "-", "-")
		commit(t, s, "p", put("b", "2", 0), expect("a", v[0]))
		wantValues(t, get(t, s, "p", "b"), "2")
	}},
	{"the changes happen together or not at all, whichever of them fails", func(t *testing.T, s store.Store) {
		v := commit(t, s, "p", put("a", "1", 0), put("b", "2", 0))
		before := list(t, s, "p", "")
		changes := []store.Change{put("a", "3", v[0]), del("b", v[1]), put("c", "4", 0), expect("d", 0)}
		for i := range changes {
			failing := slices.Clone(changes)
			failing[i].If = v[0] + v[1] + 12345
			refuse(t, s, store.ErrConflict, "p", failing...)
			wantSame(t, list(t, s, "p", ""), before)
		}
		commit(t, s, "p", changes...)
		wantValues(t, get(t, s, "p", "a", "b", "c", "d"), "3", "-", "4", "-")
	}},
	{"the versions come in the order of the changes, zero for what is no put", func(t *testing.T, s store.Store) {
		v := commit(t, s, "p", put("c", "1", 0), del("x", 0), put("a", "2", 0), expect("y", 0), put("b", "3", 0))
		for i, key := range []string{"c", "x", "a", "y", "b"} {
			if got := get(t, s, "p", key)[0].Version; got != v[i] {
				t.Errorf("%q is at version %#x, the commit said %#x", key, uint64(got), uint64(v[i]))
			}
		}
	}},
	{"a version is never used again for the same key", func(t *testing.T, s store.Store) {
		seen := make(map[store.Version]string)
		note := func(when string, v store.Version) {
			t.Helper()
			if earlier, twice := seen[v]; twice {
				t.Fatalf("version %#x came %s, and again %s", uint64(v), earlier, when)
			}
			seen[v] = when
		}
		first := commit(t, s, "p", put("a", "1", 0))[0]
		note("first", first)
		again := commit(t, s, "p", put("a", "1", first))[0]
		note("after the same value was put again", again)
		commit(t, s, "p", del("a", again))
		note("after a delete", commit(t, s, "p", put("a", "1", 0))[0])
		note("with an expiry in the past", commit(t, s, "p", putUntil("a", "1", store.Any, time.Now().Add(-time.Second)))[0])
		note("after it had expired", commit(t, s, "p", put("a", "1", 0))[0])
		for range 20 { // the whole partition comes and goes
			commit(t, s, "p", del("a", store.Any))
			commit(t, s, "q", put("a", "1", store.Any), put("b", "1", store.Any))
			note("after the partition was empty", commit(t, s, "p", put("a", "1", 0))[0])
		}
	}},
	{"a version of a deleted record matches nothing", func(t *testing.T, s store.Store) {
		v := commit(t, s, "p", put("a", "1", 0))[0]
		commit(t, s, "p", del("a", v))
		refuse(t, s, store.ErrConflict, "p", put("a", "2", v))
		refuse(t, s, store.ErrConflict, "p", expect("a", v))
		commit(t, s, "p", put("a", "1", 0))
		refuse(t, s, store.ErrConflict, "p", put("a", "2", v))
	}},
	{"the same key in two partitions is two records", func(t *testing.T, s store.Store) {
		commit(t, s, "p", put("a", "1", 0))
		v := commit(t, s, "q", put("a", "2", 0))
		commit(t, s, "q", del("a", v[0]))
		wantValues(t, get(t, s, "p", "a"), "1")
		wantValues(t, get(t, s, "q", "a"), "-")
	}},
	{"the caller may use its slices again", func(t *testing.T, s store.Store) {
		value := []byte("before")
		changes := []store.Change{{Key: "a", Value: value}}
		commit(t, s, "p", changes...)
		copy(value, "after!")
		changes[0].Key = "b"
		wantValues(t, get(t, s, "p", "a", "b"), "before", "-")
		wantValues(t, list(t, s, "p", ""), "before")
	}},
	{"a hundred changes in one commit", func(t *testing.T, s store.Store) {
		var puts, dels []store.Change
		for i := range 100 {
			puts = append(puts, put(time.Duration(i).String(), "1", 0))
			dels = append(dels, del(time.Duration(i).String(), store.Any))
		}
		for i, v := range commit(t, s, "p", puts...) {
			dels[i].If = v
		}
		refuse(t, s, store.ErrConflict, "p", append(slices.Clone(dels), put("new", "1", 1))...)
		if n := len(list(t, s, "p", "")); n != 100 {
			t.Fatalf("%d records, want 100", n)
		}
		commit(t, s, "p", dels...)
		wantValues(t, list(t, s, "p", ""))
	}},
}

var limitTests = []contractTest{
	{"everything within the limits is accepted", func(t *testing.T, s store.Store) {
		partition, key := strings.Repeat("p", store.MaxName), strings.Repeat("k", store.MaxName)
		large := strings.Repeat("\x00\xff", store.MaxValue/2)
		v := commit(t, s, partition, put(key, large, 0), put("other", large, 0))
		wantValues(t, get(t, s, partition, key), large)
		wantValues(t, list(t, s, partition, key), large)
		commit(t, s, partition, put(key, "small", v[0]))
		wantValues(t, get(t, s, partition, key, "other"), "small", large)
	}},
	{"a commit beyond them is invalid, and writes nothing", func(t *testing.T, s store.Store) {
		long := strings.Repeat("x", store.MaxName+1)
		fine := put("a", "1", 0)
		for name, c := range map[string]store.Commit{
			"partition without a name":     {Partition: "", Changes: []store.Change{fine}},
			"partition with a long name":   {Partition: long, Changes: []store.Change{fine}},
			"partition with NUL":           {Partition: "p\x00q", Changes: []store.Change{fine}},
			"partition with a brace":       {Partition: "p{q", Changes: []store.Change{fine}},
			"partition with another brace": {Partition: "}", Changes: []store.Change{fine}},
			"no changes":                   {Partition: "p"},
			"empty key":                    {Partition: "p", Changes: []store.Change{fine, put("", "1", 0)}},
			"long key":                     {Partition: "p", Changes: []store.Change{fine, put(long, "1", 0)}},
			"key with NUL":                 {Partition: "p", Changes: []store.Change{fine, put("b\x00", "1", 0)}},
			"key with a brace":             {Partition: "p", Changes: []store.Change{fine, put("{b}", "1", 0)}},
			"large value":                  {Partition: "p", Changes: []store.Change{fine, put("b", strings.Repeat("x", store.MaxValue+1), 0)}},
			"key twice":                    {Partition: "p", Changes: []store.Change{fine, expect("b", 0), del("a", 0)}},
			"unknown operation":            {Partition: "p", Changes: []store.Change{fine, {Key: "b", Op: store.Expect + 1}}},
			"delete with a value":          {Partition: "p", Changes: []store.Change{fine, {Key: "b", Op: store.Delete, Value: []byte{}}}},
			"expectation with an expiry":   {Partition: "p", Changes: []store.Change{fine, {Key: "b", Op: store.Expect, Expires: time.Now()}}},
		} {
			if _, err := s.Commit(t.Context(), c); !errors.Is(err, store.ErrInvalid) {
				t.Errorf("%s: got %v, want %v", name, err, store.ErrInvalid)
			}
		}
		wantValues(t, get(t, s, "p", "a"), "-")
	}},
	{"one key twice among many is invalid", func(t *testing.T, s store.Store) {
		var changes []store.Change
		for i := range 50 {
			changes = append(changes, put(time.Duration(i).String(), "1", 0))
		}
		refuse(t, s, store.ErrInvalid, "p", append(changes, del(changes[7].Key, 0))...)
		wantValues(t, list(t, s, "p", ""))
	}},
	{"a read beyond them is invalid", func(t *testing.T, s store.Store) {
		for _, name := range []string{"", "a\x00b", "a{", "}", strings.Repeat("x", store.MaxName+1)} {
			if _, err := s.Get(t.Context(), name, "a"); !errors.Is(err, store.ErrInvalid) {
				t.Errorf("getting from partition %.10q: %v, want %v", name, err, store.ErrInvalid)
			}
			if _, err := s.Get(t.Context(), "p", "a", name); !errors.Is(err, store.ErrInvalid) {
				t.Errorf("getting key %.10q: %v, want %v", name, err, store.ErrInvalid)
			}
			if _, err := s.List(t.Context(), name, ""); !errors.Is(err, store.ErrInvalid) {
				t.Errorf("listing partition %.10q: %v, want %v", name, err, store.ErrInvalid)
			}
			if name == "" {
				continue
			}
			if _, err := s.List(t.Context(), "p", name); !errors.Is(err, store.ErrInvalid) {
				t.Errorf("listing prefix %.10q: %v, want %v", name, err, store.ErrInvalid)
			}
		}
	}},
}

var expiryTests = []contractTest{
	{"a record is gone from the moment its expiry is reached", func(t *testing.T, s store.Store) {
		until := time.Now().Add(300 * time.Millisecond).Truncate(time.Millisecond)
		commit(t, s, "p", putUntil("a", "1", 0, until), put("b", "2", 0))
		await(t, "the record is gone", func() bool {
			for _, read := range []func() bool{
				func() bool { return get(t, s, "p", "a", "b")[0].Version == 0 },
				func() bool { return len(list(t, s, "p", "")) == 1 },
			} {
				before := time.Now()
				gone := read()
				after := time.Now()
				if gone && after.Before(until) {
					t.Fatalf("it was gone %v before", until.Sub(after))
				}
				if !gone && !before.Before(until) {
					t.Fatalf("it was there %v after", before.Sub(until))
				}
				if !gone {
					return false
				}
			}
			return true
		})
		wantValues(t, get(t, s, "p", "a", "b"), "-", "2")
		commit(t, s, "p", put("a", "3", 0))
	}},
	{"an expiry in the past is reached at once", func(t *testing.T, s store.Store) {
		for name, past := range map[string]time.Time{
			"a moment ago": time.Now().Add(-time.Millisecond),
			"an hour ago":  time.Now().Add(-time.Hour),
			"1970":         time.Unix(0, 0),
			"before 1970":  time.Unix(-1, 0),
			"long before":  time.Date(1, 1, 1, 0, 0, 1, 0, time.UTC),
		} {
			commit(t, s, "p", putUntil("a", name, store.Any, past), put("b", "2", store.Any))
			if got := get(t, s, "p", "a"); got[0].Version != 0 {
				t.Errorf("%s: got %s", name, brief(got))
			}
			wantValues(t, list(t, s, "p", ""), "2")
		}
	}},
	{"an expired record is no record to a change", func(t *testing.T, s store.Store) {
		past := time.Now().Add(-time.Minute)
		v := commit(t, s, "p", putUntil("a", "1", 0, past), putUntil("b", "1", 0, past), putUntil("c", "1", 0, past), putUntil("d", "1", 0, past))
		refuse(t, s, store.ErrConflict, "p", put("a", "2", v[0]))
		refuse(t, s, store.ErrConflict, "p", del("b", v[1]))
		refuse(t, s, store.ErrConflict, "p", expect("c", v[2]))
		commit(t, s, "p", put("a", "2", 0), del("b", 0), expect("c", 0), put("d", "2", store.Any))
		wantValues(t, get(t, s, "p", "a", "b", "c", "d"), "2", "-", "-", "2")
	}},
	{"the expiry is kept to the millisecond", func(t *testing.T, s store.Store) {
		base := time.Now().Add(time.Hour).Truncate(time.Second)
		commit(t, s, "p", putUntil("a", "1", 0, base.Add(123_456_789)), putUntil("b", "1", 0, base.In(time.FixedZone("", 7200)).Add(999_999_999)))
		records := get(t, s, "p", "a", "b")
		for i, want := range []time.Time{base.Add(123 * time.Millisecond), base.Add(999 * time.Millisecond)} {
			if !records[i].Expires.Equal(want) {
				t.Errorf("got %v, want %v", records[i].Expires, want)
			}
		}
	}},
	{"a far expiry is no past one", func(t *testing.T, s store.Store) {
		far := time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC)
		commit(t, s, "p", putUntil("a", "1", 0, far), putUntil("b", "2", 0, time.Date(300_000_000, 1, 1, 0, 0, 0, 0, time.UTC)))
		wantValues(t, get(t, s, "p", "a", "b"), "1", "2")
		if got := get(t, s, "p", "a")[0].Expires; !got.Equal(far) {
			t.Errorf("got %v, want %v", got, far)
		}
	}},
	{"a put replaces the expiry too", func(t *testing.T, s store.Store) {
		soon, later := time.Now().Add(150*time.Millisecond), time.Now().Add(time.Hour)
		v := commit(t, s, "p", putUntil("stays", "1", 0, soon), putUntil("renewed", "1", 0, soon), put("ends", "1", 0), putUntil("clock", "1", 0, soon))
		commit(t, s, "p", put("stays", "2", v[0]), putUntil("renewed", "2", v[1], later), putUntil("ends", "2", v[2], soon))
		await(t, "the others are gone", func() bool {
			records := get(t, s, "p", "ends", "clock")
			return records[0].Version == 0 && records[1].Version == 0
		})
		wantValues(t, list(t, s, "p", ""), "2", "2")
		wantValues(t, get(t, s, "p", "stays", "renewed"), "2", "2")
	}},
	{"what never expires outlives what does", func(t *testing.T, s store.Store) {
		past := time.Now().Add(-48 * time.Hour)
		commit(t, s, "p", put("stays", "1", 0))
		for range 50 {
			commit(t, s, "p", putUntil("goes", "1", store.Any, past), putUntil("goes too", "1", store.Any, past))
		}
		wantValues(t, list(t, s, "p", ""), "1")
		commit(t, s, "p", putUntil("soon", "1", 0, time.Now().Add(time.Hour)), del("stays", store.Any))
		wantValues(t, list(t, s, "p", ""), "1")
	}},
}

var contextTests = []contractTest{
	{"a context that is done is answered with its own error, and nothing is written", func(t *testing.T, s store.Store) {
		awaitFresh(t, s)
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
		defer cancel()
		for _, ctx := range []context.Context{cancelled, late} {
			_, errGet := s.Get(ctx, "p", "a")
			_, errList := s.List(ctx, "p", "")
			_, errCommit := s.Commit(ctx, store.Commit{Partition: "p", Changes: []store.Change{put("a", "1", 0)}})
			for name, err := range map[string]error{"Get": errGet, "List": errList, "Commit": errCommit, "Ping": s.Ping(ctx)} {
				if !errors.Is(err, ctx.Err()) {
					t.Errorf("%s: got %v, want %v", name, err, ctx.Err())
				}
			}
		}
		wantValues(t, get(t, s, "p", "a"), "-")
	}},
	{"a ping says that the store works, and leaves no record", func(t *testing.T, s store.Store) {
		if err := s.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantValues(t, list(t, s, "ping", ""))
	}},
}

var closeTests = []contractTest{
	{"a closed store answers that it is unavailable, and is not fresh", func(t *testing.T, s store.Store) {
		closer, ok := s.(io.Closer)
		if !ok {
			t.Fatal("it can't be closed")
		}
		commit(t, s, "p", put("a", "1", 0))
		awaitFresh(t, s)
		if err := closer.Close(); err != nil {
			t.Fatal(err)
		}
		if s.Fresh() {
			t.Error("it is fresh")
		}
		_, errGet := s.Get(t.Context(), "p", "a")
		_, errList := s.List(t.Context(), "p", "")
		_, errCommit := s.Commit(t.Context(), store.Commit{Partition: "p", Changes: []store.Change{put("a", "2", store.Any)}})
		for name, err := range map[string]error{"Get": errGet, "List": errList, "Commit": errCommit, "Ping": s.Ping(t.Context())} {
			if !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("%s: got %v, want %v", name, err, store.ErrUnavailable)
			}
		}
		s.Watch(func(string) {})()
		if err := closer.Close(); err != nil {
			t.Errorf("closing it again: %v", err)
		}
	}},
	{"a store that was never used can be closed", func(t *testing.T, s store.Store) {
		if err := s.(io.Closer).Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(t.Context(), "p", "a"); !errors.Is(err, store.ErrUnavailable) || s.Fresh() {
			t.Errorf("got %v, fresh %t", err, s.Fresh())
		}
	}},
}
