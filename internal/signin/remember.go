package signin

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// Wishes are what somebody asks beside what he proves. They count where he is offered them, and nowhere else.
type Wishes struct {
	Stay     bool // signed in, for as long as that is offered
	Remember bool // this browser, in place of a second factor
}

// Offer is what somebody may wish who proves something now. Zero: not that.
type Offer struct {
	Stay     time.Duration // for how long he could stay signed in
	Remember time.Duration // for how long this browser could be remembered
}

// Offers says what the person may wish when he proves the method.
func (st State) Offers(method mfa.Method) (o Offer) {
	if st.Step != Verify {
		return Offer{} // he registers, changes a factor, or has got in
	}
	if st.Current.Session.Stay == 0 {
		o.Stay = st.Decision.Offers()
	}
	// A pass and a recovery code are ways in for once.
	if account.Lasting(method) {
		o.Remember = st.Decision.RememberBrowser
	}
	return o
}

// remembered is what a browser holds for one person.
type remembered struct {
	User  mfa.UserID `json:"u"`
	ID    string     `json:"i"` // of the account's record
	Token []byte     `json:"t"`
}

// openRemembered gives what the cookie holds. What was made for another host doesn't open.
func (b *Browsers) openRemembered(cookie, host string) []remembered {
	if cookie == "" || len(cookie) > maxBrowserCookie {
		return nil
	}
	sealed, err := base64.RawURLEncoding.DecodeString(cookie)
	if err != nil {
		return nil
	}
	plain, err := b.remembered.Open(sealed, host)
	if err != nil {
		return nil
	}
	var people []remembered
	if json.Unmarshal(plain, &people) != nil {
		return nil
	}
	return slices.DeleteFunc(people, func(r remembered) bool { return r.User.IsZero() })
}

// sealRemembered gives the cookie value that holds one person more, and the others as far as there is room.
func (b *Browsers) sealRemembered(cookie, host string, r remembered) (string, error) {
	others := slices.DeleteFunc(b.openRemembered(cookie, host), func(old remembered) bool { return old.User == r.User })
	people := append([]remembered{r}, others...)
	for n := min(len(people), maxKnown); ; n-- {
		plain, err := json.Marshal(people[:n])
		if err != nil {
			return "", err
		}
		value := base64.RawURLEncoding.EncodeToString(b.remembered.Seal(plain, host))
		if len(value) <= maxBrowserCookie || n == 1 {
			return value, nil
		}
	}
}

// find finds the browser that the client's cookie stands for, of those that are remembered for the person.
func (s *Service) find(c Client, user *mfa.User, a *account.Account) (account.Browser, bool) {
	for _, r := range s.Browsers.openRemembered(c.Remembered, c.Host) {
		if r.User != user.ID || len(r.Token) != mfa.TokenSize {
			continue
		}
		b, ok := a.Browser(r.ID, c.Now)
		if ok && b.Host == c.Host && b.Mark == user.Mark && b.Token.Equal(mfa.HashToken([mfa.TokenSize]byte(r.Token))) {
			return b, true
		}
	}
	return account.Browser{}, false
}

// proven is what somebody has proven whose password is right: that, and what his browser stands for, as of when that was proven. What
// it is worth, policy says.
func (s *Service) proven(c Client, user *mfa.User, a *account.Account) mfa.Proofs {
	proofs := mfa.Proofs{{Method: mfa.Password, At: c.Now}}
	if b, ok := s.find(c, user, a); ok {
		proofs = append(proofs, mfa.Proof{Method: mfa.RememberedBrowser, At: b.Added, Credential: b.ID, Of: b.Method})
	}
	return proofs
}

// comeBack notes that a remembered browser is in use.
func (s *Service) comeBack(c Client, user *mfa.User, a *account.Account) {
	if b, ok := s.find(c, user, a); ok {
		b.LastUsed = c.Now
		a.PutBrowser(b)
	}
}

// newBrowser is a browser that is to be remembered with a proof, if that is right; nil: none is.
type newBrowser struct {
	account.Browser
	token     [mfa.TokenSize]byte
	replaces  string // id
	forgotten uint64 // account.State.Forgotten, as it was read
	kept      bool
}

// newBrowser makes it if its owner wishes that and is offered it.
func (s *Service) newBrowser(c Client, st State, method mfa.Method) *newBrowser {
	length := st.Offers(method).Remember
	if !c.Asks.Remember || length <= 0 {
		return nil
	}
	n := &newBrowser{forgotten: st.Account.State.Forgotten}
	rand.Read(n.token[:]) // never fails, see crypto/rand
	n.Browser = account.Browser{
		ID: account.NewCredentialID(), Token: mfa.HashToken(n.token), Host: c.Host, Method: method, Added: c.Now, Expires: c.Now.Add(length),
		Epoch: st.Account.State.Epoch, Mark: st.User.Mark, UserAgent: strings.ToValidUTF8(c.UserAgent[:min(len(c.UserAgent), maxUserAgent)], ""),
	}
	if old, ok := s.find(c, st.User, st.Account); ok {
		n.replaces = old.ID
	}
	return n
}

// in puts it into the account, unless every browser was forgotten, or the factors have changed, since the person was asked.
func (n *newBrowser) in(a *account.Account) {
	if n == nil {
		return
	}
	if n.kept = a.State.Forgotten == n.forgotten && a.State.Epoch == n.Epoch; n.kept {
		a.RemoveBrowser(n.replaces)
		a.PutBrowser(n.Browser)
	}
}

// staysAs is for how long somebody stays signed in who wishes that and is offered it.
func (s *Service) staysAs(c Client, before State) time.Duration {
	if !c.Asks.Stay || before.Step != Verify {
		return 0
	}
	return before.Decision.Offers()
}

// wished completes the answer to somebody who has proven a second factor with wishes: the cookie, and the log.
func (s *Service) wished(c Client, before State, st *State, n *newBrowser, cookies *Cookies) error {
	e := audit.Event{User: st.User.Canonical, UserID: st.User.ID, Session: st.Current.Session.ID}
	if before.Current.Session.Stay == 0 && st.Current.Session.Stay > 0 {
		e.Type = audit.SessionKept
		s.audit(c, e)
	}
	if n == nil || !n.kept {
		return nil
	}
	e.Type, e.Method, e.Credential = audit.BrowserRemembered, n.Method, n.ID
	s.audit(c, e)
	var err error
	cookies.Remember = n.Expires.Sub(c.Now)
	if cookies.Remembered, err = s.Browsers.sealRemembered(c.Remembered, c.Host, remembered{st.User.ID, n.ID, n.token[:]}); err != nil {
		return fmt.Errorf("sealing remembered browser: %w", err)
	}
	return nil
}

// First is the method that the person is asked for first, of those that he could prove: the one that he has chosen last in this browser,
// else the first in order. A temporary access pass was made to be used now.
func (s *Service) First(c Client, st State, ways []mfa.Method) mfa.Method {
	last := s.Browsers.find(c.Browser, st.User, st.Account, c.Now).Method
	if ways[0] != mfa.TemporaryAccessPass && slices.Contains(ways, last) {
		return last
	}
	return ways[0]
}

// AsksToStay says whether somebody who has just signed in is asked whether he wants to stay, since there was no other page to ask it on.
func (s *Service) AsksToStay(c Client, st State) bool {
	return s.mayStay(c, st) && !s.Browsers.find(c.Browser, st.User, st.Account, c.Now).Declined
}

// mayStay says whether somebody is signed in, may choose to stay, and has just proven who he is.
func (s *Service) mayStay(c Client, st State) bool {
	return st.Step == Done && st.Current.Latest() && st.Current.Session.Stay == 0 && st.Decision.Offers() > 0 &&
		slices.ContainsFunc(st.Current.Proofs, func(p mfa.Proof) bool {
			return p.Method != mfa.RememberedBrowser && c.Now.Sub(p.At) <= Fresh
		})
}

// Stay notes whether the person wants to stay signed in; see Client.Asks. The error is ErrStep if he is not asked, or wraps
// store.ErrUnavailable or directory.ErrUnavailable.
func (s *Service) Stay(ctx context.Context, c Client, sessionID string) (State, Cookies, error) {
	st, err := s.State(ctx, c)
	if err != nil {
		return State{}, Cookies{}, err
	}
	if !s.mayStay(c, st) || st.Current.Session.ID != sessionID {
		return st, Cookies{}, ErrStep
	}
	cookies := Cookies{}
	if !c.Asks.Stay {
		cookies.Browser, err = s.Browsers.note(c.Browser, st.User, st.Account, c.Now, func(k *known) { k.Declined = true })
		return st, cookies, err
	}
	length := st.Decision.Offers()
	st, cookies.Session, err = s.elevate(ctx, c, st, st.Account, func(ses *mfa.Session) { ses.Stay = length })
	if err != nil {
		return st, Cookies{}, err
	}
	cookies.Persist = persist(&st, c.Now)
	s.audit(c, audit.Event{Type: audit.SessionKept, User: st.User.Canonical, UserID: st.User.ID, Session: sessionID})
	return st, cookies, nil
}

// Remembered is a browser that is remembered for a person.
type Remembered struct {
	account.Browser
	This bool // he is in it
}

// rememberedBrowsers lists those that count, the most recently used first.
func (s *Service) rememberedBrowsers(c Client, user *mfa.User, a *account.Account) (all []Remembered) {
	this, _ := s.find(c, user, a)
	for _, b := range a.Browsers {
		if _, ok := a.Browser(b.ID, c.Now); ok && b.Mark == user.Mark {
			all = append(all, Remembered{b, b.ID == this.ID})
		}
	}
	slices.SortStableFunc(all, func(x, y Remembered) int { return y.Used().Compare(x.Used()) })
	return all
}

// ForgetBrowser forgets one remembered browser of the person, or all of them (empty), who must have proven what policy asks. Sessions
// that rest on it are asked for a second factor at once. The error is ErrStep, or wraps store.ErrUnavailable or directory.ErrUnavailable.
func (s *Service) ForgetBrowser(ctx context.Context, c Client, id string) error {
	st, err := s.State(ctx, c)
	if err != nil {
		return err
	}
	if st.Step != Done {
		return ErrStep
	}
	if id == "" {
		if err := s.forgetBrowsers(ctx, c, st.User); err != nil {
			return err
		}
	} else if _, err := s.Accounts.UpdateClosed(ctx, st.User.ID, c.Now, func(a *account.Account) error {
		a.RemoveBrowser(id)
		return nil
	}); err != nil {
		return err
	}
	s.audit(c, audit.Event{Type: audit.BrowserForgotten, User: st.User.Canonical, UserID: st.User.ID, Session: st.Current.Session.ID, Credential: id})
	return nil
}

func (s *Service) forgetBrowsers(ctx context.Context, c Client, user *mfa.User) error {
	_, err := s.Accounts.UpdateClosed(ctx, user.ID, c.Now, func(a *account.Account) error {
		if !a.Exists() {
			return errNoAccount // one that has vanished must not begin anew
		}
		a.ForgetBrowsers()
		return nil
	})
	if errors.Is(err, errNoAccount) {
		return nil
	}
	return err
}

var errNoAccount = errors.New("nothing is kept of this person")

// Activity gives the sign-ins of the last 30 days of a person who is signed in, the newest first, as far as they are kept. The error
// wraps store.ErrUnavailable.
func (s *Service) Activity(ctx context.Context, c Client, st State) ([]audit.SignIn, error) {
	if s.SignIns == nil {
		return nil, nil
	}
	return s.SignIns(ctx, st.User, c.Now.Add(-activityTime))
}

// activityTime is how far back somebody sees his own sign-ins.
const activityTime = 30 * 24 * time.Hour

// Report notes that a sign-in in the person's own log was not his. Every session of his ends, this one too, and every browser is
// forgotten. The error is ErrStep, or wraps store.ErrUnavailable or directory.ErrUnavailable.
func (s *Service) Report(ctx context.Context, c Client, sessionID, signIn string) error {
	st, err := s.State(ctx, c)
	if err != nil {
		return err
	}
	if st.Step != Done || st.Current.Session.ID != sessionID {
		return ErrStep
	}
	signIns, err := s.Activity(ctx, c, st)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(signIns, func(r audit.SignIn) bool { return r.ID == signIn }) {
		return ErrStep
	}
	c.Reference = signIn // that is what an administrator looks for
	s.audit(c, audit.Event{Type: audit.SuspiciousReported, User: st.User.Canonical, UserID: st.User.ID, Session: sessionID})
	return s.SignOutEverywhere(ctx, c)
}
