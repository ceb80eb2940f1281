package signin

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/factor/passcode"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/sender"
	"github.com/caddy-mfa/caddy-mfa/internal/throttle"
)

// Compose writes what is said to somebody who is sent a code, in the first of these languages that there is (BCP 47, or as in
// Accept-Language). It fills in the words and their language.
type Compose func(m *mfa.Message, host, application string, languages ...string)

// toPhone says whether codes of a method go to a phone.
func toPhone(m mfa.Method) bool { return m == mfa.SMS || m == mfa.Voice }

// SendCode sends a code to one of the person's phones or mail addresses, in place of one that was sent before in this session. Verify
// judges it. credential is the id of one of his own that can be reached by the method; empty: the first. sessionID is that of the session
// that the page was made for.
//
// It comes back within two seconds, also when nobody knows yet whether the code goes out. The error is ErrStep, *throttle.WaitError,
// throttle.ErrStopped, sender.ErrFailed, sender.ErrBusy, mfa.ErrNotServed, or wraps store.ErrUnavailable or directory.ErrUnavailable.
func (s *Service) SendCode(ctx context.Context, c Client, sessionID string, method mfa.Method, credential string) (State, mfa.Challenge, error) {
	st, err := s.State(ctx, c)
	if err != nil {
		return State{}, mfa.Challenge{}, err
	}
	messenger, ok := s.Factors[method].(mfa.Messenger)
	if !ok || !s.mayProve(st, sessionID, method, c.Now) {
		return st, mfa.Challenge{}, ErrStep
	}
	a, err := s.Accounts.Load(ctx, st.User.ID) // with the factors' data
	if err != nil {
		return st, mfa.Challenge{}, err
	}
	if !a.Honors(st.Current.Session) || a.State.Blocked != nil {
		return st, mfa.Challenge{}, ErrStep
	}
	// Where it goes is what is kept of the person, whatever the form says.
	his := s.destinations(st.User, a, messenger)
	i := 0
	if credential != "" {
		i = slices.IndexFunc(his, func(c mfa.Credential) bool { return c.ID == credential })
	}
	switch {
	case i < 0:
		return st, mfa.Challenge{}, ErrStep
	case len(his) == 0:
		return st, mfa.Challenge{}, mfa.ErrNotServed
	}
	to, _, err := messenger.Destination(his[i])
	if err != nil {
		return st, mfa.Challenge{}, err
	}
	// While no code is judged, none is sent.
	if _, err := a.Codes(method, s.Browsers.Lane(c.Browser, st.User, a, c.Now)).Charge(c.Now); err != nil {
		return st, mfa.Challenge{}, err
	}
	challenge, err := s.send(ctx, c, st, messenger, his[i], to, func(ch mfa.Challenge) error {
		ch.Epoch = a.State.Epoch
		return s.Pending.Ask(ctx, st.Current.Session, ch, c.Now)
	})
	if errors.Is(err, sender.ErrFailed) || errors.Is(err, sender.ErrBusy) {
		// Nothing has gone out, so there is nothing to type.
		if _, dropErr := s.Pending.Answered(ctx, st.Current.Session, c.Now); dropErr != nil && !errors.Is(dropErr, ErrStep) {
			err = dropErr
		}
	}
	return st, challenge, err
}

// send counts a message, makes a code, has it kept, and hands it over, in this order: what is sent can be typed, and what can't be
// kept isn't sent.
func (s *Service) send(ctx context.Context, c Client, st State, messenger mfa.Messenger, credential mfa.Credential, to string, keep func(mfa.Challenge) error) (mfa.Challenge, error) {
	method := messenger.Method()
	event := audit.Event{Type: audit.CodeSent, User: st.User.Canonical, UserID: st.User.ID, Session: st.Current.Session.ID, Method: method, Credential: credential.ID}
	refused := func(err error) error {
		event.Type, event.Reason = audit.CodeNotSent, notSent(err)
		if event.Reason != "" {
			s.audit(c, event)
		}
		return err
	}
	again, err := s.Messages.Charge(ctx, st.User.ID, method, to, s.Browsers.Lane(c.Browser, st.User, st.Account, c.Now), c.Now)
	if err != nil {
		return mfa.Challenge{}, refused(err)
	}
	challenge, code, err := messenger.NewCode(credential, to, c.Now)
	if err != nil {
		return mfa.Challenge{}, fmt.Errorf("making code: %w", err)
	}
	challenge.Again = again
	if err := keep(challenge); err != nil {
		return mfa.Challenge{}, err
	}
	m := &mfa.Message{ID: newMessageID(), Method: method, To: to, Code: code}
	s.Compose(m, c.Host, c.Application, c.Language, st.User.Language, c.Wishes)
	if err := s.Courier.Deliver(ctx, m, s.maySend(st)); err != nil {
		return challenge, refused(err)
	}
	s.audit(c, event)
	return challenge, nil
}

// notSent says in a word why a code was not sent; empty: by a fault, which is logged elsewhere.
func notSent(err error) string {
	var wait *throttle.WaitError
	switch {
	case errors.As(err, &wait):
		return wait.Scope
	case errors.Is(err, throttle.ErrStopped):
		return "stopped"
	case errors.Is(err, sender.ErrFailed):
		return "not accepted"
	case errors.Is(err, sender.ErrBusy):
		return "busy"
	}
	return ""
}

func newMessageID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails, see crypto/rand
	return hex.EncodeToString(b[:])
}

// maySend asks once more, right before something goes out, whether the person is still one who may sign in: between the press of a
// button and the second gateway there may be a minute.
func (s *Service) maySend(st State) func(context.Context) bool {
	return func(ctx context.Context) bool {
		user, err := s.Users.ByID(ctx, st.User.ID)
		if err != nil || user.Disabled || user.Mark != st.Current.Session.Mark {
			return false
		}
		a, err := s.Accounts.LoadClosed(ctx, st.User.ID)
		// Who has registered something else meanwhile has begun an epoch.
		return err == nil && a.State.Blocked == nil && a.Honors(st.Current.Session)
	}
}

// SentCode gives the code that was sent in this session and can still be typed, for its page: without it where there is none.
func (s *Service) SentCode(ctx context.Context, c Client, st State, method mfa.Method) (mfa.Challenge, bool, error) {
	if _, ok := s.Factors[method].(mfa.Messenger); !ok || st.User == nil {
		return mfa.Challenge{}, false, nil
	}
	challenge, err := s.Pending.Question(ctx, st.Current.Session, c.Now)
	if errors.Is(err, ErrStep) {
		return mfa.Challenge{}, false, nil
	}
	if err != nil {
		return mfa.Challenge{}, false, err
	}
	return challenge, challenge.Method == method && challenge.Epoch == st.Account.State.Epoch, nil
}

// arrived drops a code that was right, and lets the next one be asked for at once.
func (s *Service) arrived(ctx context.Context, c Client, st State, method mfa.Method) {
	if _, err := s.Pending.Answered(ctx, st.Current.Session, c.Now); err != nil && !errors.Is(err, ErrStep) {
		s.Log.Warn("dropping a code that was used", "error", err) // it is not accepted again, and expires
	}
	if err := s.Messages.Arrived(ctx, st.User.ID, method, s.Browsers.Lane(c.Browser, st.User, st.Account, c.Now)); err != nil {
		s.Log.Warn("forgetting how often a code was asked for", "error", err)
	}
}

// Destinations gives the person's phones or mail addresses that codes of the method can be sent to, without their data.
func (s *Service) Destinations(ctx context.Context, st State, method mfa.Method) ([]mfa.Credential, error) {
	messenger, ok := s.Factors[method].(mfa.Messenger)
	if !ok {
		return nil, nil
	}
	a, err := s.Accounts.Load(ctx, st.User.ID)
	if err != nil {
		return nil, err
	}
	his := s.destinations(st.User, a, messenger)
	for i := range his {
		his[i].Data = nil
	}
	return his, nil
}

// destinations leaves out what nothing can be sent to any more, and the number that the directory had before.
func (s *Service) destinations(user *mfa.User, a *account.Account, messenger mfa.Messenger) []mfa.Credential {
	return slices.DeleteFunc(a.CredentialsFor(messenger.Method()), func(c mfa.Credential) bool {
		to, _, err := messenger.Destination(c)
		return err != nil || c.ID == account.DirectoryPhone && to != user.Phone
	})
}

// fromDirectory says whether a factor is the number that the person's directory has now.
func fromDirectory(user *mfa.User, c mfa.Credential) bool {
	return c.ID == account.DirectoryPhone && user.Phone != ""
}

// knowPhone makes the number that the directory has a factor of the person. One that the directory has no more stays, and is of no
// use: a directory that forgets must not make somebody a person without a factor, who may register one with his password. Nor does it
// come back by itself after a reset, which may be for a phone that was stolen.
func (s *Service) knowPhone(a *account.Account, user *mfa.User, now time.Time) error {
	var factor passcode.Factor
	for _, m := range []mfa.Method{mfa.Voice, mfa.SMS} {
		if f, ok := s.Factors[m].(passcode.Factor); ok {
			factor = f
		}
	}
	number, err := factor.Address(user.Phone)
	if err != nil || user.Phone == "" || a.State.PassRequired {
		return nil
	}
	had, has := a.Credential(account.DirectoryPhone)
	if has && had.Method == factor.Method() {
		if to, _, err := factor.Destination(had); err == nil && to == number {
			return nil
		}
	}
	c, err := factor.NewCredential(number, now)
	if err != nil {
		return err
	}
	c.ID = account.DirectoryPhone
	a.Put(c)
	if has && had.Name != c.Name {
		a.BeginEpoch("") // whoever has signed in with the old one has not with this
	}
	return nil
}

// BeginCodeRegistration begins the registration of a phone or a mail address: it sends a code there. typed is what the person has
// typed. FinishRegistration judges the code. Another one may be asked for, or the address be mended, without another proof.
//
// The error is one of BeginRegistration or SendCode, or mfa.ErrAddress, mfa.ErrNotServed or ErrKnown.
func (s *Service) BeginCodeRegistration(ctx context.Context, c Client, sessionID string, method mfa.Method, typed string) (Cookies, error) {
	st, err := s.State(ctx, c)
	if err != nil {
		return Cookies{}, err
	}
	messenger, ok := s.registrar(method).(mfa.Messenger)
	if !ok || !s.mayBegin(c, st, sessionID, method) {
		return Cookies{}, ErrStep
	}
	pending, err := s.Pending.Load(ctx, st.Current.Session, c.Now)
	if err != nil && !errors.Is(err, ErrStep) {
		return Cookies{}, err
	}
	_, begun := s.registrar(pending.Method).(mfa.Messenger)
	begun = begun && pending.Epoch == st.Account.State.Epoch
	if !begun {
		if err := s.mayChange(c, st); err != nil {
			return Cookies{}, err
		}
	}
	if err := s.permitted(c, st, method, begun || st.HasFresh(c.Now)); err != nil {
		return Cookies{}, err
	}
	to, err := messenger.Address(typed)
	if err != nil {
		return Cookies{}, err
	}
	a, err := s.Accounts.Load(ctx, st.User.ID) // with the factors' data
	if err != nil {
		return Cookies{}, err
	}
	if !replacing(st) && slices.ContainsFunc(a.CredentialsFor(method), func(c mfa.Credential) bool {
		has, _, err := messenger.Destination(c)
		return err == nil && has == to
	}) {
		return Cookies{}, ErrKnown
	}
	if _, err := a.Codes(method, s.Browsers.Lane(c.Browser, st.User, a, c.Now)).Charge(c.Now); err != nil {
		return Cookies{}, err
	}
	var cookies Cookies
	_, err = s.send(ctx, c, st, messenger, mfa.Credential{}, to, func(ch mfa.Challenge) error {
		if st.Account.Registered() && !begun {
			if st, cookies.Session, err = s.spend(ctx, c, st); err != nil {
				return err
			}
			cookies.Persist = persist(&st, c.Now)
		}
		ch.Epoch = st.Account.State.Epoch
		return s.Pending.Save(ctx, st.Current.Session, ch, c.Now)
	})
	// A token that is new already must reach the browser, whatever happens.
	return cookies, err
}

// SendAgain sends another code to the phone or the mail address that is being registered. Errors are those of SendCode.
func (s *Service) SendAgain(ctx context.Context, c Client, sessionID string) (Cookies, error) {
	st, challenge, err := s.Registration(ctx, c)
	if err != nil {
		return Cookies{}, err
	}
	to, err := passcode.SentTo(challenge)
	if err != nil || st.Current.Session.ID != sessionID {
		return Cookies{}, ErrStep
	}
	return s.BeginCodeRegistration(ctx, c, sessionID, challenge.Method, to)
}

// replaceCall drops a phone that could only be called, now that the same one takes messages too.
func replaceCall(a *account.Account, messenger mfa.Messenger, added mfa.Credential) {
	to, _, err := messenger.Destination(added)
	for _, c := range a.CredentialsOf(mfa.Voice) {
		if had, _, hadErr := messenger.Destination(c); added.Method == mfa.SMS && err == nil && hadErr == nil && had == to && c.ID != account.DirectoryPhone {
			a.Remove(c.ID)
		}
	}
}
