package portal

import (
	"cmp"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
	"github.com/caddy-mfa/caddy-mfa/internal/signin"
)

// The keys of texts that say why somebody is asked for a second step, and to sign in once more.
var (
	whyVerify = map[policy.Cause]string{
		policy.CauseNone: "why.verify", policy.CauseTooOld: "why.verify_too_old", policy.CauseEveryTime: "why.verify_every_time", policy.CauseTooWeak: "why.verify_too_weak",
		policy.CauseOutside: "why.verify_outside", policy.CauseElsewhere: "why.verify_elsewhere", policy.CauseDevice: "why.verify_device",
	}
	whySignIn = map[policy.Cause]string{
		policy.CauseNone: "signin.again", policy.CauseTooOld: "why.signin_too_old", policy.CauseEveryTime: "why.signin_every_time",
	}
)

// because says who asks, and why, in a sentence of texts.
func (pg *page) because(texts map[policy.Cause]string, b policy.Because) string {
	key := cmp.Or(texts[b.Cause], texts[policy.CauseNone])
	return pg.T(key, "Asker", cmp.Or(pg.Application, pg.T("why.here")), "Length", lengthText(pg, b.Age))
}

// whyAgain says why somebody who is signed in must sign in once more.
func (v *visit) whyAgain(pg *page, st signin.State) string {
	if st.Decision.Methods.Has(mfa.Password) {
		return pg.T("signin.password_needed")
	}
	return pg.because(whySignIn, v.Service.Why(v.client, st))
}
