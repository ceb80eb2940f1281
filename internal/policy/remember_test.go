package policy

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// remembering lets browsers be remembered for 30 days, and people stay signed in for 60.
func remembering(m Model) Model {
	m.Remember = Remembering{Session: 60 * day, Browser: 30 * day}
	return m
}

// inBrowser is a proof that a browser stands for.
func inBrowser(age time.Duration) mfa.Proof {
	return mfa.Proof{Method: mfa.RememberedBrowser, At: now.Add(-age), Of: mfa.TOTP}
}

// plain is a registered user without a role, who comes in a browser that was remembered ten days ago.
func plain(change func(*Facts)) *Facts {
	return known(func(f *Facts) {
		f.User = &mfa.User{Name: "alice", Canonical: "alice"}
		f.Proofs = f.Proofs.With(inBrowser(10 * day))
		if change != nil {
			change(f)
		}
	})
}

func TestWhatARememberedBrowserIsGoodFor(t *testing.T) {
	grant := func(g Grant) Model {
		return ca(everybody(func(p *Policy) { p.Grant = g }))
	}
	session := func(c SessionControls) Model {
		return ca(everybody(func(p *Policy) { p.Session = c }))
	}
	own := func(p PerUserMFA) Model {
		p.On = true
		m := ca()
		m.PerUser = p
		return m
	}
	enforced := func(f *Facts) { f.PerUser = mfa.PerUserEnforced }
	aged := func(age time.Duration) func(*Facts) {
		return func(f *Facts) { f.Proofs = f.Proofs.With(inBrowser(age)) }
	}
	both := func(fs ...func(*Facts)) func(*Facts) {
		return func(f *Facts) {
			for _, change := range fs {
				change(f)
			}
		}
	}
	for reason, tc := range map[string]struct {
		model  Model
		change func(*Facts)
		action Action
		why    Reason
		offer  time.Duration // for how long a browser may be remembered where a second factor is asked for
	}{
		"security defaults":                       {Model{}, nil, Allow, BrowserRemembered, 0},
		"a policy that wants a second factor":     {grant(Grant{MFA: true}), nil, Allow, BrowserRemembered, 0},
		"a policy that wants nothing of the kind": {grant(Grant{Terms: []string{"house rules"}}), func(f *Facts) { f.Terms = map[string]mfa.Acceptance{"house rules": {Version: 3}} }, Allow, PolicySatisfied, 0},
		"no policy":                                        {ca(), nil, Allow, DefaultsOff, 0},
		"the last moment":                                  {Model{}, aged(30*day - 1), Allow, BrowserRemembered, 0},
		"its time is over":                                 {Model{}, aged(30 * day), Verify, MFARequired, 30 * day},
		"from the future":                                  {Model{}, aged(-time.Second), Verify, MFARequired, 30 * day},
		"an administrator":                                 {Model{}, func(f *Facts) { f.User.Roles = []string{"Auditor"} }, Verify, MFARequired, 0},
		"a user whose factors are gone":                    {Model{}, func(f *Facts) { f.Registered, f.GraceOver = false, true }, Register, RegistrationRequired, 0},
		"a recovery code beside it":                        {Model{}, func(f *Facts) { f.Proofs = f.Proofs.With(mfa.Proof{Method: mfa.RecoveryCode, At: now}) }, Register, RecoveryUsed, 0},
		"without the password":                             {Model{}, func(f *Facts) { f.Proofs = mfa.Proofs{inBrowser(0)} }, Block, NothingProven, 0},
		"beside a code":                                    {Model{}, func(f *Facts) { f.Proofs = f.Proofs.With(mfa.Proof{Method: mfa.TOTP, At: now}) }, Allow, MFASatisfied, 0},
		"the mfa strength":                                 {grant(Grant{Strength: MFAStrength}), nil, Verify, MFARequired, 0},
		"a strength of one's own":                          {grant(Grant{Strength: "codes"}), nil, Verify, MFARequired, 0},
		"a phishing-resistant strength, and no passkey":    {grant(Grant{Strength: PhishingResistantStrength}), nil, Block, StrengthUnreachable, 0},
		"mfa or a compliant device":                        {grant(Grant{Any: true, MFA: true, CompliantDevice: true}), nil, Allow, BrowserRemembered, 0},
		"no browser persists":                              {session(SessionControls{Persistent: NeverPersistent}), nil, Verify, MFARequired, 0},
		"every browser persists":                           {session(SessionControls{Persistent: AlwaysPersistent}), nil, Allow, BrowserRemembered, 0},
		"a sign-in frequency that is shorter":              {session(SessionControls{SignInFrequency: &SignInFrequency{Every: 4 * time.Hour}}), nil, Verify, MFARequired, 0},
		"a sign-in frequency that is longer":               {session(SessionControls{SignInFrequency: &SignInFrequency{Every: 11 * day}}), nil, Allow, BrowserRemembered, 0},
		"every time, a minute after it was remembered":     {session(SessionControls{SignInFrequency: &SignInFrequency{EveryTime: true}}), aged(time.Minute), Verify, MFARequired, 0},
		"every time, inside":                               {session(SessionControls{SignInFrequency: &SignInFrequency{EveryTime: true}}), both(aged(time.Minute), func(f *Facts) { f.Entered = true }), Verify, MFARequired, 0},
		"one's own setting":                                {own(PerUserMFA{}), enforced, Allow, BrowserRemembered, 0},
		"one's own setting, with a shorter time":           {own(PerUserMFA{RememberBrowser: 7 * day}), enforced, Verify, MFARequired, 7 * day},
		"one's own setting, with a longer time":            {own(PerUserMFA{RememberBrowser: 60 * day}), both(enforced, aged(31*day)), Verify, MFARequired, 30 * day},
		"one's own setting, with a method that it refuses": {own(PerUserMFA{Methods: []mfa.Method{mfa.Passkey}}), both(enforced, func(f *Facts) { f.Methods = passkeySet | totpSet }), Verify, MFARequired, 30 * day},
		"one's own setting, with a method that it accepts": {own(PerUserMFA{Methods: []mfa.Method{mfa.TOTP}}), enforced, Allow, BrowserRemembered, 0},
		"one's own setting has a shorter time, and a policy demands": {func() Model {
			m := own(PerUserMFA{RememberBrowser: 7 * day})
			m.Policies = grant(Grant{MFA: true}).Policies
			return m
		}(), enforced, Verify, MFARequired, 7 * day},
		"another's setting has a shorter time": {func() Model {
			m := own(PerUserMFA{RememberBrowser: 7 * day})
			m.Policies = grant(Grant{MFA: true}).Policies
			return m
		}(), nil, Allow, BrowserRemembered, 0},
	} {
		t.Run(reason, func(t *testing.T) {
			f := plain(tc.change)
			d := of(remembering(tc.model)).Decide(f)
			if d.Action != tc.action || d.Reason != tc.why || d.RememberBrowser != tc.offer {
				t.Errorf("%v (%s), to be remembered for %v; want %v (%s), %v", d.Action, d.Reason, d.RememberBrowser, tc.action, tc.why, tc.offer)
			}
			if off := of(tc.model).Decide(f); tc.model.PerUser.RememberBrowser == 0 && (off.Reason == BrowserRemembered || off.RememberBrowser != 0) {
				t.Errorf("%s, to be remembered for %v, where nobody may be remembered", off.Reason, off.RememberBrowser)
			}
		})
	}
}

func TestOnesOwnSettingAloneRemembersBrowsers(t *testing.T) {
	m := ca(everybody(func(p *Policy) { p.Conditions.Applications = []string{"wiki"} }))
	m.PerUser = PerUserMFA{On: true, RememberBrowser: 14 * day}
	set := of(m)
	if d := set.Decide(plain(func(f *Facts) { f.PerUser = mfa.PerUserEnforced })); d.Reason != BrowserRemembered {
		t.Errorf("his own setting demands it: %v (%s)", d.Action, d.Reason)
	}
	if d := set.Decide(plain(func(f *Facts) { f.PerUser, f.Application = mfa.PerUserEnforced, "wiki" })); d.Action != Verify || d.RememberBrowser != 0 {
		t.Errorf("a policy demands it: %v (%s), %v", d.Action, d.Reason, d.RememberBrowser)
	}
}

func TestWhoMayStaySignedIn(t *testing.T) {
	for reason, tc := range map[string]struct {
		session *SessionControls
		change  func(*Facts)
		stay    time.Duration
		offered time.Duration
	}{
		"anybody":                     {nil, nil, 60 * day, 60 * day},
		"an administrator":            {nil, func(f *Facts) { f.User.Roles = []string{"Auditor"} }, 0, 0},
		"no browser persists":         {&SessionControls{Persistent: NeverPersistent}, nil, 0, 0},
		"every browser persists":      {&SessionControls{Persistent: AlwaysPersistent}, nil, 60 * day, 0},
		"a sign-in frequency":         {&SessionControls{SignInFrequency: &SignInFrequency{Every: time.Hour}}, nil, 60 * day, 0},
		"a frequency of the second":   {&SessionControls{SignInFrequency: &SignInFrequency{Every: time.Hour, SecondaryOnly: true}}, nil, 60 * day, 0},
		"somebody who could register": {nil, func(f *Facts) { f.Registered = false }, 60 * day, 0},
		"every time":                  {&SessionControls{SignInFrequency: &SignInFrequency{EveryTime: true}}, nil, 60 * day, 0},
	} {
		m := ca()
		if tc.session != nil {
			m = ca(everybody(func(p *Policy) { p.Session = *tc.session }))
		}
		d := of(remembering(m)).Decide(plain(tc.change))
		if d.Stay != tc.stay || d.Offers() != tc.offered {
			t.Errorf("%s: %v, offered %v; want %v and %v", reason, d.Stay, d.Offers(), tc.stay, tc.offered)
		}
		if d := of(m).Decide(plain(tc.change)); d.Stay != 0 || d.Offers() != 0 {
			t.Errorf("%s: %v where nobody may stay signed in", reason, d.Stay)
		}
	}
}

func TestARememberedBrowserHelpsNobodyToRegister(t *testing.T) {
	cases(t, func(d dice) error {
		m, f := d.model(), d.facts()
		set := of(remembering(m))
		with := *f
		f.Proofs = slices.DeleteFunc(slices.Clone(f.Proofs), func(p mfa.Proof) bool { return p.Method == mfa.RememberedBrowser })
		with.Proofs = f.Proofs.With(inBrowser(time.Minute))
		if err := sameDecision(set.DecideAction(&with, RegisterSecurityInfo), set.DecideAction(f, RegisterSecurityInfo)); err != nil {
			return err
		}
		if set.MayRegister(&with) != set.MayRegister(f) || set.Needs(&with) != set.Needs(f) {
			return fmt.Errorf("it changes who may register")
		}
		return nil
	})
}

func TestARememberedBrowserMeetsNoStrength(t *testing.T) {
	helped := 0
	cases(t, func(d dice) error {
		m, f := d.model(), d.facts()
		m = remembering(m)
		f.Proofs = slices.DeleteFunc(slices.Clone(f.Proofs), func(p mfa.Proof) bool { return p.Method == mfa.RememberedBrowser })
		f.Proofs = f.Proofs.With(mfa.Proof{Method: mfa.Password, At: f.Now}) // else nothing helps
		f.Registered, f.UserAction = true, ""
		with := *f
		with.Proofs = f.Proofs.With(inBrowser(time.Minute))
		before, after := of(m).Decide(f), of(m).Decide(&with)
		if before.Action == Allow && after.Action != Allow {
			return fmt.Errorf("it makes %v (%s) of %v", after.Action, after.Reason, before.Reason)
		}
		if before.Action == Allow || after.Action != Allow {
			return nil
		}
		helped++
		// What lets him in is a demand for a second factor, of a policy, of security defaults, or his own.
		for i := range m.Policies {
			m.Policies[i].Grant.MFA = false
			if m.Policies[i].Grant.Empty() {
				m.Policies[i].Grant.Strength = MFAStrength
			}
		}
		m.PerUser = PerUserMFA{}
		before, after = of(m).Decide(f), of(m).Decide(&with)
		if before.Action != Allow && after.Action == Allow {
			return fmt.Errorf("%v (%s) became %v (%s) by strengths alone", before.Action, before.Reason, after.Action, after.Reason)
		}
		return nil
	})
	if helped < 20 {
		t.Errorf("it helped in %d cases only: they show little", helped)
	}
}
