package machinekey

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/directory"
	"github.com/caddy-mfa/caddy-mfa/internal/gate"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/throttle"
)

// attempt begins an attempt with an app password, and gives its user: a stranger if there is none.
func (s *Service) attempt(ctx context.Context, name string, use gate.Use) (attempt, *mfa.User, error) {
	try := attempt{Attempt: throttle.Attempt{User: name, Address: use.Address}}
	try.event = audit.Event{Application: use.Application, Address: use.Address}
	user, err := s.Users.ByName(ctx, name)
	switch {
	case errors.Is(err, directory.ErrUnknown):
		user = stranger(name)
	case err != nil:
		return attempt{}, nil, err
	default:
		try.event.User, try.event.UserID = user.Canonical, user.ID
	}
	try.owner = user.ID.String()
	return try, user, nil
}

// AppPassword judges an app password. name is canonical, or what was typed if it has no canonical form. Whoever is named, and whether
// there is such a user, an attempt costs the same.
func (s *Service) AppPassword(ctx context.Context, name, secret string, use gate.Use) (gate.Holder, error) {
	try, user, err := s.attempt(ctx, name, use)
	if err != nil {
		return gate.Holder{}, err
	}
	try.typed = parse(secret)
	a, p := &account.Account{}, &account.AppPassword{}
	if try.typed.id != "" {
		if a, err = s.Accounts.Get(ctx, user.ID); err != nil {
			return gate.Holder{}, err
		}
		kept, ok := a.AppPassword(try.typed.id)
		if !ok {
			if wait, ok := s.waiting.get(try.place(), use.Now); ok {
				return gate.Holder{}, wait // guesses at ids must not each ask the store
			}
			// It may have been made a moment ago by another process, whose news is on the way.
			if a, err = s.Accounts.LoadClosed(ctx, user.ID); err != nil {
				return gate.Holder{}, err
			}
			kept, ok = a.AppPassword(try.typed.id)
		}
		if ok {
			p, try.Key, try.event.Credential = kept, kept.ID, kept.ID
		}
	}
	parts := passwordParts(user.ID, p, try.typed.text)
	if err := s.prove(ctx, try, use.Now, func() bool { return s.passwords.matches(p.Digest, parts...) }); err != nil {
		return gate.Holder{}, err
	}
	if reason := s.wrongUse(user, a, p, use); reason != "" {
		return gate.Holder{}, s.refused(try.event, reason)
	}
	s.note(try.owner, p.ID, p.LastUsed, use.Now, func(ctx context.Context) error {
		renewed := account.Renewed{HTTPDigest: s.overDigest.renew(user.ID, p)}
		if s.passwords.stale(p.Digest) {
			renewed.Digest = s.passwords.make(parts...)
		}
		return s.Accounts.UseAppPassword(ctx, user.ID, p, use.Now, renewed)
	})
	return gate.Holder{User: user, Account: a, Key: p.ID, Name: p.Name, Expires: p.Expires}, nil
}

// stranger stands in for a user whom no directory knows: looking for his account costs what that of anybody does.
func stranger(name string) *mfa.User {
	sum := sha256.Sum256([]byte(name))
	return &mfa.User{ID: mfa.UserID{Directory: "nobody", ID: hex.EncodeToString(sum[:16])}}
}

// passwordParts is what the digest of an app password is made of: whose it is and what it is good for, so that a record that was moved or
// altered opens nothing.
func passwordParts(owner mfa.UserID, p *account.AppPassword, text string) []string {
	parts := make([]string, 0, 16)
	parts = append(parts, owner.String(), p.ID, p.Application, p.Mark, strconv.FormatInt(p.Expires.UnixMilli(), 10), strconv.Itoa(len(p.From)))
	for _, r := range p.From {
		parts = append(parts, r.String())
	}
	parts = append(append(parts, strconv.Itoa(len(p.Methods))), p.Methods...)
	parts = append(append(parts, strconv.Itoa(len(p.Paths))), p.Paths...)
	return append(parts, text)
}

// wrongUse says why an app password whose secret is right is not good for a use; empty: it is.
func (s *Service) wrongUse(user *mfa.User, a *account.Account, p *account.AppPassword, use gate.Use) string {
	switch {
	case user.Disabled:
		return "disabled"
	case a.State.Blocked != nil:
		return "blocked"
	case s.ended(user, p, use.Now) != "":
		return s.ended(user, p, use.Now)
	case p.Application != use.Application:
		return "application"
	case !s.allowed(use.AppPasswords, a):
		return "off"
	case len(p.From) > 0 && !within(p.From, use.Address):
		return "address"
	case len(p.Methods) > 0 && (!slices.Contains(p.Methods, use.Method) || slices.ContainsFunc(use.Overrides, func(m string) bool {
		return !slices.Contains(p.Methods, strings.ToUpper(strings.TrimSpace(m)))
	})):
		return "method"
	case len(p.Paths) > 0:
		if paths := gate.NewPaths(p.Paths); !paths.Contain(use.Asked) || !paths.Contain(use.Rewritten) || !paths.ContainTargets(use.Destinations) {
			return "path"
		}
	}
	return ""
}

// ended says why an app password is good for nothing any more; empty: it is.
func (s *Service) ended(user *mfa.User, p *account.AppPassword, now time.Time) string {
	switch {
	case !now.Before(p.Expires):
		return "expired"
	case p.Mark != user.Mark && !s.Settings.OutlivePassword:
		return "password changed"
	}
	return ""
}

// allowed says whether a user may use app passwords in an application.
func (s *Service) allowed(application gate.Switch, a *account.Account) bool {
	switch application {
	case gate.On:
		return true
	case gate.Off:
		return false
	}
	return s.PerUser && (a.State.PerUser == mfa.PerUserEnabled || a.State.PerUser == mfa.PerUserEnforced)
}

// Again says whether a key that was good is still good for the same use: nil, gate.ErrWrongKey, or what kept it from finding out. It is
// what open connections are judged by.
func (s *Service) Again(ctx context.Context, h gate.Holder, use gate.Use) error {
	if h.User == nil {
		return gate.ErrWrongKey
	}
	if h.Account == nil {
		return s.tokenAgain(ctx, h, use)
	}
	user, err := s.Users.ByID(ctx, h.User.ID)
	if errors.Is(err, directory.ErrUnknown) {
		return gate.ErrWrongKey
	}
	if err != nil {
		return err
	}
	a, err := s.Accounts.Get(ctx, h.User.ID)
	if err != nil {
		return err
	}
	p, ok := a.AppPassword(h.Key)
	if !ok || s.wrongUse(user, a, p, use) != "" {
		return gate.ErrWrongKey
	}
	return nil
}

// methodName bounds what is kept of a method's name.
func methodName(text string) (string, bool) {
	text = strings.ToUpper(text)
	if text == "" || len(text) > 32 {
		return "", false
	}
	for _, c := range text {
		if c != '-' && (c < 'A' || c > 'Z') {
			return "", false
		}
	}
	return text, true
}
