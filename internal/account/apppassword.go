package account

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

// AppPassword is what is kept of an app password: what it is good for, and a digest of its secret, which whoever judges it makes.
// One that was handed out is not changed.
type AppPassword struct {
	ID          string // its first letters, by which it is found; no secret
	Name        string // what its owner calls it
	Application string // the only one that it opens

	From    []netip.Prefix // addresses that it is good from; empty: all
	Methods []string       // that it is good for; empty: all
	Paths   []string       // in the notation of `bypass`; empty: all

	Made    time.Time
	By      string // who has made it, if not its owner: admin
	Expires time.Time
	Mark    string // of the user when it was made
	Digest  []byte

	// HTTPDigest is what a response over HTTP Digest is judged by, sealed by whoever judges it; empty: none is right.
	HTTPDigest []byte

	LastUsed time.Time // zero: never; exact to some minutes
}

const appPasswordPrefix = "app-password/"

// appPasswordRecord is how an app password is kept.
type appPasswordRecord struct {
	Name        string         `json:"name"`
	Application string         `json:"application"`
	From        []netip.Prefix `json:"from,omitempty"`
	Methods     []string       `json:"methods,omitempty"`
	Paths       []string       `json:"paths,omitempty"`
	Made        time.Time      `json:"made"`
	By          string         `json:"by,omitempty"`
	Expires     time.Time      `json:"expires"`
	Mark        string         `json:"mark"`
	Digest      []byte         `json:"digest"`
	HTTPDigest  []byte         `json:"http_digest,omitempty"`
	LastUsed    time.Time      `json:"last_used,omitzero"`
}

func (p *AppPassword) record() appPasswordRecord {
	return appPasswordRecord{p.Name, p.Application, p.From, p.Methods, p.Paths, p.Made, p.By, p.Expires, p.Mark, p.Digest, p.HTTPDigest, p.LastUsed}
}

func decodeAppPassword(key string, value []byte) (*AppPassword, error) {
	var r appPasswordRecord
	if err := json.Unmarshal(value, &r); err != nil {
		return nil, err
	}
	return &AppPassword{
		strings.TrimPrefix(key, appPasswordPrefix), r.Name, r.Application, r.From, r.Methods, r.Paths, r.Made, r.By, r.Expires, r.Mark, r.Digest, r.HTTPDigest, r.LastUsed,
	}, nil
}

// AppPassword finds an app password by id.
func (a *Account) AppPassword(id string) (*AppPassword, bool) {
	for _, p := range a.AppPasswords {
		if p.ID == id {
			return p, true
		}
	}
	return nil, false
}

// AddAppPassword adds one whose id is new. Of all who add one at the same moment, each sees those of the others.
func (a *Account) AddAppPassword(p *AppPassword) {
	a.AppPasswords = append(a.AppPasswords, p)
	slices.SortFunc(a.AppPasswords, func(x, y *AppPassword) int { return strings.Compare(x.ID, y.ID) })
	// Each is a record of its own: without this, two that are added at once would not know of each other.
	a.State.AppPasswordsMade++
}

// RemoveAppPasswords takes away those that end says, and gives them.
func (a *Account) RemoveAppPasswords(end func(*AppPassword) bool) (ended []*AppPassword) {
	var kept []*AppPassword
	for _, p := range a.AppPasswords {
		if end(p) {
			ended = append(ended, p)
		} else {
			kept = append(kept, p)
		}
	}
	a.AppPasswords = kept
	return ended
}

// appPasswordChanges adds to a commit what must be written of the app passwords, and says whether there is any.
func (a *Account) appPasswordChanges(put func(key string, value any, expires time.Time) error, remove func(key string)) (changed bool, err error) {
	present := map[string]bool{}
	for _, p := range a.AppPasswords {
		present[p.ID] = true
		if a.read.appPasswords[p.ID] == p {
			continue
		}
		changed = true
		if err := put(appPasswordPrefix+p.ID, p.record(), p.Expires); err != nil {
			return false, err
		}
	}
	for _, id := range slices.Sorted(maps.Keys(a.read.appPasswords)) {
		if !present[id] {
			changed = true
			remove(appPasswordPrefix + id)
		}
	}
	return changed, nil
}

// Renewed is what takes the place of what was kept of an app password; nil: it stays.
type Renewed struct{ Digest, HTTPDigest []byte }

// UseAppPassword notes when an app password was used last, and what is made anew in place of what was judged. Nobody is
// told of it: what others remember is as good. One that is gone, or was changed since, stays as it is.
func (s *Service) UseAppPassword(ctx context.Context, id mfa.UserID, p *AppPassword, now time.Time, renewed Renewed) error {
	err := store.Modify(ctx, s.store, partition(id), []string{appPasswordPrefix + p.ID}, false, func(records []store.Record) ([]store.Change, error) {
		r := records[0]
		if r.Version == 0 {
			return nil, nil
		}
		kept, err := decodeAppPassword(r.Key, r.Value)
		if err != nil || !bytes.Equal(kept.Digest, p.Digest) {
			return nil, err
		}
		if renewed.Digest != nil {
			kept.Digest = renewed.Digest
		}
		if renewed.HTTPDigest != nil && bytes.Equal(kept.HTTPDigest, p.HTTPDigest) {
			kept.HTTPDigest = renewed.HTTPDigest
		}
		if now.After(kept.LastUsed) {
			kept.LastUsed = now
		}
		value, err := json.Marshal(kept.record())
		if err != nil {
			return nil, err
		}
		return []store.Change{{Key: r.Key, If: r.Version, Value: value, Expires: kept.Expires}}, nil
	})
	if err != nil {
		return fmt.Errorf("noting the use of app password %s of account %s: %w", p.ID, id, err)
	}
	return nil
}
