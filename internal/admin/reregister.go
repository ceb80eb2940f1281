package admin

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// Reregistration is what became of a user who must register again.
type Reregistration struct {
	User    string       `json:"user"`
	Removed []mfa.Method `json:"removed"` // once for each factor
	Kept    []mfa.Method `json:"kept"`    // with any of them he has a second factor still
}

// RequireReregistration removes what a user has registered, but for passkeys: he is asked to register at his next sign-in. It is what
// Entra does when multifactor authentication must be registered again. Unlike after Reset, his password is enough for that where
// registration by password is, and his app passwords stay. Every session of his ends, since what it has proven is gone.
//
// The number in his directory stays, too: it is not he who has registered it. Recovery codes go with the last factor.
func (s *Service) RequireReregistration(ctx context.Context, name string, now time.Time) (*Reregistration, error) {
	made, old := &Reregistration{}, s.mailAddresses(ctx, name)
	u, err := s.update(ctx, name, now, func(a *account.Account) error {
		made.Removed, made.Kept = []mfa.Method{}, []mfa.Method{}
		for _, c := range a.Factors() {
			if c.Method == mfa.Passkey || c.ID == account.DirectoryPhone {
				made.Kept = append(made.Kept, c.Method)
				continue
			}
			a.Remove(c.ID)
			made.Removed = append(made.Removed, c.Method)
			if !slices.Contains(made.Kept, c.Method) {
				a.ForgetCodesOf(c.Method)
			}
		}
		if len(made.Removed) == 0 {
			return errUnchanged
		}
		if len(made.Kept) == 0 {
			a.Remove(string(mfa.RecoveryCode))
			a.ForgetCodesOf(mfa.RecoveryCode)
		}
		a.BeginEpoch("")
		return nil
	})
	if err != nil && !errors.Is(err, errUnchanged) {
		return nil, err
	}
	made.User = u.Name
	if err != nil {
		return made, nil
	}
	s.note(u, audit.Event{Type: audit.ReregisterRequired, Old: old})
	return made, s.endSessions(ctx, u)
}
