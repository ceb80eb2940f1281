package signin

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
)

// ErrCredential says that user name and password can't be sent with HTTP Basic.
var ErrCredential = errors.New("this can't be sent to the application")

// UpstreamApplication is an application with which a person may store his own user name and password there.
type UpstreamApplication struct {
	Name   string
	Stored time.Time // zero: nothing is stored
	Wanted bool      // the application is given what is stored
}

// UpstreamApplications lists the applications that want a user's own credential, and those for which one is stored though they don't
// any more, sorted.
func (s *Service) UpstreamApplications(st State) []UpstreamApplication {
	var list []UpstreamApplication
	for _, name := range s.Upstreams {
		list = append(list, UpstreamApplication{Name: name, Wanted: true})
	}
	for _, u := range st.Account.Upstreams() {
		i := slices.IndexFunc(list, func(a UpstreamApplication) bool { return a.Name == u.Application })
		if i < 0 {
			list = append(list, UpstreamApplication{Name: u.Application})
			i = len(list) - 1
		}
		list[i].Stored = u.Stored
	}
	slices.SortFunc(list, func(x, y UpstreamApplication) int { return strings.Compare(x.Name, y.Name) })
	return list
}

// MayStoreUpstream says whether the person may store or remove a credential now. The error is ErrStep, also for who has no second factor,
// or ErrNotFresh.
func (st State) MayStoreUpstream(now time.Time) error {
	switch {
	case st.Step != Done || !st.Account.Registered() || !st.Current.Latest():
		return ErrStep
	case !st.HasFresh(now):
		return ErrNotFresh
	}
	return nil
}

// StoreUpstream stores the person's own user name and password in an application, with a fresh proof. The error is ErrStep, ErrNotFresh,
// ErrCredential, account.ErrTooManyUpstreams, or wraps store.ErrUnavailable or directory.ErrUnavailable.
func (s *Service) StoreUpstream(ctx context.Context, c Client, sessionID, application, user, password string) (Cookies, error) {
	if !slices.Contains(s.Upstreams, application) {
		return Cookies{}, ErrStep
	}
	if account.CheckUpstream(user, password) != nil {
		return Cookies{}, ErrCredential // before the proof is spent
	}
	return s.changeUpstream(ctx, c, sessionID, audit.Event{Type: audit.UpstreamStored, Application: application}, func(a *account.Account) error {
		return s.Accounts.SetUpstream(a, application, user, password, c.Now)
	})
}

// RemoveUpstream forgets the person's credential of an application, with a fresh proof. Errors are those of StoreUpstream.
func (s *Service) RemoveUpstream(ctx context.Context, c Client, sessionID, application string) (Cookies, error) {
	return s.changeUpstream(ctx, c, sessionID, audit.Event{Type: audit.UpstreamRemoved, Application: application}, func(a *account.Account) error {
		err := a.RemoveUpstream(application)
		if errors.Is(err, account.ErrNoUpstream) {
			return ErrStep // gone already
		}
		return err
	})
}

// changeUpstream spends a fresh proof on a change that is no change of factors: other sessions go on.
func (s *Service) changeUpstream(ctx context.Context, c Client, sessionID string, event audit.Event, change func(*account.Account) error) (Cookies, error) {
	st, err := s.State(ctx, c)
	if err != nil {
		return Cookies{}, err
	}
	if st.User == nil || st.Current.Session.ID != sessionID {
		return Cookies{}, ErrStep
	}
	if err := st.MayStoreUpstream(c.Now); err != nil {
		return Cookies{}, err
	}
	st, cookie, err := s.spend(ctx, c, st)
	if err != nil {
		return Cookies{}, err
	}
	// From here on the token is new, and must reach the browser, whatever happens.
	cookies := Cookies{Session: cookie, Persist: persist(&st, c.Now)}
	if _, err := s.Accounts.Update(ctx, st.User.ID, c.Now, func(a *account.Account) error {
		if !a.Honors(st.Current.Session) {
			return ErrStep
		}
		return change(a)
	}); err != nil {
		return cookies, err
	}
	event.User, event.UserID, event.Session = st.User.Canonical, st.User.ID, sessionID
	event.Host, event.Address, event.Reference = c.Host, c.Address, c.Reference
	s.Sink.Audit(event) // of another application than the one that the page belongs to
	return cookies, nil
}
