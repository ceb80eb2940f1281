// Package gate decides about one request: may it reach the application, and if not, what is missing. It writes no answer.
package gate

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/directory"
	"github.com/caddy-mfa/caddy-mfa/internal/factor/pass"
	"github.com/caddy-mfa/caddy-mfa/internal/legacy"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
	"github.com/caddy-mfa/caddy-mfa/internal/session"
)

// Gate guards applications. It is safe for concurrent use.
type Gate struct {
	Sessions *session.Manager
	Accounts *account.Service
	Users    directory.Directories
	Policy   *policy.Set
	Passkeys mfa.Local // nil: there are none

	// What legacy clients are judged by.
	Passwords Passwords // nil: no password of theirs is right
	Verified  *Verified // nil: each is judged anew
	Keys      Keys      // nil: there are none

	PerUserAppPasswords bool // who has a setting of his own may use app passwords where an application says nothing of them
	Emergency           bool // every class is reported and not blocked
}

// Application is what the gate knows of an application.
type Application struct {
	Name   string
	Bypass Paths // reached without signing in
	NoIdle Paths // doesn't count as activity
	Doors  Doors // for legacy clients
}

// Request is what the gate looks at.
type Request struct {
	Application *Application
	Now         time.Time
	Host        string // lower case, without port
	Client      mfa.Client
	Cookie      string // value of the session cookie; empty: none
	Asked       string // path as the client sent it, escaped
	Rewritten   string // path as the application will get it, escaped

	// Destinations are the values of the header of that name, where COPY and MOVE write to.
	Destinations []string

	Method     string
	Overrides  []string       // methods in headers that some applications read in place of it; looked for where Finding has a credential that can be judged
	Line       Line           // as the client sent it; looked for where Finding has a Digest credential
	UserAgent  string         // and what else the client says of itself,
	Hint       string         // Sec-CH-UA-Platform
	Finding    legacy.Finding // what it has of legacy authentication
	Authorized bool           // it has an Authorization header, of whatever scheme
	Program    bool           // neither a browser nor a script in one has sent it
	Terminal   bool           // a browser that works in a terminal has, which may be told of app passwords

	// Body completes the finding with what stands in the request's body. It is called when that is needed; nil: nobody looks.
	Body func(legacy.Finding) legacy.Finding

	TokenID, TokenSecret string // of a service token
}

// Verdict is what becomes of a request. The zero Verdict refuses.
type Verdict uint8

// The verdicts.
const (
	Refuse      Verdict = iota // policy refuses; the decision says why
	Pass                       // to the application, as Outcome.User
	Bypass                     // to the application, as nobody
	SignIn                     // nobody is signed in
	StepUp                     // somebody is, and something is missing
	Legacy                     // it carries a legacy credential that opens nothing
	Admit                      // to the application, as Outcome.Entry says: as its holder, or as nobody
	Open                       // to an application where nobody signs in, as it came
	Unavailable                // something that must be asked doesn't answer
)

// Outcome is a verdict and what led to it.
type Outcome struct {
	Verdict  Verdict
	Current  session.Current
	User     *mfa.User        // with Pass, StepUp and Refuse; with Admit and Legacy, if it was found out whose request it is
	Account  *account.Account // his, without the factors' data
	Decision policy.Decision
	Err      error // with Unavailable

	Finding legacy.Finding // what the request has of legacy authentication; of a class that is only counted also with other verdicts than Legacy
	Entry   *Entry         // with Admit, and with Open where it has something; nil else

	// Invite says that a program gets 401 Basic: it has no credential, and could have one here; or it has a wrong one. Wrong says that its
	// credential was judged, and is wrong or came too often.
	Invite, Wrong bool

	// Stale says, with Invite, that the credential was right, and its nonce is used up.
	Stale bool

	// Fresh says that a password was judged for this request and is right: not a moment ago for another.
	Fresh bool
}

// Check decides about a request. The order is: bypass; a session; a policy that blocks whatever the client; service token and app password;
// exception; emergency switch; the mode of application and class; policy for legacy clients.
func (g *Gate) Check(ctx context.Context, r *Request) Outcome {
	app := r.Application
	if app.Bypass.Contain(r.Asked) && app.Bypass.Contain(r.Rewritten) && app.Bypass.ContainTargets(r.Destinations) {
		return Outcome{Verdict: Bypass}
	}
	if app.Doors.Only {
		return g.only(r)
	}
	out := g.signedIn(ctx, r)
	switch out.Verdict {
	case Pass:
		out.Finding = r.Finding
		if !app.NoIdle.Contain(r.Asked) {
			g.Sessions.Touch(out.Current, app.Name, r.Now)
		}
		return out
	case Unavailable:
		out.Finding = r.Finding
		return out
	}
	return g.credential(ctx, r, out)
}

// signedIn decides by the session alone.
func (g *Gate) signedIn(ctx context.Context, r *Request) Outcome {
	if r.Cookie == "" {
		return Outcome{Verdict: SignIn}
	}
	current, err := g.Sessions.Load(ctx, r.Cookie, r.Host, r.Now)
	switch {
	case errors.Is(err, session.ErrCookie), errors.Is(err, session.ErrEnded):
		return Outcome{Verdict: SignIn}
	case err != nil:
		return Outcome{Verdict: Unavailable, Err: err}
	}
	return g.decide(ctx, current, r.Application.Name, &r.Client, r.Now)
}

// Again decides about a request that was let in before and is still open.
func (g *Gate) Again(ctx context.Context, before session.Current, application string, client *mfa.Client, now time.Time) Outcome {
	current, err := g.Sessions.Again(ctx, before, now)
	switch {
	case errors.Is(err, session.ErrEnded):
		return Outcome{Verdict: SignIn}
	case err != nil:
		return Outcome{Verdict: Unavailable, Err: err}
	}
	return g.decide(ctx, current, application, client, now)
}

func (g *Gate) decide(ctx context.Context, current session.Current, application string, client *mfa.Client, now time.Time) Outcome {
	user, a, err := g.Owner(ctx, current)
	switch {
	case errors.Is(err, session.ErrEnded):
		return Outcome{Verdict: SignIn}
	case err != nil:
		return Outcome{Verdict: Unavailable, Err: err}
	}
	facts := Facts(user, a, current.Session, current.Proofs, application, g.lookUp(current).rp, now)
	facts.Client = *client
	out := Outcome{Current: current, User: user, Account: a, Decision: g.Policy.Decide(&facts)}
	if Outstays(current, &out.Decision) {
		return Outcome{Verdict: SignIn}
	}
	switch out.Decision.Action {
	case policy.Allow:
		out.Verdict = Pass
	case policy.Authenticate, policy.Verify, policy.Register, policy.AcceptTerms:
		out.Verdict = StepUp
	default:
		out.Verdict = Refuse
	}
	return out
}

// lookedUp is what does not change while there is a session, as a gate sees it.
type lookedUp struct {
	by      *Gate
	account *account.Place // of its owner
	rp      string         // of its host
}

// lookUp finds it, with the session's key after the first time.
func (g *Gate) lookUp(current session.Current) *lookedUp {
	beside := current.BesideKey()
	found, ok := beside.Load().(*lookedUp)
	if !ok || found.by != g { // a connection may have been let in by an older configuration
		found = &lookedUp{g, g.Accounts.Place(current.Session.User), g.RP(current.Session.Host)}
		beside.Store(found)
	}
	return found
}

// Owner finds whose session it is, as his directory and his account are now. The error is session.ErrEnded if
// the session doesn't belong to him any more: he is gone or disabled or blocked, or password or factors have changed.
func (g *Gate) Owner(ctx context.Context, current session.Current) (*mfa.User, *account.Account, error) {
	s := current.Session
	user, err := g.Users.ByID(ctx, s.User)
	if errors.Is(err, directory.ErrUnknown) {
		return nil, nil, session.ErrEnded
	}
	if err != nil {
		return nil, nil, err
	}
	if user.Disabled || user.Mark != s.Mark {
		return nil, nil, session.ErrEnded
	}
	a, err := g.Accounts.At(ctx, g.lookUp(current).account)
	if err != nil {
		return nil, nil, err
	}
	if s.CredentialEpoch > a.State.Epoch {
		// Another process has changed the account, and the news of the session has come first.
		if a, err = g.Accounts.Load(ctx, s.User); err != nil {
			return nil, nil, err
		}
	}
	// An account that is not there has vanished since: there was one when the session began.
	if !a.Exists() || a.State.Blocked != nil || !a.Honors(s) {
		return nil, nil, session.ErrEnded
	}
	return user, a, nil
}

// Facts gives what is known of a person who enters an application (empty: our own pages) in a session (nil: that has yet to begin).
// rp is the relying party of the host that he is on, whose passkeys he could use there; Anywhere: all that he has. The client is for
// the caller to add.
func Facts(user *mfa.User, a *account.Account, s *mfa.Session, proofs mfa.Proofs, application, rp string, now time.Time) policy.Facts {
	if s != nil {
		proofs = Live(proofs, a, now)
	}
	f := policy.Facts{
		Now: now, User: user, Proofs: proofs, Application: application, Entered: entered(s, application),
		Blocked: a.State.Blocked != nil, Registered: a.Registered(), PassRequired: a.State.PassRequired,
		GraceStarted: a.State.GraceStarted, GraceOver: !a.State.Registered.IsZero(),
		PerUser: a.State.PerUser, Asked: a.State.PerUserSince, Terms: a.State.Terms,
	}
	for _, c := range a.Credentials {
		switch {
		case rp != Anywhere && !At(c, rp):
		case c.Method == mfa.TemporaryAccessPass && !pass.Usable(c, now):
		case c.Method == mfa.RecoveryCode && !f.Registered: // they stand in for a factor that was lost
		default:
			f.Methods |= policy.MethodsOf(c.Method, true) | policy.MethodsOf(c.Method, false)
			if c.Model != "" {
				f.Models = append(f.Models, c.Model)
			}
			if account.Proves(c, mfa.Voice) {
				f.Methods |= policy.MethodsOf(mfa.Voice, false)
			}
			if p, ok := proofs.Latest(c.Method); ok && c.Method == mfa.TemporaryAccessPass && !p.At.Before(c.Added) {
				// Which of the two kinds of pass it is can be told once it was used.
				f.Methods &^= policy.MethodsOf(c.Method, !p.Reusable)
			}
		}
	}
	return f
}

// Outstays says whether a session is past its end, since its owner wants to stay signed in and may not, or not any more.
func Outstays(current session.Current, d *policy.Decision) bool { return current.Stays && d.Stay == 0 }

// Live leaves out of what was proven in a session a remembered browser that doesn't count any more: it was forgotten, or its time is
// over.
func Live(proofs mfa.Proofs, a *account.Account, now time.Time) mfa.Proofs {
	p, ok := proofs.Latest(mfa.RememberedBrowser)
	if !ok {
		return proofs
	}
	if b, ok := a.Browser(p.Credential, now); ok && b.Added.Equal(p.At) {
		return proofs
	}
	return slices.DeleteFunc(slices.Clone(proofs), func(p mfa.Proof) bool { return p.Method == mfa.RememberedBrowser })
}

// Anywhere stands for every relying party, where nobody asks on which host somebody is.
const Anywhere = "*"

// At says whether a credential can be used on a host with this relying party.
func At(c mfa.Credential, rp string) bool {
	if c.Method == mfa.Passkey {
		return c.RP != "" && c.RP == rp
	}
	return c.RP == ""
}

// RP is the relying party of a host; empty: there are no passkeys on it.
func (g *Gate) RP(host string) string {
	if g.Passkeys == nil {
		return ""
	}
	return g.Passkeys.RP(host)
}

// entered says whether the session has been in the application before. Who has signed in has been in our own pages.
func entered(s *mfa.Session, application string) bool {
	switch {
	case s == nil:
		return false
	case application == "":
		return !s.Pending
	}
	return slices.Contains(s.Applications, application)
}
