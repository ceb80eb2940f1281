package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// ErrState says that a text is no state of the per-user setting.
var ErrState = errors.New("the state is disabled, enabled or enforced")

// errUnchanged keeps a change that changes nothing from being written and noted.
var errUnchanged = errors.New("nothing changes")

// StateChange is what became of a user's own setting of multi-factor authentication.
type StateChange struct {
	User    string           `json:"user"`
	Before  mfa.PerUserState `json:"before"`
	State   mfa.PerUserState `json:"state"`
	Changed bool             `json:"changed"`

	// NoEffect says why the setting has no effect with the configuration that is in force. Empty: it has.
	NoEffect string `json:"no_effect,omitempty"`
}

// ParseState reads a state, however its letters are written. The error is ErrState.
func ParseState(text string) (mfa.PerUserState, error) {
	switch state := mfa.PerUserState(strings.ToLower(strings.TrimSpace(text))); state {
	case mfa.PerUserDisabled, mfa.PerUserEnabled, mfa.PerUserEnforced:
		return state, nil
	}
	return "", fmt.Errorf("%w, not %q", ErrState, text)
}

// SetState makes a user's own setting of multi-factor authentication. Enabling somebody who has registered enforces it. The time to
// register runs from when he was first asked: making the setting again doesn't give more.
func (s *Service) SetState(ctx context.Context, name string, state mfa.PerUserState, now time.Time) (*StateChange, error) {
	if _, err := ParseState(string(state)); err != nil {
		return nil, err
	}
	made := &StateChange{NoEffect: s.PerUserNoEffect}
	u, err := s.update(ctx, name, now, func(a *account.Account) error {
		made.Before, made.State = perUser(a), state
		if state == mfa.PerUserEnabled && a.Registered() {
			made.State = mfa.PerUserEnforced
		}
		if made.Changed = made.State != made.Before; !made.Changed {
			return errUnchanged
		}
		a.State.PerUser = made.State
		a.ForgetBrowsers()
		if a.State.PerUserSince.IsZero() || !a.State.Registered.IsZero() {
			a.State.PerUserSince = now
		}
		return nil
	})
	if err != nil && !errors.Is(err, errUnchanged) {
		return nil, err
	}
	made.User = u.Name
	if made.Changed {
		s.note(u, audit.Event{Type: audit.PerUserChanged, Reason: string(made.State)})
	}
	return made, nil
}

func perUser(a *account.Account) mfa.PerUserState {
	return cmp.Or(a.State.PerUser, mfa.PerUserDisabled)
}
