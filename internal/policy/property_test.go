package policy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// dice throws what the properties are tried with. Much of it hits: names are few.
type dice struct{ *rand.Rand }

// cases runs a property many times, each with dice of its own, so that a case that fails can be run again alone.
func cases(t *testing.T, property func(d dice) error) {
	t.Helper()
	for i := range uint64(3000) {
		if err := property(dice{rand.New(rand.NewPCG(1, i))}); err != nil {
			t.Fatalf("case %d: %v", i, err)
		}
	}
}

func (d dice) one(in int) bool { return d.IntN(in) == 0 }

func pick[T any](d dice, from ...T) T { return from[d.IntN(len(from))] }

// some gives up to n of them.
func some[T comparable](d dice, n int, from ...T) (list []T) {
	for range d.IntN(n + 1) {
		if v := pick(d, from...); !slices.Contains(list, v) {
			list = append(list, v)
		}
	}
	return list
}

func (d dice) users() (u Users) {
	u.All, u.Guests = d.one(2), d.one(6)
	u.Users = some(d, 2, "alice", "bob", "carol")
	u.Groups = some(d, 2, "Staff", "FINANCE", "économie", "alice")
	u.Roles = some(d, 1, "Global Administrator", "helpdesk")
	return u
}

func (d dice) policy(name string) Policy {
	p := Policy{Name: name, State: pick(d, Enabled, Enabled, Enabled, ReportOnly, Disabled)}
	c := &p.Conditions
	if c.Users = d.users(); c.Users.Empty() {
		c.Users.All = true
	}
	if d.one(2) {
		c.ExcludeUsers = d.users()
		c.ExcludeUsers.All = false
	}
	switch d.IntN(8) {
	case 0:
		c.UserActions = []UserAction{RegisterSecurityInfo}
	case 1, 2:
		c.Applications = some(d, 2, "hr", "wiki", "ACTION")
	case 3:
		c.Applications = []string{None}
	}
	if len(c.Applications)+len(c.UserActions) == 0 {
		c.Applications = []string{All}
	}
	if len(c.Applications) > 0 {
		c.ExcludeApplications = some(d, 1, "hr", "wiki", "crm")
	}
	if d.one(3) {
		c.ClientApps = some(d, 3, ClientApps...)
	}
	if d.one(3) {
		c.Platforms = some(d, 2, Windows, Linux, IOS, AllPlatforms)
		c.ExcludePlatforms = some(d, 2, Windows, Linux, MacOS)
	}
	if d.one(2) {
		c.Locations = some(d, 2, All, AllTrusted, "office", "partner", "benelux", "at sea", "desk")
		c.ExcludeLocations = some(d, 2, AllTrusted, "office", "partner", "benelux", "at sea", "desk")
	}
	g := &p.Grant
	if d.one(10) {
		g.Block = true
	} else {
		g.Any = d.one(2)
		g.MFA = d.one(2)
		g.Strength = pick(d, "", "", MFAStrength, "codes", PhishingResistantStrength, "keys of one model")
		g.CompliantDevice, g.DomainJoinedDevice = d.one(4), d.one(6)
		g.Terms = some(d, 1, "house rules")
	}
	if d.one(3) {
		p.Session.SignInFrequency = &SignInFrequency{SecondaryOnly: d.one(3)}
		if p.Session.SignInFrequency.EveryTime = d.one(3); !p.Session.SignInFrequency.EveryTime {
			p.Session.SignInFrequency.Every = pick(d, time.Hour, 4*time.Hour, day)
		}
	}
	p.Session.Persistent = pick(d, "", "", AlwaysPersistent, NeverPersistent)
	if p.Grant.Empty() {
		p.Grant.MFA = true
	}
	return p
}

func (d dice) model() Model {
	m := ca()
	if d.one(2) {
		m.Registrable = []mfa.Method{mfa.Passkey, mfa.TOTP}
	}
	m.Locations = append(slices.Clone(m.Locations), NamedLocation{Name: "desk", Ranges: []netip.Prefix{netip.MustParsePrefix("203.0.113.9/32")}})
	for i := range d.IntN(pick(d, 4, 4, 9, 80)) {
		m.Policies = append(m.Policies, d.policy(fmt.Sprintf("policy %d", i)))
	}
	if d.one(3) {
		m.PerUser = PerUserMFA{On: true, Grace: pick(d, 0, 14*day)}
		if d.one(2) {
			m.PerUser.TrustedRanges = office.Ranges
		}
	}
	if d.one(2) {
		m.Remember.Browser = 30 * day
		m.PerUser.RememberBrowser = pick(d, 0, 14*day, 60*day)
	}
	if d.one(4) {
		m.Registration = Registration{From: office.Ranges, RequirePass: d.one(2)}
	}
	return m
}

func (d dice) facts() *Facts {
	name := pick(d, "alice", "bob", "carol", "dora")
	f := &Facts{
		Now: now, Application: pick(d, "hr", "wiki", "crm", "ACTION", ""), Entered: d.one(2), Blocked: d.one(40),
		User: &mfa.User{
			Name: name, Canonical: name, Guest: d.one(5), Disabled: d.one(40),
			Groups: some(d, 3, "staff", "Finance", "Économie", "group 7"), Roles: some(d, 1, "global administrator", "Helpdesk", "Auditor"),
		},
		Client: mfa.Client{
			App:      pick(d, Browser, Browser, Browser, MobileAndDesktop, OtherClients, ""),
			Platform: pick(d, Windows, Linux, MacOS, IOS, ""),
			Device:   mfa.Device{Known: d.one(2), Compliant: d.one(2), DomainJoined: d.one(3)},
		},
		Registered: d.one(2), PassRequired: d.one(6), PerUser: pick(d, "", mfa.PerUserDisabled, mfa.PerUserEnabled, mfa.PerUserEnforced),
	}
	if text := pick(d, "", "203.0.113.9", "203.0.113.10", "::ffff:203.0.113.9", "198.51.100.3", "192.0.2.1", "2001:db8::1%eth0", "2001:db9::1"); text != "" {
		f.Client.Address = netip.MustParseAddr(text)
	}
	if f.Client.CountryKnown = d.one(2); f.Client.CountryKnown {
		f.Client.Country = pick(d, "NL", "LU", "DE", "")
	}
	if f.Registered {
		f.Methods = pick(d, totpSet|recoverySet, totpSet|passkeySet|recoverySet, passkeySet|recoverySet, passkeySet, 0)
	}
	if d.one(4) {
		f.Methods |= pick(d, passOnceSet, passSet)
	}
	if f.Methods&passkeySet != 0 {
		f.Models = some(d, 2, modelA, modelB)
	}
	for _, method := range append(some(d, 2, mfa.TOTP, mfa.TOTP, mfa.Passkey, mfa.TemporaryAccessPass, mfa.RecoveryCode), mfa.Password) {
		if method == mfa.Password && d.one(6) {
			continue
		}
		age := pick(d, 0, time.Minute, 6*time.Minute, time.Hour, 2*time.Hour, 5*time.Hour, 2*day)
		f.Proofs = f.Proofs.With(mfa.Proof{Method: method, At: now.Add(-age), Reusable: d.one(2), Model: map[bool]string{true: pick(d, modelA, modelA, modelB, "")}[method == mfa.Passkey]})
	}
	if d.one(4) {
		age := pick(d, 0, 4*time.Minute, 3*time.Hour, 2*day, 20*day, 40*day, -time.Minute)
		f.Proofs = f.Proofs.With(mfa.Proof{Method: mfa.RememberedBrowser, At: now.Add(-age), Of: pick(d, mfa.TOTP, mfa.Passkey, "")})
	}
	if d.one(2) {
		f.Terms = map[string]mfa.Acceptance{"house rules": {Version: pick(d, 2, 3)}}
	}
	return f
}

// sameDecision compares what a person would feel, and what the log would say of it.
func sameDecision(a, b Decision) error {
	name := func(p *Policy) string {
		if p == nil {
			return ""
		}
		return p.Name
	}
	nothing := func(r Reason) Reason { // whether there are policies at all is of no consequence
		if r == DefaultsOff {
			return NoPolicyApplies
		}
		return r
	}
	x, y := a, b
	x.Policy, y.Policy, x.Terms, y.Terms, x.Reason, y.Reason = nil, nil, nil, nil, nothing(a.Reason), nothing(b.Reason)
	if fmt.Sprint(x, a.Terms, name(a.Policy)) != fmt.Sprint(y, b.Terms, name(b.Policy)) {
		return fmt.Errorf("%+v by %q, and %+v by %q", a, name(a.Policy), b, name(b.Policy))
	}
	return nil
}

func TestWhatIsExplainedIsWhatIsDecided(t *testing.T) {
	cases(t, func(d dice) error {
		m, f := d.model(), d.facts()
		set := of(m)
		decided := set.Decide(f)
		explained, results := set.Explain(f)
		if err := sameDecision(decided, explained); err != nil {
			return err
		}
		byAction, actionResults := set.ExplainAction(f, RegisterSecurityInfo)
		if err := sameDecision(set.DecideAction(f, RegisterSecurityInfo), byAction); err != nil {
			return fmt.Errorf("to register: %w", err)
		}
		if refusal(f) != "" {
			if decided.Action != Block {
				return fmt.Errorf("%v for somebody who is refused", decided.Action)
			}
			return nil
		}
		o, action := oracle{m}, *f
		action.Application, action.UserAction = "", RegisterSecurityInfo
		for i := range m.Policies {
			p := &m.Policies[i]
			for _, of := range []struct {
				r Result
				f *Facts
			}{{results[i], f}, {actionResults[i], &action}} {
				if of.r.Policy.Name != p.Name || of.r.Applies != (o.applies(p, of.f) && p.State != Disabled) {
					return fmt.Errorf("%+v of %+v for %+v", of.r, p, of.f)
				}
				if of.r.Applies != (of.r.Unmet == "" || of.r.Unmet == NotEnoughInformation) {
					return fmt.Errorf("it applies: %v, and %q is not met", of.r.Applies, of.r.Unmet)
				}
				if p.State == Enabled && of.r.Applies && p.Grant.Block && of.r.Applied() != AppliedFailure {
					return fmt.Errorf("a block came to %s", of.r.Applied())
				}
			}
		}
		return nil
	})
}

func TestPoliciesLetInWhomTheyShould(t *testing.T) {
	allowed := 0
	cases(t, func(d dice) error {
		m, f := d.model(), d.facts()
		m.PerUser = PerUserMFA{}
		decision := of(m).Decide(f)
		if want := (oracle{m}).lets(f); (decision.Action == Allow) != want {
			return fmt.Errorf("%v (%s); should he get in? %v", decision.Action, decision.Reason, want)
		}
		if decision.Action == Allow {
			allowed++
		}
		return nil
	})
	if allowed < 300 {
		t.Errorf("only %d cases let anybody in: they show little", allowed)
	}
}

func TestAnExcludedUserIsNobodyElsesBusiness(t *testing.T) {
	cases(t, func(d dice) error {
		m, f := d.model(), d.facts()
		if len(m.Policies) == 0 {
			return nil
		}
		before := of(m).Decide(f)
		i := d.IntN(len(m.Policies))
		m.Policies = slices.Clone(m.Policies)
		c := &m.Policies[i].Conditions
		other := pick(d, "alice", "bob", "carol", "erin", "staff")
		if other == f.User.Canonical {
			return nil
		}
		c.ExcludeUsers.Users = append(slices.Clone(c.ExcludeUsers.Users), other)
		return sameDecision(before, of(m).Decide(f))
	})
}

func TestReportOnlyPoliciesAreNotFelt(t *testing.T) {
	cases(t, func(d dice) error {
		m, f := d.model(), d.facts()
		with := of(m).Decide(f)
		action := of(m).DecideAction(f, RegisterSecurityInfo)
		m.Policies = slices.DeleteFunc(slices.Clone(m.Policies), func(p Policy) bool { return p.State != Enabled })
		if err := sameDecision(with, of(m).Decide(f)); err != nil {
			return err
		}
		return sameDecision(action, of(m).DecideAction(f, RegisterSecurityInfo))
	})
}

func TestOneMorePolicyIsNeverWeaker(t *testing.T) {
	cases(t, func(d dice) error {
		m, f := d.model(), d.facts()
		before, action := of(m).Decide(f), of(m).DecideAction(f, RegisterSecurityInfo)
		more := d.policy("one more")
		more.State = Enabled
		m.Policies = slices.Insert(slices.Clone(m.Policies), d.IntN(len(m.Policies)+1), more)
		after, actionAfter := of(m).Decide(f), of(m).DecideAction(f, RegisterSecurityInfo)
		if before.Action != Allow && after.Action == Allow || action.Action != Allow && actionAfter.Action == Allow {
			return fmt.Errorf("%v (%s) became %v (%s), and %v became %v by %+v", before.Action, before.Reason, after.Action, after.Reason, action.Action, actionAfter.Action, more)
		}
		if before.Action == Block && before.Reason == PolicyBlocks && after.Action != Block {
			return fmt.Errorf("a block became %v", after.Action)
		}
		return nil
	})
}

func TestTheOrderOfPoliciesChangesNothing(t *testing.T) {
	cases(t, func(d dice) error {
		m, f := d.model(), d.facts()
		before, action := of(m).Decide(f), of(m).DecideAction(f, RegisterSecurityInfo)
		m.Policies = slices.Clone(m.Policies)
		d.Shuffle(len(m.Policies), func(i, j int) { m.Policies[i], m.Policies[j] = m.Policies[j], m.Policies[i] })
		after, actionAfter := of(m).Decide(f), of(m).DecideAction(f, RegisterSecurityInfo)
		if before.Action != after.Action || before.MFA != after.MFA || before.Persistent != after.Persistent ||
			before.PasswordSince != after.PasswordSince || before.SecondSince != after.SecondSince || before.Methods != after.Methods {
			return fmt.Errorf("%+v, and %+v", before, after)
		}
		if action.Action != actionAfter.Action {
			return fmt.Errorf("to register: %v, and %v", action.Action, actionAfter.Action)
		}
		return nil
	})
}

func TestFactsThatNoPolicyLooksAtChangeNothing(t *testing.T) {
	cases(t, func(d dice) error {
		m, f := d.model(), d.facts()
		set := of(m)
		less := *f
		needs := set.Inputs()
		if !needs.Address {
			less.Client.Address = netip.Addr{}
		}
		if !needs.Country {
			less.Client.Country, less.Client.CountryKnown = "", false
		}
		if !needs.Platform {
			less.Client.Platform = ""
		}
		if !needs.Device {
			less.Client.Device = mfa.Device{}
		}
		return sameDecision(set.Decide(f), set.Decide(&less))
	})
}

// A platform is left out: a client that says none is not the one that a policy names.
func TestAFactThatIsMissingHelpsNobody(t *testing.T) {
	cases(t, func(d dice) error {
		m, f := d.model(), d.facts()
		set := of(m)
		less := *f
		switch d.IntN(4) {
		case 0:
			less.Client.Address = netip.Addr{}
		case 1:
			less.Client.Country, less.Client.CountryKnown = "", false
		case 2:
			less.Client.Device = mfa.Device{}
		case 3:
			less.Client.App = ""
		}
		if Legacy(f.Client.App) {
			// What somebody has proven or shown, he hasn't by such a client.
			less.Proofs = nil
			if f.Proofs.Has(mfa.Password) {
				less.Proofs = less.Proofs.With(mfa.Proof{Method: mfa.Password, At: now})
			}
			less.Client.Device, less.Terms = mfa.Device{}, nil
		}
		if with, without := set.Decide(f), set.Decide(&less); with.Action != Allow && without.Action == Allow {
			return fmt.Errorf("%v (%s) became %v (%s)", with.Action, with.Reason, without.Action, without.Reason)
		}
		return nil
	})
}
