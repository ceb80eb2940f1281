package policy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

const (
	modelA = "cb69481e-8ff7-4039-93ec-0a2729a154a8"
	modelB = "ee882879-721c-4913-9775-3dfcce97072a"
)

// ofModels is a model in which hr takes keys of one model, and with other what a second strength says.
func ofModels(other ...Strength) Model {
	m := ca(everybody(func(p *Policy) { p.Conditions.Applications, p.Grant = []string{"hr"}, Grant{Strength: "keys"} }))
	m.Registrable = []mfa.Method{mfa.Passkey, mfa.TOTP}
	m.Strengths = append(m.Strengths, Strength{Name: "keys", Combinations: []string{"fido2"}, AAGUIDs: []string{modelA}})
	for _, s := range other {
		m.Strengths = append(m.Strengths, s)
		m.Policies = append(m.Policies, named(s.Name, func(p *Policy) { p.Conditions.Applications, p.Grant = []string{"hr"}, Grant{Strength: s.Name} }))
	}
	return m
}

func key(model string) mfa.Proof { return mfa.Proof{Method: mfa.Passkey, At: now, Model: model} }

func TestAStrengthThatNamesModels(t *testing.T) {
	password := mfa.Proof{Method: mfa.Password, At: now}
	both := Strength{Name: "both", Combinations: []string{"fido2", "password,softwareOath"}, AAGUIDs: []string{modelA, modelB}}
	for reason, tc := range map[string]struct {
		with   []Strength
		proofs mfa.Proofs
		has    []string // models
		method Methods  // what else he has
		action Action
		why    Reason
	}{
		"a key of the model":                 {nil, mfa.Proofs{password, key(modelA)}, []string{modelA}, 0, Allow, MFASatisfied},
		"the same, without the password":     {nil, mfa.Proofs{key(modelA)}, []string{modelA}, 0, Allow, MFASatisfied},
		"a key of another model":             {nil, mfa.Proofs{password, key(modelB)}, []string{modelB}, 0, Register, RegistrationRequired},
		"a passkey that nobody vouches for":  {nil, mfa.Proofs{password, key("")}, nil, 0, Register, RegistrationRequired},
		"another one, and he has the model":  {nil, mfa.Proofs{key("")}, []string{modelA}, 0, Verify, MFARequired},
		"nothing yet, and he has the model":  {nil, mfa.Proofs{password}, []string{modelB, modelA}, 0, Verify, MFARequired},
		"nothing yet, and he has another":    {nil, mfa.Proofs{password}, []string{modelB}, 0, Verify, MFARequired}, // a factor is proven before another is registered
		"a code":                             {nil, mfa.Proofs{password, {Method: mfa.TOTP, At: now}}, nil, totpSet, Register, RegistrationRequired},
		"two strengths, met by one key":      {[]Strength{both}, mfa.Proofs{key(modelA)}, []string{modelA}, 0, Allow, MFASatisfied},
		"two strengths, of which one is met": {[]Strength{both}, mfa.Proofs{key(modelB)}, []string{modelB}, 0, Register, RegistrationRequired},
	} {
		t.Run(reason, func(t *testing.T) {
			set := of(ofModels(tc.with...))
			f := known(func(f *Facts) { f.Proofs, f.Models, f.Methods = tc.proofs, tc.has, passkeySet|tc.method })
			d := set.Decide(f)
			if d.Action != tc.action || d.Reason != tc.why {
				t.Fatalf("%v (%s), want %v (%s)", d.Action, d.Reason, tc.action, tc.why)
			}
			if f.Methods != passkeySet|tc.method {
				t.Fatal("the facts have changed")
			}
			if d.Action == Register && (!d.Methods.OfModels() || !d.Methods.Has(mfa.Passkey) || d.Methods.Has(mfa.TOTP) || d.Methods.String() != "fido2") {
				t.Fatalf("what is to be registered: %s", d.Methods)
			}
			if d.Action == Verify && strings.HasSuffix(reason, "he has the model") && (!set.Serves(d.Methods, modelA) || set.Serves(d.Methods, modelB) || set.Serves(d.Methods, "")) {
				t.Fatalf("what is to be proven: %b", d.Methods)
			}
		})
	}
	// Elsewhere it is a passkey like every other, and a strength without models takes any.
	set := of(ofModels())
	f := known(func(f *Facts) { f.Application, f.Proofs, f.Methods = "wiki", mfa.Proofs{key("")}, passkeySet })
	if d := set.Decide(f); d.Action != Allow {
		t.Fatalf("%v (%s)", d.Action, d.Reason)
	}
	if !set.Serves(passkeySet, "") || set.Serves(totpSet, modelA) {
		t.Fatal("a passkey doesn't serve where any does, or does where none would")
	}
}

func TestTooManyStrengthsNameModels(t *testing.T) {
	m := ca()
	m.Strengths = nil
	for i := range MaxModelStrengths + 1 {
		m.Strengths = append(m.Strengths, Strength{Name: fmt.Sprint(i), Combinations: []string{"fido2"}, AAGUIDs: []string{modelA}})
	}
	if _, err := New(m); err == nil || !strings.Contains(err.Error(), "at most 32") {
		t.Fatal(err)
	}
	m.Strengths = m.Strengths[:len(m.Strengths)-1]
	set := of(m)
	if bits := set.modelBits(modelA); bits&passkeySet != 0 || bits != modelSets {
		t.Fatalf("%b", bits)
	}
}
