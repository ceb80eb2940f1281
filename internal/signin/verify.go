package signin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/throttle"
)

// BeginVerification has a factor that asks something else each time ask the person, in place of what it asked him before. Verify
// judges the answer, once. sessionID is that of the session that the page was made for. The error is ErrStep, or wraps
// store.ErrUnavailable or directory.ErrUnavailable.
func (s *Service) BeginVerification(ctx context.Context, c Client, sessionID string, method mfa.Method) (State, mfa.Challenge, error) {
	st, err := s.State(ctx, c)
	if err != nil {
		return State{}, mfa.Challenge{}, err
	}
	factor, ok := s.Factors[method].(mfa.Challenger)
	if !ok || !s.mayProve(st, sessionID, method, c.Now) {
		return st, mfa.Challenge{}, ErrStep
	}
	a, err := s.Accounts.Load(ctx, st.User.ID) // with the factors' data
	if err != nil {
		return st, mfa.Challenge{}, err
	}
	credentials := a.CredentialsOf(method)
	if st.Step == Verify && method == mfa.Passkey {
		// Those that would do: of a model, where policy asks for one.
		credentials = slices.DeleteFunc(credentials, func(c mfa.Credential) bool { return !s.Policy.Serves(st.Decision.Methods, c.Model) })
	}
	challenge, err := factor.BeginVerification(st.User, c.site(), credentials, c.Now)
	if err != nil {
		return st, mfa.Challenge{}, fmt.Errorf("beginning verification: %w", err)
	}
	challenge.Epoch = a.State.Epoch
	return st, challenge, s.Pending.Ask(ctx, st.Current.Session, challenge, c.Now)
}

// mayProve says whether a method is one that the person could prove now, on a page that was made for this session.
func (s *Service) mayProve(st State, sessionID string, method mfa.Method, now time.Time) bool {
	inTurn := st.Step != Password && st.Step != Blocked
	return st.User != nil && inTurn && st.Current.Session.ID == sessionID && st.Current.Latest() && s.Factors[method] != nil && slices.Contains(st.Ways(now), method)
}

// Verify judges a code of a second factor, or what a passkey answers to BeginVerification. sessionID is that of the session that the
// page was made for: a code typed for one person never counts for another who has signed in since in another tab. The error is ErrStep, ErrWrong, ErrReplayed, ErrCloned, ErrExpired,
// *throttle.WaitError, or wraps store.ErrUnavailable or directory.ErrUnavailable.
func (s *Service) Verify(ctx context.Context, c Client, sessionID string, method mfa.Method, answer string) (State, Cookies, error) {
	st, err := s.State(ctx, c)
	if err != nil {
		return State{}, Cookies{}, err
	}
	if !s.mayProve(st, sessionID, method, c.Now) {
		return st, Cookies{}, ErrStep
	}
	finish := s.Factors[method].Finish
	if asks, ok := s.Factors[method].(mfa.Challenger); ok {
		// Taken before it is judged: what was asked once is answered once.
		challenge, err := s.Pending.Answered(ctx, st.Current.Session, c.Now)
		if err != nil {
			return st, Cookies{}, err
		}
		if challenge.Method != method || challenge.Epoch != st.Account.State.Epoch {
			return st, Cookies{}, ErrStep
		}
		finish = func(credentials []mfa.Credential, answer string, now time.Time) (mfa.Credential, error) {
			return asks.FinishVerification(challenge.State, credentials, answer, now)
		}
	}
	credentials := func(a *account.Account) []mfa.Credential { return a.CredentialsOf(method) }
	messenger, sent := s.Factors[method].(mfa.Messenger)
	if sent {
		// It stays until it is right: people mistype. The attempts are counted, whatever code they are for.
		challenge, ok, err := s.SentCode(ctx, c, st, method)
		if err != nil {
			return st, Cookies{}, err
		}
		if !ok {
			return st, Cookies{}, ErrExpired
		}
		credentials = func(a *account.Account) []mfa.Credential { return s.destinations(st.User, a, messenger) }
		finish = func(credentials []mfa.Credential, answer string, now time.Time) (mfa.Credential, error) {
			return messenger.FinishVerification(challenge.State, credentials, answer, now)
		}
	}
	lane := s.Browsers.Lane(c.Browser, st.User, st.Account, c.Now)
	var used mfa.Credential
	keep := s.newBrowser(c, st, method)
	a, judged := s.judge(ctx, c, st.User.ID, method, lane, func(a *account.Account) (err error) {
		if !a.Honors(st.Current.Session) {
			return ErrStep
		}
		if used, err = finish(credentials(a), answer, c.Now); err != nil {
			return err
		}
		a.Put(used)
		keep.in(a)
		return nil
	})
	if judged != nil {
		s.factorRefused(c, st, method, judged)
		return st, Cookies{}, judged
	}
	s.audit(c, audit.Event{Type: audit.FactorAccepted, User: st.User.Canonical, UserID: st.User.ID, Session: sessionID, Method: method, Credential: used.ID})
	s.noteOwner(ctx, c, st.User.ID, used)

	if sent {
		s.arrived(ctx, c, st, method)
	}

	proof := mfa.Proof{Method: method, At: c.Now, Credential: used.ID, Model: used.Model}
	// A pass for one sign-in has ended with this one.
	proof.Reusable = method == mfa.TemporaryAccessPass && c.Now.Before(used.Expires)
	before := st
	st, cookie, err := s.elevate(ctx, c, st, a, func(ses *mfa.Session) {
		ses.Proofs = ses.Proofs.With(proof)
		ses.Stay = max(ses.Stay, s.staysAs(c, before))
	})
	if err != nil {
		return st, Cookies{}, err
	}
	cookies, err := s.finish(c, before, &st, cookie)
	if err == nil {
		err = s.wished(c, before, &st, keep, &cookies)
	}
	return st, cookies, err
}

// judge counts an attempt and judges it, in one write: what right or wrong was found is told only after the attempt
// has been counted, however many are made at once. A right one takes back what was counted in its lane.
func (s *Service) judge(ctx context.Context, c Client, user mfa.UserID, m mfa.Method, lane string, try func(*account.Account) error) (*account.Account, error) {
	var judged error
	a, err := s.Accounts.Update(ctx, user, c.Now, func(a *account.Account) error {
		counted, err := a.Codes(m, lane).Charge(c.Now)
		if err != nil {
			return err
		}
		judged = try(a)
		switch {
		case judged == nil:
			a.SetCodes(m, lane, throttle.Codes{})
		case errors.Is(judged, ErrWrong), errors.Is(judged, ErrReplayed), errors.Is(judged, ErrCloned):
			a.SetCodes(m, lane, counted)
		default:
			return judged
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return a, judged
}

func (s *Service) factorRefused(c Client, st State, m mfa.Method, err error) {
	e := audit.Event{Type: audit.FactorRefused, User: st.User.Canonical, UserID: st.User.ID, Session: st.Current.Session.ID, Method: m}
	wait := (*throttle.WaitError)(nil)
	switch {
	case errors.Is(err, ErrWrong):
		e.Reason = "wrong"
	case errors.Is(err, ErrReplayed):
		e.Reason = "replayed"
	case errors.Is(err, ErrCloned):
		e.Reason = "cloned"
	case errors.As(err, &wait):
		e.Type, e.Reason = audit.FactorThrottled, wait.Scope
	default:
		return
	}
	s.audit(c, e)
	if m == mfa.Passkey {
		// Which step of the verification it failed at says whether a browser or an attacker has done something unexpected.
		s.Log.Info("passkey refused", "user", st.User.Canonical, "reference", c.Reference, "error", err)
	}
	s.failed(c, st.User, st.Current.Proofs, audit.Status{ErrorCode: audit.CodeMFADenied, FailureReason: "Authentication failed during strong authentication request."})
}
