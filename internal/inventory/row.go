package inventory

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

// Row is what many sightings have in common, and how many they were. Where Path, User and Client are Other, it counts what had
// no room.
type Row struct {
	Application string            `json:"application"`
	Class       string            `json:"class"`
	Path        string            `json:"path"`             // the first folders
	User        string            `json:"user"`             // empty: the request names nobody
	Known       bool              `json:"known"`            // a directory knows the user
	Client      string            `json:"client,omitempty"` // family
	Addresses   netip.Prefix      `json:"addresses,omitzero"`
	FirstSeen   time.Time         `json:"first_seen"`
	LastSeen    time.Time         `json:"last_seen"`
	Count       uint64            `json:"count"` // since FirstSeen
	Verdicts    map[string]uint64 `json:"verdicts"`
	Would       map[string]uint64 `json:"would,omitempty"` // Blocked and Allowed, without report mode and emergency
	Exceptions  map[string]uint64 `json:"exceptions,omitempty"`
}

func (r *Row) key() key {
	return key{r.Class, r.Application, r.Path, r.User, r.Client, r.Known, r.Addresses}
}

func newRow(k key, t *tally) *Row {
	r := &Row{
		Application: k.application, Class: k.class, Path: k.path, User: k.user, Known: k.known, Client: k.client, Addresses: k.addresses,
		FirstSeen: t.first, LastSeen: t.last, Count: t.count, Verdicts: map[string]uint64{}, Would: map[string]uint64{}, Exceptions: t.exceptions,
	}
	for i, n := range t.verdicts {
		if n > 0 {
			r.Verdicts[verdicts[i]] = n
		}
	}
	for i, n := range t.would {
		if n > 0 {
			r.Would[woulds[i]] = n
		}
	}
	return r
}

// tally is what the row has counted.
func (r *Row) tally() *tally {
	t := &tally{first: r.FirstSeen, last: r.LastSeen, count: r.Count}
	for i, name := range verdicts {
		t.verdicts[i] = r.Verdicts[name]
	}
	for i, name := range woulds {
		t.would[i] = r.Would[name]
	}
	for name, n := range r.Exceptions {
		t.except(name, n)
	}
	return t
}

// parseRow reads a row of the store.
func parseRow(r store.Record) (*Row, error) {
	row := &Row{}
	if err := json.Unmarshal(r.Value, row); err != nil {
		return nil, fmt.Errorf("reading row %s: %w", r.Key, err)
	}
	if row.key().record() != r.Key {
		return nil, fmt.Errorf("reading row %s: it is another one", r.Key)
	}
	return row, nil
}

const (
	day = 24 * time.Hour

	// keepUnknown is for how long a row of a name that no directory knows is kept if it was not seen on two days: so an hour of
	// guessing doesn't take the room for a season.
	keepUnknown = 7 * day
)

// until says for how long the row is kept.
func (r *Row) until(keep time.Duration) time.Time {
	if k := r.key(); !k.known && !k.isOther() && r.LastSeen.Sub(r.FirstSeen) < day {
		keep = min(keep, keepUnknown)
	}
	return r.LastSeen.Add(keep)
}
