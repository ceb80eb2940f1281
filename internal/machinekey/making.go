package machinekey

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

const (
	// MaxAppPasswords is how many app passwords a user can have that are good.
	MaxAppPasswords = 40

	// MaxName is the length of the longest name of an app password, in bytes.
	MaxName = 64

	// MinLifetime is how long an app password lasts at least.
	MinLifetime = time.Minute

	// maxScope is how many ranges, methods and paths each an app password can be bound to.
	maxScope = 16
)

var (
	// ErrTooMany says that a user has as many app passwords as there can be.
	ErrTooMany = fmt.Errorf("a user has at most %d app passwords; revoke one first", MaxAppPasswords)

	// ErrName, ErrApplication, ErrExpires and ErrScope say what is wrong with the wish for an app password.
	ErrName        = fmt.Errorf("the name must be one line of 1 to %d bytes, which says where the app password is used", MaxName)
	ErrApplication = errors.New("the application takes no app passwords of this user")
	ErrExpires     = errors.New("the app password can't end then")
	ErrScope       = errors.New("the app password can't be bound to this")

	// ErrNoKey says that there is no such key.
	ErrNoKey = errors.New("there is no such key")
)

// Wish is an app password that somebody wants.
type Wish struct {
	Name        string
	Application string
	Expires     time.Time // zero: after the usual time
	From        []netip.Prefix
	Methods     []string
	Paths       []string // valid in the notation of `bypass`
	By          string   // who makes it, if not its owner: admin
}

// Takes says whether an application takes app passwords of the owner of an account.
func (s *Service) Takes(application string, a *account.Account) bool {
	app, ok := s.Applications[application]
	return ok && s.allowed(app.AppPasswords, a)
}

// Takers lists the applications that take app passwords of the owner of an account, sorted.
func (s *Service) Takers(a *account.Account) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(s.Applications)) {
		if s.Takes(name, a) {
			names = append(names, name)
		}
	}
	return names
}

// Check says whether a wish of a user can be met: nil, or an error of Put.
func (s *Service) Check(a *account.Account, user *mfa.User, w Wish, now time.Time) error {
	if _, err := s.check(a, w, now); err != nil {
		return err
	}
	if len(s.Usable(user, a, now)) >= MaxAppPasswords {
		return ErrTooMany
	}
	return nil
}

// Put makes an app password of a user in his account, which is being changed, and gives the secret that is shown once. What has ended makes
// room. The error is ErrTooMany, ErrName, ErrApplication, ErrExpires or ErrScope.
func (s *Service) Put(a *account.Account, user *mfa.User, w Wish, now time.Time) (*account.AppPassword, string, error) {
	p, err := s.check(a, w, now)
	if err != nil {
		return nil, "", err
	}
	a.RemoveAppPasswords(func(old *account.AppPassword) bool { return s.ended(user, old, now) != "" })
	if len(a.AppPasswords) >= MaxAppPasswords {
		return nil, "", ErrTooMany
	}
	p.ID, p.Mark = random(idLen), user.Mark
	for _, taken := a.AppPassword(p.ID); taken; _, taken = a.AppPassword(p.ID) {
		p.ID = random(idLen)
	}
	text := p.ID + random(secretLen)
	p.Digest = s.passwords.make(passwordParts(a.ID, p, text)...)
	if s.Applications[p.Application].Digest {
		p.HTTPDigest = s.overDigest.seal(user, a.ID, p, grouped(text))
	}
	a.AddAppPassword(p)
	return p, grouped(text), nil
}

// check makes what is kept of a wish, but for what is random.
func (s *Service) check(a *account.Account, w Wish, now time.Time) (*account.AppPassword, error) {
	name := strings.TrimSpace(w.Name)
	if name == "" || len(name) > MaxName || !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool {
		return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029'
	}) {
		return nil, ErrName
	}
	if !s.Takes(w.Application, a) {
		takers := s.Takers(a)
		if len(takers) == 0 {
			return nil, fmt.Errorf("%w, and no other does; write `app_passwords on` into its site", ErrApplication)
		}
		return nil, fmt.Errorf("%w: %q; these do: %s", ErrApplication, w.Application, strings.Join(takers, ", "))
	}
	if w.Expires.IsZero() {
		w.Expires = now.Add(s.Settings.Lifetime)
	}
	if w.Expires.Before(now.Add(MinLifetime)) || w.Expires.After(now.Add(s.Settings.MaxLifetime)) {
		return nil, fmt.Errorf("%w: it ends a minute from now at the earliest and at %s at the latest, not at %s",
			ErrExpires, now.Add(s.Settings.MaxLifetime).UTC().Format(time.RFC3339), w.Expires.UTC().Format(time.RFC3339))
	}
	if len(w.From) > maxScope || len(w.Methods) > maxScope || len(w.Paths) > maxScope {
		return nil, fmt.Errorf("%w: at most %d ranges, methods and paths each", ErrScope, maxScope)
	}
	p := &account.AppPassword{
		Name: name, Application: w.Application, Paths: w.Paths, Made: now, By: w.By,
		Expires: w.Expires.UTC().Truncate(time.Second), // as it is shown
	}
	for _, r := range w.From {
		if !r.IsValid() || r.Bits() == 0 || r.Addr().Is4In6() {
			return nil, fmt.Errorf("%w: %s is no range of addresses; write for example 192.0.2.7 or 10.0.0.0/8", ErrScope, r)
		}
		p.From = append(p.From, r.Masked())
	}
	for _, m := range w.Methods {
		name, ok := methodName(m)
		if !ok {
			return nil, fmt.Errorf("%w: %q is no method; write for example GET", ErrScope, m)
		}
		p.Methods = append(p.Methods, name)
	}
	return p, nil
}

// Usable lists the app passwords of a user that are not ended, the newest first.
func (s *Service) Usable(user *mfa.User, a *account.Account, now time.Time) []*account.AppPassword {
	good := slices.DeleteFunc(slices.Clone(a.AppPasswords), func(p *account.AppPassword) bool { return s.ended(user, p, now) != "" })
	slices.SortFunc(good, func(x, y *account.AppPassword) int { return y.Made.Compare(x.Made) })
	return good
}

// errNothing keeps a change that changes nothing from being written.
var errNothing = errors.New("nothing changes")

// EndOfDisabled takes away the app passwords of users who are disabled, so that they are not good again when the user is enabled, unless
// they outlive that.
func (s *Service) EndOfDisabled(ctx context.Context, now time.Time) error {
	if s.Settings.OutliveDisabling {
		return nil
	}
	users, err := s.Users.Users(ctx)
	if err != nil {
		return fmt.Errorf("ending app passwords of disabled users: %w", err)
	}
	for _, u := range users {
		if !u.Disabled {
			continue
		}
		a, err := s.Accounts.Get(ctx, u.ID)
		if err == nil && len(a.AppPasswords) > 0 {
			err = s.endAll(ctx, u, "disabled", now)
		}
		if err != nil {
			return fmt.Errorf("ending app passwords of disabled users: %w", err)
		}
	}
	return nil
}

func (s *Service) endAll(ctx context.Context, u *mfa.User, reason string, now time.Time) error {
	_, err := s.Accounts.UpdateClosed(ctx, u.ID, now, func(a *account.Account) error {
		if len(a.RemoveAppPasswords(func(*account.AppPassword) bool { return true })) == 0 {
			return errNothing
		}
		return nil
	})
	if errors.Is(err, errNothing) {
		return nil
	}
	if err == nil {
		s.Sink.Audit(audit.Event{Type: audit.AppPasswordsEnded, User: u.Canonical, UserID: u.ID, Reason: reason})
	}
	return err
}
