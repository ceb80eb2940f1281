package signin

import (
	"context"
	"errors"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/machinekey"
)

// MakeAppPassword makes an app password for a signed-in person who has a factor, with a fresh proof of it, and gives the secret that is
// shown once. A wish that can't be met costs no proof. The error is ErrStep, ErrNotFresh, ErrPasswordAgain, ErrDenied, one of machinekey's
// for a wish, or wraps store.ErrUnavailable or directory.ErrUnavailable.
func (s *Service) MakeAppPassword(ctx context.Context, c Client, sessionID string, w machinekey.Wish) (Cookies, *account.AppPassword, string, error) {
	st, err := s.mayPay(ctx, c, sessionID)
	if err != nil {
		return Cookies{}, nil, "", err
	}
	if !st.Account.Registered() {
		return Cookies{}, nil, "", ErrStep
	}
	if err := s.Keys.Check(st.Account, st.User, w, c.Now); err != nil {
		return Cookies{}, nil, "", err
	}
	st, cookie, err := s.spend(ctx, c, st)
	if err != nil {
		return Cookies{}, nil, "", err
	}
	cookies := Cookies{Session: cookie, Persist: persist(&st, c.Now)}
	var p *account.AppPassword
	var secret string
	_, err = s.Accounts.UpdateClosed(ctx, st.User.ID, c.Now, func(a *account.Account) (err error) {
		if !a.Honors(st.Current.Session) || !a.Registered() || a.State.Blocked != nil {
			return ErrStep
		}
		p, secret, err = s.Keys.Put(a, st.User, w, c.Now)
		return err
	})
	if err != nil {
		return cookies, nil, "", err
	}
	s.audit(c, audit.Event{Type: audit.AppPasswordMade, User: st.User.Canonical, UserID: st.User.ID, Session: sessionID, Application: p.Application, Credential: p.ID})
	return cookies, p, secret, nil
}

// RevokeAppPassword ends an app password of the person, who must have proven what policy asks. It needs no fresh proof: nothing is opened
// by it. The error is ErrStep, or wraps store.ErrUnavailable or directory.ErrUnavailable.
func (s *Service) RevokeAppPassword(ctx context.Context, c Client, id string) error {
	st, err := s.State(ctx, c)
	if err != nil {
		return err
	}
	if st.Step != Done {
		return ErrStep
	}
	var ended []*account.AppPassword
	_, err = s.Accounts.UpdateClosed(ctx, st.User.ID, c.Now, func(a *account.Account) error {
		if !a.Honors(st.Current.Session) {
			return ErrStep
		}
		if ended = a.RemoveAppPasswords(func(p *account.AppPassword) bool { return p.ID == id }); len(ended) == 0 {
			return machinekey.ErrNoKey // revoked already
		}
		return nil
	})
	if errors.Is(err, machinekey.ErrNoKey) {
		return nil
	}
	if err != nil {
		return err
	}
	s.audit(c, audit.Event{Type: audit.AppPasswordRevoked, User: st.User.Canonical, UserID: st.User.ID, Session: st.Current.Session.ID, Application: ended[0].Application, Credential: id})
	return nil
}
