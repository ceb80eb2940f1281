package watched

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"math/bits"
	"slices"
	"strings"
	"sync"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/password"
)

// snapshot is one version of the files. It is never changed.
type snapshot struct {
	sum     [sha256.Size]byte // of the content
	byName  map[string]*Entry // by canonical name
	byID    map[string]*Entry
	users   []*mfa.User // sorted by canonical name
	classes []class
}

// class is the users whose digests cost the same.
type class struct {
	cost  password.Cost
	like  password.Digest // of one of them
	count uint64
}

func newSnapshot(entries []*Entry) *snapshot {
	s := &snapshot{
		byName: make(map[string]*Entry, len(entries)),
		byID:   make(map[string]*Entry, len(entries)),
		users:  make([]*mfa.User, 0, len(entries)),
	}
	byCost := map[password.Cost]int{}
	for _, e := range entries {
		e.User.Mark = mark(e.User.ID, e.Digest)
		s.byName[e.User.Canonical] = e
		s.byID[e.User.ID.ID] = e
		s.users = append(s.users, e.User)
		cost := e.Digest.Cost()
		i, known := byCost[cost]
		if !known {
			i = len(s.classes)
			byCost[cost] = i
			s.classes = append(s.classes, class{cost: cost, like: e.Digest})
		}
		s.classes[i].count++
	}
	slices.SortFunc(s.users, func(a, b *mfa.User) int { return strings.Compare(a.Canonical, b.Canonical) })
	// In an order of their own, so that a name's class survives most changes of the files.
	slices.SortFunc(s.classes, func(a, b class) int { return a.cost.Compare(b.cost) })
	return s
}

// processKey keeps anybody outside from computing which digest stands in for a name.
var processKey = sync.OnceValue(func() (key [sha256.Size]byte) {
	rand.Read(key[:]) // never fails
	return key
})

// standIn gives the digest whose cost a name that nobody has is charged: always the same for a name, and over all
// names as the costs are distributed over the users. It is the zero Digest where there is no user.
func (s *snapshot) standIn(key [sha256.Size]byte, canonical string) password.Digest {
	mac := hmac.New(sha256.New, key[:])
	mac.Write([]byte(canonical))
	// The upper word of the product is a number below the number of users, as good as evenly distributed.
	n, _ := bits.Mul64(binary.BigEndian.Uint64(mac.Sum(nil)), uint64(len(s.users)))
	for _, c := range s.classes {
		if n < c.count {
			return c.like
		}
		n -= c.count
	}
	return password.Digest{}
}

// mark makes mfa.User.Mark: it is another one for another digest, and nothing can be computed from it.
func mark(id mfa.UserID, d password.Digest) string {
	h := sha256.New()
	for _, part := range []string{"caddy-mfa users file password mark", id.Directory, id.ID, d.Encoded()} {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		h.Write(length[:])
		h.Write([]byte(part))
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])
}
