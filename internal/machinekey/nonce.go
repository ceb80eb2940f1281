package machinekey

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/seal"
)

const (
	// nonceLife is for how long a nonce is good. A client that has an older one is given another, and asks nobody.
	nonceLife = 5 * time.Minute

	// nonceAhead is how far the clock of the machine that has made a nonce may be ahead of ours.
	nonceAhead = 10 * time.Second

	nonceTime   = 8  // bytes: when it was made, in milliseconds since 1970
	nonceRandom = 8  // bytes: no two clients have the same
	nonceMAC    = 16 // bytes of an HMAC-SHA-256, with a key of its own
	nonceLen    = nonceTime + nonceRandom + nonceMAC
)

// nonces makes the nonces of HTTP Digest, and knows its own again. Nothing is kept of them: any machine with the same secret knows them.
type nonces struct{ keys [][]byte } // newest first

func newNonces(keys *seal.Keyring) *nonces {
	return &nonces{keys.Keys("nonce of app password over digest", sha256.Size)}
}

func (n *nonces) make(application string, now time.Time) string {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, nonceLen), uint64(now.UnixMilli()))
	b = b[:nonceTime+nonceRandom]
	rand.Read(b[nonceTime:]) // never fails, see crypto/rand
	return base64.RawURLEncoding.EncodeToString(append(b, nonceSum(n.keys[0], application, b)...))
}

func nonceSum(key []byte, application string, b []byte) []byte {
	mac := hmac.New(sha256.New, key)
	part(mac, application)
	mac.Write(b)
	return mac.Sum(nil)[:nonceMAC]
}

// issued says when a nonce was made, if it was made by us for this application, and not in the future.
func (n *nonces) issued(nonce, application string, now time.Time) (time.Time, bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(nonce)
	if err != nil || len(b) != nonceLen || len(nonce) != base64.RawURLEncoding.EncodedLen(nonceLen) { // decoding passes over line breaks
		return time.Time{}, false
	}
	b, mac := b[:nonceTime+nonceRandom], b[nonceTime+nonceRandom:]
	ours := false
	for _, key := range n.keys {
		ours = hmac.Equal(nonceSum(key, application, b), mac) || ours
	}
	at := time.UnixMilli(int64(binary.BigEndian.Uint64(b)))
	return at, ours && !at.After(now.Add(nonceAhead))
}

// Counts knows which requests have come with a nonce: each has a number of its own (nc in RFC 7616, section 3.4), and none is let in twice.
// It is this process's own: what was let in here can be sent again to another machine, until the nonce is too old.
//
// The zero Counts has let nothing in, ever. It is safe for concurrent use.
type Counts struct {
	mu    sync.Mutex
	seen  map[string]*seen
	since time.Time // nonces that were made before, and aren't in seen, are used up
}

// seen is what has come with a nonce. Programs with several connections send their requests in no order.
type seen struct {
	until   time.Time
	highest uint32
	before  uint64 // bit i: highest-i has come
}

// NewCounts begins to count. Nonces that were made before are used up: nobody knows what a process that has ended has let in with them.
func NewCounts(now time.Time) *Counts { return &Counts{since: now} }

// maxCounts is how many nonces are kept in memory. Only who has an app password makes it grow.
const maxCounts = 20_000

// use says whether a request is the first with this count, and remembers it.
func (c *Counts) use(nonce string, issued time.Time, count uint32, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.seen[nonce]
	if ok {
		return s.use(count)
	}
	if issued.Before(c.since) {
		return false
	}
	c.makeRoom(now)
	c.seen[strings.Clone(nonce)] = &seen{until: issued.Add(nonceLife), highest: count, before: 1}
	return true
}

// makeRoom forgets what is too old to be used. Where that isn't much, it forgets everything, and lets nothing in that could have been
// forgotten: each client is given another nonce.
func (c *Counts) makeRoom(now time.Time) {
	if c.seen == nil {
		c.seen = map[string]*seen{}
	}
	if len(c.seen) < maxCounts {
		return
	}
	for nonce, s := range c.seen {
		if !now.Before(s.until) {
			delete(c.seen, nonce)
		}
	}
	if len(c.seen) > maxCounts/2 {
		c.since = now.Add(time.Millisecond)                                                                      // nonces count whole ones
		maps.DeleteFunc(c.seen, func(_ string, s *seen) bool { return s.until.Add(-nonceLife).Before(c.since) }) // not those of a clock that is ahead
	}
}

func (s *seen) use(count uint32) bool {
	if count > s.highest {
		s.before = s.before<<min(64, count-s.highest) | 1
		s.highest = count
		return true
	}
	behind := s.highest - count
	if behind >= 64 || s.before>>behind&1 == 1 {
		return false
	}
	s.before |= 1 << behind
	return true
}
