package account

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/store"
)

// ErrNoUpstream says that no credential of an application is stored for the person.
var ErrNoUpstream = errors.New("no credential of this application is stored")

// ErrTooManyUpstreams says that there are as many as there can be.
var ErrTooManyUpstreams = errors.New("no more credentials of applications can be stored")

// MaxUpstreams is for how many applications a person can have credentials.
const MaxUpstreams = 100

const upstreamPrefix = "upstream/"

// upstream is a person's own user name and password in an application that knows nothing else: sealed, and bound to the account and
// the application. An account that was read holds it closed.
type upstream struct {
	Stored time.Time `json:"stored"`
	Sealed []byte    `json:"sealed"`
}

func (u upstream) equal(other upstream) bool {
	return u.Stored.Equal(other.Stored) && string(u.Sealed) == string(other.Sealed)
}

// Upstream says for which application a credential is stored, and since when.
type Upstream struct {
	Application string
	Stored      time.Time
}

// Upstreams lists the applications for which credentials are stored, sorted.
func (a *Account) Upstreams() []Upstream {
	var list []Upstream
	for _, application := range slices.Sorted(maps.Keys(a.upstreams)) {
		list = append(list, Upstream{application, a.upstreams[application].Stored})
	}
	return list
}

// RemoveUpstream forgets the credential of an application. The error is ErrNoUpstream.
func (a *Account) RemoveUpstream(application string) error {
	if _, ok := a.upstreams[application]; !ok {
		return ErrNoUpstream
	}
	delete(a.upstreams, application)
	return nil
}

// SetUpstream stores a credential of an application, user:password, in place of an older one. It is for the function that Update calls.
// The error is ErrTooManyUpstreams.
func (s *Service) SetUpstream(a *Account, application, credential string, now time.Time) error {
	if _, ok := a.upstreams[application]; !ok && len(a.upstreams) >= MaxUpstreams {
		return ErrTooManyUpstreams
	}
	a.upstreams[application] = upstream{now, s.upstreams.Seal([]byte(credential), a.ID.String(), application)}
	return nil
}

// Upstream opens the credential of an application, user:password. The error is ErrNoUpstream, or seal.ErrOpen: then it was sealed
// with a secret that we have no more, or for somebody else.
func (s *Service) Upstream(a *Account, application string) (credential []byte, err error) {
	u, ok := a.upstreams[application]
	if !ok {
		return nil, ErrNoUpstream
	}
	return s.upstreams.Open(u.Sealed, a.ID.String(), application)
}

// renewUpstreams seals with the newest secret what was sealed with an older one. What doesn't open stays as it is.
func (s *Service) renewUpstreams(a *Account) {
	for application, u := range a.upstreams {
		if !s.upstreams.Stale(u.Sealed) {
			continue
		}
		if credential, err := s.upstreams.Open(u.Sealed, a.ID.String(), application); err == nil {
			a.upstreams[application] = upstream{u.Stored, s.upstreams.Seal(credential, a.ID.String(), application)}
		}
	}
}

// decodeUpstream reads a record.
func (a *Account) decodeUpstream(r store.Record) error {
	var u upstream
	if err := json.Unmarshal(r.Value, &u); err != nil {
		return err
	}
	if len(u.Sealed) == 0 {
		return fmt.Errorf("no credential: %w", errForeign)
	}
	a.upstreams[strings.TrimPrefix(r.Key, upstreamPrefix)] = u
	return nil
}

// upstreamChanges lists what must be written, and says whether other processes must know.
func (a *Account) upstreamChanges(put func(key string, value any, expires time.Time) error, remove func(key string)) (notify bool, err error) {
	for _, application := range slices.Sorted(maps.Keys(a.upstreams)) {
		u := a.upstreams[application]
		if before, ok := a.read.upstreams[application]; ok && before.equal(u) {
			continue
		}
		notify = true
		if err := put(upstreamPrefix+application, u, time.Time{}); err != nil {
			return false, err
		}
	}
	for _, application := range slices.Sorted(maps.Keys(a.read.upstreams)) {
		if _, ok := a.upstreams[application]; !ok {
			notify = true
			remove(upstreamPrefix + application)
		}
	}
	return notify, nil
}
