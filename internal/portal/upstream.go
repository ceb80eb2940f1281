package portal

import (
	"errors"
	"net/http"
	"net/url"
	"slices"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/signin"
)

// upstreamPage is the form in which somebody stores his user name and password in an application.
type upstreamPage struct {
	*page
	Session string
	For     string // the application that they are for
}

// upstreamURL is the page for an application. Where somebody comes back to it, it has its token in his sign-in.
func upstreamURL(application string) string {
	return prefix + "upstream?" + url.Values{"application": {application}}.Encode()
}

func (v *visit) getUpstream() {
	v.showUpstream(v.r.URL.Query().Get("application"), http.StatusOK, func(*page) {})
}

// showUpstream shows the form to who has just proven that it is he: what he types must not be lost on the way to that.
func (v *visit) showUpstream(application string, status int, prepare func(*page)) {
	st, err := v.Service.State(v.r.Context(), v.client)
	if v.failed(err) {
		return
	}
	if st.Step != signin.Done {
		v.to.Target = prefix + "account"
		v.token = v.Returns.Seal(v.to, v.f.Host, v.f.Now)
		v.advance(st)
		return
	}
	wanted := func(a signin.UpstreamApplication) bool { return a.Wanted && a.Name == application }
	if !slices.ContainsFunc(v.Service.UpstreamApplications(st), wanted) {
		v.redirect(prefix + "account")
		return
	}
	switch err := st.MayStoreUpstream(v.f.Now); {
	case errors.Is(err, signin.ErrNotFresh):
		v.confirmFirst(upstreamURL(application))
		return
	case err != nil:
		v.redirect(prefix + "account")
		return
	}
	pg := v.page("")
	pg.as(st)
	pg.Name, pg.Query = "upstream", url.Values{"application": {application}}.Encode()
	pg.Title, pg.Application = pg.T("upstream.title", "Application", application), v.f.Application
	prepare(pg)
	v.render(v.w, pg, status, "upstream", upstreamPage{pg, st.Current.Session.ID, application})
}

func (v *visit) postUpstream() {
	application := v.form("application")
	cookies, err := v.Service.StoreUpstream(v.r.Context(), v.client, v.form("session"), application, v.form("user"), v.form("secret"))
	wrong := func(key string) {
		if cookies.Session != "" {
			v.client.Session = cookies.Session
		}
		v.showUpstream(application, http.StatusUnprocessableEntity, func(pg *page) { pg.wrong("user", pg.T(key)) })
	}
	switch {
	case errors.Is(err, signin.ErrNotFresh):
		v.confirmFirst(upstreamURL(application)) // it has taken too long
	case errors.Is(err, signin.ErrCredential):
		wrong("upstream.wrong")
	default:
		v.upstreamChanged(cookies, err, "stored")
	}
}

// upstreamChanged leads back to the account page, which says what was done.
func (v *visit) upstreamChanged(cookies signin.Cookies, err error, done string) {
	if errors.Is(err, account.ErrTooManyUpstreams) {
		v.setCookies(cookies)
		v.client.Session = cookies.Session
		v.showAccount(http.StatusUnprocessableEntity, func(pg *page) { pg.wrong("", pg.T("upstream.too_many")) })
		return
	}
	v.changed(cookies, err, func() { v.redirect(prefix + "account?" + done) })
}
