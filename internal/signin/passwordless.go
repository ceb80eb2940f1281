package signin

import (
	"context"
	"errors"
	"slices"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/directory"
	"github.com/caddy-mfa/caddy-mfa/internal/gate"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
	"github.com/caddy-mfa/caddy-mfa/internal/throttle"
)

// ErrPasskey says that nobody is signed in with this passkey, and not why: nobody has it, it was removed, it is good elsewhere, what it
// answers is wrong, or its owner is disabled, blocked or locked out.
var ErrPasskey = errors.New("passkey is not accepted")

// discoverer is the factor that needs no name; nil: there is none on this host.
func (s *Service) discoverer(host string) mfa.Discoverer {
	d, ok := s.Factors[mfa.Passkey].(mfa.Discoverer)
	if !ok || s.Invitations == nil || s.Owners == nil || d.RP(host) == "" {
		return nil
	}
	return d
}

// Invite asks for a passkey in the password's place, on a page for anybody. st is where the person stands, as far as he is known: he is
// not invited where only the password would help him. It writes nothing.
func (s *Service) Invite(c Client, st State) (Invitation, error) {
	d := s.discoverer(c.Host)
	if d == nil || st.Step == Password && st.Decision.Methods != 0 && !st.Decision.Methods.Has(mfa.Passkey) {
		return Invitation{}, nil
	}
	ch, err := d.BeginDiscovery(c.site(), c.Now)
	if err != nil {
		return Invitation{}, nil // an origin that has no passkeys, such as plain http
	}
	i := Invitation{Options: string(ch.Options), Browser: binding(c.Binding)}
	ch.Options = nil
	i.Token, err = s.Invitations.seal(ch, c.Host, i.Browser)
	return i, err
}

// Passkey judges what a passkey answers to an invitation, and begins a session if it is right: with two factors in one, where a password
// would be the first. unknown is the id of a passkey that was its owner's and is not any more: the browser may forget it. The error is
// ErrPasskey, ErrStep (not asked here, or too late, or answered before), *throttle.WaitError, directory.ErrBusy, account.ErrReplaced, or
// wraps store.ErrUnavailable or directory.ErrUnavailable.
func (s *Service) Passkey(ctx context.Context, c Client, token, answer string) (st State, cookies Cookies, unknown string, err error) {
	d := s.discoverer(c.Host)
	if d == nil {
		return State{}, Cookies{}, "", ErrStep
	}
	ch, ok := s.Invitations.open(token, c.Host, c.Binding, c.Now)
	if !ok {
		return State{}, Cookies{}, "", ErrStep
	}
	// A flood is refused before it reaches the store. It leaves places to those who are known.
	stranger := len(s.Browsers.open(c.Browser)) == 0
	if stranger {
		if !s.Strangers.Enter() {
			return State{}, Cookies{}, "", directory.ErrBusy
		}
		defer s.Strangers.Leave()
	}
	// In a store that is empty or another one, every passkey would look unknown.
	if err := s.Generation.Check(ctx); err != nil {
		return State{}, Cookies{}, "", err
	}
	// From here on the time that it takes tells only those something who know the id of a passkey, which is random: whether it is
	// registered.
	publicID := d.Discovered(answer)
	user, a, err := s.ownerOf(ctx, publicID)
	if err != nil {
		return State{}, Cookies{}, "", err
	}
	// Who tries in a browser in which the owner has signed in before is counted with him alone, below.
	lane := s.Browsers.Lane(c.Browser, user, a, c.Now)
	if lane == "" {
		if !stranger { // known to somebody else
			if !s.Strangers.Enter() {
				return State{}, Cookies{}, "", directory.ErrBusy
			}
			defer s.Strangers.Leave()
		}
		if err := s.Passwords.ChargeAddress(ctx, c.Address, c.Now); err != nil {
			if wait := (*throttle.WaitError)(nil); errors.As(err, &wait) {
				s.audit(c, audit.Event{Type: audit.FactorThrottled, Method: mfa.Passkey, Reason: wait.Scope})
			}
			return State{}, Cookies{}, "", err
		}
	}
	// Before it is judged: an answer that is sent twice is no copy of the passkey.
	if used, err := s.Invitations.used(ctx, ch); err != nil || used {
		return State{}, Cookies{}, "", errors.Join(err, stepIf(used))
	}
	if user.ID.IsZero() {
		// Also an owner whom no directory knows now: it may know him again tomorrow.
		s.passkeyRefused(c, user, "unknown", nil)
		return State{}, Cookies{}, "", ErrPasskey
	}
	var used mfa.Credential
	gone := false
	a, judged := s.judge(ctx, c, user.ID, mfa.Passkey, lane, func(a *account.Account) (err error) {
		gone = !hasPasskey(d, a, publicID)
		if used, err = d.FinishDiscovery(ch.State, a.CredentialsOf(mfa.Passkey), answer, c.Now); err != nil {
			return err
		}
		a.Put(used)
		return nil
	})
	if judged != nil {
		reason, refused := refusalOf(judged)
		if !refused {
			return State{}, Cookies{}, "", judged
		}
		if gone {
			unknown = publicID
		}
		s.passkeyRefused(c, user, reason, judged)
		return State{}, Cookies{}, unknown, ErrPasskey
	}
	if err := s.Invitations.use(ctx, ch); err != nil {
		return State{}, Cookies{}, "", err
	}
	switch {
	case user.Disabled:
		s.passkeyRefused(c, user, "disabled", nil)
		return State{}, Cookies{}, "", ErrPasskey
	case a.State.Blocked != nil:
		s.passkeyRefused(c, user, "blocked", nil)
		return State{}, Cookies{}, "", ErrPasskey
	}
	if lane == "" {
		if err := s.Passwords.RefundAddress(ctx, c.Address, c.Now); err != nil {
			return State{}, Cookies{}, "", err
		}
	}
	if a, err = s.firstSignIn(ctx, c, user); err != nil {
		return State{}, Cookies{}, "", err
	}
	accepted := audit.Event{Type: audit.FactorAccepted, Method: mfa.Passkey, Credential: used.ID, Reason: "passwordless"}
	st, cookies, err = s.accepted(ctx, c, user, a, mfa.Proofs{{Method: mfa.Passkey, At: c.Now, Credential: used.ID, Model: used.Model}}, accepted)
	return st, cookies, "", err
}

func stepIf(step bool) error {
	if step {
		return ErrStep
	}
	return nil
}

// ownerOf finds whose passkey it is that somebody comes with. Nobody's costs the same, and gives a user and an account without anything.
func (s *Service) ownerOf(ctx context.Context, publicID string) (*mfa.User, *account.Account, error) {
	owner, err := s.Owners.of(ctx, publicID)
	if err != nil {
		return nil, nil, err
	}
	user, of := &mfa.User{}, mfa.UserID{Directory: "nobody", ID: "nobody"}
	if !owner.IsZero() {
		switch known, err := s.Users.ByID(ctx, owner); {
		case err == nil:
			user, of = known, known.ID
		case !errors.Is(err, directory.ErrUnknown):
			return nil, nil, err
		}
	}
	a, err := s.Accounts.LoadClosed(ctx, of)
	return user, a, err
}

func hasPasskey(d mfa.Discoverer, a *account.Account, publicID string) bool {
	for _, c := range a.CredentialsOf(mfa.Passkey) {
		if d.PublicID(c) == publicID {
			return true
		}
	}
	return false
}

// refusalOf says how a refusal stands in the log. refused is false for a fault.
func refusalOf(err error) (reason string, refused bool) {
	wait := (*throttle.WaitError)(nil)
	switch {
	case errors.Is(err, ErrWrong):
		return "wrong", true
	case errors.Is(err, ErrReplayed):
		return "replayed", true
	case errors.Is(err, ErrCloned):
		return "cloned", true
	case errors.As(err, &wait):
		return wait.Scope, true // who is locked out is told no more than others
	}
	return "", false
}

func (s *Service) passkeyRefused(c Client, user *mfa.User, reason string, err error) {
	s.audit(c, audit.Event{Type: audit.FactorRefused, User: user.Canonical, UserID: user.ID, Method: mfa.Passkey, Reason: reason})
	if err != nil {
		s.Log.Info("passkey refused", "user", user.Canonical, "reference", c.Reference, "error", err)
	}
	s.failed(c, user, nil, audit.Status{ErrorCode: audit.CodeMFADenied, FailureReason: "Authentication failed during strong authentication request."})
}

// PublicID is what browsers call one of a person's passkeys, by our own id of it; empty: it is none, or there is none.
func (s *Service) PublicID(ctx context.Context, c Client, st State, credential string) (string, error) {
	d := s.discoverer(c.Host)
	if d == nil || st.User == nil {
		return "", nil
	}
	a, err := s.Accounts.Load(ctx, st.User.ID)
	if err != nil {
		return "", err
	}
	if found, ok := a.Credential(credential); ok && gate.At(found, st.rp) {
		return d.PublicID(found), nil
	}
	return "", nil
}

// Offers says whether somebody who has just signed in with something else is to be asked whether he wants a passkey: he has none here,
// could register one at once, and nothing stands in the way.
func (s *Service) Offers(c Client, st State) bool {
	if st.Step != Done || !st.Account.Registered() || !st.HasFresh(c.Now) || !st.Current.Latest() || s.discoverer(c.Host) == nil || s.registrar(mfa.Passkey) == nil {
		return false
	}
	here := func(credential mfa.Credential) bool { return gate.At(credential, st.rp) }
	if keys := st.Account.CredentialsOf(mfa.Passkey); len(keys) >= MaxPasskeys || slices.ContainsFunc(keys, here) || replacing(st) {
		return false
	}
	facts := s.facts(c, st.User, st.Account, st.Current.Session, st.Current.Proofs)
	return s.Policy.DecideAction(&facts, policy.RegisterSecurityInfo).Action == policy.Allow
}
