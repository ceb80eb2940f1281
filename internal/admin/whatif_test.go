package admin

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/account"
	"github.com/caddy-mfa/caddy-mfa/internal/gate"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
	"github.com/caddy-mfa/caddy-mfa/internal/session"
)

// asked is a fixture whose policies can be asked, and the gate that decides by them.
type asked struct {
	*fixture
	gate *gate.Gate
}

// newAsked has alice of finance with an app, bob without, carol who must use her app, and dora who is disabled.
func newAsked(t *testing.T, policies ...policy.Policy) *asked {
	t.Helper()
	rules, err := policy.New(policy.Model{
		Defaults: policy.SecurityDefaults{Off: true}, Policies: policies, PerUser: policy.PerUserMFA{On: true},
		Locations: []policy.NamedLocation{
			{Name: "office", Ranges: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}, Trusted: true}, {Name: "benelux", Countries: []string{"NL"}},
		},
		Terms: []policy.Terms{{Name: "house rules", Version: 1}},
	})
	if err != nil {
		t.Fatal(err)
	}
	f := newFixture(t)
	users := f.Users[0].(people)
	users["alice"].Groups = []string{"Finance"}
	users["dora"] = &mfa.User{ID: mfa.UserID{Directory: "file", ID: "dora"}, Name: "dora", Canonical: "dora", Mark: "m", Disabled: true}
	f.Policy, f.Applications = rules, []string{"hr", "wiki"}
	f.Country = func(a netip.Addr) (string, bool) { return "NL", a == netip.MustParseAddr("198.51.100.7") }
	for _, name := range []string{"alice", "bob", "carol"} {
		f.update(name, func(a *account.Account) {
			a.State.Created, a.State.Name = f.now, name
			if name != "bob" {
				a.Put(mfa.Credential{ID: "app", Method: mfa.TOTP, Data: []byte("{}")})
			}
			if name == "carol" {
				a.State.PerUser = mfa.PerUserEnforced
			}
		})
	}
	return &asked{f, &gate.Gate{Sessions: f.Sessions, Accounts: f.Accounts, Users: f.Users, Policy: rules}}
}

func (f *asked) ask(q Query) *WhatIf {
	f.t.Helper()
	answer, err := f.WhatIf(f.t.Context(), q, f.now)
	if err != nil {
		f.t.Fatal(err)
	}
	return answer
}

func everybody(name string, change func(*policy.Policy)) policy.Policy {
	p := policy.Policy{
		Name: name, State: policy.Enabled, Grant: policy.Grant{MFA: true},
		Conditions: policy.Conditions{Users: policy.Users{All: true}, Applications: []string{policy.All}},
	}
	change(&p)
	return p
}

// examples are policies of every kind.
func examples() []policy.Policy {
	return []policy.Policy{
		everybody("hr needs a code", func(p *policy.Policy) { p.Conditions.Applications = []string{"hr"} }),
		everybody("no finance from abroad", func(p *policy.Policy) {
			p.Grant, p.Conditions.Users = policy.Grant{Block: true}, policy.Users{Groups: []string{"finance"}}
			p.Conditions.Locations, p.Conditions.ExcludeLocations = []string{policy.All}, []string{"office", "benelux"}
		}),
		everybody("devices for windows", func(p *policy.Policy) {
			p.State, p.Grant, p.Conditions.Platforms = policy.ReportOnly, policy.Grant{CompliantDevice: true}, []policy.Platform{policy.Windows}
		}),
		everybody("off", func(p *policy.Policy) { p.State = policy.Disabled }),
		everybody("wiki terms", func(p *policy.Policy) {
			p.Grant, p.Conditions.Applications = policy.Grant{Terms: []string{"house rules"}}, []string{"wiki"}
			p.Session.SignInFrequency = &policy.SignInFrequency{Every: 4 * time.Hour}
		}),
		everybody("register at the office", func(p *policy.Policy) {
			p.Conditions.Applications, p.Conditions.UserActions = nil, []policy.UserAction{policy.RegisterSecurityInfo}
			p.Grant, p.Conditions.Locations, p.Conditions.ExcludeLocations = policy.Grant{Block: true}, []string{policy.All}, []string{policy.AllTrusted}
		}),
	}
}

// verdicts are what the gate comes to for each action.
var verdicts = map[policy.Action]gate.Verdict{
	policy.Allow: gate.Pass, policy.Verify: gate.StepUp, policy.Register: gate.StepUp, policy.Authenticate: gate.StepUp, policy.AcceptTerms: gate.StepUp,
	policy.Block: gate.Refuse,
}

func TestWhatIfSaysWhatTheGateDoes(t *testing.T) {
	f := newAsked(t, examples()...)
	seen := map[policy.Action]bool{}
	for _, name := range []string{"alice", "bob", "carol"} {
		for _, proofs := range [][]mfa.Method{nil, {mfa.Password, mfa.TOTP}} {
			for _, application := range []string{"hr", "wiki", "crm"} {
				for _, address := range []string{"203.0.113.9", "198.51.100.7", "192.0.2.1", ""} {
					for _, platform := range []policy.Platform{"", policy.Windows} {
						client := mfa.Client{App: policy.Browser, Platform: platform}
						client.Address, _ = netip.ParseAddr(address)
						answer := f.ask(Query{User: name, Application: application, Client: client, Proofs: proofs})
						if client.Address.IsValid() {
							client.Country, client.CountryKnown = f.Country(client.Address)
						}
						out := f.gate.Check(t.Context(), f.request(name, application, client, answer.Proofs))
						if verdicts[answer.Decision.Action] != out.Verdict || answer.Decision.Reason != out.Decision.Reason {
							t.Errorf("%s into %s from %q with %v: what-if says %v (%s), the gate %v (%s)", name, application, address, proofs,
								answer.Decision.Action, answer.Decision.Reason, out.Verdict, out.Decision.Reason)
						}
						seen[answer.Decision.Action] = true
					}
				}
			}
		}
	}
	for _, action := range []policy.Action{policy.Allow, policy.Verify, policy.Register, policy.AcceptTerms, policy.Block} {
		if !seen[action] {
			t.Errorf("no case came to %v", action)
		}
	}
}

// randomPolicy is any that people, places and devices of newAsked can meet.
func randomPolicy(g *rand.Rand, name string) policy.Policy {
	yes := func() bool { return g.IntN(3) == 0 }
	return everybody(name, func(p *policy.Policy) {
		p.State = []policy.State{policy.Enabled, policy.Enabled, policy.ReportOnly, policy.Disabled}[g.IntN(4)]
		c := &p.Conditions
		if yes() {
			c.Users = []policy.Users{{Groups: []string{"finance"}}, {Users: []string{"bob", "carol"}}, {Roles: []string{"Global Administrator"}}, {None: true}}[g.IntN(4)]
		}
		if yes() {
			c.ExcludeUsers = []policy.Users{{Groups: []string{"finance"}}, {Users: []string{"bob"}}, {Guests: true}}[g.IntN(3)]
		}
		switch g.IntN(5) {
		case 0:
			c.Applications = []string{"hr"}
		case 1:
			c.ExcludeApplications = []string{"wiki"}
		case 2:
			c.Applications, c.UserActions = nil, []policy.UserAction{policy.RegisterSecurityInfo}
		}
		if yes() {
			c.ClientApps = [][]policy.ClientApp{{policy.Browser}, {policy.OtherClients}, {policy.MobileAndDesktop, policy.Browser}}[g.IntN(3)]
		}
		if yes() {
			c.Locations, c.ExcludeLocations = []string{policy.All}, [][]string{{"office"}, {policy.AllTrusted}, {"benelux"}}[g.IntN(3)]
		}
		if yes() {
			c.Platforms = []policy.Platform{policy.Windows}
		}
		if yes() {
			c.Devices = &policy.DeviceFilter{Exclude: g.IntN(2) == 0, Rule: "device.isCompliant -eq True"}
		}
		switch g.IntN(5) {
		case 0:
			p.Grant = policy.Grant{Block: true}
		case 1:
			p.Grant = policy.Grant{Any: g.IntN(2) == 0, MFA: true, CompliantDevice: true, Terms: []string{"house rules"}}
		case 2:
			p.Grant = policy.Grant{Strength: []string{policy.MFAStrength, policy.PhishingResistantStrength}[g.IntN(2)]}
		case 3:
			p.Grant = policy.Grant{Terms: []string{"house rules"}}
		}
		if yes() {
			p.Session.SignInFrequency = []*policy.SignInFrequency{{Every: time.Hour}, {EveryTime: true}}[g.IntN(2)]
		}
	})
}

func TestWhatIfSaysWhatTheGateDoesWhateverThePolicies(t *testing.T) {
	seen := map[policy.Action]int{}
	for seed := range uint64(60) {
		g := rand.New(rand.NewPCG(seed, 3))
		var policies []policy.Policy
		for i := range g.IntN(6) {
			policies = append(policies, randomPolicy(g, fmt.Sprint("policy ", i)))
		}
		f := newAsked(t, policies...)
		for range 25 {
			name, application := []string{"alice", "bob", "carol"}[g.IntN(3)], []string{"hr", "wiki", "crm"}[g.IntN(3)]
			proofs := [][]mfa.Method{{mfa.Password}, {mfa.Password, mfa.TOTP}, {mfa.Passkey}, {mfa.Password, mfa.TemporaryAccessPass}, {mfa.Password, mfa.RecoveryCode}}[g.IntN(5)]
			client := mfa.Client{App: policy.Browser, Platform: []policy.Platform{"", policy.Windows}[g.IntN(2)], Device: mfa.Device{Known: g.IntN(2) == 0, Compliant: g.IntN(2) == 0}}
			client.Address, _ = netip.ParseAddr([]string{"203.0.113.9", "198.51.100.7", "192.0.2.1", ""}[g.IntN(4)])
			answer := f.ask(Query{User: name, Application: application, Client: client, Proofs: proofs})
			if client.Address.IsValid() {
				client.Country, client.CountryKnown = f.Country(client.Address)
			}
			out := f.gate.Check(t.Context(), f.request(name, application, client, proofs))
			if verdicts[answer.Decision.Action] != out.Verdict || answer.Decision.Reason != out.Decision.Reason {
				t.Fatalf("seed %d: %s into %s as %+v with %v: what-if says %v (%s), the gate %v (%s), by %+v", seed, name, application, client, proofs,
					answer.Decision.Action, answer.Decision.Reason, out.Verdict, out.Decision.Reason, policies)
			}
			seen[answer.Decision.Action]++
		}
	}
	for _, action := range []policy.Action{policy.Allow, policy.Verify, policy.Register, policy.AcceptTerms, policy.Block} {
		if seen[action] == 0 {
			t.Errorf("no case came to %v: %v", action, seen)
		}
	}
}

// request comes in a session that has just begun.
func (f *asked) request(name, application string, client mfa.Client, methods []mfa.Method) *gate.Request {
	f.t.Helper()
	user, err := f.find(f.t.Context(), name)
	if err != nil {
		f.t.Fatal(err)
	}
	var proofs mfa.Proofs
	for _, m := range methods {
		proofs = proofs.With(mfa.Proof{Method: m, At: f.now})
	}
	_, cookie, err := f.Sessions.Begin(f.t.Context(), session.Beginning{User: user, Host: "example.com", Proofs: proofs}, f.now)
	if err != nil {
		f.t.Fatal(err)
	}
	return &gate.Request{Application: &gate.Application{Name: application}, Now: f.now, Host: "example.com", Client: client, Cookie: cookie, Asked: "/", Rewritten: "/"}
}

func TestWhatIfInGraphsWords(t *testing.T) {
	f := newAsked(t, examples()...)
	home := mfa.Client{App: policy.Browser, Address: netip.MustParseAddr("192.0.2.1")}
	for reason, tc := range map[string]struct {
		query    Query
		action   policy.Action
		policy   string
		by       string
		analysis string // applying policies are +
		results  string
	}{
		"a code for hr, at the office": {
			Query{User: "alice", Application: "hr", Client: mfa.Client{App: policy.Browser, Address: netip.MustParseAddr("203.0.113.9"), Platform: policy.Windows}},
			policy.Verify, "hr needs a code", ByPolicy, "+notSet location +notSet policyNotEnabled application userActions",
			"failure notApplied reportOnlyFailure notEnabled notApplied notApplied",
		},
		"nobody knows where": {
			Query{User: "ALICE", Application: "crm", Client: mfa.Client{App: policy.Browser}},
			policy.Block, "no finance from abroad", "", "application +notEnoughInformation devicePlatform policyNotEnabled application userActions",
			"notApplied failure reportOnlyNotApplied notEnabled notApplied notApplied",
		},
		"a country that is given counts more than the address": {
			Query{User: "alice", Application: "crm", Client: mfa.Client{App: policy.Browser, Address: netip.MustParseAddr("192.0.2.1"), Country: "NL", CountryKnown: true}},
			policy.Allow, "", "", "application location devicePlatform policyNotEnabled application userActions",
			"notApplied notApplied reportOnlyNotApplied notEnabled notApplied notApplied",
		},
		"the user's own setting": {
			Query{User: "carol", Application: "crm", Client: home},
			policy.Verify, "", ByOwnSetting, "application users devicePlatform policyNotEnabled application userActions",
			"notApplied notApplied reportOnlyNotApplied notEnabled notApplied notApplied",
		},
		"to register from home": {
			Query{User: "bob", UserAction: policy.RegisterSecurityInfo, Client: home},
			policy.Block, "register at the office", "", "userActions users userActions policyNotEnabled userActions +notSet",
			"notApplied notApplied reportOnlyNotApplied notEnabled notApplied failure",
		},
		"a disabled user is asked nothing": {
			Query{User: "dora", Application: "hr", Client: home},
			policy.Block, "", "", "notSet notSet notSet policyNotEnabled notSet notSet",
			"notApplied notApplied reportOnlyNotApplied notEnabled notApplied notApplied",
		},
	} {
		t.Run(reason, func(t *testing.T) {
			answer := f.ask(tc.query)
			var analysis, results []string
			for _, p := range answer.Policies {
				word := p.Reason
				if p.Applies {
					word = "+" + word
				}
				analysis, results = append(analysis, word), append(results, p.Result)
			}
			d := answer.Decision
			if d.Action != tc.action || d.Policy != tc.policy || d.DemandedBy != tc.by {
				t.Errorf("%v (%s) by %q, demanded by %q", d.Action, d.Reason, d.Policy, d.DemandedBy)
			}
			if got := strings.Join(analysis, " "); got != tc.analysis {
				t.Errorf("reasons %s\n   want %s", got, tc.analysis)
			}
			if got := strings.Join(results, " "); got != tc.results {
				t.Errorf("results %s\n   want %s", got, tc.results)
			}
		})
	}
}

func TestWhatIfSaysWhatIsAskedAndForHowLong(t *testing.T) {
	f := newAsked(t, examples()...)
	office := mfa.Client{App: policy.Browser, Address: netip.MustParseAddr("203.0.113.9")}
	d := f.ask(Query{User: "alice", Application: "hr", Client: office}).Decision
	if !slices.Equal(d.Methods, []mfa.Method{mfa.TOTP}) || d.Requirement != "multiFactorAuthentication" || d.PasswordAge != 0 {
		t.Errorf("%+v", d)
	}
	d = f.ask(Query{User: "alice", Application: "wiki", Client: office}).Decision
	if !slices.Equal(d.Terms, []string{"house rules"}) || d.Requirement != "singleFactorAuthentication" || d.PasswordAge != 4*3600 || d.SecondAge != 4*3600 {
		t.Errorf("%+v", d)
	}
}

func TestWhatIfSaysNothingOfASessionThatThereIsNot(t *testing.T) {
	set, err := policy.New(policy.Model{Defaults: policy.SecurityDefaults{Off: true}})
	if err != nil {
		t.Fatal(err)
	}
	d := decided(policy.Decision{
		Action: policy.Block, Reason: policy.StrengthUnreachable, Stay: time.Hour, Persistent: policy.NeverPersistent, PasswordSince: time.Now(), MFA: true,
	}, set, time.Now().Add(time.Hour))
	if d.StaySignedIn != 0 || d.PasswordAge != 0 || d.Persistent != "" || d.Requirement != multiFactor {
		t.Errorf("%+v", d)
	}
}

func TestWhatIfWarnsOfWhatMayNotBeMeant(t *testing.T) {
	f := newAsked(t, examples()...)
	answer := f.ask(Query{User: "bob", Application: "payrol", Proofs: []mfa.Method{mfa.Password, mfa.TOTP}})
	if len(answer.Warnings) != 2 || !strings.Contains(answer.Warnings[0], "hr, wiki") || !strings.Contains(answer.Warnings[1], "totp") {
		t.Errorf("%q", answer.Warnings)
	}
	if answer := f.ask(Query{User: "dora", Application: "hr"}); len(answer.Warnings) != 1 {
		t.Errorf("%q", answer.Warnings)
	}
	if answer := f.ask(Query{User: "alice", Application: "hr", Proofs: []mfa.Method{mfa.Password, mfa.TOTP}}); len(answer.Warnings) != 0 {
		t.Errorf("%q", answer.Warnings)
	}
	if _, err := f.WhatIf(t.Context(), Query{User: "nobody"}, f.now); !errors.Is(err, ErrNoUser) {
		t.Error(err)
	}
}
