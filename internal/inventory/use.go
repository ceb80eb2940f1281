package inventory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

// ExceptionName names an exception of the configuration. NameException makes it.
type ExceptionName struct {
	Application string `json:"application"`
	Exception   string `json:"name"`
}

// NameException gives the name under which the uses of an exception are kept.
func NameException(application, exception string) ExceptionName {
	return ExceptionName{audit.Plain(application, maxName), audit.Plain(exception, maxException)}
}

func (n ExceptionName) record() string { return usePrefix + digest(n.Application, n.Exception) }

// Use is how an exception is used.
type Use struct {
	ExceptionName
	Since    time.Time `json:"since,omitzero"` // since when it is configured, or was used first
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

// Uses gives how the exceptions are used that are configured, or were used. The error wraps store.ErrUnavailable, or is ctx's own.
func (i *Inventory) Uses(ctx context.Context) (map[ExceptionName]Use, error) {
	records, err := i.store.List(ctx, partition, usePrefix)
	if err != nil {
		return nil, fmt.Errorf("listing uses of exceptions: %w", err)
	}
	uses := map[ExceptionName]Use{}
	for _, r := range records {
		u, err := parseUse(r)
		if err != nil {
			i.settings.Log.Debug("a part of the inventory of legacy authentication can't be read", "error", err)
			continue
		}
		uses[u.ExceptionName] = *u
	}
	return uses, nil
}

// When an exception should be looked at.
const (
	EndsSoon    = 14 * day // so long before its end
	UnusedAfter = 30 * day // when nobody has used it for so long
)

// Note is what should be done about an exception.
type Note string

// Notes about exceptions.
const (
	Ended    Note = "ended"
	Ends     Note = "ends_soon"
	IsUnused Note = "unused"
)

// Notes says what should be done about an exception that ends at this moment.
func (u Use) Notes(until, now time.Time) []Note {
	var notes []Note
	switch {
	case !now.Before(until):
		return []Note{Ended}
	case until.Sub(now) < EndsSoon:
		notes = append(notes, Ends)
	}
	last := u.Since
	if u.LastUsed.After(last) {
		last = u.LastUsed
	}
	if !last.IsZero() && now.Sub(last) >= UnusedAfter {
		notes = append(notes, IsUnused)
	}
	return notes
}
