package policy

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

func TestWhatAPolicyCameToInGraphsWords(t *testing.T) {
	code := func(f *Facts) { f.Proofs = proofs(mfa.Password, mfa.TOTP) }
	elsewhere := func(p *Policy) { p.Conditions.Applications = []string{"wiki"} }
	block := func(p *Policy) { p.Grant = Grant{Block: true} }
	device := func(p *Policy) { p.Grant = Grant{CompliantDevice: true} }
	every := func(p *Policy) {
		p.Grant, p.Session.SignInFrequency = Grant{}, &SignInFrequency{Every: time.Hour}
	}
	stale := func(f *Facts) {
		for _, m := range []mfa.Method{mfa.Password, mfa.TOTP} {
			f.Proofs = f.Proofs.With(mfa.Proof{Method: m, At: now.Add(-2 * time.Hour)})
		}
	}
	stalePassword := func(f *Facts) {
		f.Proofs = proofs(mfa.Password, mfa.TOTP).With(mfa.Proof{Method: mfa.Password, At: now.Add(-2 * time.Hour)})
	}
	for reason, tc := range map[string]struct {
		change             func(*Policy)
		facts              func(*Facts)
		enforced, reported string
	}{
		"a code is asked for":             {nil, nil, AppliedFailure, AppliedReportOnlyInterrupted},
		"a code was proven":               {nil, code, AppliedSuccess, AppliedReportOnlySuccess},
		"a code to register":              {nil, func(f *Facts) { f.Registered, f.Methods = false, 0 }, AppliedFailure, AppliedReportOnlyInterrupted},
		"a code that can't be registered": {nil, func(f *Facts) { f.Registered, f.Methods, f.PassRequired = false, 0, true }, AppliedFailure, AppliedReportOnlyFailure},
		"it blocks":                       {block, code, AppliedFailure, AppliedReportOnlyFailure},
		"a device is missing":             {device, code, AppliedFailure, AppliedReportOnlyFailure},
		"another application":             {elsewhere, nil, AppliedNotApplied, AppliedReportOnlyNotApplied},
		"the password is too old for it":  {every, stale, AppliedFailure, AppliedReportOnlyInterrupted},
		"the password is young enough":    {every, nil, AppliedSuccess, AppliedReportOnlySuccess},
		"terms to accept":                 {func(p *Policy) { p.Grant = Grant{Terms: []string{"house rules"}} }, nil, AppliedFailure, AppliedReportOnlyInterrupted},
		"nothing was proven":              {nil, func(f *Facts) { f.Proofs = nil }, AppliedNotApplied, AppliedReportOnlyNotApplied},
		"the user is blocked":             {nil, func(f *Facts) { f.Blocked = true }, AppliedNotApplied, AppliedReportOnlyNotApplied},
	} {
		for state, want := range map[State]string{Enabled: tc.enforced, ReportOnly: tc.reported, Disabled: AppliedNotEnabled} {
			_, results := of(ca(everybody(func(p *Policy) {
				p.State = state
				if tc.change != nil {
					tc.change(p)
				}
			}))).Explain(known(tc.facts))
			if got := results[0].Applied(); got != want || results[0].Policy == nil {
				t.Errorf("%s, %s: %s, want %s (%+v)", reason, state, got, want, results[0])
			}
		}
	}
	t.Run("one policy wants the password again, another has its code", func(t *testing.T) {
		for _, state := range []State{Enabled, ReportOnly} {
			set := of(ca(named("code", func(p *Policy) { p.State = state }), named("hour", every)))
			d, results := set.Explain(known(stalePassword))
			if d.Action != Authenticate || !results[0].Satisfied || results[1].Satisfied || !results[1].Ask {
				t.Errorf("%s: %v, %+v", state, d.Action, results)
			}
		}
	})
	t.Run("a step-up begins, and another policy wants young proofs then", func(t *testing.T) {
		set := of(ca(named("every time", func(p *Policy) {
			p.Grant, p.Session.SignInFrequency = Grant{}, &SignInFrequency{EveryTime: true}
		}), named("code", nil)))
		f := known(func(f *Facts) {
			f.Entered = true
			f.Proofs = f.Proofs.With(mfa.Proof{Method: mfa.Password, At: now.Add(-time.Hour)})
		})
		if d, results := set.Explain(f); d.Action != Authenticate || results[0].Applied() != AppliedFailure {
			t.Errorf("%v, %s", d.Action, results[0].Applied())
		}
	})
	if (Result{}).Applied() != AppliedNotApplied {
		t.Error("the zero Result says that something applied")
	}
}

func TestControlsInGraphsWords(t *testing.T) {
	for reason, tc := range map[string]struct {
		change         func(*Policy)
		grant, session string
	}{
		"mfa":           {nil, "Mfa", ""},
		"block":         {func(p *Policy) { p.Grant = Grant{Block: true} }, "Block", ""},
		"session alone": {func(p *Policy) { p.Grant, p.Session.Persistent = Grant{}, NeverPersistent }, "", "PersistentBrowserSessionMode"},
		"everything": {func(p *Policy) {
			p.Grant = Grant{MFA: true, Strength: PasswordlessStrength, CompliantDevice: true, DomainJoinedDevice: true, PasswordChange: true, Terms: []string{"a", "b"}}
			p.Session = SessionControls{&SignInFrequency{EveryTime: true}, AlwaysPersistent}
		}, "Mfa|Require authentication strength - Passwordless MFA|RequireCompliantDevice|RequireDomainJoinedDevice|RequirePasswordChange|TermsOfUse", "SignInFrequency|PersistentBrowserSessionMode"},
		"disabled": {func(p *Policy) { p.State = Disabled }, "", ""},
	} {
		p := everybody(tc.change)
		if grant, session := p.GrantControls(), p.SessionControls(); strings.Join(grant, "|") != tc.grant || strings.Join(session, "|") != tc.session || grant == nil || session == nil {
			t.Errorf("%s: %q, %q", reason, grant, session)
		}
	}
}

func TestAPolicyThatIsMetOtherwiseFreesNobodyFromHisOwnSetting(t *testing.T) {
	either := everybody(func(p *Policy) { p.Grant = Grant{Any: true, MFA: true, CompliantDevice: true} })
	orTerms := everybody(func(p *Policy) { p.Grant = Grant{Any: true, MFA: true, Terms: []string{"house rules"}} })
	m := ca(either)
	m.PerUser.On = true
	own := func(change func(*Facts)) *Facts {
		return known(func(f *Facts) {
			f.PerUser = mfa.PerUserEnforced
			change(f)
		})
	}
	compliant := func(f *Facts) { f.Client.Device = mfa.Device{Known: true, Compliant: true} }
	if d := of(m).Decide(own(compliant)); d.Action != Verify || !d.MFA {
		t.Errorf("a compliant device in place of a code: %v (%s)", d.Action, d.Reason)
	}
	if d := of(ca(either)).Decide(known(compliant)); d.Action != Allow || d.MFA {
		t.Errorf("without a setting of his own: %v, mfa demanded: %v", d.Action, d.MFA)
	}
	m.Policies = []Policy{orTerms}
	if d := of(m).Decide(own(func(f *Facts) { f.Registered, f.Methods, f.PassRequired = false, 0, true })); d.Action != Block {
		t.Errorf("terms in place of a code: %v (%s)", d.Action, d.Reason)
	}
	if d := of(m).Decide(own(func(f *Facts) {})); d.Action != Verify || d.Policy == nil {
		t.Errorf("a code is what the policy asks for: %v by %v", d.Action, d.Policy)
	}
}

func TestUsersAreFoundHoweverTheirNamesAreWritten(t *testing.T) {
	for _, name := range []string{"alice", "Alice", "ＡＬＩＣＥ"} {
		set := of(ca(everybody(func(p *Policy) { p.Conditions.Users = Users{Users: []string{name}} })))
		if d := set.Decide(known(nil)); d.Action != Verify {
			t.Errorf("%s: %v", name, d.Action)
		}
	}
	if !slices.Equal(Users{Users: []string{"\x00"}}.principals(), []string{"u:\x00"}) {
		t.Error("a name that nobody can have is found under another")
	}
}
