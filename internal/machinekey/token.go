package machinekey

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/gate"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
	"github.com/caddy-mfa/caddy-mfa/internal/throttle"
)

// Token is a service token as it is configured.
type Token struct {
	Name         string
	Expires      time.Time
	Applications []string
}

// User is whom a service token stands for: nobody in a directory.
func (t Token) User() *mfa.User {
	name := mfa.ServicePrefix + t.Name
	return &mfa.User{ID: mfa.UserID{Directory: "service", ID: t.Name}, Name: name, Canonical: name}
}

// MaxSecrets is how many secrets a service token can have: the one in use, and the next.
const MaxSecrets = 5

var (
	// ErrNoToken says that no service token of that name is configured.
	ErrNoToken = errors.New("no service token of this name is configured")

	// ErrTokenEnded says that the configuration lets a service token end before now.
	ErrTokenEnded = errors.New("the service token has ended; give it a later `expires` first")

	// ErrTooManySecrets says that a service token has as many secrets as it can have.
	ErrTooManySecrets = fmt.Errorf("a service token has at most %d secrets; revoke one first", MaxSecrets)
)

// Secret is what is kept of a secret of a service token.
type Secret struct {
	ID       string // no secret
	Token    string // name of the token
	Made     time.Time
	LastUsed time.Time // zero: never; exact to some minutes

	digest []byte
}

type secretRecord struct {
	Token    string    `json:"token"`
	Made     time.Time `json:"made"`
	LastUsed time.Time `json:"last_used,omitzero"`
	Digest   []byte    `json:"digest"`
}

const tokenPartition = "service-tokens"

// View keeps the secrets of all service tokens in memory for as long as they are true, by id. It outlives configurations.
type View = store.View[map[string]*Secret]

// viewAge is how old may be what is read from a view. It is told of changes.
const viewAge = 30 * time.Second

// NewView makes a view of the service tokens in s.
func NewView(s store.Store) *View {
	return store.NewView(s, 1, func(ctx context.Context, _, _ string) (map[string]*Secret, error) { return load(ctx, s) })
}

func load(ctx context.Context, s store.Store) (map[string]*Secret, error) {
	records, err := s.List(ctx, tokenPartition, "")
	if err != nil {
		return nil, fmt.Errorf("loading service tokens: %w", err)
	}
	secrets := map[string]*Secret{}
	for _, r := range records {
		secret, err := decodeSecret(r)
		if err != nil {
			return nil, err
		}
		secrets[r.Key] = secret
	}
	return secrets, nil
}

func decodeSecret(r store.Record) (*Secret, error) {
	var kept secretRecord
	if err := json.Unmarshal(r.Value, &kept); err != nil {
		return nil, fmt.Errorf("reading service token %s: %w", r.Key, err)
	}
	return &Secret{r.Key, kept.Token, kept.Made, kept.LastUsed, kept.Digest}, nil
}

func (s *Secret) encode() ([]byte, error) {
	return json.Marshal(secretRecord{s.Token, s.Made, s.LastUsed, s.digest})
}

func (s *Service) secrets(ctx context.Context) (map[string]*Secret, error) {
	return s.view.Get(ctx, tokenPartition, tokenPartition, viewAge)
}

// ServiceToken judges the two headers of a service token.
func (s *Service) ServiceToken(ctx context.Context, id, secret string, use gate.Use) (gate.Holder, error) {
	secrets, err := s.secrets(ctx)
	if err != nil {
		return gate.Holder{}, err
	}
	id, shaped := read(id, idLen)
	kept, known := secrets[id]
	try := attempt{Attempt: throttle.Attempt{User: "service token", Address: use.Address}, typed: typed{id, secret}, owner: id}
	if shaped && !known {
		if wait, ok := s.waiting.get(try.place(), use.Now); ok {
			return gate.Holder{}, wait // guesses at ids must not each ask the store
		}
		// It may have been made a moment ago by another process, whose news is on the way.
		if secrets, err = load(ctx, s.store); err != nil {
			return gate.Holder{}, err
		}
		kept, known = secrets[id]
	}
	try.event = audit.Event{Application: use.Application, Address: use.Address}
	if known {
		try.Key, try.event.User, try.event.Credential = id, mfa.ServicePrefix+kept.Token, id
	} else {
		kept = &Secret{}
	}
	if text, ok := read(secret, tokenLen); ok {
		try.typed.text = text
	}
	if err := s.prove(ctx, try, use.Now, func() bool { return s.tokens.matches(kept.digest, kept.Token, kept.ID, try.typed.text) }); err != nil {
		return gate.Holder{}, err
	}
	t, reason := s.wrongToken(kept, use)
	if reason != "" {
		return gate.Holder{}, s.refused(try.event, reason)
	}
	s.note(tokenPartition, id, kept.LastUsed, use.Now, func(ctx context.Context) error { return s.useSecret(ctx, kept, try.typed.text, use.Now) })
	return gate.Holder{User: t.User(), Key: id, Name: t.Name, Expires: t.Expires}, nil
}

// wrongToken gives the token of a secret, or says why it isn't good for a use.
func (s *Service) wrongToken(kept *Secret, use gate.Use) (Token, string) {
	t, ok := s.Tokens[kept.Token]
	switch {
	case !ok:
		return Token{}, "not configured"
	case !use.Now.Before(t.Expires):
		return Token{}, "expired"
	case !slices.Contains(t.Applications, use.Application):
		return Token{}, "application"
	}
	return t, ""
}

func (s *Service) tokenAgain(ctx context.Context, h gate.Holder, use gate.Use) error {
	secrets, err := s.secrets(ctx)
	if err != nil {
		return err
	}
	kept, ok := secrets[h.Key]
	if !ok {
		return gate.ErrWrongKey
	}
	if t, reason := s.wrongToken(kept, use); reason != "" || t.Name != h.Name {
		return gate.ErrWrongKey
	}
	return nil
}

// useSecret notes the use of a secret, and makes its digest anew where that is of an older secret of the operator's.
func (s *Service) useSecret(ctx context.Context, used *Secret, text string, now time.Time) error {
	return store.Modify(ctx, s.store, tokenPartition, []string{used.ID}, false, func(records []store.Record) ([]store.Change, error) {
		if records[0].Version == 0 {
			return nil, nil
		}
		kept, err := decodeSecret(records[0])
		if err != nil || !slices.Equal(kept.digest, used.digest) {
			return nil, err
		}
		if s.tokens.stale(kept.digest) {
			kept.digest = s.tokens.make(kept.Token, kept.ID, text)
		}
		kept.LastUsed = now
		value, err := kept.encode()
		if err != nil {
			return nil, err
		}
		return []store.Change{{Key: kept.ID, If: records[0].Version, Value: value}}, nil
	})
}

// NewSecret makes a secret of a service token, which is told once. Older ones stay good until they are revoked. The error is ErrNoToken,
// ErrTokenEnded or ErrTooManySecrets, or a fault.
func (s *Service) NewSecret(ctx context.Context, name string, now time.Time) (*Secret, string, error) {
	t, ok := s.Tokens[name]
	switch {
	case !ok:
		return nil, "", fmt.Errorf("%w: write `service_token %s { … }` into the global option `mfa` first", ErrNoToken, name)
	case !now.Before(t.Expires):
		return nil, "", ErrTokenEnded
	}
	if err := s.Generation.Check(ctx); err != nil {
		return nil, "", err
	}
	made, text := &Secret{Token: name, Made: now}, random(tokenLen)
	err := store.Retry(ctx, func() error {
		secrets, err := load(ctx, s.store)
		if err != nil {
			return err
		}
		if len(of(secrets, name)) >= MaxSecrets {
			return ErrTooManySecrets
		}
		made.ID = random(idLen)
		made.digest = s.tokens.make(made.Token, made.ID, text)
		value, err := made.encode()
		if err != nil {
			return err
		}
		_, err = s.store.Commit(ctx, store.Commit{Partition: tokenPartition, Changes: []store.Change{{Key: made.ID, Value: value}}, Notify: true})
		return err
	})
	if err != nil {
		return nil, "", err
	}
	s.Sink.Audit(audit.Event{Type: audit.ServiceTokenMade, User: mfa.ServicePrefix + name, Credential: made.ID, By: "admin"})
	return made, text, nil
}

// Secrets lists what is kept of service tokens, by name and then the oldest first; also of those that are not configured any more.
func (s *Service) Secrets(ctx context.Context) ([]*Secret, error) {
	secrets, err := load(ctx, s.store)
	if err != nil {
		return nil, err
	}
	return of(secrets, ""), nil
}

// of lists the secrets of a token; those of all for the empty name.
func of(secrets map[string]*Secret, name string) (list []*Secret) {
	for _, secret := range secrets {
		if name == "" || secret.Token == name {
			list = append(list, secret)
		}
	}
	slices.SortFunc(list, func(x, y *Secret) int {
		if c := strings.Compare(x.Token, y.Token); c != 0 {
			return c
		}
		if c := x.Made.Compare(y.Made); c != 0 {
			return c
		}
		return strings.Compare(x.ID, y.ID)
	})
	return list
}

// RevokeSecrets ends one secret of a service token; all of them for the empty id. It also ends those of a token that is not configured any
// more. The error is ErrNoKey, or a fault.
func (s *Service) RevokeSecrets(ctx context.Context, name, id string) (revoked []string, err error) {
	err = store.Retry(ctx, func() error {
		secrets, err := load(ctx, s.store)
		if err != nil {
			return err
		}
		revoked = nil
		var changes []store.Change
		for _, secret := range of(secrets, name) {
			if secret.Token == name && (id == "" || secret.ID == id) {
				changes = append(changes, store.Change{Key: secret.ID, Op: store.Delete, If: store.Any})
				revoked = append(revoked, secret.ID)
			}
		}
		if len(changes) == 0 {
			return ErrNoKey
		}
		_, err = s.store.Commit(ctx, store.Commit{Partition: tokenPartition, Changes: changes, Notify: true})
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, id := range revoked {
		s.Sink.Audit(audit.Event{Type: audit.ServiceTokenRevoked, User: mfa.ServicePrefix + name, Credential: id, By: "admin"})
	}
	return revoked, nil
}
