package bolt

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/store"
	"github.com/caddy-mfa/caddy-mfa/internal/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		return newStore(t, filepath.Join(t.TempDir(), "store"))
	})
}

// newPatient returns a store that waits for a disk that is busy with other things.
func newPatient(path string) *Store {
	s := New(path)
	s.patience = time.Minute
	return s
}

func newStore(tb testing.TB, path string) *Store {
	s := newPatient(path)
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("closing: %v", err)
		}
	})
	return s
}

func BenchmarkStore(b *testing.B) {
	storetest.Benchmark(b, newStore(b, filepath.Join(b.TempDir(), "store")))
}
