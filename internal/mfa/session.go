package mfa

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"net/netip"
	"time"
)

// TokenSize is the length of a session token in bytes: 256 bits from crypto/rand.
const TokenSize = 32

// TokenHash is what is kept of a session token: its SHA-256. The token is random, so a fast hash is enough.
type TokenHash [sha256.Size]byte

// HashToken hashes a session token.
func HashToken(token [TokenSize]byte) TokenHash { return sha256.Sum256(token[:]) }

// Equal compares in constant time. The zero hash equals nothing.
func (h TokenHash) Equal(other TokenHash) bool {
	return subtle.ConstantTimeCompare(h[:], other[:]) == 1 && h != TokenHash{}
}

// Session is one sign-in, from the moment its password was right until it ends. It holds what was proven and when,
// never whether that is enough: policy is asked about that at every request. A Session that was handed out is not
// changed any more.
type Session struct {
	ID   string `json:"id"` // stable over all tokens; not a secret
	User UserID `json:"user"`
	Name string `json:"name"` // canonical user name, to show and to log
	Host string `json:"host"` // the only host that the session is good for, lower case, without port

	Proofs  Proofs    `json:"proofs"`
	Created time.Time `json:"created"`
	Seen    time.Time `json:"seen"` // last activity, exact to a minute
	Expires time.Time `json:"expires"`

	// Pending says that the sign-in has not come to its end yet. Policy decides what may be reached; this only
	// keeps the short life of an unfinished sign-in.
	Pending bool `json:"pending,omitempty"`

	// Stay is for how long its owner wants to stay signed in, from the beginning, also while he does nothing and after the browser
	// was closed. Policy is asked again whether he may. Zero: as long as every session lasts.
	Stay time.Duration `json:"stay,omitempty"`

	// Postponed is when the user chose to register a second factor later.
	Postponed time.Time `json:"postponed,omitzero"`

	Epoch           uint64 `json:"epoch"`            // of the user's sessions, at issue
	CredentialEpoch uint64 `json:"credential_epoch"` // of the account, at issue or at the user's own change of it
	Mark            string `json:"mark"`             // User.Mark when the password was proven

	Token         TokenHash `json:"token"`
	Previous      TokenHash `json:"previous,omitzero"` // the token before the last elevation,
	PreviousUntil time.Time `json:"previous_until,omitzero"`
	PreviousKnows Proofs    `json:"previous_knows,omitempty"` // and what was proven when it was replaced

	// Where it was begun, for the person's own list.
	Address   netip.Addr `json:"address"`
	UserAgent string     `json:"user_agent,omitempty"`

	// Applications that the session has entered, by name.
	Applications []string `json:"applications,omitempty"`
}

// KnownTo says what the session has proven as far as the holder of the token may know it: everything for
// the current token, what was proven before the last elevation for the one before, as long as that is still
// good, and nothing (false) for any other.
func (s *Session) KnownTo(token TokenHash, now time.Time) (Proofs, bool) {
	switch {
	case s.Token.Equal(token):
		return s.Proofs, true
	case s.Previous.Equal(token) && now.Before(s.PreviousUntil):
		return s.PreviousKnows, true
	}
	return nil, false
}

// MarshalText writes the hash in base64.
func (h TokenHash) MarshalText() ([]byte, error) {
	return base64.RawURLEncoding.AppendEncode(nil, h[:]), nil
}

// UnmarshalText reads what MarshalText wrote.
func (h *TokenHash) UnmarshalText(text []byte) error {
	b, err := base64.RawURLEncoding.AppendDecode(nil, text)
	if err != nil || len(b) != len(h) {
		return errors.New("token hash: want 32 bytes in base64")
	}
	copy(h[:], b)
	return nil
}
