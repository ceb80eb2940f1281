// Package totp is the authenticator app: time-based one-time passwords (RFC 6238) of six digits, over SHA-1, with steps
// of thirty seconds, as every app supports them.
package totp

import (
	"cmp"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"

	"github.com/caddy-mfa/caddy-mfa/internal/factor/code"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

const (
	// KeySize is the length of a new key in bytes: that of an SHA-1 digest (RFC 4226, section 4, R6).
	KeySize = 20

	// minKeySize is the length of the shortest key that verifies anything, in bytes (RFC 4226, section 4, R6).
	minKeySize = 16

	// Period is how long a code is shown.
	Period = 30 * time.Second

	// drift is how many steps before and after the present one are accepted, for clocks that differ and people
	// who type slowly (RFC 6238, section 5.2).
	drift = 1
)

// Factor is the authenticator app. Issuer is what the app shows beside the code; empty means the host that the user
// registers at.
type Factor struct{ Issuer string }

// data is what is kept of a credential.
type data struct {
	Key  string `json:"key"`  // base32 without padding
	Step int64  `json:"step"` // the newest time step that was accepted: neither it nor an older one is again
}

var (
	encoding  = base32.StdEncoding.WithPadding(base32.NoPadding)
	sixDigits = regexp.MustCompile(`^[0-9]{6}$`)
)

// Method is mfa.TOTP.
func (Factor) Method() mfa.Method { return mfa.TOTP }

// BeginRegistration makes a key. Challenge.Key is what a person types, Challenge.URI what he scans.
func (f Factor) BeginRegistration(user *mfa.User, site mfa.Site, _ []mfa.Credential, _ time.Time) (mfa.Challenge, error) {
	raw := make([]byte, KeySize)
	rand.Read(raw) // never fails, see crypto/rand
	key := encoding.EncodeToString(raw)
	state, err := json.Marshal(data{Key: key})
	if err != nil {
		return mfa.Challenge{}, err
	}
	return mfa.Challenge{Method: mfa.TOTP, State: state, Key: key, URI: f.uri(user.Name, site.Host, key)}, nil
}

// uri writes the Key URI Format that authenticator apps read. The parameters that are not written have the values that
// every app assumes: SHA1, 6 digits, 30 seconds.
func (f Factor) uri(account, host, key string) string {
	issuer := escape(cmp.Or(f.Issuer, host))
	return "otpauth://totp/" + issuer + ":" + escape(account) + "?secret=" + key + "&issuer=" + issuer
}

// escape percent-encodes, spaces too: some apps show the plus sign that stands for one in a query.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// FinishRegistration takes the first code.
func (f Factor) FinishRegistration(state []byte, _ []mfa.Credential, answer string, now time.Time) (mfa.Credential, error) {
	return f.Finish([]mfa.Credential{{Method: mfa.TOTP, Added: now, Data: state}}, answer, now)
}

// Finish accepts a code of a step that is newer than every step accepted before, at most one step from the present.
// All credentials are tried, always, so that the time says nothing about which one matched.
func (f Factor) Finish(credentials []mfa.Credential, answer string, now time.Time) (mfa.Credential, error) {
	typed := code.Clean(answer)
	if !sixDigits.MatchString(typed) {
		return mfa.Credential{}, mfa.ErrWrong
	}
	present := now.Unix() / int64(Period/time.Second)
	found, err := mfa.Credential{}, mfa.ErrWrong
	for _, c := range credentials {
		var d data
		if e := json.Unmarshal(c.Data, &d); e != nil {
			return mfa.Credential{}, fmt.Errorf("reading authenticator app %s: %w", c.ID, e)
		}
		if key, e := encoding.DecodeString(d.Key); e != nil || len(key) < minKeySize {
			continue // a key that anybody could compute codes for verifies nothing
		}
		for step := present - drift; step <= present+drift; step++ {
			expected, e := hotp.GenerateCodeCustom(d.Key, uint64(step), hotp.ValidateOpts{Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
			if e != nil {
				return mfa.Credential{}, fmt.Errorf("computing code of authenticator app %s: %w", c.ID, e)
			}
			if subtle.ConstantTimeCompare([]byte(expected), []byte(typed)) != 1 {
				continue
			}
			if step <= d.Step {
				if err == mfa.ErrWrong {
					err = mfa.ErrReplayed
				}
				continue
			}
			if err == nil {
				continue
			}
			d.Step = step
			next, e := json.Marshal(d)
			if e != nil {
				return mfa.Credential{}, e
			}
			c.Data, c.LastUsed = next, now
			found, err = c, nil
		}
	}
	if err != nil {
		return mfa.Credential{}, err
	}
	return found, nil
}

var _ mfa.Registrar = Factor{}
