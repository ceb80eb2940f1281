package portal

import (
	"errors"
	"net/http"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/sender"
	"github.com/caddy-mfa/caddy-mfa/internal/signin"
	"github.com/caddy-mfa/caddy-mfa/internal/throttle"
)

// isSent says whether the codes of a method are sent.
func isSent(m mfa.Method) bool { return m == mfa.SMS || m == mfa.Voice || m == mfa.Email }

// sentPart is what of the page of a method is about codes that are sent.
type sentPart struct {
	Sends        bool             // codes of the method are sent
	Sent         string           // where one has gone; empty: none has
	Destinations []mfa.Credential // to which one can
}

// sentPart finds it out.
func (v *visit) sentPart(st signin.State, method mfa.Method) (part sentPart, err error) {
	if !isSent(method) {
		return sentPart{}, nil
	}
	ctx := v.r.Context()
	part.Sends = true
	challenge, ok, err := v.Service.SentCode(ctx, v.client, st, method)
	if err != nil {
		return sentPart{}, err
	}
	if ok {
		part.Sent = challenge.To
	}
	part.Destinations, err = v.Service.Destinations(ctx, st, method)
	return part, err
}

// sendCode has a code sent, and goes to the page where it is typed: loading that again sends nothing.
func (v *visit) sendCode(method mfa.Method, purpose string) {
	st, _, err := v.Service.SendCode(v.r.Context(), v.client, v.form("session"), method, v.form("credential"))
	switch {
	case err == nil:
		q := query(method, purpose)
		q.Set("t", v.token)
		v.redirect(prefix + "verify?" + q.Encode())
	case errors.Is(err, signin.ErrStep) && st.Step == signin.Password:
		v.renderSignIn(http.StatusUnprocessableEntity, "", func(pg *page) { pg.wrong("username", pg.T("signin.too_long")) })
	case errors.Is(err, signin.ErrStep):
		v.showVerify(st, method, purpose, http.StatusConflict, "", func(pg *page) { pg.Notice = pg.T("verify.again") })
	default:
		status, say := v.notSent(err)
		if say == nil {
			v.failed(err)
			return
		}
		v.showVerify(st, method, purpose, status, "", func(pg *page) { pg.wrong("", say(pg)) })
	}
}

// notSent says why a code was not sent; nil: it is a fault.
func (v *visit) notSent(err error) (status int, say func(*page) string) {
	text := func(key string) func(*page) string { return func(pg *page) string { return pg.T(key) } }
	var wait *throttle.WaitError
	switch {
	case errors.As(err, &wait) && wait.Scope == throttle.ScopePace:
		v.w.Header().Set("Retry-After", retrySeconds(wait, v.f.Now))
		seconds := int((wait.Until.Sub(v.f.Now) + time.Second - 1) / time.Second)
		return http.StatusTooManyRequests, func(pg *page) string { return pg.Plural("sent.wait", max(1, seconds)) }
	case errors.As(err, &wait) && (wait.Scope == "factor" || wait.Scope == "locked"):
		v.w.Header().Set("Retry-After", retrySeconds(wait, v.f.Now))
		return http.StatusTooManyRequests, func(pg *page) string { return throttled(pg, wait, v.f.Now) }
	case errors.As(err, &wait):
		// Which limit it was is nobody's business but the operator's.
		v.w.Header().Set("Retry-After", retrySeconds(wait, v.f.Now))
		return http.StatusTooManyRequests, text("sent.too_many")
	case errors.Is(err, throttle.ErrStopped), errors.Is(err, sender.ErrFailed), errors.Is(err, sender.ErrBusy):
		return http.StatusServiceUnavailable, text("sent.failed")
	case errors.Is(err, mfa.ErrNotServed):
		return http.StatusUnprocessableEntity, text("sent.not_served")
	}
	return 0, nil
}

// addressPage asks where codes are to be sent.
type addressPage struct {
	*page
	Session string
	Method  mfa.Method
	Lead    string
	Typed   string
}

// sentPage asks for the code that was sent to a new phone or mail address.
type sentPage struct {
	*page
	Session string
	Method  mfa.Method
	To      string
}

// address is the page on which a phone or a mail address is typed.
func (v *visit) showAddress(st signin.State, method mfa.Method, status int, prepare func(*page)) {
	pg := v.page("address.title_phone")
	if method == mfa.Email {
		pg = v.page("address.title_mail")
	}
	pg.as(st)
	pg.Name, pg.Query = "register", "page="+string(method)
	prepare(pg)
	typed := v.form("to")
	if len(typed) > mfa.MaxPhoneInput && method != mfa.Email || len(typed) > 254 {
		typed = ""
	}
	v.render(v.w, pg, status, "address", addressPage{pg, st.Current.Session.ID, method, "address." + string(method), typed})
}

// showSent is the page on which the code of a registration is typed.
func (v *visit) showSent(st signin.State, ch mfa.Challenge, status int, prepare func(*page)) {
	pg := v.page("sent.title")
	pg.as(st)
	pg.Name = "register"
	prepare(pg)
	v.render(v.w, pg, status, "sent", sentPage{pg, st.Current.Session.ID, ch.Method, ch.To})
}

// beginAt begins the registration of a phone or a mail address.
func (v *visit) beginAt(method mfa.Method) {
	if !isSent(method) {
		v.next("register")
		return
	}
	cookies, err := v.Service.BeginCodeRegistration(v.r.Context(), v.client, v.form("session"), method, v.form("to"))
	v.registrationSent(method, cookies, err)
}

// sendAgain sends another code to the phone or the mail address that is being registered.
func (v *visit) sendAgain() {
	cookies, err := v.Service.SendAgain(v.r.Context(), v.client, v.form("session"))
	v.registrationSent(mfa.Method(v.form("method")), cookies, err)
}

func (v *visit) registrationSent(method mfa.Method, cookies signin.Cookies, err error) {
	v.setCookies(cookies) // also with an error: the proof may have been spent, and the token be new
	if cookies.Session != "" {
		v.client.Session = cookies.Session
	}
	if err == nil {
		v.next("register")
		return
	}
	status, say := v.notSent(err)
	switch {
	case errors.Is(err, mfa.ErrAddress):
		status, say = http.StatusUnprocessableEntity, func(pg *page) string { return pg.T("address." + string(method) + "_wrong") }
	case errors.Is(err, signin.ErrKnown):
		status, say = http.StatusUnprocessableEntity, func(pg *page) string { return pg.T("address.known") }
	}
	if say == nil {
		v.beginFailed(err)
		return
	}
	st, challenge, stErr := v.Service.Registration(v.r.Context(), v.client)
	switch {
	case stErr == nil && v.form("action") == "again" && isSent(challenge.Method):
		v.showSent(st, challenge, status, func(pg *page) { pg.wrong("", say(pg)) })
	case stErr != nil && !errors.Is(stErr, signin.ErrStep):
		v.failed(stErr)
	case !st.Registers():
		v.advance(st)
	default:
		v.showAddress(st, method, status, func(pg *page) { pg.wrong("to", say(pg)) })
	}
}
