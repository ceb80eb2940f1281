package portal

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
)

func TestPagesSayWhy(t *testing.T) {
	texts, err := NewTexts()
	if err != nil {
		t.Fatal(err)
	}
	p := testPortal(t, texts)
	for reason, tc := range map[string]struct {
		application string
		texts       map[policy.Cause]string
		because     policy.Because
		en, nl      string
	}{
		"that it is asked": {"Payroll", whyVerify, policy.Because{}, "Payroll asks for a second step.", "Payroll vraagt om een tweede stap."},
		"our own pages":    {"", whyVerify, policy.Because{}, "This page asks for a second step.", "Deze pagina vraagt om een tweede stap."},
		"hours": {
			"Payroll", whyVerify, policy.Because{Cause: policy.CauseTooOld, Age: 4 * time.Hour},
			"Payroll asks for a second step because the last time was more than 4 hours ago.", "Payroll vraagt om een tweede stap omdat de vorige keer meer dan 4 uur geleden is.",
		},
		"a day": {
			"Payroll", whyVerify, policy.Because{Cause: policy.CauseTooOld, Age: 24 * time.Hour},
			"Payroll asks for a second step because the last time was more than 1 day ago.", "Payroll vraagt om een tweede stap omdat de vorige keer meer dan 1 dag geleden is.",
		},
		"every time": {"Payroll", whyVerify, policy.Because{Cause: policy.CauseEveryTime}, "Payroll asks for a second step every time.", "Payroll vraagt elke keer om een tweede stap."},
		"too weak": {
			"Payroll", whyVerify, policy.Because{Cause: policy.CauseTooWeak},
			"Payroll asks for a stronger second step than the one that you have given.", "Payroll vraagt om een sterkere tweede stap dan die u hebt gegeven.",
		},
		"outside": {
			"Payroll", whyVerify, policy.Because{Cause: policy.CauseOutside},
			"Payroll asks for a second step because you are outside the networks that your organisation trusts.", "Payroll vraagt om een tweede stap omdat u buiten de netwerken bent die uw organisatie vertrouwt.",
		},
		"elsewhere": {
			"Payroll", whyVerify, policy.Because{Cause: policy.CauseElsewhere},
			"Payroll asks for a second step because of where you are.", "Payroll vraagt om een tweede stap vanwege de plaats waar u bent.",
		},
		"the device": {
			"Payroll", whyVerify, policy.Because{Cause: policy.CauseDevice},
			"Payroll asks for a second step because this is not a device that your organisation manages.", "Payroll vraagt om een tweede stap omdat dit geen apparaat is dat uw organisatie beheert.",
		},
		"to sign in again": {
			"Payroll", whySignIn, policy.Because{Cause: policy.CauseTooOld, Age: 48 * time.Hour},
			"Payroll asks you to sign in once more because the last time was more than 2 days ago.", "Payroll wil dat u zich nog een keer aanmeldt, omdat de vorige keer meer dan 2 dagen geleden is.",
		},
		"to sign in every time":            {"Payroll", whySignIn, policy.Because{Cause: policy.CauseEveryTime}, "Payroll asks you to sign in every time.", "Payroll wil dat u zich elke keer aanmeldt."},
		"a cause that there is no text of": {"Payroll", whySignIn, policy.Because{Cause: policy.CauseOutside}, "You signed in a while ago. For this, sign in once more.", "U hebt zich een tijd geleden aangemeld. Meld u hiervoor nog een keer aan."},
	} {
		for lang, want := range map[string]string{"en": tc.en, "nl": tc.nl} {
			r := httptest.NewRequest(http.MethodGet, "/_mfa/verify", nil)
			r.Header.Set("Accept-Language", lang)
			pg := p.page(r, Facts{Host: "hr.example.com", HTTPS: true, Application: tc.application}, "verify.title")
			why := pg.because(tc.texts, tc.because)
			if why != want {
				t.Errorf("%s in %s: %q, want %q", reason, lang, why, want)
			}
			w := httptest.NewRecorder()
			p.render(w, pg, http.StatusOK, "verify", verifyPage{page: pg, Method: mfa.TOTP, Why: why, Lead: "verify.totp.lead", Label: "verify.totp.label"})
			if before, _, found := strings.Cut(w.Body.String(), `name="code"`); !found || !strings.Contains(before, want) {
				t.Errorf("%s in %s: the page does not say it before it asks:\n%s", reason, lang, w.Body)
			}
		}
	}
}

func TestEveryCauseHasAText(t *testing.T) {
	for c := policy.CauseNone; c.String() != "unknown"; c++ {
		if whyVerify[c] == "" {
			t.Errorf("%v has none", c)
		}
	}
}
