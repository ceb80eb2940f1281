package account

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/caddy-mfa/caddy-mfa/internal/seal"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

// ErrReplaced says that the account store is not the one that it was. If it were used, everybody's registrations would be gone or
// unreadable, and whoever knows a password could register as its owner.
var ErrReplaced = errors.New("the account store is refused")

var (
	errOtherStore  = fmt.Errorf("%w: it is empty or another one than before; restore it, or accept it with `caddy-mfa mfa accounts init`", ErrReplaced)
	errOtherSecret = fmt.Errorf("%w: it was sealed with another secret; give that one back, as one more line `secret` or in Caddy's storage. "+
		"If it is lost, accept the store with `caddy-mfa mfa accounts init`, and reset the users who had registered", ErrReplaced)
)

// Keeper keeps a short text outside of the account store. Load gives the empty text if there is none yet.
type Keeper interface {
	Load(ctx context.Context) (string, error)
	Save(ctx context.Context, text string) error
}

// Generation tells an account store from any other: a random name in the store, of which a copy is kept elsewhere. And it tells
// whether our secrets open what is in it: beside the name stand the ids of the secrets that were used.
type Generation struct {
	store   store.Store
	keeper  Keeper
	secrets []string // ids of ours, the newest first

	mu   sync.Mutex
	kept string // what keeper holds, as far as we know
}

// NewGeneration compares the name in s with the one that keeper holds, and the secrets with those that were used.
func NewGeneration(s store.Store, keeper Keeper, keys *seal.Keyring) *Generation {
	g := &Generation{store: s, keeper: keeper}
	for _, id := range keys.Keys("id in the account store", 8) {
		g.secrets = append(g.secrets, secretPrefix+hex.EncodeToString(id))
	}
	return g
}

const (
	generationPartition = "generation"
	generationKey       = "name"
	secretPrefix        = "secret/"
)

// Check reads the store's name and says whether accounts may be used: nil, ErrReplaced, or what kept it from finding out
// (store.ErrUnavailable, or a failure of the keeper). A store that is used for the first time gets a name; a store that
// others have used already is taken over by an instance that knows of none.
func (g *Generation) Check(ctx context.Context) error {
	name, used, err := g.read(ctx)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.kept == "" || g.kept != name {
		// Another instance that shares the keeper may have accepted a new store.
		if g.kept, err = g.keeper.Load(ctx); err != nil {
			return fmt.Errorf("%w: reading the account store's name: %w", store.ErrUnavailable, err)
		}
		switch {
		case g.kept == "":
			if name == "" {
				if name, err = g.create(ctx); err != nil {
					return err
				}
			}
			if err := g.keep(ctx, name); err != nil {
				return err
			}
		case g.kept != name:
			return errOtherStore
		}
	}
	if len(used) > 0 && !slices.ContainsFunc(g.secrets, func(ours string) bool { return slices.Contains(used, ours) }) {
		return errOtherSecret
	}
	return g.note(ctx, used)
}

// Accept takes the store as it is, and names it if it has no name yet.
func (g *Generation) Accept(ctx context.Context) error {
	name, used, err := g.read(ctx)
	if err != nil {
		return err
	}
	if name == "" {
		if name, err = g.create(ctx); err != nil {
			return err
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return errors.Join(g.note(ctx, used), g.keep(ctx, name))
}

// read gives the store's name, and the keys under which the secrets that were used are noted.
func (g *Generation) read(ctx context.Context) (name string, used []string, err error) {
	records, err := g.store.List(ctx, generationPartition, "")
	if err != nil {
		return "", nil, fmt.Errorf("reading the account store's name: %w", err)
	}
	for _, r := range records {
		if r.Key == generationKey {
			name = string(r.Value)
		} else if strings.HasPrefix(r.Key, secretPrefix) {
			used = append(used, r.Key)
		}
	}
	return name, used, nil
}

// note notes that our newest secret is used from now on.
func (g *Generation) note(ctx context.Context, used []string) error {
	if slices.Contains(used, g.secrets[0]) {
		return nil
	}
	_, err := g.store.Commit(ctx, store.Commit{Partition: generationPartition, Changes: []store.Change{{Key: g.secrets[0], If: store.Any, Value: []byte("used")}}})
	if err != nil {
		return fmt.Errorf("noting the secret in the account store: %w", err)
	}
	return nil
}

// create names the store. If somebody else names it at the same moment, his name holds.
func (g *Generation) create(ctx context.Context) (string, error) {
	var b [16]byte
	rand.Read(b[:]) // never fails, see crypto/rand
	name := hex.EncodeToString(b[:])
	_, err := g.store.Commit(ctx, store.Commit{Partition: generationPartition, Changes: []store.Change{{Key: generationKey, Value: []byte(name)}}})
	if errors.Is(err, store.ErrConflict) {
		name, _, err = g.read(ctx)
		return name, err
	}
	if err != nil {
		return "", fmt.Errorf("naming the account store: %w", err)
	}
	return name, nil
}

func (g *Generation) keep(ctx context.Context, name string) error {
	if err := g.keeper.Save(ctx, name); err != nil {
		return fmt.Errorf("%w: keeping the account store's name: %w", store.ErrUnavailable, err)
	}
	g.kept = name
	return nil
}
