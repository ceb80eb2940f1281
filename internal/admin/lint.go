package admin

import (
	"context"
	"errors"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
)

// Lint says what in the policies may not be meant, with the users that the directories list now. The error wraps
// directory.ErrUnavailable or store.ErrUnavailable.
func (s *Service) Lint(ctx context.Context, now time.Time) ([]policy.Finding, error) {
	users, err := s.Users.Users(ctx)
	if err != nil {
		return nil, err
	}
	var failed error
	found := s.Policy.Lint(policy.Estate{
		Applications: s.Applications, Users: users, Now: now, KnownRole: s.KnownRole,
		PerUser: func(id mfa.UserID) mfa.PerUserState {
			a, err := s.Accounts.Get(ctx, id)
			if err != nil {
				failed = errors.Join(failed, err)
				return mfa.PerUserEnforced
			}
			return a.State.PerUser
		},
	})
	return list(found), failed
}
