package inventory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

// Use is how an exception is used.
type Use struct {
	Name     string    `json:"name"`
	Since    time.Time `json:"since"` // since when it is configured, or was used first
	LastUsed time.Time `json:"last_used,omitzero"`
	Count    uint64    `json:"count"` // requests
}

func (u *Use) count(t *tally) {
	u.Count += t.count
	if t.last.After(u.LastUsed) {
		u.LastUsed = t.last
	}
}

var errNoUse = errors.New("nothing is known of this exception")

func parseUse(r store.Record) (*Use, error) {
	if r.Version == 0 {
		return nil, errNoUse
	}
	u := &Use{}
	if err := json.Unmarshal(r.Value, u); err != nil {
		return nil, fmt.Errorf("reading use of exception %s: %w", r.Key, err)
	}
	return u, nil
}

// declare has the configured exceptions written down, so that one is known for how long nobody has used it.
func (i *Inventory) declare(now time.Time) {
	if now.Sub(i.declared) < day {
		return
	}
	i.declared = now
	for _, name := range i.settings.Exceptions {
		if i.dirtyUses[name] == nil {
			i.dirtyUses[name] = &tally{}
		}
	}
}

// Uses gives how the exceptions are used that are configured, or were used, by name. The error wraps store.ErrUnavailable, or is
// ctx's own.
func (i *Inventory) Uses(ctx context.Context) (map[string]Use, error) {
	records, err := i.store.List(ctx, partition, usePrefix)
	if err != nil {
		return nil, fmt.Errorf("listing uses of exceptions: %w", err)
	}
	uses := map[string]Use{}
	for _, r := range records {
		u, err := parseUse(r)
		if err != nil {
			i.settings.Log.Debug("a part of the inventory of legacy authentication can't be read", "error", err)
			continue
		}
		uses[u.Name] = *u
	}
	return uses, nil
}
