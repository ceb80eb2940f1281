package signin

import (
	"context"
	"errors"
	"slices"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/factor/recovery"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/session"
)

// SignOut ends the client's session.
func (s *Service) SignOut(ctx context.Context, c Client) error {
	current, err := s.Sessions.Load(ctx, c.Session, c.Host, c.Now)
	if errors.Is(err, session.ErrCookie) || errors.Is(err, session.ErrEnded) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := s.Sessions.End(ctx, current.Session.User, current.Session.ID); err != nil {
		return err
	}
	s.audit(c, audit.Event{Type: audit.SignedOut, User: current.Session.Name, UserID: current.Session.User, Session: current.Session.ID})
	return nil
}

// SignOutEverywhere ends every session of the person, and forgets every browser that is remembered for him, who must have proven what policy asks.
func (s *Service) SignOutEverywhere(ctx context.Context, c Client) error {
	st, err := s.State(ctx, c)
	if err != nil {
		return err
	}
	if st.Step != Done {
		return ErrStep
	}
	// In this order: whoever has read his session before is too late for a browser to be remembered.
	if err := s.Sessions.EndAll(ctx, st.User.ID); err != nil {
		return err
	}
	if err := s.forgetBrowsers(ctx, c, st.User); err != nil {
		return err
	}
	s.audit(c, audit.Event{Type: audit.SessionsEnded, User: st.User.Canonical, UserID: st.User.ID, Session: st.Current.Session.ID})
	return nil
}

// EndSession ends another session of the person, who must have proven what policy asks.
func (s *Service) EndSession(ctx context.Context, c Client, id string) error {
	st, err := s.State(ctx, c)
	if err != nil {
		return err
	}
	if st.Step != Done {
		return ErrStep
	}
	if err := s.Sessions.End(ctx, st.User.ID, id); err != nil {
		return err
	}
	s.audit(c, audit.Event{Type: audit.SessionEnded, User: st.User.Canonical, UserID: st.User.ID, Session: id})
	return nil
}

// Overview is what the account page shows.
type Overview struct {
	Factors       []mfa.Credential // that last, the strongest first, without their data
	RecoveryCodes int              // left

	// Needed are the factors that can't be removed, by id, each with an application that asks for it.
	Needed   map[string]string
	Accepted mfa.Accepted // what the browser may be told of the passkeys
	Browsers []Remembered // the most recently used first
	Sessions []*mfa.Session

	AppPasswords []*account.AppPassword // that have not ended, the newest first
	Takers       []string               // applications that take one of his
}

// Overview reads it for a person who has proven what policy asks.
func (s *Service) Overview(ctx context.Context, c Client, st State) (Overview, error) {
	a, err := s.Accounts.Load(ctx, st.User.ID)
	if err != nil {
		return Overview{}, err
	}
	o := Overview{
		Factors: a.Factors(), Needed: map[string]string{},
		AppPasswords: s.Keys.Usable(st.User, a, c.Now), Takers: s.Keys.Takers(a),
	}
	if d, ok := s.Factors[mfa.Passkey].(mfa.Discoverer); ok {
		o.Accepted = d.Accepted(o.Factors, st.rp)
	}
	for i := range o.Factors {
		o.Factors[i].Data = nil
		if by := s.neededBy(c, st.User, a, o.Factors[i]); by != "" {
			o.Needed[o.Factors[i].ID] = by
		}
	}
	o.Browsers = s.rememberedBrowsers(c, st.User, a)
	for _, list := range a.CredentialsOf(mfa.RecoveryCode) {
		left, err := recovery.Left(list)
		if err != nil {
			return Overview{}, err
		}
		o.RecoveryCodes += left
	}
	if o.Sessions, err = s.Sessions.List(ctx, st.User.ID, c.Now); err != nil {
		return Overview{}, err
	}
	// Those from before the factors have changed open nothing any more.
	o.Sessions = slices.DeleteFunc(o.Sessions, func(other *mfa.Session) bool { return !a.Honors(other) })
	return o, nil
}
