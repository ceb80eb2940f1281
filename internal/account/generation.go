package account

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"

	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

// ErrReplaced says that the account store is empty where there were accounts before, or is another one than before. If
// it were used, everybody's registrations would be gone, and whoever knows a password could register as its owner.
var ErrReplaced = errors.New("the account store is empty or another one than before; restore it, or accept it with `caddy-mfa mfa accounts init`")

// Keeper keeps a short text outside of the account store. Load gives the empty text if there is none yet.
type Keeper interface {
	Load(ctx context.Context) (string, error)
	Save(ctx context.Context, text string) error
}

// Generation tells an account store from any other: a random name in the store, of which a copy is kept elsewhere.
type Generation struct {
	store  store.Store
	keeper Keeper

	mu   sync.Mutex
	kept string // what keeper holds, as far as we know
}

// NewGeneration compares the name in s with the one that keeper holds.
func NewGeneration(s store.Store, keeper Keeper) *Generation {
	return &Generation{store: s, keeper: keeper}
}

const (
	generationPartition = "generation"
	generationKey       = "name"
)

// Check reads the store's name and says whether accounts may be used: nil, ErrReplaced, or what kept it from finding out
// (store.ErrUnavailable, or a failure of the keeper). A store that is used for the first time gets a name; a store that
// others have used already is taken over by an instance that knows of none.
func (g *Generation) Check(ctx context.Context) error {
	name, err := g.read(ctx)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.kept != "" && g.kept == name {
		return nil
	}
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
		return g.keep(ctx, name)
	case g.kept != name:
		return ErrReplaced
	}
	return nil
}

// Accept takes the store as it is, and names it if it has no name yet.
func (g *Generation) Accept(ctx context.Context) error {
	name, err := g.read(ctx)
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
	return g.keep(ctx, name)
}

func (g *Generation) read(ctx context.Context) (string, error) {
	records, err := g.store.Get(ctx, generationPartition, generationKey)
	if err != nil {
		return "", fmt.Errorf("reading the account store's name: %w", err)
	}
	return string(records[0].Value), nil
}

// create names the store. If somebody else names it at the same moment, his name holds.
func (g *Generation) create(ctx context.Context) (string, error) {
	var b [16]byte
	rand.Read(b[:]) // never fails, see crypto/rand
	name := hex.EncodeToString(b[:])
	_, err := g.store.Commit(ctx, store.Commit{Partition: generationPartition, Changes: []store.Change{{Key: generationKey, Value: []byte(name)}}})
	if errors.Is(err, store.ErrConflict) {
		return g.read(ctx)
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
