package signin

import (
	"context"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/gate"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
)

// Basic judges the user name and the password of a client that can't be asked for more. It is counted like a sign-in from a browser that
// nobody knows, begins no session, makes no browser known, and writes nothing for the person. The error is one of Password's.
func (s *Service) Basic(ctx context.Context, try gate.Try) (*mfa.User, *account.Account, error) {
	c := Client{
		Host: try.Host, Application: try.Application, Client: try.Client, UserAgent: try.UserAgent, Hint: try.Hint, Reference: audit.NewReference(), Now: try.Now,
	}
	var a *account.Account
	user, err := s.judgePassword(ctx, c, try.Name, try.Password, func(user *mfa.User) (err error) {
		// He may have been blocked while his password waited for its turn.
		if a, err = s.Accounts.LoadClosed(ctx, user.ID); err == nil && a.State.Blocked != nil {
			s.passwordRefused(c, user, "blocked")
			err = ErrPassword
		}
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return user, a, nil
}

// NoteBasic tells the sign-in log of a password of a legacy client that was judged and is right, whatever becomes of the request.
func (s *Service) NoteBasic(c Client, out *gate.Outcome) {
	status := statusOf(out.Decision)
	if out.Verdict == gate.Admit {
		status = audit.Status{ErrorCode: audit.CodeSuccess}
	}
	c.Client.App = policy.OtherClients
	if out.Finding.Class.ActiveSync() {
		c.Client.App = policy.ExchangeActiveSync
	}
	proofs := mfa.Proofs{}.With(mfa.Proof{Method: mfa.Password, At: c.Now})
	r := s.record(c, out.User, proofs, status)
	r.IsInteractive = false
	s.decided(c, &r, out.User, out.Account, nil, proofs)
	s.Sink.SignIn(r)
}
