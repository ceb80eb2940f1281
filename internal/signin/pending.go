package signin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/seal"
	"github.com/caddy-mfa/caddy-mfa/internal/session"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

// Pending keeps what was asked and not answered yet, each for one session: a registration that has begun, a question of a factor
// that asks something else each time.
type Pending struct {
	store         store.Store
	registrations *seal.Sealer
	verifications *seal.Sealer
}

// NewPending keeps questions beside the sessions in s, sealed with keys.
func NewPending(s store.Store, keys *seal.Keyring) *Pending {
	return &Pending{s, keys.Sealer("registration"), keys.Sealer("verification")}
}

const (
	pendingPrefix  = "registration/"
	questionPrefix = "verification/"
)

// Save keeps the challenge of a registration, in place of an older one of the session.
func (p *Pending) Save(ctx context.Context, s *mfa.Session, ch mfa.Challenge, now time.Time) error {
	if err := p.save(ctx, pendingPrefix, p.registrations, s, ch, now); err != nil {
		return fmt.Errorf("saving registration: %w", err)
	}
	return nil
}

// Ask keeps the challenge of a verification, in place of an older one of the session.
func (p *Pending) Ask(ctx context.Context, s *mfa.Session, ch mfa.Challenge, now time.Time) error {
	if err := p.save(ctx, questionPrefix, p.verifications, s, ch, now); err != nil {
		return fmt.Errorf("saving question: %w", err)
	}
	return nil
}

func (p *Pending) save(ctx context.Context, prefix string, sealer *seal.Sealer, s *mfa.Session, ch mfa.Challenge, now time.Time) error {
	plain, err := json.Marshal(ch)
	if err != nil {
		return err
	}
	expires := now.Add(session.PendingLifetime)
	if !ch.Expires.IsZero() && ch.Expires.Before(expires) {
		expires = ch.Expires
	}
	_, err = p.store.Commit(ctx, store.Commit{Partition: session.Partition(s.User), Changes: []store.Change{{
		Key: prefix + s.ID, If: store.Any, Value: sealer.Seal(plain, s.User.String(), s.ID), Expires: expires,
	}}})
	return err
}

// Load gives the challenge of the session's registration. The error is ErrStep if there is none.
func (p *Pending) Load(ctx context.Context, s *mfa.Session, now time.Time) (mfa.Challenge, error) {
	ch, _, err := p.load(ctx, pendingPrefix, p.registrations, s, now)
	if err != nil && !errors.Is(err, ErrStep) {
		err = fmt.Errorf("loading registration: %w", err)
	}
	return ch, err
}

func (p *Pending) load(ctx context.Context, prefix string, sealer *seal.Sealer, s *mfa.Session, now time.Time) (mfa.Challenge, store.Version, error) {
	records, err := p.store.Get(ctx, session.Partition(s.User), prefix+s.ID)
	if err != nil {
		return mfa.Challenge{}, 0, err
	}
	r := records[0]
	if r.Version == 0 || !now.Before(r.Expires) {
		return mfa.Challenge{}, 0, ErrStep
	}
	plain, err := sealer.Open(r.Value, s.User.String(), s.ID)
	if err != nil {
		return mfa.Challenge{}, 0, err
	}
	var ch mfa.Challenge
	if err := json.Unmarshal(plain, &ch); err != nil {
		return mfa.Challenge{}, 0, err
	}
	return ch, r.Version, nil
}

// Take gives the challenge of the session's registration, and takes it away: of all who take it at once, on whichever machine, one
// gets it. The error is ErrStep if there is none.
func (p *Pending) Take(ctx context.Context, s *mfa.Session, now time.Time) (mfa.Challenge, error) {
	ch, err := p.take(ctx, pendingPrefix, p.registrations, s, now)
	if err != nil && !errors.Is(err, ErrStep) {
		err = fmt.Errorf("taking registration: %w", err)
	}
	return ch, err
}

// Question is Load for the challenge of a verification.
func (p *Pending) Question(ctx context.Context, s *mfa.Session, now time.Time) (mfa.Challenge, error) {
	ch, _, err := p.load(ctx, questionPrefix, p.verifications, s, now)
	if err != nil && !errors.Is(err, ErrStep) {
		err = fmt.Errorf("loading question: %w", err)
	}
	return ch, err
}

// Answered is Take for the challenge of a verification.
func (p *Pending) Answered(ctx context.Context, s *mfa.Session, now time.Time) (mfa.Challenge, error) {
	ch, err := p.take(ctx, questionPrefix, p.verifications, s, now)
	if err != nil && !errors.Is(err, ErrStep) {
		err = fmt.Errorf("taking question: %w", err)
	}
	return ch, err
}

func (p *Pending) take(ctx context.Context, prefix string, sealer *seal.Sealer, s *mfa.Session, now time.Time) (mfa.Challenge, error) {
	ch, version, err := p.load(ctx, prefix, sealer, s, now)
	if err != nil {
		return mfa.Challenge{}, err
	}
	// After an error it may be gone, and is not judged: the next question is.
	_, err = p.store.Commit(ctx, store.Commit{Partition: session.Partition(s.User), Changes: []store.Change{{Key: prefix + s.ID, Op: store.Delete, If: version}}})
	if errors.Is(err, store.ErrConflict) {
		return mfa.Challenge{}, ErrStep
	}
	if err != nil {
		return mfa.Challenge{}, err
	}
	return ch, nil
}

// Forget drops the session's registration.
func (p *Pending) Forget(ctx context.Context, s *mfa.Session) error {
	_, err := p.store.Commit(ctx, store.Commit{Partition: session.Partition(s.User), Changes: []store.Change{{Key: pendingPrefix + s.ID, Op: store.Delete, If: store.Any}}})
	return err
}
