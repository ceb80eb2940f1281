package portal

import (
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/text/language"
	"golang.org/x/text/language/display"

	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/session"
	"github.com/caddy-mfa/caddy-mfa/internal/signin"
)

// boxes are what somebody may tick beside what he proves. They are not ticked at first, and each says for how long.
type boxes struct {
	Stay, Remember   int  // days; zero: there is no such box
	Stays, Remembers bool // ticked on the page before, which has led to this one
}

// boxes are those of a page on which the method is proven.
func (v *visit) boxes(st signin.State, method mfa.Method) boxes {
	offer := st.Offers(method)
	return boxes{days(offer.Stay), days(offer.Remember), v.client.Asks.Stay, v.client.Asks.Remember}
}

// days are the whole days of a time, of which settings are made.
func days(d time.Duration) int { return int(d / (24 * time.Hour)) }

// wishes are the boxes that were ticked in the form that was sent.
func (v *visit) wishes() signin.Wishes {
	return signin.Wishes{Stay: v.form("stay") == "yes", Remember: v.form("remember") == "yes"}
}

type stayPage struct {
	*page
	Session string
	Boxes   boxes
}

func (v *visit) getStay() {
	st, err := v.Service.State(v.r.Context(), v.client)
	if v.failed(err) {
		return
	}
	if !v.Service.AsksToStay(v.client, st) {
		v.advance(st)
		return
	}
	pg := v.page("stay.title")
	pg.as(st)
	pg.Name = "stay"
	v.render(v.w, pg, http.StatusOK, "stay", stayPage{pg, st.Current.Session.ID, boxes{Stay: days(st.Decision.Offers())}})
}

func (v *visit) postStay() {
	st, cookies, err := v.Service.Stay(v.r.Context(), v.client, v.form("session"))
	if !errors.Is(err, signin.ErrStep) && v.failed(err) {
		return
	}
	v.setCookies(cookies)
	v.advance(st)
}

// signedIn leads on after the page on which a sign-in began. Who has come to its end there is asked whether he wants to stay.
func (v *visit) signedIn(st signin.State, cookies signin.Cookies) {
	if cookies.Browser != "" {
		v.client.Browser = cookies.Browser
	}
	if v.Service.AsksToStay(v.client, st) {
		v.next("stay")
		return
	}
	v.advance(st)
}

// browserRow is a remembered browser on the account page.
type browserRow struct {
	ID, Browser, Host      string
	Added, LastUsed, Until time.Time
	This                   bool
}

func (v *visit) browserRows(pg *page, browsers []signin.Remembered) (rows []browserRow) {
	for _, b := range browsers {
		rows = append(rows, browserRow{b.ID, browserName(pg, b.UserAgent), b.Host, b.Added.UTC(), b.LastUsed.UTC(), b.Expires.UTC(), b.This})
	}
	return rows
}

// activityRow is a sign-in on the account page.
type activityRow struct {
	ID, Application, Browser, Place string
	Result                          string // key of a text
	Remembered                      bool   // a remembered browser stood for the second step
	At                              time.Time
}

// activityResults are the keys of texts that say how a sign-in ended.
var activityResults = map[int]string{
	audit.CodeSuccess: "account.activity_success", audit.CodeInvalidPassword: "account.activity_password", audit.CodeMFADenied: "account.activity_factor",
	audit.CodeMFARequired: "account.activity_asked", audit.CodeMustRegister: "account.activity_asked", audit.CodeBlocked: "account.activity_refused",
}

func (v *visit) activityRows(pg *page, st signin.State) (rows []activityRow, err error) {
	signIns, err := v.Service.Activity(v.r.Context(), v.client, st)
	if err != nil {
		return nil, err
	}
	for _, r := range signIns {
		row := activityRow{
			ID: r.ID, Application: r.AppDisplayName, Browser: browserName(pg, r.UserAgent), Result: activityResults[r.Status.ErrorCode], At: r.Created.UTC(),
			Remembered: r.Status.ErrorCode == audit.CodeSuccess && rested(r.Details),
		}
		if row.Result == "" {
			row.Result = "account.activity_failed"
		}
		if a, err := netip.ParseAddr(r.IPAddress); err == nil {
			row.Place = v.place(pg, a)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// rested says whether a sign-in rested on a remembered browser, and nothing more was proven in it.
func rested(details []audit.Detail) bool {
	return len(details) == 2 && slices.ContainsFunc(details, func(d audit.Detail) bool { return d.Result == audit.ByRememberedBrowser })
}

// place is an address, with its country where that is known, in the language of the page.
func (v *visit) place(pg *page, a netip.Addr) string { return place(pg.Lang, a, v.Service.Country) }

func place(lang string, a netip.Addr, country func(netip.Addr) (code string, known bool)) string {
	text := a.String()
	if country == nil {
		return text
	}
	code, known := country(a)
	region, err := language.ParseRegion(code)
	if !known || err != nil {
		return text
	}
	if name := display.Regions(language.Make(lang)).Name(region); name != "" {
		code = name
	}
	return text + " · " + code
}

// postRemembered does what the account page offers about browsers, names and activity.
func (v *visit) postRemembered() {
	ctx, sessionID, id := v.r.Context(), v.form("session"), v.form("id")
	switch v.form("action") {
	case "forget":
		if id == "" {
			break // that would be all of them
		}
		v.changed(signin.Cookies{}, v.Service.ForgetBrowser(ctx, v.client, id), func() { v.redirect(prefix + "account?forgotten") })
		return
	case "forget_all":
		v.changed(signin.Cookies{}, v.Service.ForgetBrowser(ctx, v.client, ""), func() { v.redirect(prefix + "account?forgotten_all") })
		return
	case "report":
		v.changed(signin.Cookies{}, v.Service.Report(ctx, v.client, sessionID, id), func() {
			v.forgetSession()
			v.signedOut("account.reported")
		})
		return
	}
	v.redirect(prefix + "account")
}

// forgetSession takes the session's cookie out of the browser.
func (v *visit) forgetSession() {
	http.SetCookie(v.w, session.NewCookie(session.CookieName, "", v.f.HTTPS, -1))
}
