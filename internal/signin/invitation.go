package signin

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/seal"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

// Invitations ask of whoever opens a sign-in page for a passkey. What was asked travels in the page, sealed and bound to the host and to
// the browser: a page that is only looked at costs no key in the store. That it was answered is noted when the answer is right.
type Invitations struct {
	store  store.Store
	sealer *seal.Sealer
}

// NewInvitations notes in s, where accounts are, what was answered: what is lost there could be answered again.
func NewInvitations(s store.Store, keys *seal.Keyring) *Invitations {
	return &Invitations{s, keys.Sealer("invitation")}
}

// Invitation is what a sign-in page asks of whoever has a passkey. The zero Invitation asks nothing.
type Invitation struct {
	Options string // for the browser, in the JSON of WebAuthn Level 3
	Token   string // comes back with the answer
	Browser string // value of the cookie that the answer must come with; the one that was there, if it was good
}

const (
	maxInvitation = 4096 // bytes, of a token
	bindingSize   = 16   // bytes, of what ties an answer to a browser
)

// binding gives the value of the cookie that ties answers to a browser: the one that it has, or a new one.
func binding(cookie string) string {
	if b, err := base64.RawURLEncoding.DecodeString(cookie); err == nil && len(b) == bindingSize {
		return cookie
	}
	var b [bindingSize]byte
	rand.Read(b[:]) // never fails, see crypto/rand
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func (i *Invitations) seal(ch mfa.Challenge, host, browser string) (string, error) {
	plain, err := json.Marshal(ch)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(i.sealer.Seal(plain, host, browser)), nil
}

// open gives what was asked on this host in this browser. ok is false for everything else, and when it is too late.
func (i *Invitations) open(token, host, browser string, now time.Time) (ch mfa.Challenge, ok bool) {
	if len(token) > maxInvitation || browser == "" || binding(browser) != browser {
		return mfa.Challenge{}, false
	}
	sealed, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return mfa.Challenge{}, false
	}
	plain, err := i.sealer.Open(sealed, host, browser)
	if err != nil || json.Unmarshal(plain, &ch) != nil || !now.Before(ch.Expires) {
		return mfa.Challenge{}, false
	}
	return ch, true
}

const usedKey = "used"

// usedPartition is one for each invitation: nothing is read or written together with it.
func usedPartition(ch mfa.Challenge) string {
	sum := sha256.Sum256(ch.State)
	return "invitation/" + hex.EncodeToString(sum[:16])
}

// used says whether it was answered already.
func (i *Invitations) used(ctx context.Context, ch mfa.Challenge) (bool, error) {
	records, err := i.store.Get(ctx, usedPartition(ch), usedKey)
	if err != nil {
		return false, err
	}
	return records[0].Version != 0, nil
}

// use notes that it was answered: of all who do so at once, on whichever machine, one gets no error. The others get ErrStep.
func (i *Invitations) use(ctx context.Context, ch mfa.Challenge) error {
	_, err := i.store.Commit(ctx, store.Commit{Partition: usedPartition(ch), Changes: []store.Change{{
		// A while longer than it is good for: clocks of several machines differ.
		Key: usedKey, Value: []byte{}, Expires: ch.Expires.Add(time.Minute),
	}}})
	if errors.Is(err, store.ErrConflict) {
		return ErrStep
	}
	return err
}
