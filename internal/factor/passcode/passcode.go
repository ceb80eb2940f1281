// Package passcode is codes that are sent to a person: in a text message, by a phone call, in a mail. It makes and judges them; who
// sends them is package sender.
package passcode

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/factor/code"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

const (
	// Lifetime is how long a code is good.
	Lifetime = 10 * time.Minute

	digits = 6

	// skew is how far the clocks of two machines may be apart.
	skew = time.Minute

	maxMail = 254 // bytes of a mail address (RFC 5321, section 4.5.3.1.3)
)

// Factor is codes of one kind. The zero Factor sends nowhere and takes no code.
type Factor struct {
	method   mfa.Method
	prefixes []string
}

// New makes the factor of SMS, Voice or Email. Numbers must begin with one of the prefixes, as in +31; no prefixes: any number.
func New(method mfa.Method, prefixes []string) Factor { return Factor{method, prefixes} }

// data is what is kept of a credential.
type data struct {
	To string `json:"to"` // number as in E.164, or mail address

	// Used is when the newest code was made that was accepted, and Salt tells that one from others of the same moment: neither it nor
	// an older one is accepted again.
	Used time.Time `json:"used,omitzero"`
	Salt []byte    `json:"salt,omitempty"`
}

// sent is what is kept of a code until it is typed. Six digits can be tried out whatever the hash: what keeps them is that this is
// sealed where it is kept, and gone after ten minutes.
type sent struct {
	Method     mfa.Method  `json:"method"`
	Credential string      `json:"credential,omitempty"` // id; empty: of a registration
	To         string      `json:"to"`
	Made       time.Time   `json:"made"`
	Digest     code.Digest `json:"digest"`
}

var (
	sixDigits = regexp.MustCompile(`^[0-9]{6}$`)

	// mailAddress is what HTML calls a valid e-mail address, with a dot in the domain.
	mailAddress = regexp.MustCompile(`^[A-Za-z0-9.!#$%&'*+/=?^_{|}~-]{1,64}@[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)+$`)
)

// Method is the one that New was told.
func (f Factor) Method() mfa.Method { return f.method }

// Address reads a number or a mail address as people type it. The error wraps mfa.ErrAddress or mfa.ErrNotServed.
func (f Factor) Address(typed string) (string, error) {
	switch f.method {
	case mfa.Email:
		address := strings.TrimSpace(typed)
		if len(address) > maxMail || !mailAddress.MatchString(address) {
			return "", fmt.Errorf("%w: it is not as in alice@example.com", mfa.ErrAddress)
		}
		return address, nil
	case mfa.SMS, mfa.Voice:
		number, err := mfa.ParsePhone(typed)
		if err != nil {
			return "", fmt.Errorf("%w: %w", mfa.ErrAddress, err)
		}
		if len(f.prefixes) > 0 && !slices.ContainsFunc(f.prefixes, func(p string) bool { return strings.HasPrefix(number, p) }) {
			return "", fmt.Errorf("%w: its prefix is not among those that are configured", mfa.ErrNotServed)
		}
		return number, nil
	}
	return "", fmt.Errorf("%w: nothing is sent", mfa.ErrAddress)
}

// show is what may be shown of an address.
func (f Factor) show(to string) string {
	if f.method == mfa.Email {
		return mfa.MaskMail(to)
	}
	return mfa.MaskPhone(to)
}

// NewCredential is the credential of an address that is known to be the person's, without ID.
func (f Factor) NewCredential(to string, now time.Time) (mfa.Credential, error) {
	return f.credential(data{To: to}, now)
}

func (f Factor) credential(d data, now time.Time) (mfa.Credential, error) {
	raw, err := json.Marshal(d)
	return mfa.Credential{Method: f.method, Name: f.show(d.To), Added: now, Data: raw}, err
}

// Destination is where a credential's codes go, and what of it may be shown. The error wraps mfa.ErrAddress or mfa.ErrNotServed: what
// is configured may have changed since it was registered.
func (f Factor) Destination(c mfa.Credential) (to, shown string, err error) {
	d, err := read(c)
	if err != nil {
		return "", "", err
	}
	if to, err = f.Address(d.To); err != nil {
		return "", "", err
	}
	return to, f.show(to), nil
}

func read(c mfa.Credential) (d data, err error) {
	if err := json.Unmarshal(c.Data, &d); err != nil {
		return data{}, fmt.Errorf("reading %s %s: %w", c.Method, c.ID, err)
	}
	return d, nil
}

// NewCode makes a code for a credential, or, if that is zero, for the registration of one.
func (f Factor) NewCode(credential mfa.Credential, to string, now time.Time) (mfa.Challenge, string, error) {
	n, err := rand.Int(rand.Reader, big.NewInt(1_000_000))
	if err != nil { // never, see crypto/rand
		return mfa.Challenge{}, "", err
	}
	made := fmt.Sprintf("%0*d", digits, n)
	state, err := json.Marshal(sent{f.method, credential.ID, to, now, code.Hash(made)})
	if err != nil {
		return mfa.Challenge{}, "", err
	}
	return mfa.Challenge{Method: f.method, State: state, Expires: now.Add(Lifetime), To: f.show(to)}, made, nil
}

// open judges what was typed against a code that was sent.
func (f Factor) open(state []byte, answer string, now time.Time) (sent, error) {
	var s sent
	if err := json.Unmarshal(state, &s); err != nil {
		return sent{}, fmt.Errorf("reading what was sent: %w", err)
	}
	switch typed := code.Clean(answer); {
	case s.Method != f.method || s.To == "" || s.Made.IsZero():
		return sent{}, mfa.ErrExpired // nothing was sent that this could be
	case !now.Before(s.Made.Add(Lifetime)), now.Before(s.Made.Add(-skew)):
		return sent{}, mfa.ErrExpired
	case !sixDigits.MatchString(typed), !s.Digest.Matches(typed):
		return sent{}, mfa.ErrWrong
	}
	return s, nil
}

// FinishVerification accepts the code that was sent for one of the credentials, once, in its time. A code that was made before one
// that has been used is not accepted any more.
func (f Factor) FinishVerification(state []byte, credentials []mfa.Credential, answer string, now time.Time) (mfa.Credential, error) {
	s, err := f.open(state, answer, now)
	if err != nil {
		return mfa.Credential{}, err
	}
	for _, c := range credentials {
		if c.ID != s.Credential || s.Credential == "" {
			continue
		}
		d, err := read(c)
		if err != nil {
			return mfa.Credential{}, err
		}
		if d.To != s.To {
			break // it has another number by now
		}
		if s.Made.Before(d.Used) || bytes.Equal(s.Digest.Salt, d.Salt) {
			return mfa.Credential{}, mfa.ErrReplayed
		}
		d.Used, d.Salt = s.Made, s.Digest.Salt
		if c.Data, err = json.Marshal(d); err != nil {
			return mfa.Credential{}, err
		}
		c.LastUsed = now
		return c, nil
	}
	return mfa.Credential{}, mfa.ErrWrong
}

// FinishRegistration accepts the code that was sent to the new address.
func (f Factor) FinishRegistration(state []byte, has []mfa.Credential, answer string, now time.Time) (mfa.Credential, error) {
	s, err := f.open(state, answer, now)
	if err != nil {
		return mfa.Credential{}, err
	}
	if s.Credential != "" {
		return mfa.Credential{}, mfa.ErrWrong // it was sent to sign in
	}
	for _, c := range has {
		if d, err := read(c); err != nil {
			return mfa.Credential{}, err
		} else if d.To == s.To {
			return mfa.Credential{}, mfa.ErrReplayed
		}
	}
	return f.credential(data{s.To, s.Made, s.Digest.Salt}, now)
}

// SentTo is where a code of a registration was sent.
func SentTo(ch mfa.Challenge) (string, error) {
	var s sent
	if err := json.Unmarshal(ch.State, &s); err != nil {
		return "", fmt.Errorf("reading what was sent: %w", err)
	}
	if s.To == "" || s.Credential != "" {
		return "", errAddress
	}
	return s.To, nil
}

var errAddress = errors.New("a code is sent to an address, and there is none")

// BeginRegistration refuses: NewCode is told the address.
func (Factor) BeginRegistration(*mfa.User, mfa.Site, []mfa.Credential, time.Time) (mfa.Challenge, error) {
	return mfa.Challenge{}, errAddress
}

// Finish refuses: without a code that was sent nothing can be right.
func (Factor) Finish([]mfa.Credential, string, time.Time) (mfa.Credential, error) {
	return mfa.Credential{}, mfa.ErrExpired
}

var _ mfa.Messenger = Factor{}
