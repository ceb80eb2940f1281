// Package admin is what an administrator does to other people's accounts, and asks about policy.
package admin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/directory"
	"github.com/caddy-mfa/caddy-mfa/internal/factor/pass"
	"github.com/caddy-mfa/caddy-mfa/internal/factor/recovery"
	"github.com/caddy-mfa/caddy-mfa/internal/machinekey"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
	"github.com/caddy-mfa/caddy-mfa/internal/seal"
	"github.com/caddy-mfa/caddy-mfa/internal/session"
	"github.com/caddy-mfa/caddy-mfa/internal/throttle"
)

// ErrNoUser says that no directory knows the user.
var ErrNoUser = errors.New("no directory knows this user")

// Service changes accounts. Its fields are set once; it is safe for concurrent use.
type Service struct {
	Users       directory.Directories
	Accounts    *account.Service
	Sessions    *session.Manager
	Passwords   *throttle.Passwords
	Messages    *throttle.Messages // nil: unknown, which only tests are
	Generation  *account.Generation
	Sink        audit.Sink
	Keys        *machinekey.Service
	KeyThrottle *throttle.Passwords // what was tried against keys

	Policy       *policy.Set
	Applications []string  // every one that a site has, sorted
	Country      CountryOf // nil: nobody knows
	Upstreams    []string  // those that want a user's own credential, sorted

	// MailAddresses gives those to which codes of a person go. Nil: there are none.
	MailAddresses func(ctx context.Context, id mfa.UserID) ([]string, error)

	// KnownRole says whether a role is one that nobody need hold. Nil: none is.
	KnownRole func(name string) bool

	// PerUserNoEffect says why the per-user setting has no effect with this configuration. Empty: it has.
	PerUserNoEffect string
}

// Summary is one user in a list.
type Summary struct {
	Name        string           `json:"name"`
	ID          string           `json:"id"`
	DisplayName string           `json:"display_name,omitempty"`
	Disabled    bool             `json:"disabled"`
	Blocked     bool             `json:"blocked"`
	Registered  bool             `json:"registered"`
	PerUser     mfa.PerUserState `json:"per_user_mfa"`
	Methods     []mfa.Method     `json:"methods"`
}

// Details is one user in full, but for what is secret.
type Details struct {
	Summary
	Email         string        `json:"email,omitempty"`
	Groups        []string      `json:"groups"`
	Roles         []string      `json:"roles"`
	Guest         bool          `json:"guest"`
	BlockedAt     time.Time     `json:"blocked_at,omitzero"`
	BlockedReason string        `json:"blocked_reason,omitempty"`
	GraceStarted  time.Time     `json:"grace_started,omitzero"`
	PerUserSince  time.Time     `json:"per_user_mfa_since,omitzero"` // zero while it is disabled
	RegisteredAt  time.Time     `json:"registered_at,omitzero"`
	PassRequired  bool          `json:"pass_required"`
	Locked        []mfa.Method  `json:"locked"`
	Credentials   []Credential  `json:"credentials"`
	RecoveryCodes int           `json:"recovery_codes_left"`
	Upstreams     []Upstream    `json:"upstream_credentials"` // never what they are
	Sessions      []Session     `json:"sessions"`
	AppPasswords  []AppPassword `json:"app_passwords"`
	Browsers      []Browser     `json:"remembered_browsers"`

	// Unreadable says that the factors don't open with our secrets. They must be reset.
	Unreadable bool `json:"unreadable,omitempty"`
}

// Credential is a factor of a user.
type Credential struct {
	ID       string     `json:"id"`
	Method   mfa.Method `json:"method"`
	Added    time.Time  `json:"added"`
	LastUsed time.Time  `json:"last_used,omitzero"`
	Starts   time.Time  `json:"starts,omitzero"`
	Expires  time.Time  `json:"expires,omitzero"`
}

// Browser is one that stands for the second step of a user.
type Browser struct {
	ID        string     `json:"id"`
	Host      string     `json:"host"`
	Method    mfa.Method `json:"method"` // that was proven in it
	UserAgent string     `json:"user_agent,omitempty"`
	Added     time.Time  `json:"added"`
	LastUsed  time.Time  `json:"last_used,omitzero"`
	Expires   time.Time  `json:"expires"`
}

// Session is a session of a user.
type Session struct {
	ID           string    `json:"id"`
	Host         string    `json:"host"`
	Applications []string  `json:"applications"`
	Address      string    `json:"address,omitempty"`
	UserAgent    string    `json:"user_agent,omitempty"`
	Created      time.Time `json:"created"`
	Seen         time.Time `json:"seen"`
	Expires      time.Time `json:"expires"`
	Pending      bool      `json:"pending"`
}

// Pass is a new temporary access pass. It is told once.
type Pass struct {
	User    string    `json:"user"`
	Pass    string    `json:"pass"`
	Starts  time.Time `json:"starts,omitzero"` // zero: at once
	Expires time.Time `json:"expires"`
	Once    bool      `json:"one_time"`
}

// List gives everybody whom the directories know.
func (s *Service) List(ctx context.Context) ([]Summary, error) {
	users, err := s.Users.Users(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]Summary, 0, len(users))
	for _, u := range users {
		a, err := s.Accounts.Get(ctx, u.ID)
		if err != nil {
			return nil, err
		}
		list = append(list, summary(u, a))
	}
	return list, nil
}

func summary(u *mfa.User, a *account.Account) Summary {
	s := Summary{
		Name: u.Name, ID: u.ID.String(), DisplayName: u.DisplayName, Disabled: u.Disabled,
		Blocked: a.State.Blocked != nil, Registered: a.Registered(), PerUser: perUser(a), Methods: []mfa.Method{},
	}
	seen := map[mfa.Method]bool{}
	for _, c := range a.Credentials {
		if !seen[c.Method] {
			seen[c.Method] = true
			s.Methods = append(s.Methods, c.Method)
		}
	}
	return s
}

// Show gives one user.
func (s *Service) Show(ctx context.Context, name string, now time.Time) (*Details, error) {
	u, err := s.find(ctx, name)
	if err != nil {
		return nil, err
	}
	a, err := s.Accounts.Load(ctx, u.ID)
	unreadable := errors.Is(err, seal.ErrOpen)
	if unreadable {
		a, err = s.Accounts.LoadClosed(ctx, u.ID)
	}
	if err != nil {
		return nil, err
	}
	sessions, err := s.Sessions.List(ctx, u.ID, now)
	if err != nil {
		return nil, err
	}
	d := &Details{
		Summary: summary(u, a), Email: u.Email, Groups: list(u.Groups), Roles: list(u.Roles), Guest: u.Guest,
		GraceStarted: a.State.GraceStarted, RegisteredAt: a.State.Registered, PassRequired: a.State.PassRequired,
		Locked: list(a.Locked()), Credentials: []Credential{}, Upstreams: []Upstream{}, Browsers: []Browser{}, Sessions: []Session{}, Unreadable: unreadable,
		AppPasswords: s.appPasswords(u, a, now),
	}
	for _, u := range a.Upstreams() {
		d.Upstreams = append(d.Upstreams, Upstream(u))
	}
	for _, b := range a.Browsers {
		if _, ok := a.Browser(b.ID, now); ok && b.Mark == u.Mark {
			d.Browsers = append(d.Browsers, Browser{b.ID, b.Host, b.Method, b.UserAgent, b.Added, b.LastUsed, b.Expires})
		}
	}
	if b := a.State.Blocked; b != nil {
		d.BlockedAt, d.BlockedReason = b.At, b.Reason
	}
	if d.PerUser != mfa.PerUserDisabled {
		d.PerUserSince = a.State.PerUserSince
	}
	for _, c := range a.Credentials {
		d.Credentials = append(d.Credentials, Credential{c.ID, c.Method, c.Added, c.LastUsed, c.Starts, c.Expires})
		if c.Method == mfa.RecoveryCode && !unreadable {
			left, err := recovery.Left(c)
			if err != nil {
				return nil, err
			}
			d.RecoveryCodes += left
		}
	}
	for _, ses := range sessions {
		if !a.Honors(ses) {
			continue // ended with the factors that it was begun with
		}
		row := Session{
			ID: ses.ID, Host: ses.Host, Applications: list(ses.Applications), UserAgent: ses.UserAgent,
			Created: ses.Created, Seen: ses.Seen, Expires: ses.Expires, Pending: ses.Pending,
		}
		if ses.Address.IsValid() {
			row.Address = ses.Address.String()
		}
		d.Sessions = append(d.Sessions, row)
	}
	return d, nil
}

// list makes an empty list of none, for JSON.
func list[T any](items []T) []T {
	if items == nil {
		return []T{}
	}
	return items
}

func (s *Service) find(ctx context.Context, name string) (*mfa.User, error) {
	canonical, err := mfa.CanonicalName(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoUser, err)
	}
	u, err := s.Users.ByName(ctx, canonical)
	if errors.Is(err, directory.ErrUnknown) {
		return nil, ErrNoUser
	}
	return u, err
}

// change changes a user's account, and notes it.
func (s *Service) change(ctx context.Context, name string, now time.Time, event audit.Event, change func(*account.Account) error) (*mfa.User, error) {
	u, err := s.update(ctx, name, now, change)
	if err != nil {
		return nil, err
	}
	s.note(u, event)
	return u, nil
}

// update changes a user's account. It looks into no factor: who is to be blocked or reset may have some that don't open. The user is
// given also with an error of change.
func (s *Service) update(ctx context.Context, name string, now time.Time, change func(*account.Account) error) (*mfa.User, error) {
	u, err := s.find(ctx, name)
	if err != nil {
		return nil, err
	}
	// An account that was lost must not begin anew by what an administrator does.
	if err := s.Generation.Check(ctx); err != nil {
		return nil, err
	}
	_, err = s.Accounts.UpdateClosed(ctx, u.ID, now, func(a *account.Account) error {
		if a.State.Created.IsZero() {
			a.State.Created, a.State.Name = now, u.Canonical
		}
		return change(a)
	})
	return u, err
}

func (s *Service) note(u *mfa.User, event audit.Event) {
	event.User, event.UserID, event.By = u.Canonical, u.ID, "admin"
	s.Sink.Audit(event)
}

// mailAddresses are those that a user has before a change takes them away, so that he can be told there. Who is reset may have factors that
// don't open: that keeps nobody from resetting him.
func (s *Service) mailAddresses(ctx context.Context, name string) []string {
	u, err := s.find(ctx, name)
	if err != nil || s.MailAddresses == nil {
		return nil
	}
	addresses, err := s.MailAddresses(ctx, u.ID)
	if err != nil {
		return nil
	}
	return addresses
}

// NewPass makes a temporary access pass that is good from start (zero: from now), in place of an older one.
func (s *Service) NewPass(ctx context.Context, name string, start time.Time, lifetime time.Duration, once bool, now time.Time) (*Pass, error) {
	made := &Pass{Once: once}
	u, err := s.change(ctx, name, now, audit.Event{Type: audit.PassMade, Method: mfa.TemporaryAccessPass}, func(a *account.Account) (err error) {
		return putPass(a, made, start, lifetime, now)
	})
	if err != nil {
		return nil, err
	}
	made.User = u.Name
	return made, nil
}

func putPass(a *account.Account, made *Pass, start time.Time, lifetime time.Duration, now time.Time) error {
	c, text, err := pass.New(now, start, lifetime, made.Once)
	if err != nil {
		return err
	}
	c.ID = string(mfa.TemporaryAccessPass)
	a.Put(c)
	// The count belonged to the old pass.
	a.ForgetCodesOf(mfa.TemporaryAccessPass)
	made.Pass, made.Starts, made.Expires = text, c.Starts, c.Expires
	return nil
}

// Reset removes every factor of a user, ends his sessions and his app passwords, and makes a temporary access pass, without which nobody can register
// a new factor for him.
func (s *Service) Reset(ctx context.Context, name string, now time.Time) (*Pass, error) {
	made, ended := &Pass{Once: true}, false
	u, err := s.change(ctx, name, now, audit.Event{Type: audit.FactorsReset, Old: s.mailAddresses(ctx, name)}, func(a *account.Account) error {
		ended = endAppPasswords(a)
		for _, c := range a.Credentials {
			a.Remove(c.ID)
		}
		a.ForgetCodes()
		a.BeginEpoch("")
		a.State.PassRequired = true
		return putPass(a, made, time.Time{}, pass.DefaultLifetime, now)
	})
	if err != nil {
		return nil, err
	}
	s.noteAppPasswordsEnded(u, ended, "reset")
	made.User = u.Name
	return made, s.endSessions(ctx, u)
}

// Block refuses a user everything from now on. His app passwords are not good again when the block is taken away.
func (s *Service) Block(ctx context.Context, name, reason string, now time.Time) error {
	ended := false
	u, err := s.change(ctx, name, now, audit.Event{Type: audit.UserBlocked, Reason: reason}, func(a *account.Account) error {
		ended = endAppPasswords(a)
		if a.State.Blocked == nil {
			a.State.Blocked = &account.Block{At: now, Reason: reason}
			a.BeginEpoch("")
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.noteAppPasswordsEnded(u, ended, "blocked")
	return s.endSessions(ctx, u)
}

// Unblock takes a block away.
func (s *Service) Unblock(ctx context.Context, name string, now time.Time) error {
	_, err := s.change(ctx, name, now, audit.Event{Type: audit.UserUnblocked}, func(a *account.Account) error {
		a.State.Blocked = nil
		return nil
	})
	return err
}

// Unlock forgets the wrong passwords, codes and app passwords that were tried for a user.
func (s *Service) Unlock(ctx context.Context, name string, now time.Time) error {
	u, err := s.change(ctx, name, now, audit.Event{Type: audit.UserUnlocked}, func(a *account.Account) error {
		a.ForgetCodes()
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.KeyThrottle.Unlock(ctx, u.Canonical); err != nil {
		return err
	}
	if s.Messages != nil {
		if err := s.Messages.Forget(ctx, u.ID); err != nil {
			return err
		}
	}
	return s.Passwords.Unlock(ctx, u.Canonical)
}

// SignOut ends every session of a user, and forgets every browser that is remembered for him.
func (s *Service) SignOut(ctx context.Context, name string, now time.Time) error {
	u, err := s.find(ctx, name)
	if err != nil {
		return err
	}
	// In this order: whoever has read his session before is too late for a browser to be remembered.
	if err := s.endSessions(ctx, u); err != nil {
		return err
	}
	_, err = s.Accounts.UpdateClosed(ctx, u.ID, now, func(a *account.Account) error {
		if !a.Exists() {
			return errUnchanged // an account that was lost must not begin anew
		}
		a.ForgetBrowsers()
		return nil
	})
	if err != nil && !errors.Is(err, errUnchanged) {
		return err
	}
	s.Sink.Audit(audit.Event{Type: audit.SessionsEnded, User: u.Canonical, UserID: u.ID, By: "admin"})
	return nil
}

func (s *Service) endSessions(ctx context.Context, u *mfa.User) error {
	return s.Sessions.EndAll(ctx, u.ID)
}

// AcceptAccounts takes an account store that is empty or another one than before.
func (s *Service) AcceptAccounts(ctx context.Context) error {
	if err := s.Generation.Accept(ctx); err != nil {
		return err
	}
	s.Sink.Audit(audit.Event{Type: audit.AccountsAccepted, By: "admin"})
	return nil
}
