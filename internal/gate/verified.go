package gate

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/throttle"
)

// Verified keeps in memory which Basic credentials were right a moment ago, so that a program which sends its password with every
// request costs no hash each time. It outlives configurations.
//
// The nil Verified knows of none.
//
// It must not help whoever guesses: an attempt that is found here is not counted. So what is kept is of a name at one place (an
// address, or an IPv6 /64), one password each, and goes with the first wrong one, or one that has to wait, from there. Whoever was
// stopped by the throttle finds nothing here.
type Verified struct {
	key   [sha256.Size]byte
	cache *otter.Cache[caller, right]
}

// caller is a user name at a place, as a keyed hash: what was typed in the wrong field is not kept.
type caller [sha256.Size]byte

// right is a password that was right, and for whom. It ends with anything that would end a session.
type right struct {
	mac   [sha256.Size]byte
	user  mfa.UserID
	mark  string
	epoch uint64
	until time.Time
}

const (
	// VerifiedFor is for how long a password that was right is not judged again.
	VerifiedFor = 5 * time.Minute

	maxVerified = 20_000
)

// NewVerified makes one that knows of none.
func NewVerified() *Verified {
	v := &Verified{cache: otter.Must(&otter.Options[caller, right]{
		MaximumSize: maxVerified, ExpiryCalculator: otter.ExpiryWriting[caller, right](VerifiedFor),
	})}
	rand.Read(v.key[:]) // never fails, see crypto/rand
	return v
}

// Close ends what runs besides. It may be used no more.
func (v *Verified) Close() { v.cache.StopAllGoroutines() }

func (v *Verified) mac(parts ...string) (sum [sha256.Size]byte) {
	h := hmac.New(sha256.New, v.key[:])
	for _, p := range parts {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(p))))
		h.Write([]byte(p))
	}
	h.Sum(sum[:0])
	return sum
}

func (v *Verified) caller(name string, address netip.Addr) caller {
	return v.mac("caller", name, throttle.Place(address))
}

// find says whose a password is that was right a moment ago, if it was.
func (v *Verified) find(name, password string, address netip.Addr, now time.Time) (right, bool) {
	if v == nil {
		return right{}, false
	}
	kept, ok := v.cache.GetIfPresent(v.caller(name, address))
	if !ok || !now.Before(kept.until) {
		return right{}, false
	}
	mac := v.mac("password", name, password)
	return kept, hmac.Equal(mac[:], kept.mac[:])
}

// put keeps that a password was right for a user as he is now.
func (v *Verified) put(name, password string, address netip.Addr, user *mfa.User, a *account.Account, now time.Time) {
	if v == nil {
		return
	}
	v.cache.Set(v.caller(name, address), right{v.mac("password", name, password), user.ID, user.Mark, a.State.Epoch, now.Add(VerifiedFor)})
}

// forget takes away what is kept of a name at a place.
func (v *Verified) forget(name string, address netip.Addr) {
	if v != nil {
		v.cache.Invalidate(v.caller(name, address))
	}
}
