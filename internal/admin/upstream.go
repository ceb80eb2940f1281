package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
)

var (
	// ErrUpstream says that a credential of an application can't be stored.
	ErrUpstream = errors.New("the credential can't be stored")

	// ErrNoUpstream says that there is none to remove.
	ErrNoUpstream = account.ErrNoUpstream
)

// Upstream says for which application a user's own credential is stored.
type Upstream struct {
	Application string    `json:"application"`
	Stored      time.Time `json:"stored"`
}

// SetUpstream stores a user's own credential of an application, user:password, in place of an older one. The error is ErrNoUser,
// ErrUpstream, account.ErrReplaced, or wraps store.ErrUnavailable or directory.ErrUnavailable; it says nothing of the credential.
func (s *Service) SetUpstream(ctx context.Context, name, application, credential string, now time.Time) error {
	if !slices.Contains(s.Upstreams, application) {
		return fmt.Errorf("%w: %q is no application with `upstream_basic per_user`; those are: %s", ErrUpstream, application, cmp.Or(strings.Join(s.Upstreams, ", "), "none"))
	}
	user, password, err := account.SplitUpstream(credential)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUpstream, err)
	}
	_, err = s.change(ctx, name, now, audit.Event{Type: audit.UpstreamStored, Application: application}, func(a *account.Account) error {
		return s.Accounts.SetUpstream(a, application, user, password, now)
	})
	if errors.Is(err, account.ErrTooManyUpstreams) {
		err = fmt.Errorf("%w: %w", ErrUpstream, err)
	}
	return err
}

// RemoveUpstream forgets a user's credential of an application. The error is ErrNoUser, ErrNoUpstream, or as with SetUpstream.
func (s *Service) RemoveUpstream(ctx context.Context, name, application string, now time.Time) error {
	_, err := s.change(ctx, name, now, audit.Event{Type: audit.UpstreamRemoved, Application: application}, func(a *account.Account) error {
		return a.RemoveUpstream(application)
	})
	return err
}
