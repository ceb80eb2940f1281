package signin

import (
	"context"
	"maps"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
)

// AcceptTerms notes that the person has read and accepted terms of use in the version that the page showed him. The error is ErrStep
// if that is not what he is asked for, or wraps store.ErrUnavailable or directory.ErrUnavailable.
func (s *Service) AcceptTerms(ctx context.Context, c Client, sessionID string, shown policy.Terms) (State, Cookies, error) {
	st, err := s.State(ctx, c)
	if err != nil {
		return State{}, Cookies{}, err
	}
	if st.Step != Terms || st.Current.Session.ID != sessionID || !st.Current.Latest() || st.Decision.Terms[0] != shown {
		return st, Cookies{}, ErrStep
	}
	a, err := s.Accounts.Update(ctx, st.User.ID, c.Now, func(a *account.Account) error {
		if !a.Honors(st.Current.Session) {
			return ErrStep
		}
		terms := maps.Clone(a.State.Terms)
		if terms == nil {
			terms = map[string]mfa.Acceptance{}
		}
		terms[shown.Name] = mfa.Acceptance{Version: shown.Version, At: c.Now}
		a.State.Terms = terms
		return nil
	})
	if err != nil {
		return st, Cookies{}, err
	}
	s.audit(c, audit.Event{Type: audit.TermsAccepted, User: st.User.Canonical, UserID: st.User.ID, Session: sessionID, Reason: shown.Name})
	before := st
	st, cookie, err := s.elevate(ctx, c, st, a, func(*mfa.Session) {})
	if err != nil {
		return st, Cookies{}, err
	}
	cookies, err := s.finish(c, before, &st, cookie)
	return st, cookies, err
}
