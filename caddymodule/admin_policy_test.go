package caddymodule

import (
	"net/netip"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-mfa/caddy-mfa/internal/admin"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
)

func TestQuestionsAreReadInTheWordsOfTheCaddyfile(t *testing.T) {
	for text, want := range map[string]admin.Query{
		"user=alice": {User: "alice", Client: mfa.Client{App: policy.Browser}},
		"user=a&application=hr&client_app=mobile_and_desktop&ip=::ffff:203.0.113.9&country=nl&platform=macos&device=compliant,domain_joined&proof=password,totp&sign_in_risk=high&user_risk=none": {
			User: "a", Application: "hr", SignInRisk: policy.HighRisk, UserRisk: policy.NoRisk, Proofs: []mfa.Method{mfa.Password, mfa.TOTP},
			Client: mfa.Client{
				App: policy.MobileAndDesktop, Address: netip.MustParseAddr("203.0.113.9"), Country: "NL", CountryKnown: true, Platform: policy.MacOS,
				Device: mfa.Device{Known: true, Compliant: true, DomainJoined: true},
			},
		},
		"user=a&user_action=register_security_info&country=none": {
			User: "a", UserAction: policy.RegisterSecurityInfo, Client: mfa.Client{App: policy.Browser, CountryKnown: true},
		},
	} {
		values, err := url.ParseQuery(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := parseQuery(values); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v\n%+v, want\n%+v", text, err, got, want)
		}
	}
}

func TestMistakesInAQuestionAreAllTold(t *testing.T) {
	values, err := url.ParseQuery("application=hr&user_action=register_security_info&client_app=firefox&ip=home&country=XX&platform=all&device=mine&proof=totp,finger&colour=red&user_risk=low&user_risk=high")
	if err != nil {
		t.Fatal(err)
	}
	_, err = parseQuery(values)
	if err == nil {
		t.Fatal("it was understood")
	}
	for _, part := range []string{
		"--user alice", "not both", `client app "firefox"`, "mobile_and_desktop", `"home"`, `"XX"`, "not all of them", `"mine"`, `"finger"`, "--proof password,totp", `"colour"`, "user_risk is there twice",
	} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("it does not say %s:\n%v", part, err)
		}
	}
}

func FuzzParseQuery(f *testing.F) {
	f.Add("user=alice&application=hr&ip=203.0.113.9&country=NL&platform=windows&device=compliant&proof=password,totp")
	f.Add("user=bob&user_action=register_security_info&client_app=other&country=none")
	f.Add("user=b&proof=,&device=,,&ip=fe80::1%25eth0")
	f.Fuzz(func(t *testing.T, text string) {
		values, err := url.ParseQuery(text)
		if err != nil {
			return
		}
		q, err := parseQuery(values)
		if err != nil {
			return
		}
		if q.User == "" || q.Client.App == "" || q.Application != "" && q.UserAction != "" || len(q.Proofs) > 0 && !slices.Contains(q.Proofs, mfa.Password) {
			t.Errorf("%q is understood as %+v", text, q)
		}
	})
}

// TestPoliciesAreWrittenAsTheyAreRead takes the Caddyfile that has every option, and reads back what is written of it.
func TestPoliciesAreWrittenAsTheyAreRead(t *testing.T) {
	raw, err := os.ReadFile("testdata/adapt/every_policy_option.caddyfiletest")
	if err != nil {
		t.Fatal(err)
	}
	input, _, _ := strings.Cut(string(raw), separator)
	policies := policiesOf(appOf(t, input+"\n"))
	if len(policies) < 5 {
		t.Fatalf("only %d policies", len(policies))
	}
	for _, p := range policies {
		written := writtenPolicy(&p)
		if again := policyOf(&written); !reflect.DeepEqual(again, p) {
			t.Errorf("%s: written as %+v, and read as\n%+v, want\n%+v", p.Name, written, again, p)
		}
	}
}

func TestWhatWouldHappenIsSaidInASentence(t *testing.T) {
	for want, a := range map[string]admin.WhatIf{
		`alice is asked for a second factor: totp, recovery_code (policy "MFA").`: {
			User: "alice", Application: "hr", Decision: admin.Decided{Action: policy.Verify, Reason: policy.MFARequired, Policy: "MFA", Methods: []mfa.Method{mfa.TOTP, mfa.RecoveryCode}},
		},
		"alice is asked to register a second factor (security defaults).": {
			User: "alice", Decision: admin.Decided{Action: policy.Register, Reason: policy.RegistrationRequired, DemandedBy: admin.BySecurityDefaults},
		},
		`bob is asked to register a second factor: passkey, totp (policy "MFA").`: {
			User: "bob", Application: "hr", Decision: admin.Decided{Action: policy.Register, Reason: policy.RegistrationRequired, Policy: "MFA", Methods: []mfa.Method{mfa.Passkey, mfa.TOTP}},
		},
		"alice gets into hr on the password alone: nothing asks for more. A second factor can be registered.": {
			User: "alice", Application: "hr", Decision: admin.Decided{Action: policy.Allow, Reason: policy.NoPolicyApplies, Offer: true},
		},
		`alice is asked for the password again (policy "4h"). The password counts for 4h. A second factor counts for 1d. The session ends with the browser.`: {
			User: "alice", Decision: admin.Decided{Action: policy.Authenticate, Policy: "4h", PasswordAge: 14400, SecondAge: 86400, Persistent: policy.NeverPersistent},
		},
		"bob is refused: a second factor must be registered, and may not be from here; what is missing is a temporary access pass.": {
			User: "bob", Decision: admin.Decided{Action: policy.Block, Reason: policy.RegistrationDenied, Needs: policy.NeedPass.String()},
		},
		"bob is refused: a second factor is demanded, and a client of this kind can't be asked for one (security defaults).": {
			User: "bob", Application: "hr", Decision: admin.Decided{Action: policy.Block, Reason: policy.LegacyAuth, DemandedBy: admin.BySecurityDefaults},
		},
		"bob may register, change or remove factors: no policy asks for more.": {
			User: "bob", UserAction: policy.RegisterSecurityInfo, Decision: admin.Decided{Action: policy.Allow, Reason: policy.NoPolicyApplies},
		},
	} {
		if got := sentence(&a); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}
