package machinekey

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"sync"
	"time"
)

// memory keeps a bounded number of values for a while, under keys that say nothing. The zero memory is empty.
type memory[V any] struct{ shards [memoryShards]memoryShard[V] }

const (
	memoryShards = 32
	memorySize   = 1024 // values in a shard
)

type memoryShard[V any] struct {
	mu   sync.Mutex
	kept map[[sha256.Size]byte]remembered[V]
}

type remembered[V any] struct {
	value V
	until time.Time
}

// processKey is another one in every process: what is remembered is of no use to who gets hold of it.
var processKey = sync.OnceValue(func() []byte {
	key := make([]byte, sha256.Size)
	rand.Read(key) // never fails, see crypto/rand
	return key
})

// memoryKey makes a key of parts.
func memoryKey(parts ...string) (key [sha256.Size]byte) {
	mac := hmac.New(sha256.New, processKey())
	for _, p := range parts {
		part(mac, p)
	}
	mac.Sum(key[:0])
	return key
}

func (m *memory[V]) shard(key [sha256.Size]byte) *memoryShard[V] {
	return &m.shards[key[0]%memoryShards]
}

func (m *memory[V]) get(key [sha256.Size]byte, now time.Time) (V, bool) {
	s := m.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.kept[key]
	if !ok || !now.Before(r.until) {
		var none V
		return none, false
	}
	return r.value, true
}

// put keeps a value. Where there is no room, another is forgotten: what is kept here only saves work.
func (m *memory[V]) put(key [sha256.Size]byte, value V, until, now time.Time) {
	s := m.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept == nil {
		s.kept = map[[sha256.Size]byte]remembered[V]{}
	}
	if _, ok := s.kept[key]; !ok && len(s.kept) >= memorySize {
		for other, r := range s.kept {
			if !now.Before(r.until) {
				delete(s.kept, other)
			}
		}
		for other := range s.kept {
			if len(s.kept) < memorySize {
				break
			}
			delete(s.kept, other)
		}
	}
	s.kept[key] = remembered[V]{value, until}
}

func (m *memory[V]) forget(key [sha256.Size]byte) {
	s := m.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.kept, key)
}
