package portal

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/machinekey"
	"github.com/caddy-mfa/caddy-mfa/internal/signin"
)

// appPasswordTarget is where the form for a new app password is.
const appPasswordTarget = prefix + "app-password"

type appPasswordPage struct {
	*page
	Session      string
	Applications []string
	Lifetimes    []lifetimeChoice
	Wish         struct{ Application, Name string }
}

// lifetimeChoice is how long a new app password could last.
type lifetimeChoice struct {
	Seconds int64
	Text    string
	Chosen  bool
}

type appPasswordMadePage struct {
	*page
	Called, For, Secret string
	Until               time.Time
}

// usualLifetimes are those that people choose from, where they can last so long.
var usualLifetimes = []time.Duration{7 * 24 * time.Hour, 30 * 24 * time.Hour, 90 * 24 * time.Hour, 180 * 24 * time.Hour, 365 * 24 * time.Hour}

// lifetimes lists how long an app password could last, the shortest first.
func lifetimes(s machinekey.Settings) []time.Duration {
	list := []time.Duration{s.Lifetime, s.MaxLifetime}
	for _, d := range usualLifetimes {
		if d < s.MaxLifetime {
			list = append(list, d)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func (v *visit) getAppPassword() {
	st, ok := v.mayMakeAppPassword()
	if !ok {
		return
	}
	if !st.HasFresh(v.f.Now) {
		// Before he has typed anything.
		v.confirmFirst(appPasswordTarget)
		return
	}
	v.showAppPassword(st, http.StatusOK, func(*page, *appPasswordPage) {})
}

// mayMakeAppPassword says where the person stands, if he is one for whom there is such a form; otherwise he is led on.
func (v *visit) mayMakeAppPassword() (signin.State, bool) {
	v.to.Target = appPasswordTarget
	v.token = v.Returns.Seal(v.to, v.f.Host, v.f.Now)
	st, err := v.Service.State(v.r.Context(), v.client)
	switch {
	case v.failed(err):
	case st.Step != signin.Done:
		v.advance(st)
	case !st.Account.Registered() || len(v.Service.Keys.Takers(st.Account)) == 0:
		v.redirect(prefix + "account")
	default:
		return st, true
	}
	return signin.State{}, false
}

func (v *visit) showAppPassword(st signin.State, status int, prepare func(*page, *appPasswordPage)) {
	pg := v.page("apppassword.title")
	pg.as(st)
	pg.Name, pg.Application = "app-password", v.f.Application
	keys := v.Service.Keys
	data := appPasswordPage{page: pg, Session: st.Current.Session.ID, Applications: keys.Takers(st.Account)}
	data.Wish.Application = v.f.Application
	for _, d := range lifetimes(keys.Settings) {
		data.Lifetimes = append(data.Lifetimes, lifetimeChoice{
			Seconds: int64(d / time.Second), Chosen: d == keys.Settings.Lifetime,
			Text: pg.T("apppassword.lifetime", "Length", lengthText(pg, d), "Date", v.f.Now.Add(d).UTC().Format(time.DateOnly)),
		})
	}
	prepare(pg, &data)
	v.render(v.w, pg, status, "apppassword", data)
}

// lengthText says a length of time in days, or in hours where these are no whole days.
func lengthText(pg *page, d time.Duration) string {
	const day = 24 * time.Hour
	if d%day == 0 {
		return pg.Plural("apppassword.days", int(d/day))
	}
	return pg.Plural("apppassword.hours", int(d/time.Hour))
}

func (v *visit) postAppPassword() {
	wish := machinekey.Wish{Name: v.form("name"), Application: v.form("application")}
	seconds, err := strconv.ParseInt(v.form("lifetime"), 10, 64)
	lifetime := time.Duration(seconds) * time.Second
	if err != nil || !slices.Contains(lifetimes(v.Service.Keys.Settings), lifetime) {
		lifetime = v.Service.Keys.Settings.Lifetime
	}
	wish.Expires = v.f.Now.Add(lifetime)
	cookies, made, secret, err := v.Service.MakeAppPassword(v.r.Context(), v.client, v.form("session"), wish)
	v.setCookies(cookies) // also with an error: the proof may have been spent, and the token be new
	v.client.Session = cmp.Or(cookies.Session, v.client.Session)
	wrong := func(field, text string) {
		if st, ok := v.mayMakeAppPassword(); ok {
			v.showAppPassword(st, http.StatusUnprocessableEntity, func(pg *page, data *appPasswordPage) {
				pg.wrong(field, pg.T(text, "Most", machinekey.MaxAppPasswords))
				data.Wish.Name, data.Wish.Application = wish.Name, wish.Application
				for i := range data.Lifetimes {
					data.Lifetimes[i].Chosen = data.Lifetimes[i].Seconds == int64(lifetime/time.Second)
				}
			})
		}
	}
	switch {
	case errors.Is(err, machinekey.ErrName):
		wrong("name", "apppassword.wrong_name")
		return
	case errors.Is(err, machinekey.ErrApplication):
		wrong("application", "apppassword.wrong_application")
		return
	case errors.Is(err, machinekey.ErrTooMany):
		wrong("", "apppassword.too_many")
		return
	case errors.Is(err, signin.ErrNotFresh):
		v.confirmFirst(appPasswordTarget)
		return
	case errors.Is(err, signin.ErrPasswordAgain):
		v.passwordFirst(appPasswordTarget)
		return
	}
	v.changed(cookies, err, func() {
		st, err := v.Service.State(v.r.Context(), v.client)
		if v.failed(err) {
			return
		}
		v.to.Target = prefix + "account"
		v.token = v.Returns.Seal(v.to, v.f.Host, v.f.Now)
		pg := v.page("apppassword.made_title")
		pg.as(st)
		pg.Name, pg.Application = "account", v.f.Application
		v.render(v.w, pg, http.StatusOK, "apppassword_made", appPasswordMadePage{pg, made.Name, made.Application, secret, made.Expires})
	})
}
