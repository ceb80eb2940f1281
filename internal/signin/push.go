package signin

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/factor/push"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/seal"
	"github.com/caddy-mfa/caddy-mfa/internal/session"
	"github.com/caddy-mfa/caddy-mfa/internal/store"
	"github.com/caddy-mfa/caddy-mfa/internal/throttle"
)

// What becomes of a prompt, beside what every code can find wrong.
var (
	// ErrWaiting says that nobody has answered yet.
	ErrWaiting = errors.New("the phone has not answered yet")

	// ErrReported says that the person has answered on his phone that it isn't he who signs in.
	ErrReported = errors.New("the person says that it is not he")

	// ErrPhone says that something doesn't come from a phone of the person's: not connected, not any more, or not signed by it.
	ErrPhone = errors.New("not a phone that is connected")
)

// Notifier leaves notifications where the browsers of phones fetch them. It comes back at once.
type Notifier interface {
	// Key is the public key with which browsers subscribe (RFC 8292), in base64url without padding.
	Key() string

	// Check says whether notifications may be left at an address that a browser has named.
	Check(push.Subscription) error

	// Notify leaves one. gone is called, some time, if nobody fetches from there any more.
	Notify(to push.Subscription, payload []byte, gone func())
}

// Phones keeps prompts: one for each session, in the partition of its user, sealed.
type Phones struct {
	store   store.Store
	prompts *seal.Sealer
	links   *seal.Sealer
	handles *seal.Sealer

	Notifier Notifier // nil: phones learn of a prompt only while their page is open

	// Notice writes what a notification says, in the first of these languages that there is. It must hold no secret.
	Notice func(languages ...string) []byte
}

// NewPhones keeps them beside the sessions in s, sealed with keys.
func NewPhones(s store.Store, keys *seal.Keyring) *Phones {
	return &Phones{store: s, prompts: keys.Sealer("push prompt"), links: keys.Sealer("push pairing"), handles: keys.Sealer("push device")}
}

const (
	promptPrefix = "push/"

	// fetched is for how long an answer waits for the browser that signs in to ask for it.
	fetched = 30 * time.Second

	maxHandle = 4096
)

// handle names a phone, or the registration of one. It is no secret and proves nothing: it says where to look.
type handle struct {
	User mfa.UserID `json:"u"`
	ID   string     `json:"i"` // of the credential, or of the session that registers
	Link string     `json:"n,omitempty"`
}

func writeHandle(s *seal.Sealer, h handle) string {
	plain, err := json.Marshal(h)
	if err != nil { // texts are always written
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(s.Seal(plain))
}

func readHandle(s *seal.Sealer, text string) (h handle, err error) {
	if len(text) > maxHandle {
		return handle{}, ErrPhone
	}
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return handle{}, ErrPhone
	}
	plain, err := s.Open(sealed)
	if err != nil || json.Unmarshal(plain, &h) != nil || h.ID == "" {
		return handle{}, ErrPhone
	}
	return h, nil
}

// load gives the prompt of a session. A zero version: there is none.
func (p *Phones) load(ctx context.Context, user mfa.UserID, sessionID string, now time.Time) (push.Prompt, store.Version, error) {
	records, err := p.store.Get(ctx, session.Partition(user), promptPrefix+sessionID)
	if err != nil {
		return push.Prompt{}, 0, fmt.Errorf("loading prompt: %w", err)
	}
	if r := records[0]; r.Version != 0 && now.Before(r.Expires) {
		prompt, err := p.open(r, user, sessionID)
		return prompt, r.Version, err
	}
	return push.Prompt{}, 0, nil
}

func (p *Phones) open(r store.Record, user mfa.UserID, sessionID string) (prompt push.Prompt, err error) {
	plain, err := p.prompts.Open(r.Value, user.String(), sessionID)
	if err == nil {
		err = json.Unmarshal(plain, &prompt)
	}
	if err != nil {
		return push.Prompt{}, fmt.Errorf("loading prompt: %w", err)
	}
	return prompt, nil
}

func (p *Phones) save(ctx context.Context, user mfa.UserID, sessionID string, prompt push.Prompt, over store.Version) error {
	plain, err := json.Marshal(prompt)
	if err != nil {
		return fmt.Errorf("saving prompt: %w", err)
	}
	_, err = p.store.Commit(ctx, store.Commit{Partition: session.Partition(user), Changes: []store.Change{{
		Key: promptPrefix + sessionID, If: over, Value: p.prompts.Seal(plain, user.String(), sessionID), Expires: prompt.Expires().Add(fetched),
	}}})
	return err
}

// AskPhones asks the person's phones whether it is he, in place of what was asked before in this session. What he wishes beside it is kept
// until the answer is there. sessionID is that of the session
// that the page was made for. The error is ErrStep, *throttle.WaitError, or wraps store.ErrUnavailable or directory.ErrUnavailable.
func (s *Service) AskPhones(ctx context.Context, c Client, sessionID string) (State, error) {
	st, err := s.State(ctx, c)
	if err != nil {
		return State{}, err
	}
	if s.Phones == nil || !s.mayProve(st, sessionID, mfa.Push, c.Now) {
		return st, ErrStep
	}
	lane := s.Browsers.Lane(c.Browser, st.User, st.Account, c.Now)
	// Counted before anything rings, in the same write in which it is found to be allowed.
	a, err := s.Accounts.Update(ctx, st.User.ID, c.Now, func(a *account.Account) error {
		if !a.Honors(st.Current.Session) || a.State.Blocked != nil || len(a.CredentialsOf(mfa.Push)) == 0 {
			return ErrStep
		}
		counted, err := a.Codes(mfa.Push, lane).ChargePrompt(c.Now)
		if err == nil {
			a.SetCodes(mfa.Push, lane, counted)
		}
		return err
	})
	if wait := (*throttle.WaitError)(nil); errors.As(err, &wait) {
		s.factorRefused(c, st, mfa.Push, err)
	}
	if err != nil {
		return st, err
	}
	prompt := push.Prompt{Epoch: a.State.Epoch, Application: c.Application, Host: c.Host, Browser: s.browserName(c), Country: c.Country, Stay: c.Asks.Stay, Remember: c.Asks.Remember}
	if c.Address.IsValid() {
		prompt.Address = c.Address.String()
		if s.Country != nil && !c.CountryKnown {
			prompt.Country, _ = s.Country(c.Address)
		}
	}
	if err := s.Phones.save(ctx, st.User.ID, sessionID, push.NewPrompt(prompt, c.Now), store.Any); err != nil {
		return st, fmt.Errorf("saving prompt: %w", err)
	}
	s.audit(c, audit.Event{Type: audit.PushAsked, User: st.User.Canonical, UserID: st.User.ID, Session: sessionID, Method: mfa.Push})
	s.notify(st.User, a)
	return st, nil
}

// notify tells the phones that there is something to see, where that can be.
func (s *Service) notify(user *mfa.User, a *account.Account) {
	if s.Phones.Notifier == nil {
		return
	}
	for _, c := range a.CredentialsOf(mfa.Push) {
		d, err := push.Read(c)
		if err != nil || d.Subscription == nil {
			continue
		}
		s.Phones.Notifier.Notify(*d.Subscription, s.Phones.Notice(user.Language), func() { s.unsubscribe(user.ID, c.ID, *d.Subscription) })
	}
}

// unsubscribe forgets where a phone's notifications were left, unless it has named another place since.
func (s *Service) unsubscribe(user mfa.UserID, credential string, gone push.Subscription) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err := s.Accounts.Update(ctx, user, time.Now(), func(a *account.Account) error {
		c, ok := a.Credential(credential)
		d, err := push.Read(c)
		if !ok || err != nil || d.Subscription == nil || *d.Subscription != gone {
			return nil
		}
		d.Subscription = nil
		if err := d.Write(&c); err != nil {
			return err
		}
		a.Put(c)
		return nil
	})
	if err != nil {
		s.Log.Warn("forgetting where a phone's notifications went", "error", err) // the next one finds out again
	}
}

// Prompt gives what the phones were asked in this session, for its page, while that can be answered or was.
func (s *Service) Prompt(ctx context.Context, c Client, st State) (push.Prompt, bool, error) {
	if s.Phones == nil || st.User == nil || st.Account == nil {
		return push.Prompt{}, false, nil
	}
	p, version, err := s.Phones.load(ctx, st.User.ID, st.Current.Session.ID, c.Now)
	return p, version != 0 && p.Epoch == st.Account.State.Epoch && (p.Outcome != "" || p.Waits(c.Now)), err
}

// FinishPush makes what the phone has answered a proof, once. The error is ErrStep, ErrWaiting, ErrExpired, ErrWrong (another number was
// typed), ErrReported, or wraps store.ErrUnavailable or directory.ErrUnavailable.
func (s *Service) FinishPush(ctx context.Context, c Client, sessionID string) (State, Cookies, error) {
	st, err := s.State(ctx, c)
	if err != nil {
		return State{}, Cookies{}, err
	}
	if s.Phones == nil || !s.mayProve(st, sessionID, mfa.Push, c.Now) {
		return st, Cookies{}, ErrStep
	}
	prompt, version, err := s.Phones.load(ctx, st.User.ID, sessionID, c.Now)
	switch {
	case err != nil:
		return st, Cookies{}, err
	case version == 0:
		return st, Cookies{}, ErrExpired
	case prompt.Waits(c.Now):
		return st, Cookies{}, ErrWaiting
	}
	// Taken before it counts: of all who ask at once, on whichever machine, one gets it.
	_, err = s.Phones.store.Commit(ctx, store.Commit{Partition: session.Partition(st.User.ID), Changes: []store.Change{{Key: promptPrefix + sessionID, Op: store.Delete, If: version}}})
	switch {
	case errors.Is(err, store.ErrConflict):
		return st, Cookies{}, ErrStep
	case err != nil:
		return st, Cookies{}, fmt.Errorf("taking prompt: %w", err)
	}
	switch prompt.Outcome {
	case push.Approved:
	case push.Denied:
		s.failed(c, st.User, st.Current.Proofs, audit.Status{ErrorCode: audit.CodeMFADenied, FailureReason: "The user reported the sign-in as not his own."})
		return st, Cookies{}, ErrReported
	case push.Mistyped:
		s.failed(c, st.User, st.Current.Proofs, audit.Status{ErrorCode: audit.CodeMFADenied, FailureReason: "Authentication failed during strong authentication request."})
		return st, Cookies{}, ErrWrong
	default:
		return st, Cookies{}, ErrExpired
	}
	lane := s.Browsers.Lane(c.Browser, st.User, st.Account, c.Now)
	c.Asks = Wishes{Stay: prompt.Stay, Remember: prompt.Remember}
	keep := s.newBrowser(c, st, mfa.Push)
	a, err := s.Accounts.Update(ctx, st.User.ID, c.Now, func(a *account.Account) error {
		used, ok := a.Credential(prompt.Credential)
		if !ok || used.Method != mfa.Push || !a.Honors(st.Current.Session) || a.State.Blocked != nil || a.State.Epoch != prompt.Epoch {
			return ErrStep // the phone was taken away in the meantime, or something else has changed
		}
		used.LastUsed = c.Now
		a.Put(used)
		a.SetCodes(mfa.Push, lane, throttle.Codes{})
		keep.in(a)
		return nil
	})
	if err != nil {
		return st, Cookies{}, err
	}
	s.audit(c, audit.Event{Type: audit.FactorAccepted, User: st.User.Canonical, UserID: st.User.ID, Session: sessionID, Method: mfa.Push, Credential: prompt.Credential})
	proof := mfa.Proof{Method: mfa.Push, At: c.Now, Credential: prompt.Credential}
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

// Said is what a phone says: which it is, and a signature with its key.
type Said struct {
	Handle    string // that it was given when it was connected
	At        int64  // when, in seconds since 1970; where that is part of it
	Signature []byte
}

// PhonePrompt is a prompt as its phone shows it. The number is not part of it.
type PhonePrompt struct {
	ID, Application, Host, Browser, Address, Country string
	Made, Expires                                    time.Time
}

// phone finds the phone that says something, and whose it is. The error is ErrPhone, or a fault.
func (s *Service) phone(ctx context.Context, text string) (handle, push.Device, *mfa.User, *account.Account, error) {
	fail := func(err error) (handle, push.Device, *mfa.User, *account.Account, error) {
		return handle{}, push.Device{}, nil, nil, err
	}
	if s.Phones == nil {
		return fail(ErrPhone)
	}
	h, err := readHandle(s.Phones.handles, text)
	if err != nil {
		return fail(err)
	}
	user, a, err := s.owner(ctx, h.User)
	if err != nil {
		return fail(err)
	}
	c, ok := a.Credential(h.ID)
	if !ok || c.Method != mfa.Push {
		return fail(ErrPhone)
	}
	d, err := push.Read(c)
	if err != nil {
		return fail(err)
	}
	return h, d, user, a, nil
}

// owner gives a person whom nothing keeps from signing in, and his account with the factors' data. The error is ErrPhone, or a fault.
func (s *Service) owner(ctx context.Context, id mfa.UserID) (*mfa.User, *account.Account, error) {
	user, err := s.Users.ByID(ctx, id)
	if err != nil {
		if Unavailable(err) {
			return nil, nil, err
		}
		return nil, nil, ErrPhone
	}
	a, err := s.Accounts.Load(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	if user.Disabled || a.State.Blocked != nil {
		return nil, nil, ErrPhone
	}
	return user, a, nil
}

// PhonePrompts lists what the person of a phone is asked at the moment, the newest first. again is another handle that the phone keeps in
// place of its own; empty: it keeps what it has. The error is ErrPhone, or wraps store.ErrUnavailable or directory.ErrUnavailable.
func (s *Service) PhonePrompts(ctx context.Context, c Client, said Said) (prompts []PhonePrompt, again string, err error) {
	h, d, user, a, err := s.phone(ctx, said.Handle)
	if err != nil {
		return nil, "", err
	}
	if d.SignedNow(c.Now, said.At, said.Signature, "poll", c.Origin) != nil {
		return nil, "", ErrPhone
	}
	if sealed, err := base64.RawURLEncoding.DecodeString(said.Handle); err == nil && s.Phones.handles.Stale(sealed) {
		again = writeHandle(s.Phones.handles, h)
	}
	records, err := s.Phones.store.List(ctx, session.Partition(user.ID), promptPrefix)
	if err != nil {
		return nil, "", fmt.Errorf("loading prompts: %w", err)
	}
	for _, r := range records {
		sessionID := strings.TrimPrefix(r.Key, promptPrefix)
		p, err := s.Phones.open(r, user.ID, sessionID)
		if err != nil {
			return nil, "", err
		}
		if !p.Waits(c.Now) || p.Epoch != a.State.Epoch {
			continue
		}
		prompts = append(prompts, PhonePrompt{sessionID + "." + p.ID, p.Application, p.Host, p.Browser, p.Address, p.Country, p.Made, p.Expires()})
	}
	slices.SortFunc(prompts, func(x, y PhonePrompt) int { return y.Made.Compare(x.Made) })
	return prompts, again, nil
}

// AnswerPrompt judges what is answered on a phone, once. decision is push.Approve or push.Deny, with the number that was typed. The error is
// ErrPhone, ErrStep (nobody asks that any more), ErrReplayed, ErrExpired, ErrWrong (another number; it has been judged), push.ErrMalformed,
// or wraps store.ErrUnavailable or directory.ErrUnavailable.
func (s *Service) AnswerPrompt(ctx context.Context, c Client, said Said, prompt, decision, typed string) error {
	h, d, user, a, err := s.phone(ctx, said.Handle)
	if err != nil {
		return err
	}
	sessionID, id, _ := strings.Cut(prompt, ".")
	if store.CheckName("session", sessionID) != nil {
		return push.ErrMalformed
	}
	var judged push.Prompt
	ended := false
	err = store.Retry(ctx, func() error {
		p, version, err := s.Phones.load(ctx, user.ID, sessionID, c.Now)
		switch {
		case err != nil:
			return err
		case version == 0:
			return ErrExpired
		case p.ID != id, p.Epoch != a.State.Epoch:
			return ErrStep // another was asked in its place
		}
		if err := p.Answer(d, h.ID, c.Origin, decision, typed, said.Signature, c.Now); err != nil {
			return err
		}
		alive, err := s.alive(ctx, user.ID, sessionID, a, c.Now)
		if err != nil {
			return err
		}
		if ended = !alive && p.Outcome == push.Approved; ended {
			p.Outcome = push.Mistyped // it lets nobody in, and the phone doesn't ask it again
		}
		judged = p
		return s.Phones.save(ctx, user.ID, sessionID, p, version)
	})
	switch {
	case errors.Is(err, push.ErrSignature):
		return ErrPhone
	case err != nil:
		return err
	case ended:
		return ErrStep
	}
	event := audit.Event{User: user.Canonical, UserID: user.ID, Session: sessionID, Method: mfa.Push, Credential: h.ID}
	c.Application = judged.Application
	switch judged.Outcome {
	case push.Denied:
		event.Type, event.Reason = audit.SuspiciousReported, "denied on the phone"
		s.audit(c, event)
	case push.Mistyped:
		event.Type, event.Reason = audit.FactorRefused, "wrong number"
		s.audit(c, event)
		return ErrWrong
	}
	return nil
}

// alive says whether a session has not ended.
func (s *Service) alive(ctx context.Context, user mfa.UserID, sessionID string, a *account.Account, now time.Time) (bool, error) {
	sessions, err := s.Sessions.List(ctx, user, now)
	return slices.ContainsFunc(sessions, func(ses *mfa.Session) bool { return ses.ID == sessionID && a.Honors(ses) }), err
}

// Subscribe notes where a phone's notifications are left; nil: nowhere. The error is ErrPhone, push.ErrMalformed, or wraps
// store.ErrUnavailable or directory.ErrUnavailable.
func (s *Service) Subscribe(ctx context.Context, c Client, said Said, to *push.Subscription) error {
	h, d, _, _, err := s.phone(ctx, said.Handle)
	if err != nil {
		return err
	}
	endpoint := ""
	if to != nil {
		endpoint = to.Endpoint
	}
	if d.SignedNow(c.Now, said.At, said.Signature, "subscribe", c.Origin, endpoint) != nil {
		return ErrPhone
	}
	if to != nil {
		if s.Phones.Notifier == nil {
			return push.ErrMalformed
		}
		if err := s.Phones.Notifier.Check(*to); err != nil {
			return fmt.Errorf("%w: %w", push.ErrMalformed, err)
		}
	}
	_, err = s.Accounts.Update(ctx, h.User, c.Now, func(a *account.Account) error {
		kept, ok := a.Credential(h.ID)
		if !ok {
			return ErrPhone
		}
		d, err := push.Read(kept)
		if err != nil {
			return err
		}
		d.Subscription = to
		if err := d.Write(&kept); err != nil {
			return err
		}
		a.Put(kept)
		return nil
	})
	return err
}

// PairingLink gives what the QR code of a registration holds behind the address of the phone's page.
func (s *Service) PairingLink(st State, ch mfa.Challenge) (string, error) {
	p, err := push.PairingOf(ch.State)
	if err != nil || s.Phones == nil {
		return "", errors.Join(ErrStep, err)
	}
	return writeHandle(s.Phones.links, handle{User: st.User.ID, ID: st.Current.Session.ID, Link: p.Nonce}), nil
}

// Paired is what a phone is told that was connected.
type Paired struct {
	Handle string
	User   string // whose it is
	Host   string
}

// Pair connects the phone that has opened a link, with the key that it has made. It counts once the number was typed on it that the page
// shows on which the registration was begun, and that page has asked. The error is ErrExpired (also for a link that was used), ErrPhone,
// push.ErrMalformed, or wraps store.ErrUnavailable or directory.ErrUnavailable.
func (s *Service) Pair(ctx context.Context, c Client, link string, key, signature []byte) (Paired, error) {
	id := account.NewCredentialID()
	h, user, err := s.paired(ctx, c, link, func(h handle, ch *mfa.Challenge) (err error) {
		ch.State, err = push.Pair(ch.State, h.Link, link, id, s.browserName(c), c.Origin, key, signature)
		return err
	})
	if err != nil {
		return Paired{}, err
	}
	return Paired{writeHandle(s.Phones.handles, handle{User: h.User, ID: id}), user.Name, c.Host}, nil
}

// ConfirmPairing judges the number that was typed on a phone that was just connected, once: a wrong one ends the registration. The error is
// ErrExpired, ErrPhone, ErrWrong, or wraps store.ErrUnavailable or directory.ErrUnavailable.
func (s *Service) ConfirmPairing(ctx context.Context, c Client, link, typed string, signature []byte) error {
	var judged error
	h, user, err := s.paired(ctx, c, link, func(h handle, ch *mfa.Challenge) error {
		state, err := push.Confirm(ch.State, h.Link, link, typed, c.Origin, signature)
		if judged = err; errors.Is(err, mfa.ErrWrong) {
			*ch = mfa.Challenge{} // which ends it
			return nil
		}
		ch.State = state
		return err
	})
	if err != nil {
		return err
	}
	if judged != nil {
		s.audit(c, audit.Event{Type: audit.FactorRefused, User: user.Canonical, UserID: user.ID, Session: h.ID, Method: mfa.Push, Reason: "wrong number"})
	}
	return judged
}

// paired changes the registration that a link belongs to, if that goes on: the link is one of ours, its session has not ended, and nothing
// about the account has changed.
func (s *Service) paired(ctx context.Context, c Client, link string, change func(handle, *mfa.Challenge) error) (handle, *mfa.User, error) {
	if s.Phones == nil {
		return handle{}, nil, ErrPhone
	}
	h, err := readHandle(s.Phones.links, link)
	if err != nil {
		return handle{}, nil, err
	}
	user, a, err := s.owner(ctx, h.User)
	if err != nil {
		return handle{}, nil, err
	}
	alive, err := s.alive(ctx, user.ID, h.ID, a, c.Now)
	if err != nil {
		return handle{}, nil, err
	}
	if !alive {
		return handle{}, nil, ErrExpired
	}
	err = s.Pending.change(ctx, &mfa.Session{ID: h.ID, User: h.User}, c.Now, func(ch *mfa.Challenge) error {
		if ch.Method != mfa.Push || ch.Epoch != a.State.Epoch {
			return ErrStep
		}
		return change(h, ch)
	})
	switch {
	case errors.Is(err, ErrStep), errors.Is(err, ErrReplayed), errors.Is(err, ErrWrong):
		return handle{}, nil, ErrExpired
	case errors.Is(err, push.ErrSignature):
		return handle{}, nil, ErrPhone
	}
	return h, user, err
}

// change changes the challenge of a session's registration, over the version that was read; a zero one ends it. The error is ErrStep if
// there is none.
func (p *Pending) change(ctx context.Context, s *mfa.Session, now time.Time, change func(*mfa.Challenge) error) error {
	err := store.Retry(ctx, func() error {
		ch, version, err := p.load(ctx, pendingPrefix, p.registrations, s, now)
		if err != nil {
			return err
		}
		if err := change(&ch); err != nil {
			return err
		}
		next := store.Change{Key: pendingPrefix + s.ID, Op: store.Delete, If: version}
		if ch.Method != "" {
			plain, err := json.Marshal(ch)
			if err != nil {
				return err
			}
			next = store.Change{Key: pendingPrefix + s.ID, If: version, Value: p.registrations.Seal(plain, s.User.String(), s.ID), Expires: ch.Expires}
		}
		_, err = p.store.Commit(ctx, store.Commit{Partition: session.Partition(s.User), Changes: []store.Change{next}})
		return err
	})
	if err != nil && errors.Is(err, store.ErrUnavailable) {
		err = fmt.Errorf("changing registration: %w", err)
	}
	return err
}
