package storetest

import (
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

// Benchmark measures what a request asks of a store: two records of one partition, and a commit, alone and with 64 at once.
func Benchmark(b *testing.B, s store.Store) {
	value := make([]byte, 300)
	for user := range 100 {
		_, err := s.Commit(b.Context(), store.Commit{Partition: strconv.Itoa(user), Changes: []store.Change{
			{Key: "session", If: store.Any, Value: value, Expires: time.Now().Add(time.Hour)},
			{Key: "epoch", If: store.Any, Value: value},
		}})
		if err != nil {
			b.Fatal(err)
		}
	}
	var next atomic.Int64
	get := func() error {
		_, err := s.Get(b.Context(), strconv.FormatInt(next.Add(1)%100, 10), "session", "epoch")
		return err
	}
	commit := func() error {
		_, err := s.Commit(b.Context(), store.Commit{Partition: strconv.FormatInt(next.Add(1)%100, 10), Changes: []store.Change{
			{Key: "session", If: store.Any, Value: value, Expires: time.Now().Add(time.Hour)},
		}})
		return err
	}
	for _, bench := range []struct {
		name       string
		goroutines int
		run        func() error
	}{
		{"Get of 2 records", 1, get},
		{"Get of 2 records by 64", 64, get},
		{"Commit", 1, commit},
		{"Commit by 64", 64, commit},
	} {
		b.Run(bench.name, func(b *testing.B) {
			var left atomic.Int64
			left.Store(int64(b.N))
			var all sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			for range bench.goroutines {
				all.Go(func() {
					for left.Add(-1) >= 0 {
						if err := bench.run(); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
		})
	}
}
