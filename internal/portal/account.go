package portal

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/platform"
	"github.com/caddy-mfa/caddy-mfa/internal/signin"
)

type accountPage struct {
	*page
	Session   string
	Factors   []mfa.Credential
	Removable bool
	Fixed     string            // id of the factor that the directory says
	Needed    map[string]string // by the id of a factor that can't be removed: an application that asks for it
	MayAdd    bool
	CodesLeft int
	FewCodes  bool
	Upstreams []signin.UpstreamApplication
	Sessions  []sessionRow
	Browsers  []browserRow
	Activity  []activityRow

	ShowAppPasswords bool // there are some, or may be
	AppPasswords     []appPasswordRow
	MayMake          bool // one more

	Accepted, Unknown string // what the browser is told of passkeys that are good, and of one that is gone
}

type appPasswordRow struct {
	account.AppPassword
	Begins string // its first letters, as they were shown
}

type sessionRow struct {
	ID, Browser, Address, Applications string
	Created, Seen                      time.Time
	Until                              time.Time // zero: its owner has not chosen to stay signed in
	This                               bool
}

// fewCodes is how many recovery codes are left when their owner is warned.
const fewCodes = 3

// notices are the keys of texts that tell what was just done, by the query that it leads back with.
var notices = []struct{ query, text string }{
	{"confirmed", "account.confirmed"}, {"removed", "account.removed"}, {"renamed", "account.renamed"}, {"ended", "account.ended"},
	{"stored", "upstream.stored"}, {"taken_back", "upstream.forgotten"}, {"revoked", "account.revoked"},
	{"forgotten", "account.forgotten"}, {"forgotten_all", "account.forgotten_all"},
}

func (v *visit) getAccount() {
	v.showAccount(http.StatusOK, func(pg *page) {
		query := v.r.URL.Query()
		for _, n := range notices {
			if query.Has(n.query) {
				pg.Notice = pg.T(n.text)
				return
			}
		}
	})
}

func (v *visit) showAccount(status int, prepare func(*page)) {
	ctx := v.r.Context()
	v.to.Target = prefix + "account"
	v.token = v.Returns.Seal(v.to, v.f.Host, v.f.Now)
	st, err := v.Service.State(ctx, v.client)
	if v.failed(err) {
		return
	}
	if st.Step != signin.Done {
		v.advance(st)
		return
	}
	overview, err := v.Service.Overview(ctx, v.client, st)
	if v.failed(err) {
		return
	}
	pg := v.page("account.title")
	pg.as(st)
	pg.Name, pg.Application = "account", v.f.Application
	data := accountPage{
		page: pg, Session: st.Current.Session.ID, Factors: overview.Factors, Removable: len(overview.Factors) > 1, Needed: overview.Needed,
		MayAdd:    len(overview.Factors) > 0 || st.Decision.Offer,
		CodesLeft: overview.RecoveryCodes, FewCodes: overview.RecoveryCodes <= fewCodes,
		Upstreams: v.Service.UpstreamApplications(st), Accepted: acceptedPasskeys(overview.Accepted),
	}
	data.MayMake = len(overview.Takers) > 0 && len(overview.Factors) > 0
	data.ShowAppPasswords = data.MayMake || len(overview.AppPasswords) > 0
	for _, p := range overview.AppPasswords {
		shown := appPasswordRow{*p, strings.ReplaceAll(grouped(p.ID), " ", "-")}
		shown.Expires, shown.LastUsed = p.Expires.UTC(), p.LastUsed.UTC()
		data.AppPasswords = append(data.AppPasswords, shown)
	}
	if gone := v.Returns.openRemoved(v.r.URL.Query().Get("removed"), v.f.Host, data.Session, v.f.Now); !slices.Contains(overview.Accepted.IDs, gone) {
		data.Unknown = v.unknownPasskey(gone)
	}
	if st.User.Phone != "" {
		data.Fixed = account.DirectoryPhone
	}
	for _, s := range overview.Sessions {
		row := sessionRow{
			ID: s.ID, Browser: browserName(pg, s.UserAgent), Applications: strings.Join(s.Applications, ", "),
			Created: s.Created.UTC(), Seen: s.Seen.UTC(), This: s.ID == st.Current.Session.ID,
		}
		if s.Address.IsValid() {
			row.Address = v.place(pg, s.Address)
		}
		if s.Stay > 0 {
			row.Until = s.Expires.UTC()
		}
		if row.This {
			data.Sessions = append([]sessionRow{row}, data.Sessions...)
		} else {
			data.Sessions = append(data.Sessions, row)
		}
	}
	data.Browsers = v.browserRows(pg, overview.Browsers)
	if data.Activity, err = v.activityRows(pg, st); v.failed(err) {
		return
	}
	prepare(pg)
	v.render(v.w, pg, status, "account", data)
}

// browserName says what a User-Agent claims, for its owner to recognise.
func browserName(pg *page, ua string) string {
	client := platform.Parse("", ua)
	switch {
	case client.Name == "":
		return pg.T("account.unknown_browser")
	case client.System == "":
		return client.Browser()
	}
	return pg.T("account.browser_on", "Browser", client.Browser(), "System", client.System)
}

func (v *visit) postAccount() {
	ctx, id := v.r.Context(), v.form("session")
	switch v.form("action") {
	case changeRemove:
		v.removeFactor(id)
	case "rename":
		err := v.Service.RenameFactor(ctx, v.client, id, v.form("id"), v.form("name"))
		v.changed(signin.Cookies{}, err, func() { v.redirect(prefix + "account?renamed") })
	case changeCodes:
		cookies, codes, err := v.Service.NewRecoveryCodes(ctx, v.client, id)
		v.changed(cookies, err, func() {
			v.client.Session = cookies.Session
			st, err := v.Service.State(ctx, v.client)
			if !v.failed(err) {
				v.to.Target = prefix + "account"
				v.token = v.Returns.Seal(v.to, v.f.Host, v.f.Now)
				v.showCodes(st, codes, "codes.lead_new")
			}
		})
	case changeForget:
		cookies, err := v.Service.RemoveUpstream(ctx, v.client, id, v.form("id"))
		v.upstreamChanged(cookies, err, "taken_back")
	case "revoke":
		err := v.Service.RevokeAppPassword(ctx, v.client, v.form("id"))
		v.changed(signin.Cookies{}, err, func() { v.redirect(prefix + "account?revoked") })
	case "end":
		err := v.Service.EndSession(ctx, v.client, v.form("id"))
		v.changed(signin.Cookies{}, err, func() { v.redirect(prefix + "account?ended") })
	case "everywhere":
		err := v.Service.SignOutEverywhere(ctx, v.client)
		v.changed(signin.Cookies{}, err, func() {
			v.forgetSession()
			v.signedOut("signedout.everywhere")
		})
	default:
		v.postRemembered()
	}
}

// changed answers a change of the account: done says what was done, if it was.
func (v *visit) changed(cookies signin.Cookies, err error, done func()) {
	v.setCookies(cookies) // also with an error: the proof may have been spent, and the token be new
	switch {
	case errors.Is(err, signin.ErrNotFresh):
		v.confirmFirst(v.confirmURL())
	case errors.Is(err, signin.ErrPasswordAgain):
		v.passwordFirst(v.confirmURL())
	case errors.Is(err, signin.ErrDenied):
		v.showAccount(http.StatusForbidden, func(pg *page) { pg.wrong("", pg.T("register.need_other")) })
	case errors.Is(err, signin.ErrLastFactor), errors.Is(err, signin.ErrNeeded):
		if cookies.Session != "" {
			v.client.Session = cookies.Session
		}
		text := "account.last_factor"
		if errors.Is(err, signin.ErrNeeded) {
			text = "account.needed"
		}
		v.showAccount(http.StatusUnprocessableEntity, func(pg *page) { pg.wrong("", pg.T(text)) })
	case errors.Is(err, signin.ErrStep):
		v.redirect(prefix + "account")
	default:
		if !v.failed(err) {
			done()
		}
	}
}
