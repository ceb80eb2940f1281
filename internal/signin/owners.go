package signin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

// Owners knows whose passkey it is that somebody comes with. It is an index and proves nothing: the account says what there is. An entry
// outlives the passkey, so that nobody else can register its id, and so that the browser can be told that it is gone.
type Owners struct{ store store.Store }

// NewOwners keeps them in s, where accounts are.
func NewOwners(s store.Store) *Owners { return &Owners{s} }

const ownerKey = "owner"

// errOwned says that the passkey is somebody else's.
var errOwned = errors.New("passkey is registered for another user")

func ownerPartition(publicID string) string {
	sum := sha256.Sum256([]byte(publicID))
	return "passkey/" + hex.EncodeToString(sum[:])
}

// ownedByAnother finds, before it is judged, a passkey that somebody else has registered (WebAuthn Level 3, section 7.1, step 26). The error
// is ErrWrong, or wraps store.ErrUnavailable.
func (s *Service) ownedByAnother(ctx context.Context, c Client, user mfa.UserID, method mfa.Method, answer string) error {
	d := s.discoverer(c.Host)
	if d == nil || method != mfa.Passkey {
		return nil
	}
	owner, err := s.Owners.of(ctx, d.Discovered(answer))
	if err == nil && !owner.IsZero() && owner != user {
		err = fmt.Errorf("%w: %w", ErrWrong, errOwned)
	}
	return err
}

// noteOwner notes whose passkey it is that was registered or used. What fails is mended the next time that it is used after a password.
func (s *Service) noteOwner(ctx context.Context, c Client, user mfa.UserID, credential mfa.Credential) {
	d := s.discoverer(c.Host)
	if d == nil || credential.Method != mfa.Passkey {
		return
	}
	if err := s.Owners.note(ctx, d.PublicID(credential), user); err != nil {
		s.Log.Warn("noting the owner of a passkey: it can't be used without a password yet", "error", err)
	}
}

// of gives the owner of a passkey; nobody, if there is none.
func (o *Owners) of(ctx context.Context, publicID string) (id mfa.UserID, err error) {
	records, err := o.store.Get(ctx, ownerPartition(publicID), ownerKey)
	if err != nil {
		return mfa.UserID{}, fmt.Errorf("looking for the owner of a passkey: %w", err)
	}
	if records[0].Version == 0 {
		return mfa.UserID{}, nil
	}
	if err := id.UnmarshalText(records[0].Value); err != nil {
		return mfa.UserID{}, fmt.Errorf("looking for the owner of a passkey: %w", err)
	}
	return id, nil
}

// note makes somebody the owner of a passkey that has none. The error is errOwned if it has another.
func (o *Owners) note(ctx context.Context, publicID string, id mfa.UserID) error {
	switch owner, err := o.of(ctx, publicID); {
	case err != nil:
		return err
	case owner == id:
		return nil
	case !owner.IsZero():
		return errOwned
	}
	_, err := o.store.Commit(ctx, store.Commit{Partition: ownerPartition(publicID), Changes: []store.Change{{Key: ownerKey, Value: []byte(id.String())}}})
	if errors.Is(err, store.ErrConflict) {
		return errOwned
	}
	if err != nil {
		return fmt.Errorf("noting the owner of a passkey: %w", err)
	}
	return nil
}
