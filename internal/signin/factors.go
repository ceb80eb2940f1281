package signin

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/gate"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/session"
)

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
	return p.Method != mfa.Password && p.Method != mfa.RememberedBrowser && (p.Method != mfa.RecoveryCode || replacing(st)) && !p.Spent && now.Sub(p.At) <= Fresh
}

// HasFresh says whether the session holds a proof that could pay for a change of factors.
func (st State) HasFresh(now time.Time) bool {
	return slices.ContainsFunc(st.Current.Proofs, func(p mfa.Proof) bool { return st.pays(p, now) })
}

// RemoveFactor removes a factor that the person has registered, with a fresh proof. The error is ErrStep, ErrNotFresh, ErrLastFactor, ErrNeeded, or wraps
// store.ErrUnavailable or directory.ErrUnavailable.
func (s *Service) RemoveFactor(ctx context.Context, c Client, sessionID, credential string) (Cookies, error) {
	return s.changeFactors(ctx, c, sessionID, func(st State, a *account.Account) (*audit.Event, error) {
		old, ok := a.Credential(credential)
		if !ok || !account.Lasting(old.Method) || fromDirectory(st.User, old) {
			return nil, nil // gone already, or not his to remove
		}
		if s.neededBy(c, st.User, a, old) != "" {
			return nil, ErrNeeded
		}
		a.Remove(credential)
		if !a.Registered() {
			return nil, ErrLastFactor
		}
		return &audit.Event{Type: audit.FactorRemoved, Method: old.Method, Credential: credential, Old: s.mailAddresses(old)}, nil
	})
}

// mailAddresses are where the codes of credentials go, as far as these are mail addresses: whoever reads one is told that it was taken away.
func (s *Service) mailAddresses(credentials ...mfa.Credential) (addresses []string) {
	messenger, ok := s.Factors[mfa.Email].(mfa.Messenger)
	if !ok {
		return nil
	}
	for _, c := range credentials {
		if c.Method != mfa.Email {
			continue
		}
		if to, _, err := messenger.Destination(c); err == nil { // else nothing can be sent there
			addresses = append(addresses, to)
		}
	}
	return addresses
}

// MailAddresses gives the mail addresses to which codes of a person go. The error wraps store.ErrUnavailable.
func (s *Service) MailAddresses(ctx context.Context, id mfa.UserID) ([]string, error) {
	a, err := s.Accounts.Load(ctx, id)
	if err != nil {
		return nil, err
	}
	return s.mailAddresses(a.Credentials...), nil
}

// NewRecoveryCodes replaces the recovery codes, with a fresh proof. Errors are those of RemoveFactor.
func (s *Service) NewRecoveryCodes(ctx context.Context, c Client, sessionID string) (Cookies, []string, error) {
	var codes []string
	cookies, err := s.changeFactors(ctx, c, sessionID, func(_ State, a *account.Account) (_ *audit.Event, err error) {
		if !a.Registered() {
			return nil, ErrStep
		}
		codes, err = putRecoveryCodes(a, c.Now)
		return &audit.Event{Type: audit.RecoveryCodesMade, Method: mfa.RecoveryCode}, err
	})
	return cookies, codes, err
}

// maxName is the length of the longest name of a factor, in characters.
const maxName = 64

// RenameFactor gives an authenticator app, a passkey or a phone that approves another name, which its owner alone sees. It changes nothing that counts, and needs
// no fresh proof. An empty name leaves it as it is. The error is ErrStep, or wraps store.ErrUnavailable or directory.ErrUnavailable.
func (s *Service) RenameFactor(ctx context.Context, c Client, sessionID, credential, name string) error {
	st, err := s.State(ctx, c)
	if err != nil {
		return err
	}
	if st.Step != Done || st.Current.Session.ID != sessionID {
		return ErrStep
	}
	name = nameOf(name)
	renamed := false
	_, err = s.Accounts.Update(ctx, st.User.ID, c.Now, func(a *account.Account) error {
		if !a.Honors(st.Current.Session) {
			return ErrStep
		}
		old, ok := a.Credential(credential)
		if renamed = ok && (old.Method == mfa.TOTP || old.Method == mfa.Passkey || old.Method == mfa.Push) && name != "" && old.Name != name; renamed {
			old.Name = name
			a.Put(old)
		}
		return nil
	})
	if err == nil && renamed {
		s.audit(c, audit.Event{Type: audit.FactorRenamed, User: st.User.Canonical, UserID: st.User.ID, Session: sessionID, Credential: credential})
	}
	return err
}

// nameOf is a name as it is kept: one line of what can be seen.
func nameOf(text string) string {
	text = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(text, ""))), " ")
	if runes := []rune(text); len(runes) > maxName {
		text = strings.TrimSpace(string(runes[:maxName]))
	}
	return text
}

// mayPay says where a signed-in person stands, if policy lets him change what he signs in with. sessionID is that of the session that the
// page was made for. The error is ErrStep, or one of mayChange, or a fault.
func (s *Service) mayPay(ctx context.Context, c Client, sessionID string) (State, error) {
	st, err := s.State(ctx, c)
	if err != nil {
		return State{}, err
	}
	if st.Step != Done || st.Current.Session.ID != sessionID {
		return State{}, ErrStep
	}
	return st, s.mayChange(c, st)
}

// changeFactors spends a fresh proof on a change of a signed-in person's factors. Every other session of his ends.
func (s *Service) changeFactors(ctx context.Context, c Client, sessionID string, change func(State, *account.Account) (*audit.Event, error)) (Cookies, error) {
	st, err := s.mayPay(ctx, c, sessionID)
	if err != nil {
		return Cookies{}, err
	}
	st, cookie, err := s.spend(ctx, c, st)
	if err != nil {
		return Cookies{}, err
	}
	var event *audit.Event
	a, err := s.Accounts.Update(ctx, st.User.ID, c.Now, func(a *account.Account) error {
		if !a.Honors(st.Current.Session) {
			return ErrStep
		}
		var err error
		if event, err = change(st, a); err != nil || event == nil {
			return err
		}
		a.BeginEpoch(sessionID)
		return nil
	})
	if err != nil || event == nil {
		return Cookies{Session: cookie, Persist: persist(&st, c.Now)}, err
	}
	event.User, event.UserID, event.Session = st.User.Canonical, st.User.ID, sessionID
	s.audit(c, *event)
	// The token is new already, from the proof that was spent. A second new one would leave the tabs with one that is two behind.
	updated, err := s.Sessions.Update(ctx, st.Current, c.Now, func(ses *mfa.Session) error {
		ses.CredentialEpoch = a.State.Epoch
		return nil
	})
	if err != nil {
		// The change is made, and the account honors the session that made it all the same.
		s.Log.Warn("noting a change of factors in its session", "error", err)
	} else {
		st.Current = updated
	}
	browser, err := s.Browsers.Remember(c.Browser, st.User, a, st.Current.Proofs, c.Now)
	return Cookies{Session: cookie, Browser: browser, Persist: persist(&st, c.Now)}, err
}

// neededBy names an application that the person gets into with what he has, and would not without one of his factors; empty: there is none.
// A passkey of another host counts like one of this: which application is on which host is not looked at.
func (s *Service) neededBy(c Client, user *mfa.User, a *account.Account, factor mfa.Credential) string {
	without := *a
	without.Remove(factor.ID)
	for _, application := range s.Applications {
		before, after := gate.Facts(user, a, nil, nil, application, gate.Anywhere, c.Now), gate.Facts(user, &without, nil, nil, application, gate.Anywhere, c.Now)
		before.Client, after.Client = c.Client, c.Client
		if s.Policy.Suffices(&before) && !s.Policy.Suffices(&after) {
			return application
		}
	}
	return ""
}
