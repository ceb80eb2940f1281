package account

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

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

// SetUpstream stores user name and password of a person in an application, in place of older ones. It is for the function that Update
// calls. The error is ErrTooManyUpstreams, or that of CheckUpstream.
func (s *Service) SetUpstream(a *Account, application, user, password string, now time.Time) error {
	if err := CheckUpstream(user, password); err != nil {
		return err
	}
	if _, ok := a.upstreams[application]; !ok && len(a.upstreams) >= MaxUpstreams {
		return ErrTooManyUpstreams
	}
	a.upstreams[application] = upstream{now, s.upstreams.Seal([]byte(user+":"+password), a.ID.String(), application)}
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

// MaxUpstream is the length of the longest credential of an application, user:password, in bytes.
const MaxUpstream = 1024

// SplitUpstream takes user and password apart, as they are sent with HTTP Basic (RFC 7617, section 2). The error says what is
// wrong, and nothing of what they are.
func SplitUpstream(text string) (user, password string, err error) {
	user, password, ok := strings.Cut(text, ":")
	if !ok {
		return "", "", errors.New("there is no colon in it; want user:password")
	}
	return user, password, CheckUpstream(user, password)
}

// CheckUpstream says whether user and password can be sent with HTTP Basic. The error says nothing of what they are.
func CheckUpstream(user, password string) error {
	switch {
	case user == "":
		return errors.New("the user name is empty")
	case strings.Contains(user, ":"):
		return errors.New("the user name has a colon in it, which HTTP Basic can't send")
	case password == "":
		return errors.New("the password is empty")
	case len(user)+1+len(password) > MaxUpstream:
		return errors.New("it is too long; at most 1024 bytes are")
	case !utf8.ValidString(user + password):
		return errors.New("it is not UTF-8")
	case strings.ContainsFunc(user+password, unicode.IsControl):
		return errors.New("it has a control character or a line break in it")
	}
	return nil
}
