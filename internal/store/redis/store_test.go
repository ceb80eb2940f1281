package redis

import (
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/store"
	"github.com/caddy-mfa/caddy-mfa/internal/store/redis/redistest"
	"github.com/caddy-mfa/caddy-mfa/internal/store/storetest"
)

func TestStore(t *testing.T) {
	server := redistest.Start(t)
	storetest.Run(t, func(t *testing.T) store.Store {
		return newStore(t, config(server))
	})
}

func TestSharedStore(t *testing.T) {
	server := redistest.Start(t)
	storetest.RunShared(t, func(t *testing.T) (a, b store.Store) {
		c := config(server)
		return newStore(t, c), newStore(t, c)
	})
}

func BenchmarkStore(b *testing.B) { storetest.Benchmark(b, newStore(b, config(redistest.Start(b)))) }

var prefixes atomic.Int64

// config is for a store that is empty.
func config(server *redistest.Server) Config {
	return Config{
		Addresses: []string{server.Addr()},
		Password:  server.Password(),
		Prefix:    "test" + strconv.FormatInt(prefixes.Add(1), 10) + ":",
	}
}

// newStore returns a store that waits for a server on a machine that is busy with other things.
func newStore(tb testing.TB, c Config) *Store {
	s := newImpatientStore(tb, c)
	s.patience = 5 * time.Second
	return s
}

// newImpatientStore returns a store as New makes it.
func newImpatientStore(tb testing.TB, c Config) *Store {
	s := New(c)
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("closing: %v", err)
		}
	})
	return s
}
