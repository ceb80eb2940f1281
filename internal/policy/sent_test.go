package policy

import (
	"testing"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// all are the methods whose codes can be sent.
var all = []mfa.Method{mfa.SMS, mfa.Voice, mfa.Email}

func TestCodesThatAreSent(t *testing.T) {
	sent := func(m Model) Model {
		m.Sent, m.Registrable = all, append([]mfa.Method{mfa.Passkey, mfa.TOTP}, all...)
		return m
	}
	strength := func(name string) Model {
		return sent(ca(everybody(func(p *Policy) { p.Grant = Grant{Strength: name} })))
	}
	custom := func(combinations ...string) Model {
		m := strength("own")
		m.Strengths = append(m.Strengths, Strength{Name: "own", Combinations: combinations})
		return m
	}
	demanded := sent(ca(everybody(nil)))
	perUser := func(methods ...mfa.Method) Model {
		return sent(Model{Defaults: SecurityDefaults{Off: true}, PerUser: PerUserMFA{On: true, Methods: methods}})
	}
	for reason, tc := range map[string]struct {
		model  Model
		proven []mfa.Method
		has    Methods
		want   Action
		next   Methods
	}{
		"security defaults take a phone that was registered before": {sent(Model{}), nil, methodSet("sms"), Verify, methodSet("sms")},
		"and a code that was sent to it":                            {sent(Model{}), []mfa.Method{mfa.SMS}, methodSet("sms"), Allow, 0},
		"mfa takes a text message":                                  {demanded, []mfa.Method{mfa.SMS}, methodSet("sms"), Allow, 0},
		"mfa takes a call":                                          {demanded, []mfa.Method{mfa.Voice}, methodSet("voice"), Allow, 0},
		"mfa takes a mail":                                          {demanded, []mfa.Method{mfa.Email}, methodSet("email"), Allow, 0},
		"the strength mfa takes a text message":                     {strength(MFAStrength), []mfa.Method{mfa.SMS}, methodSet("sms"), Allow, 0},
		"the strength mfa takes a call":                             {strength(MFAStrength), []mfa.Method{mfa.Voice}, methodSet("voice"), Allow, 0},
		"the strength mfa takes no mail":                            {strength(MFAStrength), []mfa.Method{mfa.Email}, methodSet("email"), Register, passkeySet | totpSet | methodSet("sms") | methodSet("voice")},
		"the strength mfa does not ask for a mail":                  {strength(MFAStrength), nil, methodSet("email") | totpSet, Verify, totpSet},
		"passwordless takes no text message":                        {strength(PasswordlessStrength), []mfa.Method{mfa.SMS}, methodSet("sms"), Register, passkeySet},
		"phishing-resistant takes no call":                          {strength(PhishingResistantStrength), []mfa.Method{mfa.Voice}, methodSet("voice"), Register, passkeySet},
		"a strength of text messages takes no call":                 {custom("password,sms"), []mfa.Method{mfa.Voice}, methodSet("sms") | methodSet("voice"), Verify, methodSet("sms")},
		"a strength of calls takes a call":                          {custom("password,voice"), []mfa.Method{mfa.Voice}, methodSet("voice"), Allow, 0},
		"per-user MFA takes what it names":                          {perUser(mfa.SMS), []mfa.Method{mfa.SMS}, methodSet("sms"), Allow, 0},
		"and nothing else":                                          {perUser(mfa.Voice), []mfa.Method{mfa.SMS}, methodSet("sms") | methodSet("voice"), Verify, methodSet("voice")},
	} {
		t.Run(reason, func(t *testing.T) {
			f := facts(func(f *Facts) {
				f.Proofs = proofs(append([]mfa.Method{mfa.Password}, tc.proven...)...)
				f.Methods, f.Registered, f.Application, f.PerUser = tc.has, true, "hr", mfa.PerUserEnforced
			})
			if d := of(tc.model).Decide(f); d.Action != tc.want || d.Methods != tc.next {
				t.Errorf("%v (%s) %v, want %v %v", d.Action, d.Reason, d.Methods, tc.want, tc.next)
			}
		})
	}
}

func TestACodeThatCanNotBeSentIsNotAskedFor(t *testing.T) {
	m := ca(everybody(nil))
	m.Registrable, m.Sent = []mfa.Method{mfa.TOTP}, []mfa.Method{mfa.Voice}
	f := known(func(f *Facts) {
		f.Proofs, f.Methods = proofs(mfa.Password), methodSet("sms")|methodSet("voice")|methodSet("email")
	})
	if d := of(m).Decide(f); d.Action != Verify || d.Methods != methodSet("voice") {
		t.Errorf("calls are made: %v %v", d.Action, d.Methods)
	}
	// Who has nothing but what can't be sent is let in by nothing, and registers nothing with his password alone.
	m.Sent = nil
	if d := of(m).Decide(f); d.Action != Block {
		t.Errorf("nothing is sent: %v (%s) %v", d.Action, d.Reason, d.Methods)
	}
	if f.Methods != methodSet("sms")|methodSet("voice")|methodSet("email") {
		t.Error("the facts were changed")
	}
}

func TestCodesAreRegisteredOnlyWithoutSecurityDefaults(t *testing.T) {
	for _, off := range []bool{false, true} {
		m := Model{Defaults: SecurityDefaults{Off: off}, Registrable: append([]mfa.Method{mfa.Passkey, mfa.TOTP}, all...), Sent: all}
		s := of(m)
		for _, method := range all {
			if s.Registers(method) != off {
				t.Errorf("defaults off: %v, %s may be registered: %v", off, method, s.Registers(method))
			}
		}
		if !s.Registers(mfa.TOTP) || !s.Registers(mfa.Passkey) {
			t.Error("an app or a passkey may not be registered")
		}
		want := passkeySet | totpSet
		if off {
			want |= sentSet
		}
		if got := s.newMethods(); got != want {
			t.Errorf("defaults off: %v, %v can be registered, want %v", off, got, want)
		}
	}
}
