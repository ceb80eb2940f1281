package portal

import (
	"cmp"
	"errors"
	"html/template"
	"net/http"
	"slices"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
	"github.com/caddy-mfa/caddy-mfa/internal/signin"
	"github.com/caddy-mfa/caddy-mfa/internal/throttle"
)

type registerPage struct {
	*page
	Session  string
	Lead     string
	Days     int  // left in the grace period
	Postpone bool // may be put off
	Found    bool // may prove what he has after all
	Back     bool // comes from the account page
	Enough   bool // has one already, and is on the way elsewhere

	Passkey, App bool // may be registered
	Push         bool
	Sent         []mfa.Method
}

type passkeyPage struct {
	*page
	Session string
	Options string // for the browser
}

type appPage struct {
	*page
	Session string
	QR      template.HTML
	URI     template.URL // otpauth
	Key     string       // in groups of four
}

type codesPage struct {
	*page
	Session string
	Lead    string
	Codes   []string
	Another bool // they belong to the only factor, and there could be another
}

func (v *visit) getRegister() {
	st, challenge, err := v.Service.Registration(v.r.Context(), v.client)
	asked := v.r.URL.Query().Get("page")
	choose := asked == "choose"
	if m := mfa.Method(asked); isSent(m) && (err == nil || errors.Is(err, signin.ErrStep)) && st.Registers() && slices.Contains(v.Service.Registrable(v.client, st), m) {
		v.showAddress(st, m, http.StatusOK, func(*page) {})
		return
	}
	if (err == nil || errors.Is(err, signin.ErrStep)) && choose && v.r.URL.Query().Get("for") == forChange && v.provesFirst(st) {
		v.confirmFirst(v.registerURL()) // before he has chosen anything
		return
	}
	if errors.Is(err, signin.ErrStep) {
		if !choose && st.Step == signin.Done && st.Account.Registered() {
			// He has finished, and has come back by the browser's button.
			v.moveOn()
			return
		}
		v.showRegister(st, http.StatusOK, func(*page) {})
		return
	}
	if v.failed(err) {
		return
	}
	if choose {
		v.showRegister(st, http.StatusOK, func(*page) {})
		return
	}
	v.showChallenge(st, challenge, http.StatusOK, func(*page) {})
}

// provesFirst says whether somebody who adds a factor to what he has must prove first that it is he, and can.
func (v *visit) provesFirst(st signin.State) bool {
	return st.Step == signin.Done && st.Account.Registered() && !st.HasFresh(v.f.Now) && len(st.Ways(v.f.Now)) > 0
}

// showChallenge shows the page of a registration that has begun.
func (v *visit) showChallenge(st signin.State, ch mfa.Challenge, status int, prepare func(*page)) {
	switch {
	case ch.Method == mfa.Passkey:
		v.showPasskey(st, ch)
	case ch.Method == mfa.Push:
		v.showPairing(st, ch)
	case isSent(ch.Method):
		v.showSent(st, ch, status, prepare)
	default:
		v.showApp(st, ch, status, prepare)
	}
}

// needs are the texts that say what somebody lacks who may not register.
var needs = map[policy.Need]string{
	policy.NeedPass: "register.need_pass", policy.NeedNetwork: "register.need_network", policy.NeedEither: "register.need_either",
	policy.NeedDevice: "register.need_device", policy.NeedOther: "register.need_other",
}

func (v *visit) showRegister(st signin.State, status int, prepare func(*page)) {
	if !st.Registers() {
		v.advance(st)
		return
	}
	methods := v.Service.Registrable(v.client, st)
	if len(methods) == 0 {
		pg := v.page("")
		pg.as(st)
		v.refused(v.w, pg, policy.Decision{Reason: policy.StrengthUnreachable})
		return
	}
	pg := v.page("register.title")
	pg.as(st)
	pg.Name, pg.Query = "register", "page=choose"
	data := registerPage{
		page: pg, Session: st.Current.Session.ID, Lead: "register.lead",
		Passkey: slices.Contains(methods, mfa.Passkey), App: slices.Contains(methods, mfa.TOTP),
	}
	data.Push = slices.Contains(methods, mfa.Push)
	data.Sent = slices.DeleteFunc(methods, func(m mfa.Method) bool { return !isSent(m) })
	switch {
	case st.Decision.Reason == policy.RecoveryUsed:
		data.Lead, data.Found = "register.lead_replace", true
	case st.Step == signin.Register && st.Decision.Methods.OfModels():
		data.Lead = "register.lead_model"
	case st.Account.Registered() && st.Step == signin.Register:
		data.Lead = "register.lead_stronger"
	case st.Account.Registered():
		data.Enough = v.r.URL.Query().Get("for") == forAnother
		data.Lead, data.Back = "register.lead_add", !data.Enough
		if data.Enough {
			pg.Query += "&for=" + forAnother
		}
	case st.Step == signin.Done:
		data.Postpone = true
		if st.Decision.GraceEnds.IsZero() {
			data.Lead = "register.lead_offer" // nothing asks for it
		}
		if ends := st.Decision.GraceEnds; !ends.IsZero() {
			data.Days = int((ends.Sub(v.f.Now) + 24*time.Hour - 1) / (24 * time.Hour))
		}
	}
	prepare(pg)
	v.render(v.w, pg, status, "register", data)
}

// showPasskey shows the page that has the browser make a passkey.
func (v *visit) showPasskey(st signin.State, ch mfa.Challenge) {
	pg := v.page("passkey.title")
	pg.as(st)
	pg.Name = "register"
	v.render(v.w, pg, http.StatusOK, "passkey", passkeyPage{
		page: pg, Session: st.Current.Session.ID, Options: string(ch.Options),
	})
}

func (v *visit) showApp(st signin.State, ch mfa.Challenge, status int, prepare func(*page)) {
	pg := v.page("app.title")
	pg.as(st)
	pg.Name = "register"
	qr, err := qrCode(ch.URI, pg.T("app.step_scan"))
	if v.failed(err) {
		return
	}
	prepare(pg)
	v.render(v.w, pg, status, "app", appPage{
		page: pg, Session: st.Current.Session.ID, QR: qr,
		URI: template.URL(ch.URI), // made by the factor, which escapes what stands in it
		Key: grouped(ch.Key),
	})
}

func (v *visit) postRegister() {
	switch v.form("action") {
	case "begin":
		v.beginRegistration(mfa.TOTP)
	case "passkey":
		v.beginRegistration(mfa.Passkey)
	case "push":
		v.beginRegistration(mfa.Push)
	case "paired":
		v.checkPairing()
	case "number":
		v.beginAt(mfa.Method(v.form("method")))
	case "again":
		v.sendAgain()
	case "later":
		st, err := v.Service.Postpone(v.r.Context(), v.client)
		if v.failed(err) {
			return
		}
		if st.Step != signin.Done {
			v.advance(st)
			return
		}
		v.moveOn()
	case "notnow":
		v.notNow()
	case "another":
		v.another()
	case "kept", "enough":
		st, err := v.Service.State(v.r.Context(), v.client)
		if v.failed(err) {
			return
		}
		if st.Step != signin.Done {
			v.advance(st)
			return
		}
		v.moveOn()
	default: // also when Enter sends the form without a button
		v.finishRegistration()
	}
}

func (v *visit) beginRegistration(method mfa.Method) {
	ctx := v.r.Context()
	cookies, err := v.Service.BeginRegistration(ctx, v.client, v.form("session"), method)
	v.setCookies(cookies) // also with an error: the proof may have been spent, and the token be new
	if err != nil {
		v.beginFailed(err)
		return
	}
	v.next("register")
}

// beginFailed says why a registration did not begin, or leads to what is needed first.
func (v *visit) beginFailed(err error) {
	ctx := v.r.Context()
	switch {
	case errors.Is(err, signin.ErrNotFresh):
		st, err := v.Service.State(ctx, v.client)
		switch {
		case v.failed(err):
		case st.Step == signin.Register:
			// An application asks for more than what he has. From the next page he comes back here by himself, and then to it.
			v.redirect(prefix + "verify?for=" + forChange + "&t=" + v.token)
		default:
			v.confirmFirst(v.registerURL())
		}
		return
	case errors.Is(err, signin.ErrPasswordAgain):
		v.passwordFirst(v.registerURL())
		return
	case errors.Is(err, signin.ErrStep), errors.Is(err, signin.ErrTooMany), errors.Is(err, signin.ErrDenied):
		st, stErr := v.Service.State(ctx, v.client)
		if v.failed(stErr) {
			return
		}
		switch {
		case errors.Is(err, signin.ErrTooMany):
			v.showRegister(st, http.StatusUnprocessableEntity, func(pg *page) { pg.wrong("", pg.T("register.too_many")) })
		case errors.Is(err, signin.ErrDenied) && len(st.Ways(v.f.Now)) > 0 && !st.Current.Proofs.Has(mfa.TemporaryAccessPass):
			// With the temporary access pass that he was given. Who is in his grace period is signed in already.
			v.redirect(prefix + "verify?for=" + forChange + "&t=" + v.token)
		case errors.Is(err, signin.ErrDenied) && st.Account != nil && st.Account.Registered():
			v.showRegister(st, http.StatusForbidden, func(pg *page) { pg.wrong("", pg.T("register.need_other")) })
		case errors.Is(err, signin.ErrDenied):
			v.showRegister(st, http.StatusForbidden, func(pg *page) { pg.wrong("", pg.T(needs[v.Service.RegistrationNeeds(v.client, st)])) })
		default:
			v.advance(st)
		}
		return
	}
	v.failed(err)
}

// passwordFirst asks for the password again, and comes back.
func (v *visit) passwordFirst(back string) {
	v.to.Target = back
	v.redirect(prefix + "signin?for=" + forChange + "&t=" + v.Returns.Seal(v.to, v.f.Host, v.f.Now))
}

// confirmFirst asks for a fresh proof, and comes back.
func (v *visit) confirmFirst(back string) {
	v.to.Target = back
	v.redirect(prefix + "verify?for=" + forChange + "&t=" + v.Returns.Seal(v.to, v.f.Host, v.f.Now))
}

func (v *visit) finishRegistration() {
	ctx := v.r.Context()
	st, cookies, codes, err := v.Service.FinishRegistration(ctx, v.client, v.form("session"), v.form("code"))
	var wait *throttle.WaitError
	again := func(status int, prepare func(*page, mfa.Method)) {
		st, challenge, err := v.Service.Registration(ctx, v.client)
		if errors.Is(err, signin.ErrStep) {
			v.advance(st)
			return
		}
		if !v.failed(err) {
			v.showChallenge(st, challenge, status, func(pg *page) { prepare(pg, cmp.Or(challenge.Method, mfa.TOTP)) })
		}
	}
	switch {
	case errors.Is(err, signin.ErrStep):
		if st.Step == signin.Password {
			v.renderSignIn(http.StatusUnprocessableEntity, "", func(pg *page) { pg.wrong("username", pg.T("signin.too_long")) })
			return
		}
		v.advance(st)
		return
	case errors.Is(err, signin.ErrWrong) && v.form("method") == string(mfa.Passkey):
		v.showRegister(st, http.StatusUnprocessableEntity, func(pg *page) { pg.wrong("", pg.T("passkey.refused")) })
		return
	case errors.Is(err, signin.ErrWrong), errors.Is(err, signin.ErrReplayed):
		again(http.StatusUnprocessableEntity, func(pg *page, m mfa.Method) { pg.wrong("code", pg.T("verify."+string(m)+".wrong")) })
		return
	case errors.Is(err, signin.ErrExpired):
		again(http.StatusUnprocessableEntity, func(pg *page, _ mfa.Method) { pg.wrong("code", pg.T("sent.expired")) })
		return
	case errors.Is(err, signin.ErrTooMany):
		v.showRegister(st, http.StatusUnprocessableEntity, func(pg *page) { pg.wrong("", pg.T("register.too_many")) })
		return
	case errors.As(err, &wait):
		v.w.Header().Set("Retry-After", retrySeconds(wait, v.f.Now))
		again(http.StatusTooManyRequests, func(pg *page, _ mfa.Method) { pg.wrong("code", throttled(pg, wait, v.f.Now)) })
		return
	}
	if v.failed(err) {
		return
	}
	v.setCookies(cookies)
	if len(codes) == 0 {
		v.advance(st)
		return
	}
	v.showCodes(st, codes, "codes.lead")
}

// another leads somebody who has just registered his only factor to another one. It is another change, and needs another proof.
func (v *visit) another() {
	st, err := v.Service.State(v.r.Context(), v.client)
	switch {
	case v.failed(err):
	case st.Step != signin.Done:
		v.advance(st)
	case st.HasFresh(v.f.Now): // of a pass that is good for several
		v.proven(st, forAnother)
	default:
		v.redirect(prefix + "verify?for=" + forAnother + "&t=" + v.token)
	}
}

func (v *visit) showCodes(st signin.State, codes []string, lead string) {
	pg := v.page("codes.title")
	pg.as(st)
	pg.Languages = nil // the page can't be shown a second time
	alone := st.Step == signin.Done && len(st.Account.Factors()) == 1 && len(v.Service.Registrable(v.client, st)) > 0
	v.render(v.w, pg, http.StatusOK, "codes", codesPage{pg, st.Current.Session.ID, lead, codes, alone && lead == "codes.lead"})
}
