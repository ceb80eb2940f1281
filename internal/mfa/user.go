package mfa

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// UserID names a person for as long as a directory knows him: the directory, and the id in it that is never given to
// somebody else (a file's `id`, an LDAP entryUUID or objectGUID). Accounts and sessions are kept under it, never under
// a name alone: two directories may know the same name, and a name may pass to a new employee.
type UserID struct {
	Directory string // name of the directory: lower-case letters, digits, hyphens
	ID        string // opaque
}

// ErrUserID says that a text is not what UserID.String writes.
var ErrUserID = errors.New("not a user id")

// String writes the id as "directory/id", with everything outside of unreserved characters percent-encoded. It is safe
// as a store key and in a log.
func (u UserID) String() string { return u.Directory + "/" + url.PathEscape(u.ID) }

// IsZero says whether u names nobody.
func (u UserID) IsZero() bool { return u == UserID{} }

// ParseUserID reads what String writes.
func ParseUserID(s string) (UserID, error) {
	directory, escaped, found := strings.Cut(s, "/")
	id, err := url.PathUnescape(escaped)
	u := UserID{directory, id}
	if !found || err != nil || directory == "" || id == "" || u.String() != s {
		return UserID{}, fmt.Errorf("%w: %q", ErrUserID, s)
	}
	return u, nil
}

// MarshalText makes UserID a string in JSON and a possible key of a map.
func (u UserID) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (u *UserID) UnmarshalText(text []byte) (err error) {
	*u, err = ParseUserID(string(text))
	return err
}

// User is a person as his directory describes him at the moment. A User is never changed after it was handed out.
type User struct {
	ID          UserID
	Name        string // as the directory spells it; what applications get as Remote-User
	Canonical   string // CanonicalName(Name)
	DisplayName string
	Email       string
	Phone       string   // E.164
	Language    string   // BCP 47, empty when unknown
	Groups      []string // in the directory's order
	Roles       []string
	Guest       bool
	Disabled    bool

	// Mark changes whenever the password does, and says nothing about it. A session remembers the mark that it
	// was begun under, and ends with it.
	Mark string
}

// Acceptance says which version of some terms of use a person has accepted, and when.
type Acceptance struct {
	Version int       `json:"version"`
	At      time.Time `json:"at"`
}
