// Package machinekey is the keys that programs send with each request, in place of a person who signs in: app passwords, each of one
// user for one application, and service tokens, which are users of their own.
//
// A key begins with its id, by which what is kept of it is found; the rest is random, and long enough that nobody guesses it. So a
// keyed hash (HMAC) is enough to keep of it, and judging one costs microseconds. That every guess is counted all the same, before it
// is judged, is what the store is asked for: once in some minutes of a key that is in use, see paidFor.
package machinekey

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/directory"
	"github.com/caddy-mfa/caddy-mfa/internal/gate"
	"github.com/caddy-mfa/caddy-mfa/internal/seal"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
	"github.com/caddy-mfa/caddy-mfa/internal/throttle"
)

// Settings are an operator's choices about app passwords.
type Settings struct {
	Lifetime    time.Duration // of one for which nobody says another
	MaxLifetime time.Duration

	// What app passwords outlive. While a user is disabled, none of his is good.
	OutlivePassword  bool // a change of the user's password
	OutliveDisabling bool // that the user is disabled for a while
}

// Application is what an application says of keys.
type Application struct {
	AppPasswords  gate.Switch
	ServiceTokens bool
	Digest        bool // its app passwords may come over HTTP Digest, too
}

// Service makes, judges and ends keys. Its exported fields are set once; it is safe for concurrent use.
type Service struct {
	Users      directory.Directories
	Accounts   *account.Service
	Throttle   *throttle.Passwords // that of keys
	Generation *account.Generation
	Sink       audit.Sink
	Log        *slog.Logger

	Settings     Settings
	Applications map[string]Application // every one that a site has
	PerUser      bool                   // who has a setting of his own may use app passwords where an application says nothing of them
	Tokens       map[string]Token       // that are configured, by name
	Counts       *Counts                // of nonces; it outlives configurations; nil: it doesn't

	store     store.Store
	view      *View
	passwords *digester
	tokens    *digester

	overDigest *overDigest
	nonces     *nonces

	paid    memory[struct{}]            // whose attempt was right lately
	waiting memory[*throttle.WaitError] // who must wait
	noted   memory[struct{}]            // whose use was noted lately
	proving singleflight.Group
}

const (
	// paidFor is for how long a key that was right is not counted as a guess again, from the same place and in this process.
	paidFor = 5 * time.Minute

	// waitFor is for how long a place that has guessed too often is refused from memory: what unlocks it is seen after that.
	waitFor = 10 * time.Second

	// noteEvery is how exactly is kept when a key was used last.
	noteEvery = 5 * time.Minute

	// patience bounds what is asked of the store for an attempt, which others may be waiting for.
	patience = time.Second
)

// New completes a service whose exported fields have been set. Service tokens are kept in s, where accounts are; view keeps them in
// memory.
func New(service *Service, s store.Store, view *View, keys *seal.Keyring) *Service {
	service.store, service.view = s, view
	service.passwords, service.tokens = newDigester(keys, "app password"), newDigester(keys, "service token")
	service.overDigest, service.nonces = newOverDigest(keys), newNonces(keys)
	if service.Counts == nil {
		service.Counts = &Counts{}
	}
	return service
}

// attempt is somebody who shows a key.
type attempt struct {
	throttle.Attempt
	typed typed
	owner string // whose the key would be
	event audit.Event
}

// place is what an attempt waits as.
func (a *attempt) place() [sha256.Size]byte {
	return memoryKey("wait", a.User, a.Key, throttle.Place(a.Address))
}

// prove counts an attempt, has it judged, and takes it back if it was right. right is asked only after it was counted, unless the same
// key was right from the same place lately. The error is gate.ErrWrongKey, *throttle.WaitError, or a fault.
func (s *Service) prove(ctx context.Context, a attempt, now time.Time, right func() bool) error {
	paid := memoryKey("paid", a.owner, throttle.Place(a.Address), a.typed.text)
	if _, ok := s.paid.get(paid, now); ok {
		if right() {
			return nil
		}
		s.paid.forget(paid)
	}
	// A program that opens many connections sends its first requests all at once: they are one attempt.
	_, err, _ := s.proving.Do(string(paid[:]), func() (any, error) {
		// One may give up, and the others must not with him.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		err := s.judge(ctx, a, now, right)
		if err == nil {
			s.paid.put(paid, struct{}{}, now.Add(paidFor), now)
		}
		return nil, err
	})
	return err
}

func (s *Service) judge(ctx context.Context, a attempt, now time.Time, right func() bool) error {
	place := a.place()
	if wait, ok := s.waiting.get(place, now); ok {
		return wait
	}
	if err := s.Throttle.Charge(ctx, a.Attempt, now); err != nil {
		if wait := (*throttle.WaitError)(nil); errors.As(err, &wait) {
			until := now.Add(waitFor)
			if !wait.Until.IsZero() && wait.Until.Before(until) {
				until = wait.Until
			}
			s.waiting.put(place, wait, until, now)
			a.event.Type, a.event.Reason = audit.KeyThrottled, wait.Scope
			s.Sink.Audit(a.event)
		}
		return err
	}
	if !right() {
		a.event.Type, a.event.Reason = audit.KeyRefused, "wrong"
		s.Sink.Audit(a.event)
		return gate.ErrWrongKey
	}
	// Keys are among what can vanish with an account store, and be there again with an old one.
	if err := s.Generation.Check(ctx); err != nil {
		return errors.Join(err, s.Throttle.Withdraw(ctx, a.Attempt, now))
	}
	return s.Throttle.Refund(ctx, a.Attempt, now)
}

// refused says that a key whose secret is right is not good for a use.
func (s *Service) refused(e audit.Event, reason string) error {
	e.Type, e.Reason = audit.KeyRefused, reason
	s.Sink.Audit(e)
	return gate.ErrNotHere
}

// note has the use of a key noted, unless that was done lately.
func (s *Service) note(owner, id string, last, now time.Time, write func(context.Context) error) {
	key := memoryKey("noted", owner, id)
	if now.Sub(last) < noteEvery {
		return
	}
	if _, ok := s.noted.get(key, now); ok {
		return
	}
	s.noted.put(key, struct{}{}, now.Add(noteEvery), now)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := write(ctx); err != nil {
			s.Log.Warn("noting the use of a key", "error", err)
		}
	}()
}

// within says whether an address is in one of the ranges; in none of them if nobody knows it.
func within(ranges []netip.Prefix, address netip.Addr) bool {
	address = address.Unmap().WithZone("")
	for _, r := range ranges {
		if r.Contains(address) {
			return true
		}
	}
	return false
}

var _ gate.Keys = (*Service)(nil)
