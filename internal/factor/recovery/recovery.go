// Package recovery is the list of codes that a person keeps for the day his other factor is lost. Each works once.
package recovery

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/factor/code"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// Count is how many codes there are in a new list.
const Count = 10

// Factor is the list of recovery codes.
type Factor struct{}

type data struct {
	Left []code.Digest `json:"left"`
}

// Method is mfa.RecoveryCode.
func (Factor) Method() mfa.Method { return mfa.RecoveryCode }

// New makes a list: the credential to keep, without ID and Name, and the codes to show once.
func New(now time.Time) (mfa.Credential, []string, error) {
	var d data
	codes := make([]string, Count)
	for i := range codes {
		codes[i] = code.New()
		d.Left = append(d.Left, code.Hash(codes[i]))
	}
	raw, err := json.Marshal(d)
	if err != nil {
		return mfa.Credential{}, nil, err
	}
	return mfa.Credential{Method: mfa.RecoveryCode, Added: now, Data: raw}, codes, nil
}

// Left says how many codes of the list have not been used.
func Left(c mfa.Credential) (int, error) {
	d, err := read(c)
	return len(d.Left), err
}

// Finish accepts each code once: the credential that it returns doesn't hold it any more.
func (Factor) Finish(credentials []mfa.Credential, answer string, now time.Time) (mfa.Credential, error) {
	for _, c := range credentials {
		d, err := read(c)
		if err != nil {
			return mfa.Credential{}, err
		}
		if i := slices.IndexFunc(d.Left, func(left code.Digest) bool { return left.Matches(answer) }); i >= 0 {
			d.Left = slices.Delete(d.Left, i, i+1)
			if c.Data, err = json.Marshal(d); err != nil {
				return mfa.Credential{}, err
			}
			c.LastUsed = now
			return c, nil
		}
	}
	return mfa.Credential{}, mfa.ErrWrong
}

func read(c mfa.Credential) (d data, err error) {
	if err := json.Unmarshal(c.Data, &d); err != nil {
		return data{}, fmt.Errorf("reading recovery codes: %w", err)
	}
	return d, nil
}

var _ mfa.Factor = Factor{}
