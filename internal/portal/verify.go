package portal

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/signin"
	"github.com/caddy-mfa/caddy-mfa/internal/throttle"
)

// The purposes of a verification by somebody who is signed in already.
const (
	forChange  = "change"  // of his factors
	forAnother = "another" // factor beside the one that he has just registered; then on to where he was going
)

func changes(purpose string) bool { return purpose == forChange || purpose == forAnother }

type verifyPage struct {
	*page
	Session     string
	Method      mfa.Method
	Purpose     string
	Why         string // it is asked for; empty: the person has asked for it himself
	Lead, Label string
	Numeric     bool
	Passkey     bool
	Options     string // for the browser, when a passkey has been asked for
	sentPart
	pushPart
	Boxes  boxes
	Others []way
	Back   bool
	Enough bool // may do it later, and go on
}

type way struct{ URL, Text string }

func (v *visit) getVerify() {
	st, err := v.Service.State(v.r.Context(), v.client)
	if v.failed(err) {
		return
	}
	query := v.r.URL.Query()
	v.showVerify(st, mfa.Method(query.Get("method")), query.Get("for"), http.StatusOK, "", func(*page) {})
}

// showVerify shows the page of a method that the person has, or leads to the step that is next instead. options are what the browser
// is asked of a passkey; empty: the page has a button that asks.
func (v *visit) showVerify(st signin.State, method mfa.Method, purpose string, status int, options string, prepare func(*page)) {
	if !changes(purpose) {
		purpose = ""
	}
	ways := st.Ways(v.f.Now)
	found := st.Step == signin.Register && len(ways) > 0 // who used a recovery code may still have his app
	if len(ways) == 0 || st.Step != signin.Verify && !found && !(st.Step == signin.Done && changes(purpose)) {
		v.advance(st)
		return
	}
	if !slices.Contains(ways, method) {
		method = v.Service.First(v.client, st, ways)
	}
	pg := v.page("verify.title")
	pg.as(st)
	pg.Name, pg.Query = "verify", query(method, purpose).Encode()
	data := verifyPage{
		page: pg, Session: st.Current.Session.ID, Method: method, Purpose: purpose,
		Lead: "verify." + string(method) + ".lead", Label: "verify." + string(method) + ".label",
		Numeric: method == mfa.TOTP || isSent(method), Passkey: method == mfa.Passkey, Back: purpose == forChange && st.Step == signin.Done, Enough: purpose == forAnother,
	}
	data.Boxes = v.boxes(st, method)
	if method == mfa.Passkey {
		data.Options = options
	}
	var err error
	if data.sentPart, err = v.sentPart(st, method); v.failed(err) {
		return
	}
	if data.pushPart, err = v.pushPart(pg, st, method); v.failed(err) {
		return
	}
	if changes(purpose) {
		pg.Notice = pg.T("verify.fresh")
	}
	if st.Step == signin.Verify {
		data.Why = pg.because(whyVerify, v.Service.Why(v.client, st))
	}
	for _, m := range ways {
		if m != method {
			q := query(m, purpose)
			q.Set("t", v.token)
			data.Others = append(data.Others, way{prefix + "verify?" + q.Encode(), "verify." + string(m) + ".way"})
		}
	}
	prepare(pg)
	v.render(v.w, pg, status, "verify", data)
}

// query leads to the page of a method.
func query(m mfa.Method, purpose string) url.Values {
	q := url.Values{"method": {string(m)}}
	if purpose != "" {
		q.Set("for", purpose)
	}
	return q
}

func (v *visit) postVerify() {
	method, purpose := mfa.Method(v.form("method")), v.form("for")
	ctx := v.r.Context()
	if method == mfa.Push {
		v.postPush(purpose)
		return
	}
	if v.form("action") == "ask" {
		v.askPasskey(method, purpose)
		return
	}
	if v.form("action") == "send" {
		v.sendCode(method, purpose)
		return
	}
	field := "code"
	if method == mfa.Passkey {
		field = "" // nobody types into it
	}
	st, cookies, err := v.Service.Verify(ctx, v.client, v.form("session"), method, v.form("code"))
	var wait *throttle.WaitError
	switch {
	case errors.Is(err, signin.ErrStep):
		if st.Step == signin.Password {
			v.renderSignIn(http.StatusUnprocessableEntity, "", func(pg *page) { pg.wrong("username", pg.T("signin.too_long")) })
			return
		}
		v.showVerify(st, method, purpose, http.StatusConflict, "", func(pg *page) { pg.Notice = pg.T("verify.again") })
		return
	case errors.Is(err, signin.ErrWrong), errors.Is(err, signin.ErrCloned):
		v.showVerify(st, method, purpose, http.StatusUnprocessableEntity, "", func(pg *page) { pg.wrong(field, pg.T("verify."+string(method)+".wrong")) })
		return
	case errors.Is(err, signin.ErrExpired):
		v.showVerify(st, method, purpose, http.StatusUnprocessableEntity, "", func(pg *page) { pg.wrong("", pg.T("sent.expired")) })
		return
	case errors.Is(err, signin.ErrReplayed):
		v.showVerify(st, method, purpose, http.StatusUnprocessableEntity, "", func(pg *page) { pg.wrong(field, pg.T("verify.replayed")) })
		return
	case errors.As(err, &wait):
		v.w.Header().Set("Retry-After", retrySeconds(wait, v.f.Now))
		v.showVerify(st, method, purpose, http.StatusTooManyRequests, "", func(pg *page) { pg.wrong(field, throttled(pg, wait, v.f.Now)) })
		return
	}
	if v.failed(err) {
		return
	}
	v.setCookies(cookies)
	v.proven(st, purpose)
}

// proven leads on after a second factor was proven.
func (v *visit) proven(st signin.State, purpose string) {
	if st.Step == signin.Done && purpose == forAnother {
		v.redirect(prefix + "register?page=choose&for=" + forAnother + "&t=" + v.token)
		return
	}
	if st.Step == signin.Done && purpose == forChange {
		if !st.Account.Registered() {
			v.next("register") // the pass was for that
			return
		}
		if v.toChange() {
			v.redirect(v.to.URL()) // what he has asked for
			return
		}
		v.redirect(prefix + "account?confirmed")
		return
	}
	v.finished(st)
}

// askPasskey shows the page on which the browser asks for a passkey.
func (v *visit) askPasskey(method mfa.Method, purpose string) {
	st, challenge, err := v.Service.BeginVerification(v.r.Context(), v.client, v.form("session"), method)
	switch {
	case errors.Is(err, signin.ErrStep) && st.Step == signin.Password:
		v.renderSignIn(http.StatusUnprocessableEntity, "", func(pg *page) { pg.wrong("username", pg.T("signin.too_long")) })
	case errors.Is(err, signin.ErrStep):
		v.showVerify(st, method, purpose, http.StatusConflict, "", func(pg *page) { pg.Notice = pg.T("verify.again") })
	case !v.failed(err):
		v.showVerify(st, method, purpose, http.StatusOK, string(challenge.Options), func(*page) {})
	}
}

// throttled says how long to wait.
func throttled(pg *page, wait *throttle.WaitError, now time.Time) string {
	if wait.Until.IsZero() {
		return pg.T("throttled.locked")
	}
	minutes := int((wait.Until.Sub(now) + time.Minute - 1) / time.Minute)
	return pg.Plural("throttled.minutes", max(1, minutes))
}

func retrySeconds(wait *throttle.WaitError, now time.Time) string {
	return strconv.Itoa(wait.RetryAfter(now))
}
