package portal

import (
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/directory"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/session"
	"github.com/caddy-mfa/caddy-mfa/internal/signin"
	"github.com/caddy-mfa/caddy-mfa/internal/throttle"
)

type signInPage struct {
	*page
	UserName   string
	Invitation signin.Invitation // to whoever has a passkey
	Unknown    string            // what the browser is told of one that is gone; empty: nothing
}

func (v *visit) getSignIn() {
	if v.r.URL.Query().Get("for") == forProgram {
		v.returnToProgram()
	}
	st, err := v.Service.State(v.r.Context(), v.client)
	if v.failed(err) {
		return
	}
	v.stands = st
	again := st.Step == signin.Password && st.User != nil // he is signed in, and not since so short a time as policy asks for
	switch {
	case again, v.r.URL.Query().Get("for") == forChange && st.Step == signin.Done:
		v.renderSignIn(http.StatusOK, st.User.Name, func(pg *page) {
			pg.as(st)
			pg.Notice = v.whyAgain(pg, st)
		})
	case st.Step == signin.Password:
		v.renderSignIn(http.StatusOK, "", func(*page) {})
	default:
		v.advance(st)
	}
}

func (v *visit) renderSignIn(status int, userName string, prepare func(*page)) {
	pg := v.page("signin.title")
	pg.Name = "signin"
	prepare(pg)
	var invitation signin.Invitation
	// A form that comes without our cookie is from no browser that was shown the page. Its answer has no cookies, whoever is named in it.
	if v.r.Method != http.MethodPost || v.client.Binding != "" {
		var err error
		if invitation, err = v.Service.Invite(v.client, v.stands); v.failed(err) {
			return
		}
	}
	if invitation.Browser != v.client.Binding {
		http.SetCookie(v.w, session.NewCookie(session.BindingCookieName, invitation.Browser, v.f.HTTPS, 0))
	}
	v.render(v.w, pg, status, "signin", signInPage{pg, userName, invitation, v.unknownPasskey(v.unknown)})
}

func (v *visit) postSignIn() {
	if v.r.PostForm.Has("invitation") {
		v.postPasskey()
		return
	}
	name, password := v.form("username"), v.form("password")
	if name == "" || password == "" {
		v.renderSignIn(http.StatusUnprocessableEntity, name, func(pg *page) { pg.wrong("username", pg.T("signin.empty")) })
		return
	}
	st, cookies, err := v.Service.Password(v.r.Context(), v.client, name, password)
	var wait *throttle.WaitError
	switch {
	case errors.Is(err, signin.ErrPassword):
		v.refuseSignIn(http.StatusUnprocessableEntity, name, func(pg *page) string { return pg.T("signin.wrong") })
		return
	case errors.As(err, &wait):
		v.w.Header().Set("Retry-After", retrySeconds(wait, v.f.Now))
		v.refuseSignIn(http.StatusTooManyRequests, name, func(pg *page) string { return throttled(pg, wait, v.f.Now) })
		return
	case errors.Is(err, directory.ErrBusy):
		retryAfter(v.w, 5*time.Second)
		v.refuseSignIn(http.StatusTooManyRequests, name, func(pg *page) string { return pg.T("busy.text") })
		return
	}
	if v.failed(err) {
		return
	}
	v.setCookies(cookies)
	v.signedIn(st, cookies)
}

// refuseSignIn says what is wrong with a user name and a password. Who was signed in still is, and is told once more why he is asked.
func (v *visit) refuseSignIn(status int, name string, message func(*page) string) {
	st, err := v.Service.State(v.r.Context(), v.client)
	if v.failed(err) {
		return
	}
	v.stands = st
	v.renderSignIn(status, shown(name), func(pg *page) {
		if st.User != nil {
			pg.as(st)
			pg.Notice = v.whyAgain(pg, st)
		}
		field := "username"
		if v.r.PostForm.Has("invitation") {
			field = "" // nobody has typed anything
		}
		pg.wrong(field, message(pg))
	})
}

// shown is what is kept in the field of a user name. What can't be one may be anything, a password included.
func shown(name string) string {
	if len(name) > mfa.MaxUserName {
		return ""
	}
	return name
}

// advance leads to the next step, or on to where the browser was going.
func (v *visit) advance(st signin.State) {
	switch st.Step {
	case signin.Password:
		v.next("signin")
	case signin.Verify:
		v.next("verify")
	case signin.Register:
		v.next("register")
	case signin.Terms:
		v.next("terms")
	case signin.Blocked:
		pg := v.page("")
		pg.as(st)
		pg.facts.Reference = v.Service.Refused(v.client, &st)
		v.refused(v.w, pg, st.Decision)
	default:
		if st.Decision.Offer && st.Current.Session.Postponed.IsZero() {
			v.next("register")
			return
		}
		v.moveOn()
	}
}

// moveOn is the last step: a page that goes by itself to where the browser was going. A redirect would not do: browsers
// hold what follows a form to our form-action, the application's own redirects included.
func (v *visit) moveOn() {
	pg := v.page("continue.title")
	pg.Refresh = v.to.URL()
	v.message(v.w, pg, http.StatusOK, pg.Refresh, "continue.link", pg.T("continue.text"))
}

func (v *visit) getSignOut() {
	st, err := v.Service.State(v.r.Context(), v.client)
	if v.failed(err) {
		return
	}
	if st.User == nil {
		v.signedOut("signedout.text")
		return
	}
	pg := v.page("signout.title")
	pg.as(st)
	pg.Name = "signout"
	v.render(v.w, pg, http.StatusOK, "signout", pg)
}

func (v *visit) postSignOut() {
	if v.failed(v.Service.SignOut(v.r.Context(), v.client)) {
		return
	}
	http.SetCookie(v.w, session.NewCookie(session.CookieName, "", v.f.HTTPS, -1))
	if v.to.Target != "" {
		// "Not you?" on the way to an application: the next person goes on from here.
		v.next("signin")
		return
	}
	v.signedOut("signedout.text")
}

func (v *visit) signedOut(text string) {
	pg := v.page("signedout.title")
	v.message(v.w, pg, http.StatusOK, prefix+"signin?t="+pg.Token, "signedout.again", pg.T(text))
}

// postLanguage remembers the language that was chosen from the menu.
func (v *visit) postLanguage() {
	for _, l := range v.Texts.languages {
		if l.Tag == v.form("language") {
			http.SetCookie(v.w, session.NewCookie(session.LanguageCookieName, l.Tag, v.f.HTTPS, 365*24*60*60))
		}
	}
	page := v.form("page")
	if _, ok := routes()[page]; !ok || page == "" || page == "language" {
		page = "signin"
	}
	query := url.Values{}
	asked, err := url.ParseQuery(v.form("query"))
	for _, name := range []string{"for", "method", "page", "application", "change", "id"} {
		if err == nil && asked.Has(name) {
			query.Set(name, asked.Get(name))
		}
	}
	query.Set("t", v.token)
	v.redirect(prefix + page + "?" + query.Encode())
}
