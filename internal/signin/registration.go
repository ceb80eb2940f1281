package signin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/factor/recovery"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
	"github.com/caddy-mfa/caddy-mfa/internal/session"
)

// registrar finds the one of a method; nil: it can't be registered.
func (s *Service) registrar(m mfa.Method) mfa.Registrar {
	for _, r := range s.Registrars {
		if r.Method() == m {
			return r
		}
	}
	return nil
}

// Registrable lists the methods that the person could register here, the strongest first: where policy asks for one, those that it
// takes.
func (s *Service) Registrable(c Client, st State) (methods []mfa.Method) {
	for _, r := range s.Registrars {
		m := r.Method()
		if local, ok := r.(mfa.Local); ok && local.RP(c.Host) == "" || !s.Policy.Registers(m) {
			continue
		}
		if st.Step == Register && st.Decision.Methods != 0 && !st.Decision.Methods.Has(m) {
			continue
		}
		methods = append(methods, m)
	}
	return methods
}

// BeginRegistration begins the registration of an authenticator app or a passkey. A person without a factor needs what policy asks
// of him, everybody else a fresh proof, which is spent on it. The error is ErrStep, ErrDenied, ErrNotFresh, ErrTooMany, or
// wraps store.ErrUnavailable or directory.ErrUnavailable.
func (s *Service) BeginRegistration(ctx context.Context, c Client, sessionID string, method mfa.Method) (Cookies, error) {
	st, err := s.State(ctx, c)
	if err != nil {
		return Cookies{}, err
	}
	if _, sent := s.registrar(method).(mfa.Messenger); sent || !s.mayBegin(c, st, sessionID, method) {
		return Cookies{}, ErrStep // a code needs to know where to: BeginCodeRegistration
	}
	if err := s.mayChange(c, st); err != nil {
		return Cookies{}, err
	}
	registered := st.Account.Registered()
	if err := s.permitted(c, st, method, st.HasFresh(c.Now)); err != nil {
		return Cookies{}, err
	}
	var cookies Cookies
	if registered {
		if st, cookies.Session, err = s.spend(ctx, c, st); err != nil {
			return Cookies{}, err
		}
		cookies.Persist = persist(&st, c.Now)
	}
	a, err := s.Accounts.Load(ctx, st.User.ID) // with the factors' data
	if err != nil {
		return cookies, err
	}
	challenge, err := s.registrar(method).BeginRegistration(st.User, c.site(), a.CredentialsOf(method), c.Now)
	if err != nil {
		return cookies, fmt.Errorf("beginning registration: %w", err)
	}
	challenge.Epoch = st.Account.State.Epoch
	// A token that is new already must reach the browser, whatever happens.
	return cookies, s.Pending.Save(ctx, st.Current.Session, challenge, c.Now)
}

// mayBegin says whether a method is one that the person could register now, on a page that was made for this session.
func (s *Service) mayBegin(c Client, st State, sessionID string, method mfa.Method) bool {
	return st.User != nil && st.Step != Password && st.Current.Session.ID == sessionID && st.Current.Latest() && slices.Contains(s.Registrable(c, st), method)
}

// permitted says what keeps a person from registering a method. paid says that he has a fresh proof for it. The error is ErrTooMany,
// ErrNotFresh, ErrDenied or ErrStep.
func (s *Service) permitted(c Client, st State, method mfa.Method, paid bool) error {
	registered := st.Account.Registered()
	switch {
	case full(st.Account, method) && !replacing(st):
		return ErrTooMany
	case registered && !paid:
		return ErrNotFresh
	case !registered && !s.MayRegister(c, st):
		s.audit(c, audit.Event{Type: audit.RegistrationRefused, User: st.User.Canonical, UserID: st.User.ID, Session: st.Current.Session.ID, Reason: string(policy.RegistrationDenied)})
		return ErrDenied
	case !st.Registers():
		return ErrStep
	}
	return nil
}

// full says whether there are as many factors of this kind as there can be.
func full(a *account.Account, method mfa.Method) bool {
	if toPhone(method) {
		return len(a.CredentialsOf(mfa.SMS))+len(a.CredentialsOf(mfa.Voice)) >= MaxPhones
	}
	return len(a.CredentialsOf(method)) >= most[method]
}

// Registers says whether a person who stands here may be registering a factor: it is asked of him, or he has proven what policy asks.
// Whoever is refused, or is still to prove something, must not become the one who holds the factor.
func (st State) Registers() bool { return st.Step == Register || st.Step == Done }

// mayChange asks the policies on changes of factors. The error is ErrDenied, ErrNotFresh or ErrPasswordAgain.
func (s *Service) mayChange(c Client, st State) error {
	if !st.Account.Registered() || replacing(st) {
		return nil // MayRegister and the decision that led here have asked them
	}
	facts := s.facts(c, st.User, st.Account, st.Current.Session, st.Current.Proofs)
	switch d := s.Policy.DecideAction(&facts, policy.RegisterSecurityInfo); d.Action {
	case policy.Allow:
		return nil
	case policy.Verify:
		return ErrNotFresh
	case policy.Authenticate:
		return ErrPasswordAgain
	default:
		s.audit(c, audit.Event{Type: audit.RegistrationRefused, User: st.User.Canonical, UserID: st.User.ID, Session: st.Current.Session.ID, Reason: string(d.Reason)})
		return ErrDenied
	}
}

// MayRegister says whether a person without a factor may register one now.
func (s *Service) MayRegister(c Client, st State) bool {
	facts := s.facts(c, st.User, st.Account, st.Current.Session, st.Current.Proofs)
	return s.Policy.MayRegister(&facts)
}

// RegistrationNeeds says what a person lacks who may not register.
func (s *Service) RegistrationNeeds(c Client, st State) policy.Need {
	facts := s.facts(c, st.User, st.Account, st.Current.Session, st.Current.Proofs)
	return s.Policy.Needs(&facts)
}

// Registration gives the challenge of a registration that has begun in this session, for its page. The error is ErrStep
// if there is none, or the person doesn't register now, or wraps store.ErrUnavailable or directory.ErrUnavailable.
func (s *Service) Registration(ctx context.Context, c Client) (State, mfa.Challenge, error) {
	st, err := s.State(ctx, c)
	if err != nil {
		return State{}, mfa.Challenge{}, err
	}
	if !st.Registers() || !st.Current.Latest() {
		return st, mfa.Challenge{}, ErrStep
	}
	challenge, err := s.Pending.Load(ctx, st.Current.Session, c.Now)
	return st, challenge, err
}

// FinishRegistration judges the first code of a new authenticator app, or what a new passkey answers. If it is right, the factor
// counts, and the person gets a list of recovery codes if he had none, or has used one to get here. The error is ErrStep, ErrWrong, ErrTooMany, ErrExpired,
// *throttle.WaitError, or wraps store.ErrUnavailable or directory.ErrUnavailable.
func (s *Service) FinishRegistration(ctx context.Context, c Client, sessionID, answer string) (State, Cookies, []string, error) {
	st, challenge, err := s.Registration(ctx, c)
	if err != nil {
		return st, Cookies{}, nil, err
	}
	if st.Current.Session.ID != sessionID {
		return st, Cookies{}, nil, ErrStep
	}
	method := cmp.Or(challenge.Method, mfa.TOTP) // of a registration that an older version has begun, there is none
	registrar := s.registrar(method)
	if registrar == nil {
		return st, Cookies{}, nil, ErrStep
	}
	messenger, sent := registrar.(mfa.Messenger)
	if method != mfa.TOTP && !sent {
		// A code may be mistyped, and typed again. What is answered to a question is judged once.
		if challenge, err = s.Pending.Take(ctx, st.Current.Session, c.Now); err != nil {
			return st, Cookies{}, nil, err
		}
		if challenge.Method != method {
			return st, Cookies{}, nil, ErrStep
		}
	}
	var (
		codes   []string
		added   mfa.Credential
		removed []mfa.Credential

		enforced bool // the person's own setting went from enabled to enforced
	)
	// A lane of the session's own: who sees this page sees the key, so there is nothing to guess, and nobody else's wrong codes may
	// keep him from replacing what he has lost.
	lane := "registration-" + sessionID
	if err := s.ownedByAnother(ctx, c, st.User.ID, method, answer); err != nil {
		s.factorRefused(c, st, method, err)
		return st, Cookies{}, nil, err
	}
	if sent {
		lane = s.Browsers.Lane(c.Browser, st.User, st.Account, c.Now) // what was sent elsewhere can be guessed
	}
	a, judged := s.judge(ctx, c, st.User.ID, method, lane, func(a *account.Account) (err error) {
		codes, removed = nil, nil
		// Sent twice at the same moment, it would become two apps with one key; and what was allowed to somebody without a factor
		// is not when there is one.
		if !a.Honors(st.Current.Session) || a.State.Epoch != challenge.Epoch {
			return ErrStep
		}
		if added, err = registrar.FinishRegistration(challenge.State, a.CredentialsFor(method), answer, c.Now); err != nil {
			return err
		}
		added.ID, added.LastUsed = cmp.Or(added.ID, account.NewCredentialID()), c.Now // a phone knows its id already
		if method == mfa.Passkey {
			added.Name = s.passkeyName(c, added)
		}
		if replacing(st) {
			// What was lost must not work for its finder.
			removed = slices.DeleteFunc(append(a.Factors(), a.CredentialsOf(mfa.RecoveryCode)...), func(c mfa.Credential) bool { return c.ID == account.DirectoryPhone })
			for _, old := range removed {
				a.Remove(old.ID)
			}
		}
		if sent {
			replaceCall(a, messenger, added)
		}
		if full(a, method) {
			return ErrTooMany
		}
		a.Put(added)
		if len(a.CredentialsOf(mfa.RecoveryCode)) == 0 {
			if codes, err = putRecoveryCodes(a, c.Now); err != nil {
				return err
			}
		}
		a.BeginEpoch(sessionID)
		a.State.PassRequired = false
		if a.State.Registered.IsZero() {
			a.State.Registered = c.Now
		}
		if enforced = a.State.PerUser == mfa.PerUserEnabled; enforced {
			a.State.PerUser, a.State.PerUserSince = mfa.PerUserEnforced, c.Now
		}
		return nil
	})
	if judged != nil {
		s.factorRefused(c, st, method, judged)
		return st, Cookies{}, nil, judged
	}
	for _, old := range removed {
		s.audit(c, audit.Event{Type: audit.FactorRemoved, User: st.User.Canonical, UserID: st.User.ID, Session: sessionID, Method: old.Method, Credential: old.ID, Reason: "replaced", Old: s.mailAddresses(old)})
	}
	s.audit(c, audit.Event{Type: audit.FactorRegistered, User: st.User.Canonical, UserID: st.User.ID, Session: sessionID, Method: method, Credential: added.ID})
	s.noteOwner(ctx, c, st.User.ID, added)
	if enforced {
		s.audit(c, audit.Event{Type: audit.PerUserChanged, User: st.User.Canonical, UserID: st.User.ID, Session: sessionID, Reason: string(mfa.PerUserEnforced)})
	}

	if sent {
		s.arrived(ctx, c, st, method)
	}

	before := st
	st, cookie, err := s.elevate(ctx, c, st, a, func(ses *mfa.Session) {
		// The proof has been spent, on this very change.
		ses.Proofs = ses.Proofs.With(mfa.Proof{Method: method, At: c.Now, Credential: added.ID, Model: added.Model, Registered: true, Spent: true})
	})
	if err != nil {
		return st, Cookies{}, nil, err
	}
	if err := s.Pending.Forget(ctx, st.Current.Session); err != nil {
		// It expires by itself, and is not finished a second time.
		s.Log.Warn("forgetting finished registration", "error", err)
	}
	if before.Step == Done {
		// The browser was known by the factors that were there before.
		browser, err := s.Browsers.Remember(c.Browser, st.User, a, st.Current.Proofs, c.Now)
		return st, Cookies{Session: cookie, Browser: browser, Persist: persist(&st, c.Now)}, codes, err
	}
	cookies, err := s.finish(c, before, &st, cookie)
	return st, cookies, codes, err
}

// passkeyName is what a person may know a new passkey by later: what keeps it, if that is known, and the browser that it was
// registered in.
func (s *Service) passkeyName(c Client, added mfa.Credential) string {
	browser := s.browserName(c)
	d, ok := s.Factors[mfa.Passkey].(mfa.Discoverer)
	if !ok {
		return browser
	}
	maker := d.Maker(added)
	if maker == "" || browser == "" {
		return cmp.Or(maker, browser)
	}
	return maker + " · " + browser
}

// browserName names the browser and its system.
func (s *Service) browserName(c Client) string {
	if s.Describe == nil {
		return ""
	}
	browser, system := s.Describe(c.Hint, c.UserAgent)
	if browser == "" || system == "" {
		return cmp.Or(browser, system)
	}
	return browser + ", " + system
}

// replacing says that the person has come with a recovery code, to replace what he has lost.
func replacing(st State) bool { return st.Decision.Reason == policy.RecoveryUsed }

func putRecoveryCodes(a *account.Account, now time.Time) ([]string, error) {
	list, codes, err := recovery.New(now)
	if err != nil {
		return nil, fmt.Errorf("making recovery codes: %w", err)
	}
	list.ID = string(mfa.RecoveryCode)
	a.Put(list)
	return codes, nil
}

// Postpone notes that the person registers a factor later, if policy lets him.
func (s *Service) Postpone(ctx context.Context, c Client) (State, error) {
	st, err := s.State(ctx, c)
	if err != nil || st.Step != Done {
		return st, err
	}
	if err := s.Sessions.Postpone(ctx, st.Current, c.Now); err != nil && !errors.Is(err, session.ErrEnded) {
		return st, err
	}
	s.audit(c, audit.Event{Type: audit.RegistrationLater, User: st.User.Canonical, UserID: st.User.ID, Session: st.Current.Session.ID})
	return st, nil
}
