package policy

import (
	"net/netip"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

var now = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

func proofs(methods ...mfa.Method) (ps mfa.Proofs) {
	for _, m := range methods {
		ps = ps.With(mfa.Proof{Method: m, At: now})
	}
	return ps
}

// facts are of a user who has just typed his password, changed as a case says.
func facts(change func(*Facts)) *Facts {
	f := &Facts{Now: now, User: &mfa.User{Name: "alice"}, Proofs: proofs(mfa.Password), Client: mfa.Client{App: Browser, Address: netip.MustParseAddr("203.0.113.9")}}
	if change != nil {
		change(f)
	}
	if f.Registered && f.Methods == 0 {
		f.Methods = totpSet | recoverySet
	}
	return f
}

// of makes a set of a model that has no mistakes.
func of(m Model) *Set {
	s, err := New(m)
	if err != nil {
		panic(err)
	}
	return s
}

func TestSecurityDefaults(t *testing.T) {
	set := of(Model{Defaults: SecurityDefaults{Grace: 14 * day}})
	for reason, tc := range map[string]struct {
		change func(*Facts)
		set    *Set
		action Action
		why    Reason
	}{
		"nobody":                             {func(f *Facts) { f.User = nil }, set, Block, NothingProven},
		"a second factor without a password": {func(f *Facts) { f.Proofs = proofs(mfa.TOTP) }, set, Block, NothingProven},
		"no proof at all":                    {func(f *Facts) { f.Proofs = nil }, set, Block, NothingProven},
		"a disabled user with every proof": {func(f *Facts) {
			f.User, f.Proofs = &mfa.User{Disabled: true}, proofs(mfa.Password, mfa.TOTP)
		}, set, Block, UserDisabled},
		"a blocked user with every proof": {func(f *Facts) { f.Blocked, f.Proofs = true, proofs(mfa.Password, mfa.TOTP) }, set, Block, UserBlocked},

		"first sign-in":                             {nil, set, Allow, InGrace},
		"the last moment of grace":                  {func(f *Facts) { f.GraceStarted = now.Add(-14*day + 1) }, set, Allow, InGrace},
		"the end of grace":                          {func(f *Facts) { f.GraceStarted = now.Add(-14 * day) }, set, Register, RegistrationRequired},
		"no grace":                                  {nil, of(Model{}), Register, RegistrationRequired},
		"a dormant account after the last day":      {nil, of(Model{Defaults: SecurityDefaults{Grace: 14 * day, Until: now}}), Register, RegistrationRequired},
		"a dormant account before the last day":     {nil, of(Model{Defaults: SecurityDefaults{Grace: 14 * day, Until: now.Add(1)}}), Allow, InGrace},
		"a factor was registered and is gone":       {func(f *Facts) { f.GraceOver = true }, set, Register, RegistrationRequired},
		"factors were reset in the middle of grace": {func(f *Facts) { f.PassRequired = true }, set, Block, RegistrationDenied},
		"factors were reset, and a pass made":       {func(f *Facts) { f.PassRequired, f.Methods = true, passOnceSet }, set, Verify, MFARequired},
		"a pass was made and grace is over":         {func(f *Facts) { f.Methods, f.GraceStarted = passOnceSet, now.Add(-15*day) }, set, Verify, MFARequired},

		"registered, with the password alone":         {func(f *Facts) { f.Registered = true }, set, Verify, MFARequired},
		"registered in the middle of grace":           {func(f *Facts) { f.Registered, f.GraceStarted = true, now }, set, Verify, MFARequired},
		"registered, with a code":                     {func(f *Facts) { f.Registered, f.Proofs = true, proofs(mfa.Password, mfa.TOTP) }, set, Allow, MFASatisfied},
		"registered, with a pass":                     {func(f *Facts) { f.Registered, f.Proofs = true, proofs(mfa.Password, mfa.TemporaryAccessPass) }, set, Allow, MFASatisfied},
		"registered, with a recovery code":            {func(f *Facts) { f.Registered, f.Proofs = true, proofs(mfa.Password, mfa.RecoveryCode) }, set, Register, RecoveryUsed},
		"a recovery code, and then the app after all": {func(f *Facts) { f.Registered, f.Proofs = true, proofs(mfa.Password, mfa.RecoveryCode, mfa.TOTP) }, set, Allow, MFASatisfied},
		"the app, and then a recovery code": {func(f *Facts) {
			f.Registered = true
			f.Proofs = mfa.Proofs{{Method: mfa.Password, At: now}, {Method: mfa.TOTP, At: now.Add(-time.Second)}, {Method: mfa.RecoveryCode, At: now}}
		}, set, Register, RecoveryUsed},
		"security defaults off":                       {func(f *Facts) { f.Registered = true }, of(Model{Defaults: SecurityDefaults{Off: true}}), Allow, DefaultsOff},
		"security defaults off, with a recovery code": {func(f *Facts) { f.Registered, f.Proofs = true, proofs(mfa.Password, mfa.RecoveryCode) }, of(Model{Defaults: SecurityDefaults{Off: true}}), Register, RecoveryUsed},
	} {
		t.Run(reason, func(t *testing.T) {
			if d := tc.set.Decide(facts(tc.change)); d.Action != tc.action || d.Reason != tc.why {
				t.Fatalf("%v (%s), want %v (%s)", d.Action, d.Reason, tc.action, tc.why)
			}
		})
	}
}

func TestGraceSaysWhenItEnds(t *testing.T) {
	started := now.Add(-3 * day)
	until := now.Add(5 * day)
	for reason, tc := range map[string]struct {
		defaults SecurityDefaults
		want     time.Time
	}{
		"by the period":          {SecurityDefaults{Grace: 14 * day}, started.Add(14 * day)},
		"by the day":             {SecurityDefaults{Grace: 14 * day, Until: until}, until},
		"by the period, earlier": {SecurityDefaults{Grace: 4 * day, Until: until}, started.Add(4 * day)},
	} {
		d := of(Model{Defaults: tc.defaults}).Decide(facts(func(f *Facts) { f.GraceStarted = started }))
		if !d.GraceEnds.Equal(tc.want) || !d.Offer {
			t.Errorf("%s: ends %v (offered: %v), want %v", reason, d.GraceEnds, d.Offer, tc.want)
		}
	}
}

func TestWhereAFirstFactorMayBeRegistered(t *testing.T) {
	office := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}
	anywhere, inOffice := Registration{}, Registration{From: office}
	withPass, either := Registration{RequirePass: true}, Registration{From: office, RequirePass: true}
	inside, mapped, outside := netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("::ffff:10.1.2.3"), netip.MustParseAddr("203.0.113.9")
	for reason, tc := range map[string]struct {
		rule  Registration
		from  netip.Addr
		pass  bool
		reset bool
		want  bool
	}{
		"no rule":                                   {anywhere, outside, false, false, true},
		"no rule, after a reset":                    {anywhere, outside, false, true, false},
		"no rule, after a reset, with a pass":       {anywhere, outside, true, true, true},
		"ranges, inside":                            {inOffice, inside, false, false, true},
		"ranges, inside, as an IPv4-mapped address": {inOffice, mapped, false, false, true},
		"ranges, inside IPv6":                       {inOffice, netip.MustParseAddr("2001:db8::1"), false, false, true},
		"ranges, outside":                           {inOffice, outside, false, false, false},
		"ranges, address unknown":                   {inOffice, netip.Addr{}, false, false, false},
		"ranges, outside, with a pass":              {inOffice, outside, true, false, false},
		"ranges, inside, after a reset":             {inOffice, inside, false, true, false},
		"pass required":                             {withPass, inside, false, false, false},
		"pass required, with a pass":                {withPass, outside, true, false, true},
		"ranges or pass, inside":                    {either, inside, false, false, true},
		"ranges or pass, outside":                   {either, outside, false, false, false},
		"ranges or pass, outside, with a pass":      {either, outside, true, false, true},
	} {
		t.Run(reason, func(t *testing.T) {
			f := facts(func(f *Facts) {
				f.Client.Address, f.PassRequired = tc.from, tc.reset
				if tc.pass {
					f.Proofs = proofs(mfa.Password, mfa.TemporaryAccessPass)
				}
			})
			set := of(Model{Registration: tc.rule})
			if got := set.MayRegister(f); got != tc.want {
				t.Fatalf("MayRegister = %v", got)
			}
			if f.Proofs.Has(mfa.TemporaryAccessPass) {
				return
			}
			if d := set.Decide(f); (d.Action == Register) != tc.want || !tc.want && (d.Action != Block || d.Reason != RegistrationDenied) {
				t.Fatalf("%v (%s)", d.Action, d.Reason)
			}
		})
	}
	t.Run("only a first factor", func(t *testing.T) {
		if of(Model{}).MayRegister(facts(func(f *Facts) { f.Registered = true })) {
			t.Fatal("who has a factor must prove it")
		}
	})
	t.Run("not without a password", func(t *testing.T) {
		if of(Model{}).MayRegister(facts(func(f *Facts) { f.Proofs = nil })) {
			t.Fatal("nothing was proven")
		}
	})
}

func TestWhatMayBeRegistered(t *testing.T) {
	strict := func(m Model) *Set {
		m.Defaults.Off, m.Registrable = true, []mfa.Method{mfa.Passkey, mfa.TOTP}
		m.Policies = []Policy{everybody(func(p *Policy) { p.Grant = Grant{Strength: PhishingResistantStrength} })}
		s, err := New(m)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}(Model{})
	both := of(Model{Registrable: []mfa.Method{mfa.Passkey, mfa.TOTP}})
	for reason, tc := range map[string]struct {
		change  func(*Facts)
		set     *Set
		action  Action
		why     Reason
		methods Methods
	}{
		"security defaults":                 {nil, both, Register, RegistrationRequired, passkeySet | totpSet},
		"security defaults, with a passkey": {func(f *Facts) { f.Registered, f.Methods = true, passkeySet }, both, Verify, MFARequired, passkeySet},
		"security defaults, passkey proven": {func(f *Facts) { f.Registered, f.Proofs = true, proofs(mfa.Password, mfa.Passkey) }, both, Allow, MFASatisfied, 0},
		"a passkey alone is a sign-in":      {func(f *Facts) { f.Registered, f.Proofs = true, proofs(mfa.Passkey) }, both, Allow, MFASatisfied, 0},
		"a code alone is not":               {func(f *Facts) { f.Registered, f.Proofs = true, proofs(mfa.TOTP) }, both, Block, NothingProven, 0},
		"a pass alone is not":               {func(f *Facts) { f.Registered, f.Proofs = true, proofs(mfa.TemporaryAccessPass) }, both, Block, NothingProven, 0},
		"a recovery code alone is not":      {func(f *Facts) { f.Registered, f.Proofs = true, proofs(mfa.RecoveryCode) }, both, Block, NothingProven, 0},
		"a recovery code":                   {func(f *Facts) { f.Registered, f.Proofs = true, proofs(mfa.Password, mfa.RecoveryCode) }, both, Register, RecoveryUsed, passkeySet | totpSet},
		"passkeys only, with nothing":       {nil, strict, Register, RegistrationRequired, passkeySet},
		"passkeys only, with an app":        {func(f *Facts) { f.Registered, f.Methods = true, totpSet|recoverySet }, strict, Verify, MFARequired, totpSet | recoverySet},
		"passkeys only, app proven": {func(f *Facts) {
			f.Registered, f.Methods, f.Proofs = true, totpSet|recoverySet, proofs(mfa.Password, mfa.TOTP)
		}, strict, Register, RegistrationRequired, passkeySet},
		"passkeys only, with both": {func(f *Facts) { f.Registered, f.Methods = true, totpSet|passkeySet }, strict, Verify, MFARequired, passkeySet},
		"passkeys only, passkey proven": {func(f *Facts) {
			f.Registered, f.Methods, f.Proofs = true, passkeySet, proofs(mfa.Password, mfa.Passkey)
		}, strict, Allow, MFASatisfied, 0},
		"passkeys only, after a reset":             {func(f *Facts) { f.PassRequired = true }, strict, Block, RegistrationDenied, 0},
		"what he has is good on another host":      {func(f *Facts) { f.Registered = true }, strict, Block, StrengthUnreachable, 0},
		"the same, where an app would be enough":   {func(f *Facts) { f.Registered = true }, both, Block, StrengthUnreachable, 0},
		"passkeys only, which nobody can register": {nil, func() *Set { s := *strict; s.Registrable = nil; return &s }(), Block, StrengthUnreachable, 0},
	} {
		t.Run(reason, func(t *testing.T) {
			f := facts(func(f *Facts) { f.Methods = 0 })
			if tc.change != nil {
				tc.change(f)
			}
			if d := tc.set.Decide(f); d.Action != tc.action || d.Reason != tc.why || d.Methods != tc.methods {
				t.Fatalf("%v (%s) with %s, want %v (%s) with %s", d.Action, d.Reason, d.Methods, tc.action, tc.why, tc.methods)
			}
		})
	}
}

func TestZeroValuesRefuse(t *testing.T) {
	if d := of(Model{}).Decide(&Facts{}); d.Action != Block {
		t.Fatalf("no facts: %v", d.Action)
	}
	if (Decision{}).Action != Block {
		t.Fatal("the zero Decision doesn't refuse")
	}
}

func BenchmarkSecurityDefaults(b *testing.B) {
	set := of(Model{Defaults: SecurityDefaults{Grace: 14 * day}})
	f := facts(func(f *Facts) { f.Registered, f.Proofs = true, proofs(mfa.Password, mfa.TOTP) })
	b.ReportAllocs()
	for b.Loop() {
		if set.Decide(f).Action != Allow {
			b.Fatal("refused")
		}
	}
}

func TestWhoMayNotRegisterIsToldWhatHeLacks(t *testing.T) {
	from := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for reason, tc := range map[string]struct {
		registration Registration
		passRequired bool
		want         Need
	}{
		"a pass is asked for":           {Registration{RequirePass: true}, false, NeedPass},
		"a network is":                  {Registration{From: from}, false, NeedNetwork},
		"one of the two":                {Registration{From: from, RequirePass: true}, false, NeedEither},
		"after a reset":                 {Registration{}, true, NeedPass},
		"after a reset, with a network": {Registration{From: from}, true, NeedPass},
	} {
		s := of(Model{Registration: tc.registration})
		f := &Facts{Now: time.Now(), User: &mfa.User{}, Proofs: mfa.Proofs{}.With(mfa.Proof{Method: mfa.Password}), Client: mfa.Client{Address: netip.MustParseAddr("203.0.113.9")}, PassRequired: tc.passRequired}
		if d := s.Decide(f); d.Reason != RegistrationDenied || d.Needs != tc.want {
			t.Errorf("%s: %+v", reason, d)
		}
	}
}
