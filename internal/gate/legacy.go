package gate

import (
	"context"
	"errors"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/directory"
	"github.com/caddy-mfa/caddy-mfa/internal/legacy"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
	"github.com/caddy-mfa/caddy-mfa/internal/throttle"
)

// Passwords judges the password of a client that can't be asked for more. It counts an attempt before it judges it, begins no session,
// and makes no browser known. The error is directory.ErrPassword, directory.ErrBusy, *throttle.WaitError, or a fault.
type Passwords interface {
	Basic(ctx context.Context, try Try) (*mfa.User, *account.Account, error)
}

// Try is a password that a legacy client has sent.
type Try struct {
	Name, Password string // the name is canonical, or as it was typed if it has no canonical form
	Application    string
	Host           string
	Client         mfa.Client
	UserAgent      string
	Hint           string // Sec-CH-UA-Platform
	Now            time.Time
}

// By is what has let in a request that has no session.
type By uint8

// What may have.
const (
	Nothing        By = iota
	ByPassword        // a Basic credential that was verified
	ByAppPassword     // an app password
	ByServiceToken    // a service token
	ByScope           // where it comes from and where it goes to: nobody knows whose it is
	ByHandshake       // the same, and it has no credential yet
)

// Entry is how a request was let in without a session, and what must still be true for it to go on. It holds no secret.
type Entry struct {
	By
	Holder    Holder // nobody with ByScope and ByHandshake
	Mode      Mode   // that the operator gave the class; NoMode: none
	Emergency bool   // the emergency switch is what has opened
	Exception string // name of the one that has opened; empty: none
	Policy    bool   // policy has, which lets this user's password be enough

	// Would says whether it would have been let in without report mode and the emergency switch.
	Would bool

	finding legacy.Finding // without the credential
	method  string
	at      spot
	mark    string
	epoch   uint64
}

// Owner is whose entry it is; zero: nobody's.
func (e *Entry) Owner() mfa.UserID {
	if e.Holder.User == nil {
		return mfa.UserID{}
	}
	return e.Holder.User.ID
}

// legacyClient is the client of a finding, as policy knows it.
func legacyClient(client mfa.Client, f *legacy.Finding) mfa.Client {
	client.App = policy.OtherClients
	if f.Class.ActiveSync() {
		client.App = policy.ExchangeActiveSync
	}
	return client
}

// credential decides about a request that no session lets in, by what it carries. out is what becomes of it as one of nobody.
func (g *Gate) credential(ctx context.Context, r *Request, out Outcome) Outcome {
	app, f := r.Application, r.Finding
	if app.Doors.ServiceTokens && g.Keys != nil && (r.TokenID != "" || r.TokenSecret != "") {
		return g.serviceToken(ctx, r)
	}
	digest := g.overDigest(r)
	if f.Basic == nil && !digest {
		r.readBody(&f)
	}
	if f.Class == legacy.None {
		out.Finding = f
		return g.uncredited(r, out)
	}
	facts := policy.Facts{Now: r.Now, Application: app.Name, Client: legacyClient(r.Client, &f)}
	if d, blocked := g.Policy.BlocksClients(&facts); blocked {
		return refused(&f, d)
	}
	if digest {
		return g.appPasswordOverDigest(ctx, r, &f)
	}
	named := ""
	if f.Basic != nil {
		if canonical, err := mfa.CanonicalName(f.Basic.User); err == nil {
			named = canonical
		}
	}
	at := r.spot()
	door := app.Doors.find(&f, named, &at, r.Now, g.Emergency)
	wrong, waiting := false, false
	if g.mayHoldKey(r) && f.Basic != nil {
		// Who sends his password here, and was let in with it a moment ago, is not counted as one who guesses at app passwords.
		if _, _, known := g.known(ctx, named, f.Basic.Password, r); !known || door.way != verify {
			keyed, err := g.appPassword(ctx, r, &f, named)
			switch wait := (*throttle.WaitError)(nil); {
			case err == nil:
				return keyed
			case errors.As(err, &wait):
				waiting = true
			case errors.Is(err, ErrWrongKey):
				wrong = true
			default:
				return Outcome{Verdict: Unavailable, Err: err, Finding: f}
			}
		}
	}
	if f.Basic != nil && f.Body {
		r.readBody(&f)
		facts.Client = legacyClient(r.Client, &f)
		door = app.Doors.find(&f, named, &at, r.Now, g.Emergency)
	}
	result := g.through(ctx, r, &f, named, door, &facts, out)
	if result.Verdict == Legacy && (wrong || waiting) {
		result.Wrong, result.Invite = true, !waiting
	}
	return result
}

// readBody completes a finding with what stands in the body.
func (r *Request) readBody(f *legacy.Finding) {
	if f.Body && r.Body != nil {
		*f = r.Body(*f)
		f.Body = false
	}
}

// mayHoldKey says whether app passwords open the application for anybody.
func (g *Gate) mayHoldKey(r *Request) bool {
	return g.Keys != nil && (r.Application.Doors.AppPasswords == On || r.Application.Doors.AppPasswords == Unset && g.PerUserAppPasswords)
}

// overDigest says whether a request has a Digest credential that is meant for us: another realm is the application's own.
func (g *Gate) overDigest(r *Request) bool {
	doors, c := &r.Application.Doors, r.Finding.Digest
	return c != nil && g.Keys != nil && doors.Digest && doors.AppPasswords == On && c.Realm == AppPasswordRealm(r.Application.Name)
}

// appPasswordOverDigest judges a Digest credential as an app password. It is nothing else, so that no other door is tried.
func (g *Gate) appPasswordOverDigest(ctx context.Context, r *Request, f *legacy.Finding) Outcome {
	named, err := mfa.CanonicalName(f.Digest.User)
	if err != nil {
		named = f.Digest.User // costs what a wrong one does
	}
	holder, err := g.Keys.AppPasswordOverDigest(ctx, named, f.Digest, r.use())
	wait := (*throttle.WaitError)(nil)
	result := refused(f, policy.Decision{Action: policy.Block, Reason: policy.NothingProven})
	switch {
	case err == nil:
		return g.held(r, f, ByAppPassword, holder, legacyClient(r.Client, f))
	case errors.Is(err, ErrStale):
		result.Invite, result.Stale = true, true
	case errors.Is(err, ErrWrongKey):
		result.Invite, result.Wrong = true, true
	case errors.As(err, &wait):
		result.Wrong = true
	default:
		return Outcome{Verdict: Unavailable, Err: err, Finding: *f}
	}
	return result
}

// refused is the outcome for a credential that opens nothing.
func refused(f *legacy.Finding, d policy.Decision) Outcome {
	return Outcome{Verdict: Legacy, Finding: *f, Decision: d}
}

// through goes through the door that was found.
func (g *Gate) through(ctx context.Context, r *Request, f *legacy.Finding, named string, door door, facts *policy.Facts, out Outcome) Outcome {
	blocked := policy.Decision{Action: policy.Block, Reason: policy.LegacyAuth}
	switch door.way {
	case counted:
		out.Finding = *f
		return out
	case unverified:
		entry := g.entry(r, f, door)
		entry.By = ByScope
		if e := door.exception; e != nil && e.Service != "" {
			service := serviceUser(e.Service)
			of := *facts
			of.User = service
			if d, blocked := g.Policy.Blocks(&of); blocked {
				return refused(f, d)
			}
			entry.Exception = e.Name
		}
		return Outcome{Verdict: Admit, Finding: *f, Entry: entry}
	case askPolicy:
		if d, everybody := g.Policy.BlocksEverybody(facts); everybody {
			return refused(f, d)
		}
		d, err := g.decideNamed(ctx, named, facts)
		if err != nil {
			return Outcome{Verdict: Unavailable, Err: err, Finding: *f}
		}
		if d.Action != policy.Allow {
			return refused(f, blocked) // and not why: it would tell who is excluded
		}
	case verify:
	default:
		return refused(f, blocked)
	}
	return g.verify(ctx, r, f, named, door, facts)
}

// decideNamed decides about the user whom a credential names, before anything is verified. What nobody is called, and whom no directory
// knows, is refused at the same cost.
func (g *Gate) decideNamed(ctx context.Context, named string, facts *policy.Facts) (policy.Decision, error) {
	user, err := g.Users.ByName(ctx, named)
	if errors.Is(err, directory.ErrUnknown) {
		user = &mfa.User{ID: mfa.UserID{Directory: "nobody", ID: "nobody"}, Disabled: true}
	} else if err != nil {
		return policy.Decision{}, err
	}
	a, err := g.Accounts.Get(ctx, user.ID)
	if err != nil {
		return policy.Decision{}, err
	}
	return g.decideLegacy(user, a, facts), nil
}

// decideLegacy is what policy says of a user behind a legacy client, with a right password.
func (g *Gate) decideLegacy(user *mfa.User, a *account.Account, facts *policy.Facts) policy.Decision {
	of := LegacyFacts(user, a, facts.Application, facts.Client, facts.Now)
	return g.Policy.Decide(&of)
}

// LegacyFacts gives what is known of a person behind a legacy client, whose password is right.
func LegacyFacts(user *mfa.User, a *account.Account, application string, client mfa.Client, now time.Time) policy.Facts {
	f := Facts(user, a, nil, mfa.Proofs{}.With(mfa.Proof{Method: mfa.Password, At: now}), application, Anywhere, now)
	f.Client = client
	return f
}

// verify verifies a Basic credential, and lets its owner in.
func (g *Gate) verify(ctx context.Context, r *Request, f *legacy.Finding, named string, door door, facts *policy.Facts) Outcome {
	user, a, known := g.known(ctx, named, f.Basic.Password, r)
	if !known {
		var err error
		name := named
		if name == "" {
			name = f.Basic.User // costs what a wrong password does
		}
		if g.Passwords == nil {
			return refused(f, policy.Decision{Action: policy.Block, Reason: policy.LegacyAuth})
		}
		user, a, err = g.Passwords.Basic(ctx, Try{
			Name: name, Password: f.Basic.Password, Application: r.Application.Name, Host: r.Host, Client: facts.Client, UserAgent: r.UserAgent, Hint: r.Hint, Now: r.Now,
		})
		wait := (*throttle.WaitError)(nil)
		switch {
		case err == nil:
		case errors.Is(err, directory.ErrPassword):
			g.Verified.forget(named, r.Client.Address)
			return Outcome{Verdict: Legacy, Finding: *f, Wrong: true, Invite: true, Decision: policy.Decision{Action: policy.Block, Reason: policy.NothingProven}}
		case errors.As(err, &wait):
			g.Verified.forget(named, r.Client.Address)
			return Outcome{Verdict: Legacy, Finding: *f, Wrong: true, Decision: policy.Decision{Action: policy.Block, Reason: policy.NothingProven}}
		default:
			return Outcome{Verdict: Unavailable, Err: err, Finding: *f}
		}
		g.Verified.put(named, f.Basic.Password, r.Client.Address, user, a, r.Now)
	}
	decision := g.decideLegacy(user, a, facts)
	entry := g.entry(r, f, door)
	entry.By, entry.Holder = ByPassword, Holder{User: user, Account: a}
	entry.mark, entry.epoch = user.Mark, a.State.Epoch
	entry.Would = decision.Action == policy.Allow
	entry.Policy = door.way == askPolicy
	if door.exception != nil {
		entry.Exception, entry.Would = door.exception.Name, true
	}
	result := Outcome{Verdict: Admit, Finding: *f, User: user, Account: a, Decision: decision, Entry: entry, Fresh: !known}
	of := *facts
	of.User, of.Blocked = user, a.State.Blocked != nil
	if d, blocked := g.Policy.Blocks(&of); blocked {
		result.Verdict, result.Decision, result.Entry = Legacy, d, nil
	} else if door.way == askPolicy && decision.Action != policy.Allow {
		result.Verdict, result.Entry = Legacy, nil
	}
	return result
}

// known says whose a credential is that was verified a moment ago, if he is still as he was then: neither gone nor disabled nor blocked,
// with the same password and the same factors.
func (g *Gate) known(ctx context.Context, named, password string, r *Request) (*mfa.User, *account.Account, bool) {
	if named == "" {
		return nil, nil, false
	}
	kept, ok := g.Verified.find(named, password, r.Client.Address, r.Now)
	if !ok {
		return nil, nil, false
	}
	user, err := g.Users.ByName(ctx, named)
	if err != nil || user.ID != kept.user || user.Disabled || user.Mark != kept.mark {
		return nil, nil, false
	}
	a, err := g.Accounts.Get(ctx, user.ID)
	if err != nil || a.State.Blocked != nil || a.State.Epoch != kept.epoch {
		return nil, nil, false
	}
	return user, a, true
}

// entry begins an Entry for a request.
func (g *Gate) entry(r *Request, f *legacy.Finding, door door) *Entry {
	e := &Entry{Mode: door.mode, finding: *f, method: r.Method, at: r.spot()}
	if f.Basic != nil {
		e.finding.Basic = &legacy.Credential{}
	}
	e.finding.User, e.finding.Digest = "", nil
	e.Emergency = g.Emergency && door.exception == nil && door.way != askPolicy
	e.Would = door.exception != nil || f.Class.Reported() || door.mode == Allow && !g.Emergency
	return e
}

// appPassword judges a Basic credential as an app password.
func (g *Gate) appPassword(ctx context.Context, r *Request, f *legacy.Finding, named string) (Outcome, error) {
	if named == "" {
		named = f.Basic.User
	}
	holder, err := g.Keys.AppPassword(ctx, named, f.Basic.Password, r.use())
	if err != nil {
		return Outcome{}, err
	}
	return g.held(r, f, ByAppPassword, holder, legacyClient(r.Client, f)), nil
}

// serviceToken judges the two headers of a service token.
func (g *Gate) serviceToken(ctx context.Context, r *Request) Outcome {
	holder, err := g.Keys.ServiceToken(ctx, r.TokenID, r.TokenSecret, r.use())
	wait := (*throttle.WaitError)(nil)
	switch {
	case err == nil:
	case errors.Is(err, ErrWrongKey), errors.As(err, &wait):
		return Outcome{Verdict: Legacy, Wrong: true, Finding: r.Finding, Decision: policy.Decision{Action: policy.Block, Reason: policy.NothingProven}}
	default:
		return Outcome{Verdict: Unavailable, Err: err}
	}
	client := r.Client
	client.App = policy.MobileAndDesktop
	return g.held(r, &r.Finding, ByServiceToken, holder, client)
}

// held lets the holder of a key in, unless he is refused whatever he has.
func (g *Gate) held(r *Request, f *legacy.Finding, by By, holder Holder, client mfa.Client) Outcome {
	facts := policy.Facts{Now: r.Now, Application: r.Application.Name, Client: client, User: holder.User}
	facts.Blocked = holder.Account != nil && holder.Account.State.Blocked != nil
	if d, blocked := g.Policy.Blocks(&facts); blocked {
		return Outcome{Verdict: Legacy, Finding: *f, User: holder.User, Account: holder.Account, Decision: d}
	}
	e := g.entry(r, f, door{})
	e.By, e.Holder, e.Would = by, holder, true
	return Outcome{Verdict: Admit, Finding: *f, User: holder.User, Account: holder.Account, Entry: e}
}

func (r *Request) spot() spot { return spot{r.Client.Address, r.Asked, r.Rewritten, r.Destinations} }

func (r *Request) use() Use {
	return Use{
		Application: r.Application.Name, AppPasswords: r.Application.Doors.AppPasswords, Method: r.Method, Overrides: r.Overrides,
		Asked: r.Asked, Rewritten: r.Rewritten, Destinations: r.Destinations, Address: r.Client.Address, Now: r.Now, Line: r.Line,
	}
}

// serviceUser is whom a machine stands for that has an exception.
func serviceUser(name string) *mfa.User {
	name = mfa.ServicePrefix + name
	return &mfa.User{ID: mfa.UserID{Directory: "service", ID: name}, Name: name, Canonical: name}
}

// uncredited decides about a request without any legacy credential: a program that must first ask the application for a challenge passes,
// and one that could send an app password or a password is told so.
func (g *Gate) uncredited(r *Request, out Outcome) Outcome {
	if out.Verdict != SignIn || !r.Program && !r.Terminal || r.Authorized {
		return out
	}
	doors, at := &r.Application.Doors, r.spot()
	facts := policy.Facts{Now: r.Now, Application: r.Application.Name, Client: legacyClient(r.Client, &out.Finding)}
	if _, blocked := g.Policy.BlocksClients(&facts); blocked {
		return out
	}
	if r.Terminal {
		out.Invite = g.mayHoldKey(r)
		return out
	}
	if doors.handshake(&at, r.Now, g.Emergency) {
		e := g.entry(r, &out.Finding, door{})
		e.By = ByHandshake
		return Outcome{Verdict: Admit, Finding: out.Finding, Entry: e}
	}
	out.Invite = g.mayHoldKey(r) || doors.verifies(&at, r.Now, g.Emergency)
	if !out.Invite && doors.silent(&at) {
		_, everybody := g.Policy.BlocksEverybody(&facts)
		out.Invite = !everybody
	}
	return out
}

// only decides about a request to an application where nobody signs in.
func (g *Gate) only(r *Request) Outcome {
	f := r.Finding
	r.readBody(&f)
	if f.Class == legacy.None {
		return Outcome{Verdict: Open, Finding: f}
	}
	at := r.spot()
	door := r.Application.Doors.find(&f, "", &at, r.Now, g.Emergency)
	if door.way != unverified {
		return refused(&f, policy.Decision{Action: policy.Block, Reason: policy.LegacyAuth})
	}
	e := g.entry(r, &f, door)
	e.By = ByScope
	if door.exception != nil {
		e.Exception = door.exception.Name
	}
	return Outcome{Verdict: Open, Finding: f, Entry: e}
}

// StillAdmits says whether a request that was let in by an entry, and is still open, would be let in now. application is that of the
// configuration in force. The error wraps store.ErrUnavailable or directory.ErrUnavailable.
func (g *Gate) StillAdmits(ctx context.Context, e *Entry, application *Application, client *mfa.Client, now time.Time) (bool, error) {
	f, doors := e.finding, &application.Doors
	facts := policy.Facts{Now: now, Application: application.Name, Client: legacyClient(*client, &f)}
	if e.By == ByServiceToken {
		facts.Client.App = policy.MobileAndDesktop
	}
	if _, blocked := g.Policy.BlocksClients(&facts); blocked {
		return false, nil
	}
	switch e.By {
	case ByHandshake:
		return doors.handshake(&e.at, now, g.Emergency), nil
	case ByScope:
		return doors.find(&f, "", &e.at, now, g.Emergency).way == unverified, nil
	case ByAppPassword, ByServiceToken:
		return g.stillHeld(ctx, e, application, &facts, now)
	case ByPassword:
	default:
		return false, nil
	}
	user, err := g.Users.ByID(ctx, e.Owner())
	if errors.Is(err, directory.ErrUnknown) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	a, err := g.Accounts.Get(ctx, user.ID)
	if err != nil {
		return false, err
	}
	if user.Mark != e.mark || a.State.Epoch != e.epoch {
		return false, nil
	}
	facts.User, facts.Blocked = user, a.State.Blocked != nil
	if _, blocked := g.Policy.Blocks(&facts); blocked {
		return false, nil
	}
	switch doors.find(&f, user.Canonical, &e.at, now, g.Emergency).way {
	case verify:
		return true, nil
	case askPolicy:
		return g.decideLegacy(user, a, &facts).Action == policy.Allow, nil
	}
	return false, nil
}

// stillHeld asks again for a key, without its secret.
func (g *Gate) stillHeld(ctx context.Context, e *Entry, application *Application, facts *policy.Facts, now time.Time) (bool, error) {
	doors := &application.Doors
	if g.Keys == nil || e.By == ByServiceToken && !doors.ServiceTokens || e.By == ByAppPassword && e.finding.Scheme == legacy.Digest && !doors.Digest {
		return false, nil
	}
	err := g.Keys.Again(ctx, e.Holder, Use{
		Application: application.Name, AppPasswords: doors.AppPasswords, Method: e.method, Asked: e.at.asked, Rewritten: e.at.rewritten, Destinations: e.at.destinations,
		Address: e.at.address, Now: now,
	})
	if errors.Is(err, ErrWrongKey) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	facts.User = e.Holder.User
	if e.Holder.Account != nil {
		user, err := g.Users.ByID(ctx, e.Owner())
		if err != nil {
			return false, err
		}
		a, err := g.Accounts.Get(ctx, user.ID)
		if err != nil {
			return false, err
		}
		facts.User, facts.Blocked = user, a.State.Blocked != nil
	}
	_, blocked := g.Policy.Blocks(facts)
	return !blocked, nil
}
