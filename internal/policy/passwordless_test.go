package policy

import (
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// proven some time ago, in this order.
func aged(ages map[mfa.Method]time.Duration) (ps mfa.Proofs) {
	for _, m := range []mfa.Method{mfa.Password, mfa.Passkey, mfa.TOTP} {
		if age, ok := ages[m]; ok {
			ps = ps.With(mfa.Proof{Method: m, At: now.Add(-age)})
		}
	}
	return ps
}

func TestAPasskeyStandsInThePasswordsPlace(t *testing.T) {
	type ages = map[mfa.Method]time.Duration
	strength := func(name string) func(*Policy) { return func(p *Policy) { p.Grant = Grant{Strength: name} } }
	every := func(f SignInFrequency) func(*Policy) { return func(p *Policy) { p.Session.SignInFrequency = &f } }
	both := totpSet | passkeySet | recoverySet
	for reason, tc := range map[string]struct {
		policy  func(*Policy)
		proofs  ages
		has     Methods
		action  Action
		why     Reason
		methods Methods
	}{
		"mfa":                                  {nil, ages{mfa.Passkey: 0}, both, Allow, MFASatisfied, 0},
		"multifactor":                          {strength(MFAStrength), ages{mfa.Passkey: 0}, both, Allow, MFASatisfied, 0},
		"passwordless":                         {strength(PasswordlessStrength), ages{mfa.Passkey: 0}, both, Allow, MFASatisfied, 0},
		"phishing-resistant":                   {strength(PhishingResistantStrength), ages{mfa.Passkey: 0}, both, Allow, MFASatisfied, 0},
		"terms alone":                          {func(p *Policy) { p.Grant = Grant{Terms: []string{"house rules"}} }, ages{mfa.Passkey: 0}, both, AcceptTerms, TermsRequired, 0},
		"young enough":                         {every(SignInFrequency{Every: 4 * time.Hour}), ages{mfa.Passkey: 3 * time.Hour}, both, Allow, MFASatisfied, 0},
		"too old":                              {every(SignInFrequency{Every: 4 * time.Hour}), ages{mfa.Passkey: 5 * time.Hour}, both, Authenticate, SignInFrequencyOver, 0},
		"it renews the password":               {every(SignInFrequency{Every: 4 * time.Hour}), ages{mfa.Password: 5 * time.Hour, mfa.Passkey: time.Hour}, both, Allow, MFASatisfied, 0},
		"a code doesn't":                       {every(SignInFrequency{Every: 4 * time.Hour}), ages{mfa.Password: 5 * time.Hour, mfa.TOTP: time.Hour}, both, Authenticate, SignInFrequencyOver, 0},
		"every time":                           {every(SignInFrequency{EveryTime: true}), ages{mfa.Passkey: 4 * time.Minute}, both, Allow, MFASatisfied, 0},
		"every time, too old":                  {every(SignInFrequency{EveryTime: true}), ages{mfa.Passkey: 6 * time.Minute}, both, Authenticate, SignInFrequencyOver, 0},
		"only the second step must be younger": {every(SignInFrequency{Every: 4 * time.Hour, SecondaryOnly: true}), ages{mfa.Passkey: 5 * time.Hour}, both, Verify, MFARequired, passkeySet},

		// A strength that names the password is met with the password.
		"codes, with a passkey":            {strength("codes"), ages{mfa.Passkey: 0}, both, Verify, MFARequired, totpSet},
		"codes, with a passkey and code":   {strength("codes"), ages{mfa.Passkey: 0, mfa.TOTP: 0}, both, Authenticate, MFARequired, passwordSet},
		"codes, with all three":            {strength("codes"), ages{mfa.Passkey: 0, mfa.TOTP: 0, mfa.Password: 0}, both, Allow, MFASatisfied, 0},
		"codes, with a passkey and no app": {strength("codes"), ages{mfa.Passkey: 0}, passkeySet, Register, RegistrationRequired, totpSet},
	} {
		t.Run(reason, func(t *testing.T) {
			m := ca(everybody(tc.policy))
			m.Registrable = []mfa.Method{mfa.Passkey, mfa.TOTP}
			f := known(func(f *Facts) { f.Proofs, f.Methods = aged(tc.proofs), tc.has })
			set := of(m)
			d := set.Decide(f)
			if d.Action != tc.action || d.Reason != tc.why || d.Methods != tc.methods {
				t.Fatalf("%v (%s) with %s, want %v (%s) with %s", d.Action, d.Reason, d.Methods, tc.action, tc.why, tc.methods)
			}
			_, results := set.Explain(f)
			if r := results[0]; r.Satisfied != (tc.action == Allow) || r.Ask != (tc.action != Allow) {
				t.Fatalf("it is explained as %+v", r)
			}
		})
	}
}

func TestAPasskeyToChangeFactorsWith(t *testing.T) {
	action := func(grant Grant, session SessionControls) Policy {
		return everybody(func(p *Policy) {
			p.Conditions.Applications, p.Conditions.UserActions = nil, []UserAction{RegisterSecurityInfo}
			p.Grant, p.Session = grant, session
		})
	}
	for reason, tc := range map[string]struct {
		policy Policy
		age    time.Duration
		action Action
	}{
		"mfa":                          {action(Grant{MFA: true}, SessionControls{}), 0, Allow},
		"every time":                   {action(Grant{MFA: true}, SessionControls{SignInFrequency: &SignInFrequency{EveryTime: true}}), 4 * time.Minute, Allow},
		"every time, too old":          {action(Grant{MFA: true}, SessionControls{SignInFrequency: &SignInFrequency{EveryTime: true}}), 6 * time.Minute, Authenticate},
		"a strength with the password": {action(Grant{Strength: "codes"}, SessionControls{}), 0, Verify},
	} {
		t.Run(reason, func(t *testing.T) {
			f := known(func(f *Facts) {
				f.Proofs, f.Methods = aged(map[mfa.Method]time.Duration{mfa.Passkey: tc.age}), totpSet|passkeySet
			})
			if d := of(ca(tc.policy)).DecideAction(f, RegisterSecurityInfo); d.Action != tc.action {
				t.Fatalf("%v (%s), want %v", d.Action, d.Reason, tc.action)
			}
		})
	}
	t.Run("a strength with the password, code proven", func(t *testing.T) {
		f := known(func(f *Facts) {
			f.Proofs, f.Methods = aged(map[mfa.Method]time.Duration{mfa.Passkey: 0, mfa.TOTP: 0}), totpSet|passkeySet
		})
		d := of(ca(action(Grant{Strength: "codes"}, SessionControls{}))).DecideAction(f, RegisterSecurityInfo)
		if d.Action != Authenticate || d.Methods != passwordSet {
			t.Fatalf("%v (%s) with %s", d.Action, d.Reason, d.Methods)
		}
	})
}

// What somebody has is enough, or he would be asked to register.
func TestWhatSuffices(t *testing.T) {
	strength := func(name string) func(*Policy) { return func(p *Policy) { p.Grant = Grant{Strength: name} } }
	sms, mail := methodSet("sms"), methodSet("email")
	for reason, tc := range map[string]struct {
		policy func(*Policy)
		has    Methods
		models []string
		want   bool
	}{
		"nothing, for nothing":                 {func(p *Policy) { p.Grant = Grant{}; p.Session.Persistent = NeverPersistent }, 0, nil, true},
		"an app, for any second factor":        {nil, totpSet, nil, true},
		"mail, for any second factor":          {nil, mail, nil, true},
		"recovery codes alone":                 {nil, recoverySet, nil, false},
		"a pass alone":                         {nil, passSet | passOnceSet, nil, false},
		"mail, for a strength":                 {strength(MFAStrength), mail, nil, false},
		"messages, for a strength":             {strength(MFAStrength), sms, nil, true},
		"messages and mail, for a strength":    {strength(MFAStrength), sms | mail, nil, true},
		"an app, where a passkey is needed":    {strength(PhishingResistantStrength), totpSet | recoverySet, nil, false},
		"both, where a passkey is needed":      {strength(PhishingResistantStrength), totpSet | passkeySet, nil, true},
		"a phone, for passwordless":            {strength(PasswordlessStrength), pushSet | totpSet, nil, true},
		"a phone, where a passkey is needed":   {strength(PhishingResistantStrength), pushSet, nil, false},
		"a passkey, where codes are needed":    {strength("codes"), passkeySet, nil, false},
		"the model that is needed":             {strength("keys of one model"), passkeySet, []string{modelA}, true},
		"another model":                        {strength("keys of one model"), passkeySet | totpSet, nil, false},
		"a device is needed, and he has a key": {func(p *Policy) { p.Grant = Grant{MFA: true, CompliantDevice: true} }, totpSet, nil, true},
		"who is blocked loses nothing":         {func(p *Policy) { p.Grant = Grant{Block: true} }, 0, nil, true},
	} {
		t.Run(reason, func(t *testing.T) {
			m := ca(everybody(tc.policy))
			m.Registrable, m.Sent = []mfa.Method{mfa.Passkey, mfa.Push, mfa.TOTP, mfa.SMS, mfa.Email}, []mfa.Method{mfa.SMS, mfa.Email, mfa.Push}
			f := known(func(f *Facts) { f.Methods, f.Models, f.Proofs = tc.has, tc.models, nil })
			if got := of(m).Suffices(f); got != tc.want {
				t.Fatalf("%v", got)
			}
		})
	}
}
