package account

import (
	"context"
	"fmt"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/seal"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

// View keeps accounts in memory for as long as they are true. It outlives configurations.
type View = store.View[*Account]

// viewSize is how many accounts are kept at most.
const viewSize = 50_000

// NewView makes a view of the accounts in s. What belongs to their factors stays sealed in it.
func NewView(s store.Store) *View {
	return store.NewView(s, viewSize, func(ctx context.Context, partition, key string) (*Account, error) {
		id, err := mfa.ParseUserID(key)
		if err != nil {
			return nil, err
		}
		return load(ctx, s, id, nil)
	})
}

// Service reads and writes accounts.
type Service struct {
	store     store.Store
	view      *View
	maxAge    time.Duration
	sealer    *seal.Sealer
	upstreams *seal.Sealer // of credentials of applications
}

// NewService keeps accounts in s, and the factors' data under keys. Get answers from view what is not older than maxAge.
func NewService(s store.Store, view *View, maxAge time.Duration, keys *seal.Keyring) *Service {
	return &Service{s, view, maxAge, keys.Sealer("credential"), keys.Sealer("upstream")}
}

// Place is where an account is kept in memory. It can be held on to, and then costs no look-up.
type Place = store.Place[*Account]

// Place gives the place of an account.
func (s *Service) Place(id mfa.UserID) *Place {
	p := partition(id)
	return s.view.Place(p, p[len(partitionPrefix):])
}

// Get gives an account as it is now, without the factors' data, for decisions about requests. It must not be changed.
func (s *Service) Get(ctx context.Context, id mfa.UserID) (*Account, error) {
	return s.At(ctx, s.Place(id))
}

// At is Get for the account whose place it is.
func (s *Service) At(ctx context.Context, p *Place) (*Account, error) {
	return s.view.At(ctx, p, s.maxAge)
}

// Load reads an account, with the factors' data.
func (s *Service) Load(ctx context.Context, id mfa.UserID) (*Account, error) {
	return load(ctx, s.store, id, s.sealer)
}

// LoadClosed reads an account without the factors' data. Unlike Get it asks the store.
func (s *Service) LoadClosed(ctx context.Context, id mfa.UserID) (*Account, error) {
	return load(ctx, s.store, id, nil)
}

func load(ctx context.Context, s store.Store, id mfa.UserID, sealer *seal.Sealer) (*Account, error) {
	records, err := s.List(ctx, partition(id), "")
	if err != nil {
		return nil, fmt.Errorf("loading account: %w", err)
	}
	return decode(id, records, sealer)
}

// Update reads an account, lets change change it, and writes what has changed, all at once, again from the start
// whenever somebody else was faster. change may run several times. If it returns an error, nothing is written, and
// Update returns that error. It returns the account as it was written.
func (s *Service) Update(ctx context.Context, id mfa.UserID, now time.Time, change func(*Account) error) (*Account, error) {
	return s.update(ctx, id, now, s.sealer, change)
}

// UpdateClosed is Update for a change that looks into no factor that was there before: it also works when these don't open any more.
func (s *Service) UpdateClosed(ctx context.Context, id mfa.UserID, now time.Time, change func(*Account) error) (*Account, error) {
	return s.update(ctx, id, now, nil, change)
}

func (s *Service) update(ctx context.Context, id mfa.UserID, now time.Time, open *seal.Sealer, change func(*Account) error) (*Account, error) {
	var updated *Account
	err := store.Retry(ctx, func() error {
		a, err := load(ctx, s.store, id, open)
		if err != nil {
			return err
		}
		s.renewUpstreams(a)
		if err := change(a); err != nil {
			return err
		}
		changes, notify, err := a.changes(s.sealer, now)
		if err != nil {
			return err
		}
		updated = a
		if len(changes) == 0 {
			return nil
		}
		versions, err := s.store.Commit(ctx, store.Commit{Partition: partition(id), Changes: changes, Notify: notify})
		if err != nil {
			return fmt.Errorf("saving account: %w", err)
		}
		for i, c := range changes {
			if c.Op == store.Put {
				a.read.versions[c.Key] = versions[i]
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return updated, nil
}
