// Package signin is the way from the password page to enough proofs: one state machine, registration included.
//
// Where somebody stands is not kept: it follows from his session, his account, and what policy says about both. So
// several tabs, a reload, the back button and a restart in the middle all lead to the same next step.
package signin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/directory"
	"github.com/caddy-mfa/caddy-mfa/internal/factor/pass"
	"github.com/caddy-mfa/caddy-mfa/internal/factor/recovery"
	"github.com/caddy-mfa/caddy-mfa/internal/gate"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
	"github.com/caddy-mfa/caddy-mfa/internal/session"
	"github.com/caddy-mfa/caddy-mfa/internal/throttle"
)

// What the person may be told. Everything else is a fault, of which he learns no more than that it is ours.
var (
	// ErrPassword says that user name or password is not right, and not which, nor whether it is something else.
	ErrPassword = directory.ErrPassword

	// ErrWrong and ErrReplayed judge a code.
	ErrWrong    = mfa.ErrWrong
	ErrReplayed = mfa.ErrReplayed

	// ErrStep says that this is not the next step: another tab was faster, the sign-in took too long, or somebody
	// tries to leave a step out. The person is shown the step that is next.
	ErrStep = errors.New("this is not the next step")

	// ErrNotFresh says that a change of factors needs a proof of a second factor that is at most Fresh old and
	// hasn't paid for another change.
	ErrNotFresh = errors.New("a fresh proof of a second factor is needed")

	// ErrLastFactor says that the last factor can't be removed.
	ErrLastFactor = errors.New("the last factor can't be removed")

	// ErrTooMany says that there are as many factors of this kind as there can be.
	ErrTooMany = errors.New("no more factors of this kind can be registered")

	// ErrDenied says that a first factor can't be registered from here, or not without a temporary access pass.
	ErrDenied = errors.New("registration is not allowed from here")
)

const (
	// Fresh is how old the proof may be that a change of factors is made with.
	Fresh = 5 * time.Minute

	// MaxApps is how many authenticator apps a user can have.
	MaxApps = 5
)

// Service signs people in. Its fields are set once; it is safe for concurrent use.
type Service struct {
	Gate       *gate.Gate
	Users      directory.Directories
	Accounts   *account.Service
	Sessions   *session.Manager
	Pending    *Pending
	Passwords  *throttle.Passwords
	Policy     *policy.Set
	Generation *account.Generation
	Browsers   *Browsers
	App        mfa.Registrar             // the authenticator app
	Factors    map[mfa.Method]mfa.Factor // every method that can be verified
	Sink       audit.Sink
	Log        *slog.Logger
}

// Client is the browser that somebody signs in with, and what it asks for.
type Client struct {
	Host        string // lower case, without port
	Application string // that he is on the way to; empty: our own pages
	Address     netip.Addr
	UserAgent   string
	Session     string // value of the session cookie
	Browser     string // value of the known-browser cookie
	Reference   string // of this answer, for page and log
	Now         time.Time
}

// Step is what comes next.
type Step uint8

// The steps.
const (
	Password Step = iota // nobody is signed in
	Verify               // a second factor must be proven
	Register             // a second factor must be registered
	Blocked              // policy refuses
	Done                 // what was proven is enough
)

// State is where somebody stands.
type State struct {
	Step     Step
	Decision policy.Decision
	User     *mfa.User        // nil at the step Password
	Account  *account.Account // without the factors' data
	Current  session.Current
}

// Cookies are what the browser must be given. An empty value leaves what it has.
type Cookies struct {
	Session string
	Browser string
}

// State says where the client stands. The error wraps store.ErrUnavailable or directory.ErrUnavailable.
func (s *Service) State(ctx context.Context, c Client) (State, error) {
	if c.Session == "" {
		return State{}, nil
	}
	current, err := s.Sessions.Load(ctx, c.Session, c.Host, c.Now)
	if errors.Is(err, session.ErrCookie) || errors.Is(err, session.ErrEnded) {
		return State{}, nil
	}
	if err != nil {
		return State{}, err
	}
	user, a, err := s.Gate.Owner(ctx, current)
	if errors.Is(err, session.ErrEnded) {
		return State{}, nil
	}
	if err != nil {
		return State{}, err
	}
	return s.state(c, user, a, current), nil
}

func (s *Service) state(c Client, user *mfa.User, a *account.Account, current session.Current) State {
	facts := gate.Facts(user, a, current.Proofs, c.Now)
	facts.Application, facts.Address = c.Application, c.Address
	st := State{Decision: s.Policy.Decide(&facts), User: user, Account: a, Current: current}
	switch st.Decision.Action {
	case policy.Allow:
		st.Step = Done
	case policy.Verify:
		st.Step = Verify
	case policy.Register:
		st.Step = Register
	default:
		st.Step = Blocked
	}
	return st
}

// Password judges a user name and a password, and begins a session if they are right. The error is ErrPassword,
// *throttle.WaitError, directory.ErrBusy, account.ErrReplaced, or wraps store.ErrUnavailable or directory.ErrUnavailable.
func (s *Service) Password(ctx context.Context, c Client, name, password string) (State, Cookies, error) {
	canonical, nameErr := mfa.CanonicalName(name)
	attempt := throttle.Attempt{User: canonical, Address: c.Address}
	if nameErr != nil {
		attempt.User = name
	}
	known, a, err := s.candidate(ctx, canonical)
	if err != nil {
		return State{}, Cookies{}, err
	}
	attempt.Browser = s.Browsers.ID(c.Browser, known, a, c.Now)
	if err := s.Passwords.Charge(ctx, attempt, c.Now); err != nil {
		if wait := (*throttle.WaitError)(nil); errors.As(err, &wait) {
			s.audit(c, audit.Event{Type: audit.PasswordThrottled, Reason: wait.Scope})
		}
		return State{}, Cookies{}, err
	}
	// A name that can't be one costs what a wrong password does.
	user, err := s.Users.Authenticate(ctx, canonical, password)
	switch {
	case errors.Is(err, directory.ErrBusy):
		// Nothing was judged, so nothing counts.
		if err := s.Passwords.Refund(ctx, attempt, c.Now); err != nil {
			return State{}, Cookies{}, err
		}
		return State{}, Cookies{}, directory.ErrBusy
	case errors.Is(err, directory.ErrPassword), nameErr != nil && err == nil:
		s.passwordRefused(c, known, "password")
		return State{}, Cookies{}, ErrPassword
	case err == nil && a.State.Blocked != nil:
		s.passwordRefused(c, known, "blocked")
		return State{}, Cookies{}, ErrPassword
	case err != nil:
		return State{}, Cookies{}, err
	}
	// Only now, with the right password, anything is written for the person.
	if err := s.Generation.Check(ctx); err != nil {
		return State{}, Cookies{}, err
	}
	if a, err = s.firstSignIn(ctx, c, user); err != nil {
		return State{}, Cookies{}, err
	}
	if err := s.Passwords.Refund(ctx, attempt, c.Now); err != nil {
		return State{}, Cookies{}, err
	}
	return s.passwordAccepted(ctx, c, user, a)
}

// passwordAccepted renews the browser's session if it is the same person's, and begins one otherwise.
func (s *Service) passwordAccepted(ctx context.Context, c Client, user *mfa.User, a *account.Account) (State, Cookies, error) {
	proof := mfa.Proof{Method: mfa.Password, At: c.Now}
	before, err := s.State(ctx, c)
	if err != nil {
		return State{}, Cookies{}, err
	}
	if before.User != nil && before.User.ID == user.ID && before.Current.Latest() {
		// He had the page open in another tab. What he has proven there stays proven.
		current, cookie, err := s.Sessions.Elevate(ctx, before.Current, c.Now, func(ses *mfa.Session) error {
			ses.Proofs = ses.Proofs.With(proof)
			return nil
		})
		if err == nil {
			s.audit(c, audit.Event{Type: audit.PasswordAccepted, User: user.Canonical, UserID: user.ID, Session: current.Session.ID})
			return s.state(c, user, a, current), Cookies{Session: cookie}, nil
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
		User: user, Host: c.Host, Proofs: mfa.Proofs{proof}, CredentialEpoch: a.State.Epoch,
		Address: c.Address, UserAgent: c.UserAgent,
	}
	facts := gate.Facts(user, a, b.Proofs, c.Now)
	facts.Application, facts.Address = c.Application, c.Address
	decision := s.Policy.Decide(&facts)
	b.Pending = decision.Action != policy.Allow
	current, cookie, err := s.Sessions.Begin(ctx, b, c.Now)
	if err != nil {
		return State{}, Cookies{}, err
	}
	s.audit(c, audit.Event{Type: audit.PasswordAccepted, User: user.Canonical, UserID: user.ID, Session: current.Session.ID})
	st := s.state(c, user, a, current)
	cookies, err := s.finish(c, &st, cookie)
	return st, cookies, err
}

// finish notes a sign-in that came to its end, and makes the browser known to its user.
func (s *Service) finish(c Client, st *State, cookie string) (Cookies, error) {
	cookies := Cookies{Session: cookie}
	switch st.Step {
	case Done:
		var err error
		if cookies.Browser, err = s.Browsers.Remember(c.Browser, st.User, st.Account, c.Now); err != nil {
			return Cookies{}, fmt.Errorf("sealing known browser: %w", err)
		}
		s.audit(c, audit.Event{Type: audit.SignedIn, User: st.User.Canonical, UserID: st.User.ID, Session: st.Current.Session.ID, Reason: string(st.Decision.Reason)})
		s.signIn(c, st.User, st.Current.Proofs, audit.Status{ErrorCode: audit.CodeSuccess})
	case Blocked:
		s.audit(c, audit.Event{Type: audit.AccessRefused, User: st.User.Canonical, UserID: st.User.ID, Session: st.Current.Session.ID, Reason: string(st.Decision.Reason)})
		s.signIn(c, st.User, st.Current.Proofs, audit.Status{ErrorCode: audit.CodeBlocked, FailureReason: string(st.Decision.Reason)})
	}
	return cookies, nil
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
	a, err := s.Accounts.Load(ctx, user.ID)
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
	s.signIn(c, user, nil, audit.Status{ErrorCode: audit.CodeInvalidPassword, FailureReason: "Invalid user name or password."})
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
		return nil
	})
}

// Ways lists the methods that the person could prove now, the strongest first.
func (st State) Ways(now time.Time) []mfa.Method {
	if st.Account == nil {
		return nil
	}
	var ways []mfa.Method
	for _, m := range []mfa.Method{mfa.TOTP, mfa.TemporaryAccessPass, mfa.RecoveryCode} {
		if m == mfa.RecoveryCode && !st.Account.Registered() {
			continue // they stand in for a factor that was lost
		}
		if slices.ContainsFunc(st.Account.CredentialsOf(m), func(c mfa.Credential) bool {
			return m != mfa.TemporaryAccessPass || pass.Usable(c, now)
		}) {
			ways = append(ways, m)
		}
	}
	return ways
}

// Verify judges a code of a second factor. sessionID is that of the session that the page was made for: a code typed for one
// person never counts for another who has signed in since in another tab. The error is ErrStep, ErrWrong, ErrReplayed,
// *throttle.WaitError, or wraps store.ErrUnavailable or directory.ErrUnavailable.
func (s *Service) Verify(ctx context.Context, c Client, sessionID string, method mfa.Method, answer string) (State, Cookies, error) {
	st, err := s.State(ctx, c)
	if err != nil {
		return State{}, Cookies{}, err
	}
	factor := s.Factors[method]
	if st.User == nil || st.Current.Session.ID != sessionID || !st.Current.Latest() || factor == nil || !slices.Contains(st.Ways(c.Now), method) {
		return st, Cookies{}, ErrStep
	}
	lane := s.Browsers.ID(c.Browser, st.User, st.Account, c.Now)
	var used mfa.Credential
	a, judged := s.judge(ctx, c, st.User.ID, method, lane, func(a *account.Account) (err error) {
		if a.State.Epoch != st.Current.Session.CredentialEpoch {
			return ErrStep
		}
		if used, err = factor.Finish(a.CredentialsOf(method), answer, c.Now); err != nil {
			return err
		}
		a.Put(used)
		return nil
	})
	if judged != nil {
		s.factorRefused(c, st, method, judged)
		return st, Cookies{}, judged
	}
	s.audit(c, audit.Event{Type: audit.FactorAccepted, User: st.User.Canonical, UserID: st.User.ID, Session: sessionID, Method: method, Credential: used.ID})

	proof := mfa.Proof{Method: method, At: c.Now, Credential: used.ID}
	pending := st.Current.Session.Pending
	st, cookie, err := s.elevate(ctx, c, st, a, func(ses *mfa.Session) { ses.Proofs = ses.Proofs.With(proof) })
	if err != nil {
		return st, Cookies{}, err
	}
	if !pending {
		return st, Cookies{Session: cookie}, nil
	}
	cookies, err := s.finish(c, &st, cookie)
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
		case errors.Is(judged, ErrWrong), errors.Is(judged, ErrReplayed):
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
	case errors.As(err, &wait):
		e.Type, e.Reason = audit.FactorThrottled, wait.Scope
	default:
		return
	}
	s.audit(c, e)
	s.signIn(c, st.User, st.Current.Proofs, audit.Status{ErrorCode: audit.CodeMFADenied, FailureReason: "Authentication failed during strong authentication request."})
}

// elevate gives the session a new token after something was proven or changed, and says where the person stands now.
func (s *Service) elevate(ctx context.Context, c Client, st State, a *account.Account, change func(*mfa.Session)) (State, string, error) {
	current, cookie, err := s.Sessions.Elevate(ctx, st.Current, c.Now, func(ses *mfa.Session) error {
		change(ses)
		facts := gate.Facts(st.User, a, ses.Proofs, c.Now)
		facts.Application, facts.Address = c.Application, c.Address
		if s.Policy.Decide(&facts).Action == policy.Allow {
			ses.Pending = false
		}
		return nil
	})
	if errors.Is(err, session.ErrEnded) {
		err = ErrStep
	}
	if err != nil {
		return st, "", err
	}
	return s.state(c, st.User, a, current), cookie, nil
}

// BeginRegistration begins the registration of an authenticator app. A person without a factor needs what policy asks
// of him, everybody else a fresh proof, which is spent on it. The error is ErrStep, ErrDenied, ErrNotFresh, ErrTooMany, or
// wraps store.ErrUnavailable or directory.ErrUnavailable.
func (s *Service) BeginRegistration(ctx context.Context, c Client, sessionID string) (Cookies, error) {
	st, err := s.State(ctx, c)
	if err != nil {
		return Cookies{}, err
	}
	if st.User == nil || st.Current.Session.ID != sessionID || !st.Current.Latest() {
		return Cookies{}, ErrStep
	}
	if len(st.Account.CredentialsOf(mfa.TOTP)) >= MaxApps && !replacing(st) {
		return Cookies{}, ErrTooMany
	}
	var cookies Cookies
	if st.Account.Registered() {
		if st, cookies.Session, err = s.spend(ctx, c, st); err != nil {
			return Cookies{}, err
		}
	} else if !s.MayRegister(c, st) {
		s.audit(c, audit.Event{Type: audit.RegistrationRefused, User: st.User.Canonical, UserID: st.User.ID, Session: sessionID, Reason: string(policy.RegistrationDenied)})
		return Cookies{}, ErrDenied
	}
	challenge, err := s.App.BeginRegistration(st.User, c.Host, c.Now)
	if err != nil {
		return Cookies{}, fmt.Errorf("beginning registration: %w", err)
	}
	if err := s.Pending.Save(ctx, st.Current.Session, challenge, c.Now); err != nil {
		return Cookies{}, err
	}
	return cookies, nil
}

// MayRegister says whether a person without a factor may register one now.
func (s *Service) MayRegister(c Client, st State) bool {
	facts := gate.Facts(st.User, st.Account, st.Current.Proofs, c.Now)
	facts.Application, facts.Address = c.Application, c.Address
	return s.Policy.MayRegister(&facts)
}

// Registration gives the challenge of a registration that has begun in this session, for its page. The error is ErrStep
// if there is none, or wraps store.ErrUnavailable or directory.ErrUnavailable.
func (s *Service) Registration(ctx context.Context, c Client) (State, mfa.Challenge, error) {
	st, err := s.State(ctx, c)
	if err != nil {
		return State{}, mfa.Challenge{}, err
	}
	if st.User == nil || !st.Current.Latest() {
		return st, mfa.Challenge{}, ErrStep
	}
	challenge, err := s.Pending.Load(ctx, st.Current.Session, c.Now)
	return st, challenge, err
}

// FinishRegistration judges the first code of a new authenticator app. If it is right, the app counts, and the person
// gets a list of recovery codes if he had none, or has used one to get here. The error is ErrStep, ErrWrong, ErrTooMany,
// *throttle.WaitError, or wraps store.ErrUnavailable or directory.ErrUnavailable.
func (s *Service) FinishRegistration(ctx context.Context, c Client, sessionID, answer string) (State, Cookies, []string, error) {
	st, challenge, err := s.Registration(ctx, c)
	if err != nil {
		return st, Cookies{}, nil, err
	}
	if st.Current.Session.ID != sessionID {
		return st, Cookies{}, nil, ErrStep
	}
	var (
		codes   []string
		added   mfa.Credential
		removed []mfa.Credential
	)
	lane := s.Browsers.ID(c.Browser, st.User, st.Account, c.Now)
	a, judged := s.judge(ctx, c, st.User.ID, mfa.TOTP, lane, func(a *account.Account) (err error) {
		codes, removed = nil, nil
		if a.State.Epoch != st.Current.Session.CredentialEpoch {
			return ErrStep
		}
		if added, err = s.App.FinishRegistration(challenge.State, answer, c.Now); err != nil {
			return err
		}
		added.ID, added.LastUsed = account.NewCredentialID(), c.Now
		if replacing(st) {
			// What was lost must not work for its finder.
			removed = slices.Concat(a.CredentialsOf(mfa.TOTP), a.CredentialsOf(mfa.RecoveryCode))
			for _, old := range removed {
				a.Remove(old.ID)
			}
		}
		if len(a.CredentialsOf(mfa.TOTP)) >= MaxApps {
			return ErrTooMany
		}
		a.Put(added)
		if len(a.CredentialsOf(mfa.RecoveryCode)) == 0 {
			if codes, err = putRecoveryCodes(a, c.Now); err != nil {
				return err
			}
		}
		a.State.Epoch++
		a.State.PassRequired = false
		if a.State.Registered.IsZero() {
			a.State.Registered = c.Now
		}
		return nil
	})
	if judged != nil {
		s.factorRefused(c, st, mfa.TOTP, judged)
		return st, Cookies{}, nil, judged
	}
	for _, old := range removed {
		s.audit(c, audit.Event{Type: audit.FactorRemoved, User: st.User.Canonical, UserID: st.User.ID, Session: sessionID, Method: old.Method, Credential: old.ID, Reason: "replaced"})
	}
	s.audit(c, audit.Event{Type: audit.FactorRegistered, User: st.User.Canonical, UserID: st.User.ID, Session: sessionID, Method: mfa.TOTP, Credential: added.ID})

	pending := st.Current.Session.Pending
	st, cookie, err := s.elevate(ctx, c, st, a, func(ses *mfa.Session) {
		// The proof has been spent, on this very change.
		ses.Proofs = ses.Proofs.With(mfa.Proof{Method: mfa.TOTP, At: c.Now, Credential: added.ID, Spent: true})
		ses.CredentialEpoch = a.State.Epoch
	})
	if err != nil {
		return st, Cookies{}, nil, err
	}
	if err := s.Pending.Forget(ctx, st.Current.Session); err != nil {
		// It expires by itself, and can't be finished a second time: the app's step is used up.
		s.Log.Warn("forgetting finished registration", "error", err)
	}
	if !pending {
		// The browser was known by the factors that were there before.
		browser, err := s.Browsers.Remember(c.Browser, st.User, a, c.Now)
		return st, Cookies{Session: cookie, Browser: browser}, codes, err
	}
	cookies, err := s.finish(c, &st, cookie)
	return st, cookies, codes, err
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

// spend uses up a fresh proof of a second factor for one change.
func (s *Service) spend(ctx context.Context, c Client, st State) (State, string, error) {
	if !st.Current.Latest() {
		return st, "", ErrStep
	}
	current, cookie, err := s.Sessions.Elevate(ctx, st.Current, c.Now, func(ses *mfa.Session) error {
		for _, p := range ses.Proofs {
			if st.pays(p, c.Now) {
				p.Spent = true
				ses.Proofs = ses.Proofs.With(p)
				return nil
			}
		}
		return ErrNotFresh
	})
	if errors.Is(err, session.ErrEnded) {
		err = ErrStep
	}
	if err != nil {
		return st, "", err
	}
	return s.state(c, st.User, st.Account, current), cookie, nil
}

// pays says whether a proof could pay for a change of factors. A recovery code pays for replacing what was lost, and for
// nothing else.
func (st State) pays(p mfa.Proof, now time.Time) bool {
	return p.Method != mfa.Password && (p.Method != mfa.RecoveryCode || replacing(st)) && !p.Spent && now.Sub(p.At) <= Fresh
}

// HasFresh says whether the session holds a proof that could pay for a change of factors.
func (st State) HasFresh(now time.Time) bool {
	return slices.ContainsFunc(st.Current.Proofs, func(p mfa.Proof) bool { return st.pays(p, now) })
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

// RemoveFactor removes an authenticator app, with a fresh proof. The error is ErrStep, ErrNotFresh, ErrLastFactor, or wraps
// store.ErrUnavailable or directory.ErrUnavailable.
func (s *Service) RemoveFactor(ctx context.Context, c Client, sessionID, credential string) (Cookies, error) {
	return s.changeFactors(ctx, c, sessionID, func(a *account.Account) (*audit.Event, error) {
		old, ok := a.Credential(credential)
		if !ok || !account.Lasting(old.Method) {
			return nil, nil // gone already
		}
		a.Remove(credential)
		if !a.Registered() {
			return nil, ErrLastFactor
		}
		return &audit.Event{Type: audit.FactorRemoved, Method: old.Method, Credential: credential}, nil
	})
}

// NewRecoveryCodes replaces the recovery codes, with a fresh proof. Errors are those of RemoveFactor.
func (s *Service) NewRecoveryCodes(ctx context.Context, c Client, sessionID string) (Cookies, []string, error) {
	var codes []string
	cookies, err := s.changeFactors(ctx, c, sessionID, func(a *account.Account) (_ *audit.Event, err error) {
		if !a.Registered() {
			return nil, ErrStep
		}
		codes, err = putRecoveryCodes(a, c.Now)
		return &audit.Event{Type: audit.RecoveryCodesMade, Method: mfa.RecoveryCode}, err
	})
	return cookies, codes, err
}

// changeFactors spends a fresh proof on a change of a signed-in person's factors. Every other session of his ends.
func (s *Service) changeFactors(ctx context.Context, c Client, sessionID string, change func(*account.Account) (*audit.Event, error)) (Cookies, error) {
	st, err := s.State(ctx, c)
	if err != nil {
		return Cookies{}, err
	}
	if st.Step != Done || st.Current.Session.ID != sessionID {
		return Cookies{}, ErrStep
	}
	st, cookie, err := s.spend(ctx, c, st)
	if err != nil {
		return Cookies{}, err
	}
	var event *audit.Event
	a, err := s.Accounts.Update(ctx, st.User.ID, c.Now, func(a *account.Account) error {
		if a.State.Epoch != st.Current.Session.CredentialEpoch {
			return ErrStep
		}
		var err error
		if event, err = change(a); err != nil || event == nil {
			return err
		}
		a.State.Epoch++
		return nil
	})
	if err != nil || event == nil {
		return Cookies{Session: cookie}, err
	}
	event.User, event.UserID, event.Session = st.User.Canonical, st.User.ID, sessionID
	s.audit(c, *event)
	st, cookie, err = s.elevate(ctx, c, st, a, func(ses *mfa.Session) { ses.CredentialEpoch = a.State.Epoch })
	if err != nil {
		return Cookies{}, err
	}
	browser, err := s.Browsers.Remember(c.Browser, st.User, a, c.Now)
	return Cookies{Session: cookie, Browser: browser}, err
}

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

// SignOutEverywhere ends every session of the person.
func (s *Service) SignOutEverywhere(ctx context.Context, c Client) error {
	st, err := s.State(ctx, c)
	if err != nil {
		return err
	}
	if st.User == nil {
		return ErrStep
	}
	if err := s.Sessions.EndAll(ctx, st.User.ID, ""); err != nil {
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

func (s *Service) audit(c Client, e audit.Event) {
	e.Host, e.Application, e.Address, e.Reference = c.Host, c.Application, c.Address, c.Reference
	s.Sink.Audit(e)
}

func (s *Service) signIn(c Client, user *mfa.User, proofs mfa.Proofs, status audit.Status) {
	r := audit.SignIn{
		ID: c.Reference, CorrelationID: c.Reference, Created: c.Now, UserDisplayName: user.DisplayName, UserPrincipalName: user.Canonical,
		AppDisplayName: c.Application, ClientAppUsed: "Browser", UserAgent: c.UserAgent, ConditionalAccess: "notApplied",
		Requirement: "multiFactorAuthentication", Status: status, IsInteractive: true, Details: []audit.Detail{},
	}
	if c.Address.IsValid() {
		r.IPAddress = c.Address.String()
	}
	if !user.ID.IsZero() {
		r.UserID = user.ID.String()
	}
	if s.Policy.Defaults.Off {
		r.Requirement = "singleFactorAuthentication"
	}
	for _, p := range proofs {
		r.Details = append(r.Details, audit.Detail{Time: p.At, Method: string(p.Method), Succeeded: true, Result: "succeeded"})
	}
	s.Sink.SignIn(r)
}

// Overview is what the account page shows.
type Overview struct {
	Apps          []mfa.Credential // without their data
	RecoveryCodes int              // left
	Sessions      []*mfa.Session
}

// Overview reads it for a person who has proven what policy asks.
func (s *Service) Overview(ctx context.Context, st State, now time.Time) (Overview, error) {
	a, err := s.Accounts.Load(ctx, st.User.ID)
	if err != nil {
		return Overview{}, err
	}
	o := Overview{Apps: a.CredentialsOf(mfa.TOTP)}
	for i := range o.Apps {
		o.Apps[i].Data = nil
	}
	for _, list := range a.CredentialsOf(mfa.RecoveryCode) {
		left, err := recovery.Left(list)
		if err != nil {
			return Overview{}, err
		}
		o.RecoveryCodes += left
	}
	if o.Sessions, err = s.Sessions.List(ctx, st.User.ID, now); err != nil {
		return Overview{}, err
	}
	// Those from before the factors have changed open nothing any more.
	o.Sessions = slices.DeleteFunc(o.Sessions, func(other *mfa.Session) bool { return other.CredentialEpoch != a.State.Epoch })
	return o, nil
}
