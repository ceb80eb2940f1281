package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/machinekey"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// ErrUserRefused says that a user can't be given anything: he is disabled or blocked.
var ErrUserRefused = errors.New("the user is disabled or blocked")

// AppPassword is one of a user's, without its secret.
type AppPassword struct {
	ID          string         `json:"id"`
	Name        string         `json:"name"`
	Application string         `json:"application"`
	From        []netip.Prefix `json:"from"`
	Methods     []string       `json:"methods"`
	Paths       []string       `json:"paths"`
	Made        time.Time      `json:"made"`
	By          string         `json:"by,omitempty"` // admin; empty: the user himself
	Expires     time.Time      `json:"expires"`
	LastUsed    time.Time      `json:"last_used,omitzero"`
	Digest      bool           `json:"digest,omitempty"` // it is good over HTTP Digest, too
}

// NewAppPassword is a new app password of a user. It is told once.
type NewAppPassword struct {
	User   string `json:"user"`
	Secret string `json:"secret"`
	AppPassword
}

// ServiceToken is one that is configured, or of which something is kept all the same.
type ServiceToken struct {
	Name         string               `json:"name"`
	User         string               `json:"user"`
	Configured   bool                 `json:"configured"`
	Expires      time.Time            `json:"expires,omitzero"`
	Applications []string             `json:"applications"`
	Secrets      []ServiceTokenSecret `json:"secrets"`
}

// ServiceTokenSecret is a secret of a service token, without what is secret of it.
type ServiceTokenSecret struct {
	ID       string    `json:"id"`
	Made     time.Time `json:"made"`
	LastUsed time.Time `json:"last_used,omitzero"`
}

// NewServiceTokenSecret is a new secret of a service token. It is told once.
type NewServiceTokenSecret struct {
	Name    string    `json:"name"`
	ID      string    `json:"id"`
	Secret  string    `json:"secret"`
	Expires time.Time `json:"expires"`
}

func appPassword(p *account.AppPassword) AppPassword {
	return AppPassword{p.ID, p.Name, p.Application, list(p.From), list(p.Methods), list(p.Paths), p.Made, p.By, p.Expires, p.LastUsed, len(p.HTTPDigest) > 0}
}

// AppPasswords lists those of a user that have not ended, the newest first.
func (s *Service) AppPasswords(ctx context.Context, name string, now time.Time) ([]AppPassword, error) {
	u, err := s.find(ctx, name)
	if err != nil {
		return nil, err
	}
	a, err := s.Accounts.LoadClosed(ctx, u.ID)
	if err != nil {
		return nil, err
	}
	return s.appPasswords(u, a, now), nil
}

func (s *Service) appPasswords(u *mfa.User, a *account.Account, now time.Time) []AppPassword {
	good := []AppPassword{}
	for _, p := range s.Keys.Usable(u, a, now) {
		good = append(good, appPassword(p))
	}
	return good
}

// AddAppPassword makes one for a user. The error is ErrNoUser, ErrUserRefused, one of machinekey's for a wish, or a fault.
func (s *Service) AddAppPassword(ctx context.Context, name string, w machinekey.Wish, now time.Time) (*NewAppPassword, error) {
	u, err := s.find(ctx, name)
	if err != nil {
		return nil, err
	}
	w.By = "admin"
	var p *account.AppPassword
	var secret string
	_, err = s.update(ctx, name, now, func(a *account.Account) (err error) {
		if u.Disabled || a.State.Blocked != nil {
			return ErrUserRefused
		}
		p, secret, err = s.Keys.Put(a, u, w, now)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.note(u, audit.Event{Type: audit.AppPasswordMade, Application: p.Application, Credential: p.ID})
	return &NewAppPassword{u.Name, secret, appPassword(p)}, nil
}

// RevokeAppPasswords ends one app password of a user, or all of them for the empty id, and gives the ids of those that have ended. The
// error is ErrNoUser, machinekey.ErrNoKey, or a fault.
func (s *Service) RevokeAppPasswords(ctx context.Context, name, id string, now time.Time) ([]string, error) {
	var ended []*account.AppPassword
	u, err := s.update(ctx, name, now, func(a *account.Account) error {
		ended = a.RemoveAppPasswords(func(p *account.AppPassword) bool { return id == "" || p.ID == id })
		if len(ended) == 0 {
			return machinekey.ErrNoKey
		}
		return nil
	})
	if errors.Is(err, machinekey.ErrNoKey) && id != "" {
		return nil, fmt.Errorf("%w: %s has no app password %q", err, u.Name, id)
	}
	if errors.Is(err, machinekey.ErrNoKey) {
		return nil, fmt.Errorf("%w: %s has no app passwords", err, u.Name)
	}
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, p := range ended {
		ids = append(ids, p.ID)
		s.note(u, audit.Event{Type: audit.AppPasswordRevoked, Application: p.Application, Credential: p.ID})
	}
	return ids, nil
}

// endAppPasswords takes all away while an account is being changed, and says whether there were any.
func endAppPasswords(a *account.Account) bool {
	return len(a.RemoveAppPasswords(func(*account.AppPassword) bool { return true })) > 0
}

func (s *Service) noteAppPasswordsEnded(u *mfa.User, ended bool, reason string) {
	if ended {
		s.note(u, audit.Event{Type: audit.AppPasswordsEnded, Reason: reason})
	}
}

// ServiceTokens lists those that are configured, and those of which something is kept though they are not.
func (s *Service) ServiceTokens(ctx context.Context) ([]ServiceToken, error) {
	kept, err := s.Keys.Secrets(ctx)
	if err != nil {
		return nil, err
	}
	byName := map[string]*ServiceToken{}
	for name, t := range s.Keys.Tokens {
		byName[name] = &ServiceToken{Name: name, User: t.User().Name, Configured: true, Expires: t.Expires, Applications: list(t.Applications), Secrets: []ServiceTokenSecret{}}
	}
	for _, secret := range kept {
		t := byName[secret.Token]
		if t == nil {
			t = &ServiceToken{Name: secret.Token, User: machinekey.Token{Name: secret.Token}.User().Name, Applications: []string{}}
			byName[secret.Token] = t
		}
		t.Secrets = append(t.Secrets, ServiceTokenSecret{secret.ID, secret.Made, secret.LastUsed})
	}
	tokens := make([]ServiceToken, 0, len(byName))
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		tokens = append(tokens, *byName[name])
	}
	return tokens, nil
}

// AddServiceToken makes a secret of a service token that is configured.
func (s *Service) AddServiceToken(ctx context.Context, name string, now time.Time) (*NewServiceTokenSecret, error) {
	made, text, err := s.Keys.NewSecret(ctx, name, now)
	if err != nil {
		return nil, err
	}
	return &NewServiceTokenSecret{name, made.ID, text, s.Keys.Tokens[name].Expires}, nil
}

// RevokeServiceToken ends one secret of a service token, or all of them for the empty id.
func (s *Service) RevokeServiceToken(ctx context.Context, name, id string) ([]string, error) {
	return s.Keys.RevokeSecrets(ctx, name, id)
}
