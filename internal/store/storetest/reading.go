package storetest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

var getTests = []contractTest{
	{"a key without a record gives a record with that key and a zero version", func(t *testing.T, s store.Store) {
		wantSame(t, get(t, s, "p", "a", "b"), []store.Record{{Key: "a"}, {Key: "b"}})
		commit(t, s, "p", put("b", "1", 0))
		wantValues(t, get(t, s, "p", "a", "b", "c"), "-", "1", "-")
	}},
	{"it reads the records in the order of the keys", func(t *testing.T, s store.Store) {
		commit(t, s, "p", put("a", "1", 0), put("b", "2", 0), put("c", "3", 0))
		wantValues(t, get(t, s, "p", "c", "a", "b"), "3", "1", "2")
	}},
	{"a key may be asked for twice", func(t *testing.T, s store.Store) {
		commit(t, s, "p", put("a", "1", 0))
		wantValues(t, get(t, s, "p", "a", "b", "a", "b"), "1", "-", "1", "-")
	}},
	{"no keys give no records", func(t *testing.T, s store.Store) {
		get(t, s, "p")
	}},
	{"a record is what was put, under the version that the commit gave", func(t *testing.T, s store.Store) {
		until := time.Now().Add(time.Hour).Truncate(time.Millisecond)
		v := commit(t, s, "p", put("a", "1", 0), putUntil("b", "2", 0, until))
		wantSame(t, get(t, s, "p", "a", "b"), []store.Record{
			{Key: "a", Value: []byte("1"), Version: v[0]},
			{Key: "b", Value: []byte("2"), Version: v[1], Expires: until},
		})
	}},
	{"an empty value and a nil one are stored as an empty value, never nil", func(t *testing.T, s store.Store) {
		commit(t, s, "p", store.Change{Key: "empty", Value: []byte{}}, store.Change{Key: "nil"})
		for _, r := range append(get(t, s, "p", "empty", "nil"), list(t, s, "p", "")...) {
			if r.Value == nil || len(r.Value) != 0 || r.Version == 0 {
				t.Errorf("%q came back as %v, version %d", r.Key, r.Value, r.Version)
			}
		}
	}},
	{"names and values are bytes", func(t *testing.T, s store.Store) {
		odd := []string{"\x01\xff\xfe", "ü/ß", "a b", "*", "?[a-z]", "\r\n", ":", "\"'\\"}
		for _, partition := range odd {
			for _, key := range odd {
				commit(t, s, partition, put(key, partition+"\x00"+key, 0))
			}
		}
		for _, partition := range odd {
			for _, key := range odd {
				wantValues(t, get(t, s, partition, key), partition+"\x00"+key)
			}
			if n := len(list(t, s, partition, "")); n != len(odd) {
				t.Errorf("partition %q has %d records, want %d", partition, n, len(odd))
			}
		}
	}},
	{"it reads from one moment", func(t *testing.T, s store.Store) {
		whileTwinsChange(t, s, func() []store.Record { return get(t, s, "p", "left", "right") })
	}},
	{"a record that was read stays as it was", func(t *testing.T, s store.Store) {
		v := commit(t, s, "p", put("a", "before", 0))
		read := append(get(t, s, "p", "a"), list(t, s, "p", "")...)
		v = commit(t, s, "p", put("a", "after!", v[0]))
		commit(t, s, "p", del("a", v[0]))
		commit(t, s, "p", put("a", "reborn", 0))
		wantValues(t, read, "before", "before")
	}},
}

var listTests = []contractTest{
	{"a partition without records gives none", func(t *testing.T, s store.Store) {
		wantValues(t, list(t, s, "p", ""))
		wantValues(t, list(t, s, "p", "a"))
	}},
	{"it reads the records sorted by key as bytes", func(t *testing.T, s store.Store) {
		names := []string{"B", "a", "A", "b", "aa", "a/b", "a b", "10", "9", "\xff", "é", "\x01"}
		for _, key := range names {
			commit(t, s, "p", put(key, key, 0))
		}
		slices.Sort(names)
		wantValues(t, list(t, s, "p", ""), names...)
	}},
	{"it reads the keys that begin with the prefix, and a key that is the prefix", func(t *testing.T, s store.Store) {
		commit(t, s, "p", put("session", "0", 0), put("session/1", "1", 0), put("session/2", "2", 0), put("sessions", "3", 0),
			put("sessio", "4", 0), put("t", "5", 0))
		wantValues(t, list(t, s, "p", "session/"), "1", "2")
		wantValues(t, list(t, s, "p", "session"), "0", "1", "2", "3")
		wantValues(t, list(t, s, "p", "session/2"), "2")
		wantValues(t, list(t, s, "p", "session/3"))
	}},
	{"a prefix is no pattern", func(t *testing.T, s store.Store) {
		commit(t, s, "p", put("*a", "1", 0), put("aa", "2", 0), put("?", "3", 0), put("%", "4", 0))
		wantValues(t, list(t, s, "p", "*"), "1")
		wantValues(t, list(t, s, "p", "?"), "3")
		wantValues(t, list(t, s, "p", "%"), "4")
		wantValues(t, list(t, s, "p", "[a]"))
	}},
	{"a prefix may end in the highest byte", func(t *testing.T, s store.Store) {
		commit(t, s, "p", put("\xff", "1", 0), put("\xff\xff", "2", 0), put("\xfe\xff", "3", 0), put("a", "4", 0))
		commit(t, s, "q", put("a", "5", 0))
		wantValues(t, list(t, s, "p", "\xff"), "1", "2")
		wantValues(t, list(t, s, "p", "\xff\xff"), "2")
	}},
	{"it reads no other partition, also where one's name begins with the other's", func(t *testing.T, s store.Store) {
		partitions := []string{"a", "a/b", "ab", "a\x01", "b", "\xff"}
		for _, partition := range partitions {
			commit(t, s, partition, put("k", partition+" k", 0), put("b/k", partition+" b/k", 0))
		}
		for _, partition := range partitions {
			wantValues(t, list(t, s, partition, ""), partition+" b/k", partition+" k")
			wantValues(t, list(t, s, partition, "b/"), partition+" b/k")
			wantValues(t, get(t, s, partition, "k", "b/k"), partition+" k", partition+" b/k")
		}
		commit(t, s, "a", del("k", store.Any))
		wantValues(t, get(t, s, "a/b", "k"), "a/b k")
	}},
	{"it gives the same records as Get", func(t *testing.T, s store.Store) {
		commit(t, s, "p", put("a", "1", 0), putUntil("b", "2", 0, time.Now().Add(time.Hour)))
		wantSame(t, list(t, s, "p", ""), get(t, s, "p", "a", "b"))
	}},
	{"it reads from one moment", func(t *testing.T, s store.Store) {
		whileTwinsChange(t, s, func() []store.Record { return list(t, s, "p", "") })
	}},
	{"it doesn't return what was deleted", func(t *testing.T, s store.Store) {
		commit(t, s, "p", put("a", "1", 0), put("b", "2", 0))
		commit(t, s, "p", del("a", store.Any))
		wantValues(t, list(t, s, "p", ""), "2")
	}},
	{"it reads a thousand records", func(t *testing.T, s store.Store) {
		var changes []store.Change
		var want []string
		for i := range 1000 {
			key := "k" + strings.Repeat("0", i%7) + string(rune('a'+i%26)) + time.Duration(i).String()
			changes, want = append(changes, put(key, key, 0)), append(want, key)
		}
		commit(t, s, "p", changes...)
		slices.Sort(want)
		wantValues(t, list(t, s, "p", ""), want...)
	}},
}

// whileTwinsChange calls read while two records change together, and compares them.
func whileTwinsChange(t *testing.T, s store.Store, read func() []store.Record) {
	t.Helper()
	v := commit(t, s, "p", put("left", "0", 0), put("right", "0", 0))
	done := make(chan error)
	stop := make(chan struct{})
	go func() {
		for n := 1; ; n++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			value := time.Duration(n).String()
			var err error
			v, err = s.Commit(t.Context(), store.Commit{Partition: "p", Changes: []store.Change{
				put("left", value, v[0]), put("right", value, v[1]),
			}})
			if err != nil {
				done <- err
				return
			}
		}
	}()
	seen := make(map[string]bool)
	for n := 0; n < 200 || len(seen) < 3; n++ {
		records := read()
		if len(records) != 2 || string(records[0].Value) != string(records[1].Value) {
			t.Fatalf("read %s", brief(records))
		}
		if seen[string(records[0].Value)] = true; n > 1_000_000 {
			t.Fatal("the records never changed")
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
