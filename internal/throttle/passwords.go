package throttle

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

// Passwords throttles the guessing of passwords, for all processes that share the store.
//
// An attempt from an unknown browser is charged to four accounts: the user together with the address (growing delays),
// the user, the address, and everybody. An attempt from a browser that is known to be the user's is charged to
// that browser alone: strangers can use up what the others share, and still not lock the user out of his own
// browser. Nothing here locks anybody for good.
type Passwords struct{ store store.Store }

// NewPasswords counts in s.
func NewPasswords(s store.Store) *Passwords { return &Passwords{s} }

// Attempt is who tries from where.
type Attempt struct {
	User    string     // canonical user name, or what was typed if it has none; known or not
	Address netip.Addr // of the client; an IPv6 address counts as its /64
	Browser string     // id of a browser that is known to be this user's; empty: unknown
}

// Charge counts the attempt as a failure. The error is a *WaitError: then it must not be judged; or store.ErrUnavailable.
func (p *Passwords) Charge(ctx context.Context, a Attempt, now time.Time) error {
	if a.Browser != "" {
		return modify(ctx, p.store, a.userPartition(), a.pairKey(), now.Add(forget), func(d delay) (delay, error) {
			return d.charge(now)
		})
	}
	// What is shared first: when that is used up, no key is written for the name that was tried. One after the other, the narrowest
	// first: an address that has used up its own takes nothing from everybody.
	all := a.shared()
	for i, shared := range all {
		err := p.spend(ctx, shared.partition, shared.limit, now)
		if wait := (*WaitError)(nil); errors.As(err, &wait) {
			return errors.Join(err, p.refundShared(ctx, all[:i], now))
		}
		if err != nil {
			return err
		}
	}
	err := store.Modify(ctx, p.store, a.userPartition(), []string{budgetKey, a.pairKey()}, false, func(records []store.Record) ([]store.Change, error) {
		var b budget
		var d delay
		if err := errors.Join(decode(records[0], &b), decode(records[1], &d)); err != nil {
			return nil, err
		}
		d, err := d.charge(now)
		if err != nil {
			return nil, err
		}
		if b, err = b.charge(now, userLimit); err != nil {
			return nil, err
		}
		return []store.Change{
			encode(records[0], b, now.Add(userLimit.per)),
			encode(records[1], d, now.Add(forget)),
		}, nil
	})
	if wait := (*WaitError)(nil); errors.As(err, &wait) {
		// Nothing will be judged: somebody who tries again too early doesn't use up what he shares with others.
		if err := p.refundShared(ctx, all, now); err != nil {
			return err
		}
	}
	return err
}

// Refund takes an attempt back that was right, and with it the delays for this user from this place. The budgets keep
// what others have spent.
func (p *Passwords) Refund(ctx context.Context, a Attempt, now time.Time) error {
	if a.Browser != "" {
		return p.forget(ctx, a.userPartition(), a.pairKey())
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.refundShared(gctx, a.shared(), now) })
	g.Go(func() error {
		return store.Modify(gctx, p.store, a.userPartition(), []string{budgetKey, a.pairKey()}, false, func(records []store.Record) ([]store.Change, error) {
			var b budget
			if err := decode(records[0], &b); err != nil {
				return nil, err
			}
			return []store.Change{
				encode(records[0], b.refund(now, userLimit), now.Add(userLimit.per)),
				{Key: records[1].Key, Op: store.Delete, If: records[1].Version},
			}, nil
		})
	})
	return g.Wait()
}

// Withdraw takes an attempt back that was not judged. What was counted before it stays counted, delays included.
func (p *Passwords) Withdraw(ctx context.Context, a Attempt, now time.Time) error {
	if a.Browser != "" {
		return modify(ctx, p.store, a.userPartition(), a.pairKey(), now.Add(forget), func(d delay) (delay, error) {
			return d.withdraw(), nil
		})
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.refundShared(ctx, a.shared(), now) })
	g.Go(func() error {
		return store.Modify(ctx, p.store, a.userPartition(), []string{budgetKey, a.pairKey()}, false, func(records []store.Record) ([]store.Change, error) {
			var b budget
			var d delay
			if err := errors.Join(decode(records[0], &b), decode(records[1], &d)); err != nil {
				return nil, err
			}
			return []store.Change{
				encode(records[0], b.refund(now, userLimit), now.Add(userLimit.per)),
				encode(records[1], d.withdraw(), now.Add(forget)),
			}, nil
		})
	})
	return g.Wait()
}

func (p *Passwords) refundShared(ctx context.Context, budgets []sharedBudget, now time.Time) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, shared := range budgets {
		g.Go(func() error {
			return modify(ctx, p.store, shared.partition, budgetKey, now.Add(shared.limit.per), func(b budget) (budget, error) {
				return b.refund(now, shared.limit), nil
			})
		})
	}
	return g.Wait()
}

// Unlock forgets every wrong password that was tried for the user, from wherever.
func (p *Passwords) Unlock(ctx context.Context, user string) error {
	return forgetAll(ctx, p.store, Attempt{User: user}.userPartition())
}

// forgetAll forgets everything that is counted in a partition.
func forgetAll(ctx context.Context, s store.Store, partition string) error {
	return store.Retry(ctx, func() error {
		records, err := s.List(ctx, partition, "")
		if err != nil || len(records) == 0 {
			return err
		}
		changes := make([]store.Change, len(records))
		for i, r := range records {
			changes[i] = store.Change{Key: r.Key, Op: store.Delete, If: r.Version}
		}
		_, err = s.Commit(ctx, store.Commit{Partition: partition, Changes: changes})
		return err
	})
}

func (p *Passwords) spend(ctx context.Context, partition string, l limit, now time.Time) error {
	return modify(ctx, p.store, partition, budgetKey, now.Add(l.per), func(b budget) (budget, error) { return b.charge(now, l) })
}

func (p *Passwords) forget(ctx context.Context, partition, key string) error {
	_, err := p.store.Commit(ctx, store.Commit{Partition: partition, Changes: []store.Change{{Key: key, Op: store.Delete, If: store.Any}}})
	return err
}

const budgetKey = "budget"

// userPartition holds what is counted for a user name. Names are hashed: people type passwords into the wrong field.
func (a Attempt) userPartition() string {
	sum := sha256.Sum256([]byte(a.User))
	return "throttle/user/" + hex.EncodeToString(sum[:16])
}

func (a Attempt) pairKey() string {
	if a.Browser != "" {
		return "browser/" + a.Browser
	}
	return "address/" + addressText(a.Address)
}

type sharedBudget struct {
	partition string
	limit     limit
}

func (a Attempt) shared() []sharedBudget {
	return []sharedBudget{{"throttle/address/" + addressText(a.Address), addressLimit}, {"throttle/total", totalLimit}}
}

// addressText is what one household or one machine holds: an IPv4 address, or an IPv6 /64.
func addressText(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	if !a.IsValid() {
		return "unknown"
	}
	if a.Is6() {
		prefix, err := a.Prefix(64)
		if err != nil { // an IPv6 address has a /64
			panic(err)
		}
		return prefix.String()
	}
	return a.String()
}

// modify changes one counter.
func modify[T any](ctx context.Context, s store.Store, partition, key string, expires time.Time, change func(T) (T, error)) error {
	return store.Modify(ctx, s, partition, []string{key}, false, func(records []store.Record) ([]store.Change, error) {
		var counter T
		if err := decode(records[0], &counter); err != nil {
			return nil, err
		}
		counter, err := change(counter)
		if err != nil {
			return nil, err
		}
		return []store.Change{encode(records[0], counter, expires)}, nil
	})
}

func decode(r store.Record, counter any) error {
	if r.Version == 0 {
		return nil
	}
	if err := json.Unmarshal(r.Value, counter); err != nil {
		return fmt.Errorf("reading counter %s: %w", r.Key, err)
	}
	return nil
}

func encode(r store.Record, counter any, expires time.Time) store.Change {
	value, err := json.Marshal(counter)
	if err != nil { // numbers and times are always written
		panic(err)
	}
	return store.Change{Key: r.Key, If: r.Version, Value: value, Expires: expires}
}
