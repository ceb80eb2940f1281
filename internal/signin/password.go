package signin

import (
	"context"
	"errors"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/directory"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
	"github.com/caddy-mfa/caddy-mfa/internal/session"
	"github.com/caddy-mfa/caddy-mfa/internal/throttle"
)

// Password judges a user name and a password, and begins a session if they are right. The error is ErrPassword,
// *throttle.WaitError, directory.ErrBusy, account.ErrReplaced, or wraps store.ErrUnavailable or directory.ErrUnavailable.
func (s *Service) Password(ctx context.Context, c Client, name, password string) (State, Cookies, error) {
	var a *account.Account
	user, err := s.judgePassword(ctx, c, name, password, func(user *mfa.User) (err error) {
		a, err = s.firstSignIn(ctx, c, user)
		return err
	})
	if err != nil {
		return State{}, Cookies{}, err
	}
	return s.accepted(ctx, c, user, a, s.proven(c, user, a), audit.Event{Type: audit.PasswordAccepted})
}

// judgePassword judges a user name and a password, and calls accepted if they are right, before the attempt is taken back. The error is one
// of Password's, or of accepted.
func (s *Service) judgePassword(ctx context.Context, c Client, name, password string, accepted func(*mfa.User) error) (*mfa.User, error) {
	canonical, nameErr := mfa.CanonicalName(name)
	attempt := throttle.Attempt{User: canonical, Address: c.Address}
	if nameErr != nil {
		attempt.User = name
	}
	// A flood is refused before it reaches the store. It leaves places in the queue to those who are known.
	entered := false
	enter := func() bool {
		entered = entered || s.Strangers.Enter()
		return entered
	}
	defer func() {
		if entered {
			s.Strangers.Leave()
		}
	}()
	if len(s.Browsers.open(c.Browser)) == 0 && !enter() {
		return nil, directory.ErrBusy
	}
	known, a, err := s.candidate(ctx, canonical)
	if err != nil {
		return nil, err
	}
	attempt.Browser = s.Browsers.ID(c.Browser, known, a, c.Now)
	if attempt.Browser == "" && !enter() {
		return nil, directory.ErrBusy
	}
	if err := s.Passwords.Charge(ctx, attempt, c.Now); err != nil {
		if wait := (*throttle.WaitError)(nil); errors.As(err, &wait) {
			s.audit(c, audit.Event{Type: audit.PasswordThrottled, Reason: wait.Scope})
		}
		return nil, err
	}
	// A name that can't be one costs what a wrong password does.
	user, err := s.Users.Authenticate(ctx, canonical, password)
	switch {
	case errors.Is(err, directory.ErrBusy):
		// Nothing was judged, so nothing counts.
		if err := s.Passwords.Withdraw(ctx, attempt, c.Now); err != nil {
			return nil, err
		}
		return nil, directory.ErrBusy
	case errors.Is(err, directory.ErrPassword), nameErr != nil && err == nil:
		s.passwordRefused(c, known, "password")
		return nil, ErrPassword
	case err == nil && a.State.Blocked != nil:
		s.passwordRefused(c, known, "blocked")
		return nil, ErrPassword
	case err != nil:
		return nil, err
	}
	// Only now, with the right password, anything is written for the person.
	if err := s.Generation.Check(ctx); err != nil {
		return nil, err
	}
	if err := accepted(user); err != nil {
		return nil, err
	}
	return user, s.Passwords.Refund(ctx, attempt, c.Now)
}

// accepted takes proofs that begin a sign-in: it renews the browser's session if it is the same person's, and begins one otherwise.
// The event tells of them.
func (s *Service) accepted(ctx context.Context, c Client, user *mfa.User, a *account.Account, proofs mfa.Proofs, event audit.Event) (State, Cookies, error) {
	event.User, event.UserID = user.Canonical, user.ID
	before, err := s.State(ctx, c)
	if err != nil {
		return State{}, Cookies{}, err
	}
	if before.User != nil && before.User.ID == user.ID && before.Current.Latest() {
		// He had the page open in another tab. What he has proven there stays proven.
		current, cookie, err := s.Sessions.Elevate(ctx, before.Current, c.Now, func(ses *mfa.Session) error {
			for _, p := range proofs {
				ses.Proofs = ses.Proofs.With(p)
			}
			s.settle(c, user, a, ses)
			return nil
		})
		if err == nil {
			event.Session = current.Session.ID
			s.audit(c, event)
			st := s.state(c, user, a, current)
			cookies, err := s.finish(c, before, &st, cookie)
			return st, cookies, err
		}
		if !errors.Is(err, session.ErrEnded) {
			return State{}, Cookies{}, err
		}
	} else if before.User != nil {
		if err := s.Sessions.End(ctx, before.User.ID, before.Current.Session.ID); err != nil {
			return State{}, Cookies{}, err
		}
	}
	b := session.Beginning{
		User: user, Host: c.Host, Proofs: proofs, CredentialEpoch: a.State.Epoch,
		Address: c.Address, UserAgent: c.UserAgent,
	}
	facts := s.facts(c, user, a, nil, b.Proofs)
	decision := s.Policy.Decide(&facts)
	b.Pending = decision.Action != policy.Allow
	current, cookie, err := s.Sessions.Begin(ctx, b, c.Now)
	if err != nil {
		return State{}, Cookies{}, err
	}
	event.Session = current.Session.ID
	s.audit(c, event)
	st := s.state(c, user, a, current)
	cookies, err := s.finish(c, State{}, &st, cookie)
	return st, cookies, err
}

// candidate finds the user of a name, and his account, before his password is judged. A name that nobody has costs
// the same, and gives a user and an account without anything.
func (s *Service) candidate(ctx context.Context, canonical string) (*mfa.User, *account.Account, error) {
	user, err := s.Users.ByName(ctx, canonical)
	if errors.Is(err, directory.ErrUnknown) {
		user = &mfa.User{ID: mfa.UserID{Directory: "nobody", ID: "nobody"}}
	} else if err != nil {
		return nil, nil, err
	}
	a, err := s.Accounts.LoadClosed(ctx, user.ID)
	return user, a, err
}

// passwordRefused notes it, with the name only of a user who exists: what strangers type may be a password.
func (s *Service) passwordRefused(c Client, user *mfa.User, reason string) {
	e := audit.Event{Type: audit.PasswordRefused, Reason: reason}
	if user.Canonical == "" {
		user = &mfa.User{}
	}
	e.User, e.UserID = user.Canonical, user.ID
	s.audit(c, e)
	s.failed(c, user, nil, audit.Status{ErrorCode: audit.CodeInvalidPassword, FailureReason: "Invalid user name or password."})
}

// firstSignIn notes who has signed in, and starts the clock of the grace period at the first time.
func (s *Service) firstSignIn(ctx context.Context, c Client, user *mfa.User) (*account.Account, error) {
	return s.Accounts.Update(ctx, user.ID, c.Now, func(a *account.Account) error {
		if a.State.Created.IsZero() {
			a.State.Created = c.Now
		}
		a.State.Name = user.Canonical
		if !s.Policy.Defaults.Off && a.State.GraceStarted.IsZero() {
			a.State.GraceStarted = c.Now
		}
		s.comeBack(c, user, a)
		return s.knowPhone(a, user, c.Now)
	})
}
