package policy

import (
	"testing"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

func TestApprovalOnAPhone(t *testing.T) {
	with := func(m Model) Model {
		m.Sent, m.Registrable = []mfa.Method{mfa.Push}, []mfa.Method{mfa.Passkey, mfa.Push, mfa.TOTP}
		return m
	}
	strength := func(name string, own ...string) Model {
		m := with(ca(everybody(func(p *Policy) { p.Grant = Grant{Strength: name} })))
		if len(own) > 0 {
			m.Strengths = append(m.Strengths, Strength{Name: name, Combinations: own})
		}
		return m
	}
	off := ca(everybody(nil))
	off.Registrable = []mfa.Method{mfa.TOTP}
	for reason, tc := range map[string]struct {
		model Model
		push  bool // was proven
		want  Action
		next  Methods
	}{
		"security defaults ask for it":                 {with(Model{}), false, Verify, pushSet},
		"and take it":                                  {with(Model{}), true, Allow, 0},
		"mfa takes it":                                 {with(ca(everybody(nil))), true, Allow, 0},
		"the strength mfa takes it":                    {strength(MFAStrength), true, Allow, 0},
		"passwordless takes it":                        {strength(PasswordlessStrength), true, Allow, 0},
		"passwordless asks for it":                     {strength(PasswordlessStrength), false, Verify, methodSet("deviceBasedPush")},
		"phishing-resistant does not":                  {strength(PhishingResistantStrength), true, Register, passkeySet},
		"a strength of Entra's push takes it":          {strength("own", "password,microsoftAuthenticatorPush"), true, Allow, 0},
		"a strength of Entra's phone sign-in takes it": {strength("own", "deviceBasedPush"), true, Allow, 0},
		"a strength of apps does not":                  {strength("own", "password,softwareOath"), true, Register, totpSet},
		"where it is not configured, it is no use":     {off, false, Block, 0},
	} {
		t.Run(reason, func(t *testing.T) {
			f := facts(func(f *Facts) {
				f.Proofs = proofs(mfa.Password)
				if tc.push {
					f.Proofs = proofs(mfa.Password, mfa.Push)
				}
				f.Methods, f.Registered, f.Application = pushSet, true, "hr"
			})
			if d := of(tc.model).Decide(f); d.Action != tc.want || tc.want != Block && d.Methods != tc.next {
				t.Errorf("%v (%s) %v, want %v %v", d.Action, d.Reason, d.Methods, tc.want, tc.next)
			}
		})
	}
	if !of(with(Model{})).Registers(mfa.Push) {
		t.Error("security defaults let no phone be registered")
	}
	if ms := MethodsOf(mfa.Push, false); !ms.Has(mfa.Push) || ms.Has(mfa.SMS) || MethodsOf(mfa.Passkey, false).Has(mfa.Push) {
		t.Error("the sets are mixed up")
	}
}
