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
	"github.com/caddy-mfa/caddy-mfa/internal/gate"
	"github.com/caddy-mfa/caddy-mfa/internal/machinekey"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
	"github.com/caddy-mfa/caddy-mfa/internal/sender"
	"github.com/caddy-mfa/caddy-mfa/internal/session"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
	"github.com/caddy-mfa/caddy-mfa/internal/throttle"
)

// What the person may be told. Everything else is a fault, of which he learns no more than that it is ours.
var (
	// ErrPassword says that user name or password is not right, and not which, nor whether it is something else.
	ErrPassword = directory.ErrPassword

	// ErrWrong, ErrReplayed and ErrCloned judge a code, and what a passkey answers.
	ErrWrong    = mfa.ErrWrong
	ErrReplayed = mfa.ErrReplayed
	ErrCloned   = mfa.ErrCloned

	// ErrStep says that this is not the next step: another tab was faster, the sign-in took too long, or somebody
	// tries to leave a step out. The person is shown the step that is next.
	ErrStep = errors.New("this is not the next step")

	// ErrNotFresh says that a change of factors needs a proof of a second factor that is at most Fresh old and
	// hasn't paid for another change.
	ErrNotFresh = errors.New("a fresh proof of a second factor is needed")

	// ErrPasswordAgain says that a policy wants the password anew before a change of factors.
	ErrPasswordAgain = errors.New("the password is needed again")

	// ErrLastFactor says that the last factor can't be removed.
	ErrLastFactor = errors.New("the last factor can't be removed")

	// ErrNeeded says that a factor can't be removed, since an application asks for it and nothing else that the person has would do.
	ErrNeeded = errors.New("an application asks for this factor")

	// ErrTooMany says that there are as many factors of this kind as there can be.
	ErrTooMany = errors.New("no more factors of this kind can be registered")

	// ErrKnown says that a phone or a mail address is registered already.
	ErrKnown = errors.New("this is registered already")

	// ErrExpired says that no code was sent that could still be typed.
	ErrExpired = mfa.ErrExpired

	// ErrDenied says that a first factor can't be registered from here, or not without a temporary access pass.
	ErrDenied = errors.New("registration is not allowed from here")
)

// Unavailable says whether an error means that something which must be asked doesn't answer, and may answer again by itself.
func Unavailable(err error) bool {
	return errors.Is(err, store.ErrUnavailable) || errors.Is(err, directory.ErrUnavailable) || errors.Is(err, account.ErrReplaced) ||
		errors.Is(err, context.DeadlineExceeded)
}

const (
	// Fresh is how old the proof may be that a change of factors is made with.
	Fresh = 5 * time.Minute

	// MaxApps and MaxPasskeys are how many authenticator apps and passkeys a user can have.
	MaxApps     = 5
	MaxPasskeys = 10

	// MaxPhones and MaxMails are how many phones and mail addresses, that of the directory included.
	MaxPhones = 2
	MaxMails  = 2

	// MaxPushDevices is how many phones that approve.
	MaxPushDevices = 5
)

// most is how many credentials of a method a user can have that he registers himself.
var most = map[mfa.Method]int{mfa.TOTP: MaxApps, mfa.Passkey: MaxPasskeys, mfa.Push: MaxPushDevices, mfa.Email: MaxMails}

// Service signs people in. Its fields are set once; it is safe for concurrent use.
type Service struct {
	Gate       *gate.Gate
	Users      directory.Directories
	Accounts   *account.Service
	Sessions   *session.Manager
	Pending    *Pending
	Passwords  *throttle.Passwords
	Strangers  *throttle.AtOnce // bounds how many passwords are judged at once that come from browsers which nobody knows
	Policy     *policy.Set
	Generation *account.Generation
	Browsers   *Browsers
	Registrars []mfa.Registrar           // what people can register, the strongest first
	Factors    map[mfa.Method]mfa.Factor // every method that can be verified
	Keys       *machinekey.Service
	Sink       audit.Sink
	Upstreams  []string // applications that want a user's own credential, sorted

	// Applications are those of all sites. A factor that one of them asks for stays, if nothing else would do.
	Applications []string

	// Invitations and Owners let people sign in with a passkey in the password's place; nil: nobody can.
	Invitations *Invitations
	Owners      *Owners

	// Describe names browser and system that a client claims (Sec-CH-UA-Platform, User-Agent), for the log; nil: nobody does.
	Describe func(hint, userAgent string) (browser, system string)

	// Country is where an address is, for the log; nil: nobody knows.
	Country func(netip.Addr) (code string, known bool)

	// SignIns are those of a user since a time, the newest first; nil: none are kept.
	SignIns func(ctx context.Context, user *mfa.User, since time.Time) ([]audit.SignIn, error)

	// What sends codes; nil where no factor does.
	Messages *throttle.Messages
	Courier  *sender.Courier
	Compose  Compose

	// Where phones are asked whether it is their owner who signs in; nil where they aren't. See push.go.
	Phones *Phones

	Verdicts *Verdicts
	Log      *slog.Logger
}

// Client is the browser that somebody signs in with, and what it asks for.
type Client struct {
	Host        string // lower case, without port
	Origin      string // scheme, host and port, as the browser sees them
	Application string // that he is on the way to; empty: our own pages
	mfa.Client
	UserAgent string
	Hint      string // Sec-CH-UA-Platform
	Session   string // value of the session cookie
	Binding   string // value of the cookie that ties answers to the browser, see Invitation
	Browser   string // value of the known-browser cookie
	Asks      Wishes // beside what he proves

	Remembered string // value of the remembered-browser cookie
	Reference  string // of this answer, for page and log

	// The language that was chosen from the menu, and what the browser wishes (Accept-Language).
	Language, Wishes string

	Now time.Time
}

func (c Client) site() mfa.Site { return mfa.Site{Host: c.Host, Origin: c.Origin} }

// facts gives what is known of a person who comes with this client, in a session (nil: that has yet to begin).
func (s *Service) facts(c Client, user *mfa.User, a *account.Account, ses *mfa.Session, proofs mfa.Proofs) policy.Facts {
	f := gate.Facts(user, a, ses, proofs, c.Application, s.Gate.RP(c.Host), c.Now)
	f.Client = c.Client
	return f
}

// Step is what comes next.
type Step uint8

// The steps.
const (
	Password Step = iota // nobody is signed in, or the password must be proven again
	Verify               // a second factor must be proven
	Register             // a second factor must be registered
	Terms                // terms of use must be accepted
	Blocked              // policy refuses
	Done                 // what was proven is enough
)

// State is where somebody stands.
type State struct {
	Step     Step
	Decision policy.Decision
	User     *mfa.User        // nil if nobody is signed in
	Account  *account.Account // without the factors' data
	Current  session.Current

	rp      string // relying party of the host
	factors map[mfa.Method]mfa.Factor
}

// Cookies are what the browser must be given. An empty value leaves what it has.
type Cookies struct {
	Session string
	Browser string

	// Remembered is for the browser to stand for a second factor with, for as long as Remember says.
	Remembered string
	Remember   time.Duration

	// Persist is for how long the browser keeps the session, also when it is closed. Zero: until then.
	Persist time.Duration
}

// persist is for how long policy lets the browser keep the session.
func persist(st *State, now time.Time) time.Duration {
	stays := st.Current.Session.Stay > 0 && st.Decision.Stay > 0
	if st.Step != Done || st.Decision.Persistent != policy.AlwaysPersistent && !stays {
		return 0
	}
	return st.Current.Session.Expires.Sub(now)
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
	st := s.state(c, user, a, current)
	if gate.Outstays(current, &st.Decision) {
		return State{}, nil
	}
	return st, nil
}

func (s *Service) state(c Client, user *mfa.User, a *account.Account, current session.Current) State {
	facts := s.facts(c, user, a, current.Session, current.Proofs)
	st := State{Decision: s.Policy.Decide(&facts), User: user, Account: a, Current: current, rp: s.Gate.RP(c.Host), factors: s.Factors}
	switch st.Decision.Action {
	case policy.Allow:
		st.Step = Done
	case policy.Verify:
		st.Step = Verify
	case policy.Register:
		st.Step = Register
	case policy.Authenticate:
		st.Step = Password
	case policy.AcceptTerms:
		st.Step = Terms
	default:
		st.Step = Blocked
	}
	return st
}

// finish notes a sign-in or a step-up that came to its end, and makes the browser known to its user. before is where the person
// stood until now; the zero State is the beginning.
func (s *Service) finish(c Client, before State, st *State, cookie string) (Cookies, error) {
	cookies := Cookies{Session: cookie, Persist: persist(st, c.Now)}
	if before.Step == Done {
		return cookies, nil // nothing has come to an end
	}
	switch st.Step {
	case Done:
		var err error
		if cookies.Browser, err = s.Browsers.Remember(c.Browser, st.User, st.Account, st.Current.Proofs, c.Now); err != nil {
			return Cookies{}, fmt.Errorf("sealing known browser: %w", err)
		}
		s.audit(c, audit.Event{Type: audit.SignedIn, User: st.User.Canonical, UserID: st.User.ID, Session: st.Current.Session.ID, Reason: string(st.Decision.Reason)})
		s.Verdicts.Changed(st.Current.Session, c.Application, &st.Decision, c.Reference) // this tells of it
		s.ended(c, st, audit.Status{ErrorCode: audit.CodeSuccess})
	case Blocked:
		s.Refused(c, st)
	}
	return cookies, nil
}

// Refused notes that policy refuses the person, once while nothing changes, and gives the reference with which that stands in the log.
func (s *Service) Refused(c Client, st *State) (reference string) {
	reference, changed := s.Verdicts.Changed(st.Current.Session, c.Application, &st.Decision, c.Reference)
	if changed {
		s.audit(c, audit.Event{Type: audit.AccessRefused, User: st.User.Canonical, UserID: st.User.ID, Session: st.Current.Session.ID, Reason: string(st.Decision.Reason)})
		s.ended(c, st, statusOf(st.Decision))
	}
	return reference
}

// Why says why the person is asked for what comes next; see policy.Set.Why.
func (s *Service) Why(c Client, st State) policy.Because {
	if st.User == nil {
		return policy.Because{}
	}
	facts := s.facts(c, st.User, st.Account, st.Current.Session, st.Current.Proofs)
	return s.Policy.Why(&facts)
}

// Ways lists the methods that the person could prove now, in the order in which he is asked for them: where policy asks for one, those that it takes.
func (st State) Ways(now time.Time) []mfa.Method {
	if st.Account == nil || st.Decision.Reason == policy.PolicyBlocks {
		return nil // nothing that he could prove would help him
	}
	var ways []mfa.Method
	for _, m := range []mfa.Method{mfa.TemporaryAccessPass, mfa.Passkey, mfa.Push, mfa.TOTP, mfa.SMS, mfa.Voice, mfa.Email, mfa.RecoveryCode} { // Microsoft's order
		if m == mfa.RecoveryCode && (!st.Account.Registered() || st.Step == Done) {
			continue // they stand in for a factor that was lost, to get in; once somebody is, not to change what is his
		}
		if st.Step == Verify && !st.Decision.Methods.Has(m) {
			continue
		}
		if st.factors[m] != nil && slices.ContainsFunc(st.Account.CredentialsFor(m), func(c mfa.Credential) bool {
			return gate.At(c, st.rp) && (m != mfa.TemporaryAccessPass || pass.Usable(c, now))
		}) {
			ways = append(ways, m)
		}
	}
	return ways
}

// elevate gives the session a new token after something was proven or changed, and says where the person stands now. The account
// is as it was written then, and honors the session.
func (s *Service) elevate(ctx context.Context, c Client, st State, a *account.Account, change func(*mfa.Session)) (State, string, error) {
	current, cookie, err := s.Sessions.Elevate(ctx, st.Current, c.Now, func(ses *mfa.Session) error {
		change(ses)
		ses.CredentialEpoch = a.State.Epoch
		s.settle(c, st.User, a, ses)
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

// settle ends the sign-in that a session stands for, if what was proven in it is enough.
func (s *Service) settle(c Client, user *mfa.User, a *account.Account, ses *mfa.Session) {
	facts := s.facts(c, user, a, ses, ses.Proofs)
	if s.Policy.Decide(&facts).Action == policy.Allow {
		ses.Pending = false
	}
}
