// Package pass is the temporary access pass: a code that an administrator hands to somebody who has no other factor at
// hand, for a first registration or a lost phone.
package pass

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/factor/code"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// Lifetimes of a pass, and how far ahead it may begin.
const (
	DefaultLifetime = time.Hour
	MinLifetime     = time.Minute
	MaxLifetime     = 30 * 24 * time.Hour
	MaxAhead        = 30 * 24 * time.Hour
)

// Factor is the temporary access pass.
type Factor struct{}

type data struct {
	Digest code.Digest `json:"digest"`
	Once   bool        `json:"once,omitempty"` // good for one sign-in
}

// Method is mfa.TemporaryAccessPass.
func (Factor) Method() mfa.Method { return mfa.TemporaryAccessPass }

// New makes a pass that is good from start, or from now if that is not later (zero: from now), for so long, for one sign-in or for
// many: the credential to keep, without ID and Name, and the pass to show once.
func New(now, start time.Time, lifetime time.Duration, once bool) (mfa.Credential, string, error) {
	if lifetime < MinLifetime || lifetime > MaxLifetime {
		return mfa.Credential{}, "", fmt.Errorf("a temporary access pass lasts from %v to %v, not %v", MinLifetime, MaxLifetime, lifetime)
	}
	if start.After(now.Add(MaxAhead)) {
		return mfa.Credential{}, "", fmt.Errorf("a temporary access pass begins at most %v ahead, not at %v", MaxAhead, start)
	}
	c := mfa.Credential{Method: mfa.TemporaryAccessPass, Added: now, Expires: now.Add(lifetime)}
	if start.After(now) {
		c.Starts, c.Expires = start, start.Add(lifetime)
	}
	pass := code.New()
	raw, err := json.Marshal(data{Digest: code.Hash(pass), Once: once})
	if err != nil {
		return mfa.Credential{}, "", err
	}
	c.Data = raw
	return c, pass, nil
}

// Usable says whether a pass would be taken at that time.
func Usable(c mfa.Credential, now time.Time) bool {
	return c.Method == mfa.TemporaryAccessPass && !now.Before(c.Added) && !now.Before(c.Starts) && now.Before(c.Expires)
}

// Finish accepts a pass in its time. One that is for one sign-in expires with it.
func (Factor) Finish(credentials []mfa.Credential, answer string, now time.Time) (mfa.Credential, error) {
	for _, c := range credentials {
		var d data
		if err := json.Unmarshal(c.Data, &d); err != nil {
			return mfa.Credential{}, fmt.Errorf("reading temporary access pass: %w", err)
		}
		if !Usable(c, now) || !d.Digest.Matches(answer) {
			continue
		}
		if d.Once {
			c.Expires = now
		}
		c.LastUsed = now
		return c, nil
	}
	return mfa.Credential{}, mfa.ErrWrong
}

var _ mfa.Factor = Factor{}
