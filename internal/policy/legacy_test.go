package policy

import (
	"net/netip"
	"testing"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// legacyClient are the facts of alice behind a legacy client. She has a factor and has proven it, elsewhere.
func legacyClient() *Facts {
	return &Facts{
		Now: now, Application: "hr", User: &mfa.User{Name: "alice", Canonical: "alice", Groups: []string{"staff"}},
		Client: mfa.Client{App: OtherClients, Address: netip.MustParseAddr("198.51.100.3"), Device: mfa.Device{Known: true, Compliant: true, DomainJoined: true}},
		Proofs: mfa.Proofs{}.With(mfa.Proof{Method: mfa.Password, At: now}).With(mfa.Proof{Method: mfa.TOTP, At: now}), Methods: totpSet, Registered: true,
		Terms: map[string]mfa.Acceptance{"house rules": {Version: 3, At: now}},
	}
}

func TestALegacyClientMeetsNoControl(t *testing.T) {
	all := func(change func(*Policy)) []Policy {
		p := Policy{Name: "one", State: Enabled, Conditions: Conditions{Users: Users{All: true}, Applications: []string{All}}}
		change(&p)
		return []Policy{p}
	}
	for reason, c := range map[string]struct {
		policies []Policy
		change   func(*Model, *Facts)
		want     Action
		because  Reason
	}{
		"nothing is demanded":               {nil, nil, Allow, DefaultsOff},
		"security defaults":                 {nil, func(m *Model, _ *Facts) { m.Defaults.Off = false }, Block, LegacyAuth},
		"security defaults, in their grace": {nil, func(m *Model, f *Facts) { m.Defaults, f.Registered = SecurityDefaults{Grace: 14 * day}, false }, Block, LegacyAuth},
		"a block":                           {all(func(p *Policy) { p.Grant.Block = true }), nil, Block, PolicyBlocks},
		"a second factor":                   {all(func(p *Policy) { p.Grant.MFA = true }), nil, Block, LegacyAuth},
		"a strength":                        {all(func(p *Policy) { p.Grant.Strength = MFAStrength }), nil, Block, LegacyAuth},
		"a device that it has":              {all(func(p *Policy) { p.Grant.CompliantDevice = true }), nil, Block, LegacyAuth},
		"one of two, of which it has one":   {all(func(p *Policy) { p.Grant = Grant{Any: true, MFA: true, DomainJoinedDevice: true} }), nil, Block, LegacyAuth},
		"terms that alice has accepted":     {all(func(p *Policy) { p.Grant.Terms = []string{"house rules"} }), nil, Block, LegacyAuth},
		"a frequency alone":                 {all(func(p *Policy) { p.Session.SignInFrequency = &SignInFrequency{EveryTime: true} }), nil, Allow, PolicySatisfied},
		"a policy for browsers":             {all(func(p *Policy) { p.Grant.Block, p.Conditions.ClientApps = true, []ClientApp{Browser} }), nil, Allow, NoPolicyApplies},
		"a policy for the other kind":       {all(func(p *Policy) { p.Grant.Block, p.Conditions.ClientApps = true, []ClientApp{ExchangeActiveSync} }), nil, Allow, NoPolicyApplies},
		"alice is excluded":                 {all(func(p *Policy) { p.Grant.MFA, p.Conditions.ExcludeUsers = true, Users{Users: []string{"alice"}} }), nil, Allow, NoPolicyApplies},
		"her setting is enforced":           {nil, func(m *Model, f *Facts) { m.PerUser.On, f.PerUser = true, mfa.PerUserEnforced }, Block, LegacyAuth},
		"her setting is enabled":            {nil, func(m *Model, f *Facts) { m.PerUser.On, f.PerUser = true, mfa.PerUserEnabled }, Allow, DefaultsOff},
		"her setting is enforced, in the office": {nil, func(m *Model, f *Facts) {
			m.PerUser = PerUserMFA{On: true, TrustedRanges: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}}
			f.PerUser = mfa.PerUserEnforced
		}, Allow, DefaultsOff},
		"she is blocked":             {nil, func(_ *Model, f *Facts) { f.Blocked = true }, Block, UserBlocked},
		"she is disabled":            {nil, func(_ *Model, f *Facts) { f.User.Disabled = true }, Block, UserDisabled},
		"nothing was proven":         {nil, func(_ *Model, f *Facts) { f.Proofs = nil }, Block, NothingProven},
		"a policy that only reports": {all(func(p *Policy) { p.State, p.Grant.MFA = ReportOnly, true }), nil, Allow, NoPolicyApplies},
	} {
		t.Run(reason, func(t *testing.T) {
			m, f := Model{Defaults: SecurityDefaults{Off: true}, Policies: c.policies, Terms: []Terms{{Name: "house rules", Version: 3}}}, legacyClient()
			if c.change != nil {
				c.change(&m, f)
			}
			s := unchecked(t, m, c.policies)
			d, results := s.Explain(f)
			if d.Action != c.want || d.Reason != c.because {
				t.Fatalf("%v (%s); want %v (%s)", d.Action, d.Reason, c.want, c.because)
			}
			for _, r := range results {
				if r.Ask || r.Applies && r.Satisfied && r.Policy.State == Enabled && d.Action == Block {
					t.Errorf("%s: %+v", r.Policy.Name, r)
				}
			}
		})
	}
}

// unchecked makes a set also of models that New complains of only because security defaults are on.
func unchecked(t *testing.T, m Model, policies []Policy) *Set {
	t.Helper()
	s, err := New(m)
	if err != nil && (m.Defaults.Off || len(policies) == 0) {
		t.Fatal(err)
	}
	return s
}

func TestWhoIsBlockedBeforeAnybodyIsNamed(t *testing.T) {
	office := NamedLocation{Name: "office", Ranges: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}}
	base := Policy{Name: "one", State: Enabled, Conditions: Conditions{Users: Users{All: true}, Applications: []string{"hr"}}, Grant: Grant{MFA: true}}
	for reason, c := range map[string]struct {
		change             func(*Policy)
		everybody, clients bool // blocked as a legacy client; whatever the client is
		alice              bool // Blocks
	}{
		"all users need a factor": {func(*Policy) {}, true, false, false},
		"all but one":             {func(p *Policy) { p.Conditions.ExcludeUsers.Users = []string{"breakglass"} }, false, false, false},
		"all but a group":         {func(p *Policy) { p.Conditions.ExcludeUsers.Groups = []string{"breakglass"} }, false, false, false},
		"all but guests":          {func(p *Policy) { p.Conditions.ExcludeUsers.Guests = true }, false, false, false},
		"a group":                 {func(p *Policy) { p.Conditions.Users = Users{Groups: []string{"staff"}} }, false, false, false},
		"another application":     {func(p *Policy) { p.Conditions.Applications = []string{"wiki"} }, false, false, false},
		"every application but this": {func(p *Policy) {
			p.Conditions.Applications, p.Conditions.ExcludeApplications = []string{All}, []string{"hr"}
		}, false, false, false},
		"it only reports":    {func(p *Policy) { p.State = ReportOnly }, false, false, false},
		"it demands nothing": {func(p *Policy) { p.Grant, p.Session.Persistent = Grant{}, NeverPersistent }, false, false, false},
		"from elsewhere": {func(p *Policy) {
			p.Conditions.Locations, p.Conditions.ExcludeLocations = []string{All}, []string{"office"}
		}, true, false, false},
		"from the office":             {func(p *Policy) { p.Conditions.Locations = []string{"office"} }, false, false, false},
		"for legacy clients, a block": {func(p *Policy) { p.Grant, p.Conditions.ClientApps = Grant{Block: true}, []ClientApp{OtherClients} }, true, false, false},
		"for browsers, a block":       {func(p *Policy) { p.Grant, p.Conditions.ClientApps = Grant{Block: true}, []ClientApp{Browser} }, false, false, false},
		"for every kind, by name":     {func(p *Policy) { p.Grant, p.Conditions.ClientApps = Grant{Block: true}, ClientApps }, true, true, true},
		"a block":                     {func(p *Policy) { p.Grant = Grant{Block: true} }, true, true, true},
		"a block of all but one":      {func(p *Policy) { p.Grant, p.Conditions.ExcludeUsers.Users = Grant{Block: true}, []string{"breakglass"} }, false, false, true},
		"a block of all but alice":    {func(p *Policy) { p.Grant, p.Conditions.ExcludeUsers.Users = Grant{Block: true}, []string{"alice"} }, false, false, false},
		"a block of her group":        {func(p *Policy) { p.Grant, p.Conditions.Users = Grant{Block: true}, Users{Groups: []string{"Staff"}} }, false, false, true},
		"a block of registration of keys": {func(p *Policy) {
			p.Grant, p.Conditions.Applications, p.Conditions.UserActions = Grant{Block: true}, nil, []UserAction{RegisterSecurityInfo}
		}, false, false, false},
	} {
		t.Run(reason, func(t *testing.T) {
			p := base
			c.change(&p)
			s, err := New(Model{Defaults: SecurityDefaults{Off: true}, Locations: []NamedLocation{office}, Policies: []Policy{p}})
			if err != nil {
				t.Fatal(err)
			}
			f := legacyClient()
			nobody := *f
			nobody.User, nobody.Proofs = nil, nil
			if d, got := s.BlocksEverybody(&nobody); got != c.everybody || got && (d.Action != Block || d.Policy == nil) {
				t.Errorf("everybody: %v, %+v", got, d)
			}
			if d, got := s.BlocksClients(&nobody); got != c.clients || got && d.Reason != PolicyBlocks {
				t.Errorf("every client: %v, %+v", got, d)
			}
			if d, got := s.Blocks(f); got != c.alice || got && d.Reason != PolicyBlocks {
				t.Errorf("alice: %v, %+v", got, d)
			}
		})
	}
	s, err := New(Model{})
	if err != nil {
		t.Fatal(err)
	}
	if _, got := s.BlocksEverybody(legacyClient()); !got {
		t.Error("security defaults let somebody in")
	}
	if d, got := s.Blocks(&Facts{}); !got || d.Action != Block {
		t.Error("nobody is let in")
	}
}

// What is said before anybody is named must hold for everybody.
func TestWhereEverybodyIsBlockedNobodyGetsIn(t *testing.T) {
	blocked := 0
	cases(t, func(d dice) error {
		m, f := d.model(), d.facts()
		f.Client.App = pick(d, OtherClients, ExchangeActiveSync)
		s := of(m)
		nobody := *f
		nobody.User, nobody.Proofs = nil, nil
		_, everybody := s.BlocksEverybody(&nobody)
		_, clients := s.BlocksClients(&nobody)
		if clients && !everybody {
			t.Error("whatever the client, but not a legacy one")
		}
		if !everybody {
			return nil
		}
		blocked++
		if got := s.Decide(f); got.Action == Allow {
			t.Errorf("%+v for %+v", got, f)
		}
		if _, hard := s.Blocks(f); clients && !hard {
			t.Error("every user, but not this one")
		}
		return nil
	})
	if blocked < 50 {
		t.Errorf("only %d cases block everybody: they show little", blocked)
	}
}
