package storetest

import (
	"context"
	"io"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

// RunShared tests backends that several processes share. Each call of open gives two handles on one store, which is empty, and
// has them closed at the end of t.
func RunShared(t *testing.T, open func(t *testing.T) (a, b store.Store)) {
	for _, test := range []struct {
		sentence string
		run      func(t *testing.T, a, b store.Store)
	}{
		{"what one has written the other reads at once", func(t *testing.T, a, b store.Store) {
			for n := range 50 {
				v := commit(t, a, "p", put("a", strconv.Itoa(n), store.Any))
				wantSame(t, get(t, b, "p", "a"), []store.Record{{Key: "a", Value: []byte(strconv.Itoa(n)), Version: v[0]}})
				wantValues(t, list(t, b, "p", ""), strconv.Itoa(n))
				commit(t, b, "p", del("a", v[0]))
				wantValues(t, get(t, a, "p", "a"), "-")
			}
		}},
		{"a version that one has given holds at the other", func(t *testing.T, a, b store.Store) {
			v := commit(t, a, "p", put("a", "1", 0))[0]
			w := commit(t, b, "p", put("a", "2", v))[0]
			refuse(t, a, store.ErrConflict, "p", put("a", "3", v))
			commit(t, a, "p", del("a", w))
			refuse(t, b, store.ErrConflict, "p", expect("a", w))
		}},
		{"a counter loses no increment", func(t *testing.T, a, b store.Store) { countTogether(t, 10, 100, a, b) }},
		{"of many that create one record, one succeeds", func(t *testing.T, a, b store.Store) { createTogether(t, a, b) }},
		{"a commit with Notify is told to the other, one without is not", func(t *testing.T, a, b store.Store) {
			var told tally
			defer b.Watch(told.add)()
			awaitFresh(t, b)
			for n := range 20 {
				silent, loud := "silent"+strconv.Itoa(n), "loud"+strconv.Itoa(n)
				commit(t, a, silent, put("a", "1", 0))
				notify(t, a, loud)
				await(t, "the other is told", func() bool { return told.count(loud) > 0 })
				if told.count(silent) > 0 {
					t.Fatalf("%s was told", silent)
				}
			}
		}},
		{"while the other is fresh, it has been told of everything that is older than StaleAfter", func(t *testing.T, a, b store.Store) {
			var told atomic.Int64
			partition := func(n int64) string { return strconv.FormatInt(n, 10) }
			defer b.Watch(func(p string) {
				if n, err := strconv.ParseInt(p, 10, 64); err == nil {
					told.Store(n)
				}
			})()
			awaitFresh(t, b)
			type announced struct {
				n  int64
				at time.Time
			}
			var pending []announced
			for n, begin := int64(1), time.Now(); time.Since(begin) < 2*store.StaleAfter; n++ {
				notify(t, a, partition(n))
				pending = append(pending, announced{n, time.Now()})
				now, fresh := time.Now(), b.Fresh()
				reached := told.Load()
				for len(pending) > 0 && (pending[0].n <= reached || now.Sub(pending[0].at) > store.StaleAfter) {
					if fresh && pending[0].n > reached {
						t.Fatalf("fresh, and not told of what was committed %v ago", now.Sub(pending[0].at))
					}
					pending = pending[1:]
				}
				time.Sleep(time.Millisecond)
			}
		}},
		{"closing one leaves the other as it is", func(t *testing.T, a, b store.Store) {
			commit(t, a, "p", put("a", "1", 0))
			if err := a.(io.Closer).Close(); err != nil {
				t.Fatal(err)
			}
			wantValues(t, get(t, b, "p", "a"), "1")
			notify(t, b, "p")
			awaitFresh(t, b)
		}},
		{"a commit whose context has ended may be repeated by the other", func(t *testing.T, a, b store.Store) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := a.Commit(ctx, store.Commit{Partition: "p", Changes: []store.Change{put("a", "1", 0)}}); err == nil {
				t.Fatal("it succeeded")
			}
			commit(t, b, "p", put("a", "2", 0))
			wantValues(t, get(t, a, "p", "a"), "2")
		}},
	} {
		t.Run(test.sentence, func(t *testing.T) {
			a, b := open(t)
			test.run(t, a, b)
		})
	}
}
