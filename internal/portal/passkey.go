package portal

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/directory"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/session"
	"github.com/caddy-mfa/caddy-mfa/internal/signin"
	"github.com/caddy-mfa/caddy-mfa/internal/throttle"
)

// postPasskey signs somebody in with a passkey in the password's place.
func (v *visit) postPasskey() {
	st, cookies, unknown, err := v.Service.Passkey(v.r.Context(), v.client, v.form("invitation"), v.form("code"))
	v.unknown = unknown
	var wait *throttle.WaitError
	switch {
	case errors.Is(err, signin.ErrPasskey):
		v.refuseSignIn(http.StatusUnprocessableEntity, "", func(pg *page) string { return pg.T("signin.passkey_wrong") })
		return
	case errors.Is(err, signin.ErrStep):
		v.refuseSignIn(http.StatusUnprocessableEntity, "", func(pg *page) string { return pg.T("signin.too_long") })
		return
	case errors.As(err, &wait):
		v.w.Header().Set("Retry-After", retrySeconds(wait, v.f.Now))
		v.refuseSignIn(http.StatusTooManyRequests, "", func(pg *page) string { return throttled(pg, wait, v.f.Now) })
		return
	case errors.Is(err, directory.ErrBusy):
		retryAfter(v.w, 5*time.Second)
		v.refuseSignIn(http.StatusTooManyRequests, "", func(pg *page) string { return pg.T("busy.text") })
		return
	}
	if v.failed(err) {
		return
	}
	v.setCookies(cookies)
	v.signedIn(st, cookies)
}

// finished goes on after a second factor. To somebody who is through, a passkey is offered, where the browser has said that it can keep
// one and nobody has said "not now" in it.
func (v *visit) finished(st signin.State) {
	if v.form("passkeys") != "yes" || session.CookieValue(v.r, session.LaterCookieName, v.f.HTTPS) != "" || !v.Service.Offers(v.client, st) {
		v.advance(st)
		return
	}
	pg := v.page("offer.title")
	pg.as(st)
	pg.Languages = nil // the page can't be shown a second time
	v.render(v.w, pg, http.StatusOK, "offer", offerPage{pg, st.Current.Session.ID})
}

type offerPage struct {
	*page
	Session string
}

// notNow remembers that no passkey is wanted in this browser, and moves on.
func (v *visit) notNow() {
	http.SetCookie(v.w, session.NewCookie(session.LaterCookieName, "1", v.f.HTTPS, int(signin.KnownFor/time.Second)))
	st, err := v.Service.State(v.r.Context(), v.client)
	if !v.failed(err) {
		v.advance(st)
	}
}

// unknownPasskey is what a browser is told of a passkey that is gone, in the JSON of WebAuthn Level 3, section 5.1.10.
func (v *visit) unknownPasskey(id string) string {
	if id == "" {
		return ""
	}
	return signal(struct {
		RP string `json:"rpId"`
		ID string `json:"credentialId"`
	}{v.Service.Gate.RP(v.f.Host), id})
}

// acceptedPasskeys is what it is told of those that are good.
func acceptedPasskeys(a mfa.Accepted) string {
	if a.RP == "" {
		return ""
	}
	return signal(a)
}

func signal(what any) string {
	text, err := json.Marshal(what)
	if err != nil { // strings are always written
		panic(err)
	}
	return string(text)
}

// removedLifetime is how long a page that says what was removed tells the browser of it.
const removedLifetime = 10 * time.Minute

type sealedRemoved struct {
	ID      string `json:"i"`
	Expires int64  `json:"e"` // Unix seconds
}

// sealRemoved carries the id of a passkey that was removed to the page that is shown next. Sealed, since a link that anybody could write
// would make a browser forget what is good.
func (rs *Returns) sealRemoved(id, host, session string, now time.Time) string {
	plain, err := json.Marshal(sealedRemoved{id, now.Add(removedLifetime).Unix()})
	if err != nil { // strings and numbers are always written
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(rs.sealer.Seal(plain, "removed", host, session))
}

// openRemoved gives what sealRemoved was told; nothing for any other text, another host or session, or when it is too late.
func (rs *Returns) openRemoved(text, host, session string, now time.Time) string {
	if len(text) > maxTarget {
		return ""
	}
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return ""
	}
	plain, err := rs.sealer.Open(sealed, "removed", host, session)
	var removed sealedRemoved
	if err != nil || json.Unmarshal(plain, &removed) != nil || now.Unix() >= removed.Expires {
		return ""
	}
	return removed.ID
}

// removeFactor removes one, and has the browser forget it if it is a passkey.
func (v *visit) removeFactor(id string) {
	ctx := v.r.Context()
	st, err := v.Service.State(ctx, v.client)
	if v.failed(err) {
		return
	}
	gone, err := v.Service.PublicID(ctx, v.client, st, v.form("id"))
	if v.failed(err) {
		return
	}
	cookies, err := v.Service.RemoveFactor(ctx, v.client, id, v.form("id"))
	v.changed(cookies, err, func() {
		to := prefix + "account?removed"
		if gone != "" {
			to += "=" + v.Returns.sealRemoved(gone, v.f.Host, id, v.f.Now)
		}
		v.redirect(to)
	})
}
