package signin

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/seal"
	"github.com/caddy-mfa/caddy-mfa/internal/session"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

// Pending keeps registrations that have begun and not ended, each for one session.
type Pending struct {
	store  store.Store
	sealer *seal.Sealer
}

// NewPending keeps registrations beside the sessions in s, sealed with keys.
func NewPending(s store.Store, keys *seal.Keyring) *Pending {
	return &Pending{s, keys.Sealer("registration")}
}

const pendingPrefix = "registration/"

// Save keeps the challenge of a registration, in place of an older one of the session.
func (p *Pending) Save(ctx context.Context, s *mfa.Session, ch mfa.Challenge, now time.Time) error {
	plain, err := json.Marshal(ch)
	if err != nil {
		return fmt.Errorf("saving registration: %w", err)
	}
	_, err = p.store.Commit(ctx, store.Commit{Partition: session.Partition(s.User), Changes: []store.Change{{
		Key: pendingPrefix + s.ID, If: store.Any, Value: p.sealer.Seal(plain, s.User.String(), s.ID), Expires: now.Add(session.PendingLifetime),
	}}})
	if err != nil {
		return fmt.Errorf("saving registration: %w", err)
	}
	return nil
}

// Load gives the challenge of the session's registration. The error is ErrStep if there is none.
func (p *Pending) Load(ctx context.Context, s *mfa.Session, now time.Time) (mfa.Challenge, error) {
	records, err := p.store.Get(ctx, session.Partition(s.User), pendingPrefix+s.ID)
	if err != nil {
		return mfa.Challenge{}, fmt.Errorf("loading registration: %w", err)
	}
	r := records[0]
	if r.Version == 0 || !now.Before(r.Expires) {
		return mfa.Challenge{}, ErrStep
	}
	plain, err := p.sealer.Open(r.Value, s.User.String(), s.ID)
	if err != nil {
		return mfa.Challenge{}, fmt.Errorf("loading registration: %w", err)
	}
	var ch mfa.Challenge
	if err := json.Unmarshal(plain, &ch); err != nil {
		return mfa.Challenge{}, fmt.Errorf("loading registration: %w", err)
	}
	return ch, nil
}

// Forget drops the session's registration.
func (p *Pending) Forget(ctx context.Context, s *mfa.Session) error {
	_, err := p.store.Commit(ctx, store.Commit{Partition: session.Partition(s.User), Changes: []store.Change{{Key: pendingPrefix + s.ID, Op: store.Delete, If: store.Any}}})
	return err
}
