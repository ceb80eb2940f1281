package graph

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/policy"
)

// all that somebody may call something, and that must not be taken for something else.
var awkward = []string{
	"Finance", "All", "all", "None", "GuestsOrExternalUsers", "AllTrusted", "alltrusted", "Office365", "AllAgentIdResources", "<G>", "{x}", "%x%",
	"62e90394-69f5-4237-9190-012177145e10", "00000000-0000-0000-0000-000000000004", "group:x", "user:group:y", "strength:", "a, b", "ünï 🔑", "\\ufffd", "\"<&>\u2028", "mfa", " ", "x:y",
}

type generator struct{ *rand.Rand }

func (g generator) some(max int) []string {
	var names []string
	for range g.IntN(max + 1) {
		names = append(names, awkward[g.IntN(len(awkward))])
	}
	return names
}

func (g generator) yes() bool { return g.IntN(2) == 0 }

func pick[T any](g generator, from []T) []T {
	var some []T
	for range g.IntN(len(from) + 1) {
		some = append(some, from[g.IntN(len(from))])
	}
	return some
}

func (g generator) users(include bool) policy.Users {
	if include && g.IntN(8) == 0 {
		return policy.Users{None: true}
	}
	u := policy.Users{All: g.yes(), Guests: g.yes(), Users: g.some(3), Groups: g.some(3), Roles: g.some(2)}
	if include && u.Empty() {
		u.All = true
	}
	return u
}

// policy makes any policy that Import would give.
func (g generator) policy(i int) policy.Policy {
	p := policy.Policy{
		ID: []string{"", "809741fe-fb1b-4746-9ff0-83a978a4c891"}[g.IntN(2)], Name: fmt.Sprint(awkward[g.IntN(len(awkward))], i),
		State: []policy.State{policy.Enabled, policy.Disabled, policy.ReportOnly}[g.IntN(3)],
	}
	c := &p.Conditions
	c.Users, c.ExcludeUsers = g.users(true), g.users(false)
	switch g.IntN(4) {
	case 0:
		c.UserActions = []policy.UserAction{policy.RegisterSecurityInfo}
	case 1:
		c.Applications = []string{policy.None}
	case 2:
		c.Applications = append([]string{policy.All}, g.some(2)...)
	default:
		c.Applications = append([]string{"hr"}, g.some(3)...)
	}
	if len(c.Applications) > 1 {
		for i, a := range c.Applications {
			if a == policy.None {
				c.Applications[i] = "nOnE"
			}
		}
	}
	c.ExcludeApplications = g.some(2)
	c.ClientApps = pick(g, policy.ClientApps)
	c.Platforms, c.ExcludePlatforms = pick(g, append([]policy.Platform{policy.AllPlatforms}, policy.Platforms...)), pick(g, policy.Platforms)
	c.Locations, c.ExcludeLocations = g.some(3), g.some(3)
	// Nobody excludes everybody or everything.
	c.ExcludeUsers.All = false
	for _, names := range []*[]string{&c.ExcludeApplications, &c.ExcludeLocations} {
		if slices.Contains(*names, policy.All) {
			*names = nil
		}
	}
	levels := []policy.Risk{policy.LowRisk, policy.MediumRisk, policy.HighRisk, policy.NoRisk}
	c.SignInRisk, c.UserRisk = pick(g, levels), pick(g, levels)
	if g.yes() {
		c.Devices = &policy.DeviceFilter{Exclude: g.yes(), Rule: `device.isCompliant -eq True -or device.displayName -eq "a\b<x>"`}
	}
	switch g.IntN(4) {
	case 0:
		p.Grant.Block = true
	case 1:
	default:
		p.Grant = policy.Grant{MFA: g.yes(), CompliantDevice: g.yes(), DomainJoinedDevice: g.yes(), PasswordChange: g.yes(), Terms: g.some(2)}
		if g.yes() {
			p.Grant.Strength = []string{policy.MFAStrength, policy.PasswordlessStrength, policy.PhishingResistantStrength, "Keys", "All", "62e90394-69f5-4237-9190-012177145e10"}[g.IntN(6)]
		}
	}
	p.Grant.Any = !p.Grant.Empty() && g.yes()
	switch g.IntN(4) {
	case 0:
		p.Session.SignInFrequency = &policy.SignInFrequency{EveryTime: true, SecondaryOnly: g.yes()}
	case 1:
		p.Session.SignInFrequency = &policy.SignInFrequency{Every: time.Duration(1+g.IntN(8760)) * time.Hour, SecondaryOnly: g.yes()}
	}
	p.Session.Persistent = []policy.Persistence{"", policy.AlwaysPersistent, policy.NeverPersistent}[g.IntN(3)]
	if p.Session.Persistent == policy.AlwaysPersistent && !slices.Contains(c.Applications, policy.All) {
		p.Session.Persistent = ""
	}
	return p
}

func TestImportOfAnExportIsEqual(t *testing.T) {
	defined := []Strength{{Name: "Keys", Combinations: []string{"fido2", "password,softwareOath"}}}
	for seed := range uint64(200) {
		g := generator{rand.New(rand.NewPCG(seed, 7))}
		var policies []policy.Policy
		for i := range 20 {
			policies = append(policies, g.policy(i))
		}
		data, err := Marshal(policies, defined)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := Marshal(policies, defined); err != nil || !bytes.Equal(data, again) {
			t.Fatal("it is written differently the second time")
		}
		r := Import([]File{{"export.json", data}}, nil, Options{RiskDetected: true, PasswordChange: true})
		if len(r.Errors) != 0 || len(r.Policies) != len(policies) {
			t.Fatalf("seed %d: %v, %+v", seed, r.Errors, r.Verdicts)
		}
		for i := range policies {
			if !reflect.DeepEqual(r.Policies[i], policies[i]) {
				t.Fatalf("seed %d:\n%+v became\n%+v in\n%s", seed, policies[i], r.Policies[i], data)
			}
		}
		if len(r.Strengths) > 1 || len(r.Strengths) == 1 && !reflect.DeepEqual(r.Strengths, defined) {
			t.Fatalf("%+v", r.Strengths)
		}
	}
}

func TestWhatGraphHasNoWordFor(t *testing.T) {
	for name, change := range map[string]func(*policy.Policy){
		"a sign-in frequency of ninety minutes": func(p *policy.Policy) { p.Session.SignInFrequency = &policy.SignInFrequency{Every: 90 * time.Minute} },
		"a sign-in frequency of nothing":        func(p *policy.Policy) { p.Session.SignInFrequency = &policy.SignInFrequency{} },
		"no state":                              func(p *policy.Policy) { p.State = "" },
		"a name in Latin-1":                     func(p *policy.Policy) { p.Conditions.Users.Groups = []string{"B\xfcro"} },
	} {
		p := policy.Policy{Name: name, State: policy.Enabled, Conditions: policy.Conditions{Users: policy.Users{All: true}, Applications: []string{policy.All}}, Grant: policy.Grant{MFA: true}}
		if _, err := Marshal([]policy.Policy{p}, nil); err != nil {
			t.Fatalf("%s, before: %v", name, err)
		}
		change(&p)
		if data, err := Marshal([]policy.Policy{p}, nil); err == nil {
			t.Errorf("%s: %s", name, data)
		}
	}
}

func TestStrengthsOfTheirOwn(t *testing.T) {
	own := func(id, name, more string) string {
		return `{"id": "` + id + `", "displayName": "` + name + `", "policyType": "custom", "requirementsSatisfied": "mfa"` + more + `}`
	}
	const id = "485c993e-10a9-44fa-98d1-230c8f72f497"
	for name, test := range map[string]struct{ strength, want, parts string }{
		"with its combinations":             {own(id, "Keys", `, "allowedCombinations": ["FIDO2", "password, softwareOath"]`), "{Keys [fido2 password,softwareOath] []}", ""},
		"with models of keys":               {own(id, "Keys", `, "allowedCombinations": ["fido2"], "combinationConfigurations": [{"@odata.type": "#microsoft.graph.fido2CombinationConfiguration", "id": "1", "appliesToCombinations": ["fido2"], "allowedAAGUIDs": ["2FC0579F-8113-47ea-b116-bb5a8db9202a"]}]`), "{Keys [fido2] [2fc0579f-8113-47ea-b116-bb5a8db9202a]}", ""},
		"with models of something else":     {own(id, "Keys", `, "allowedCombinations": ["fido2", "windowsHelloForBusiness"], "combinationConfigurations": [{"appliesToCombinations": ["windowsHelloForBusiness"], "allowedAAGUIDs": ["2fc0579f-8113-47ea-b116-bb5a8db9202a"]}]`), "", "grantControls.authenticationStrength: allowedAAGUIDs"},
		"with models that are none":         {own(id, "Keys", `, "allowedCombinations": ["fido2"], "combinationConfigurations": [{"appliesToCombinations": ["fido2"], "allowedAAGUIDs": ["any"]}]`), "", "grantControls.authenticationStrength: allowedAAGUIDs"},
		"with two lists of models":          {own(id, "Keys", `, "allowedCombinations": ["fido2"], "combinationConfigurations": [{"appliesToCombinations": ["fido2"], "allowedAAGUIDs": ["2fc0579f-8113-47ea-b116-bb5a8db9202a"]}, {"appliesToCombinations": ["fido2"], "allowedAAGUIDs": ["2fc0579f-8113-47ea-b116-bb5a8db9202b"]}]`), "", "grantControls.authenticationStrength: allowedAAGUIDs"},
		"with models and issuers":           {own(id, "Keys", `, "allowedCombinations": ["fido2"], "combinationConfigurations": [{"appliesToCombinations": ["fido2"], "allowedAAGUIDs": ["2fc0579f-8113-47ea-b116-bb5a8db9202a"], "allowedIssuers": ["x"]}]`), "", "grantControls.authenticationStrength: allowedIssuers"},
		"with certificates":                 {own(id, "Cards", `, "allowedCombinations": ["x509CertificateMultiFactor"], "combinationConfigurations": [{"appliesToCombinations": ["x509CertificateMultiFactor"], "allowedPolicyOIDs": ["1.2"]}]`), "", "grantControls.authenticationStrength: allowedPolicyOIDs"},
		"with a way that came later":        {own(id, "Rings", `, "allowedCombinations": ["fido2", "smartRing"]`), "", "grantControls.authenticationStrength: smartRing"},
		"under a name that is built in":     {own(id, "Phishing-resistant MFA", `, "allowedCombinations": ["password,sms"]`), "", "grantControls.authenticationStrength.displayName: Phishing-resistant MFA is built in, and this is another one"},
		"with a key that nobody knows":      {own(id, "Keys", `, "allowedCombinations": ["fido2"], "except": ["x"]`), "{Keys [fido2] []}", "grantControls.authenticationStrength.except"},
		"of a type that nobody knows":       {strings.Replace(own(id, "Keys", ""), `"custom"`, `"shared"`, 1), "", "grantControls.authenticationStrength.policyType: shared"},
		"by name alone":                     {own("", "Keys", ""), "", ""},
		"a built-in one with a restriction": {`{"id": "00000000-0000-0000-0000-000000000004", "combinationConfigurations": [{"allowedAAGUIDs": ["x"]}]}`, "", "grantControls.authenticationStrength.combinationConfigurations[0]"},
	} {
		t.Run(name, func(t *testing.T) {
			v, r := judged(t, change(t, "grantControls.authenticationStrength", test.strength), nil, Options{})
			if got := strings.Join(v.Parts, ", "); got != test.parts {
				t.Errorf("parts %q, want %q", got, test.parts)
			}
			if test.parts != "" {
				return
			}
			if got := strings.Trim(fmt.Sprint(r.Strengths), "[]"); got != strings.Trim(test.want, "[]") {
				t.Errorf("%s, want %s", got, test.want)
			}
			if r.Policies[0].Grant.Strength != "Keys" {
				t.Errorf("%q", r.Policies[0].Grant.Strength)
			}
		})
	}
	one := change(t, "grantControls.authenticationStrength", own(id, "Keys", `, "allowedCombinations": ["fido2"]`))
	other := change(t, "grantControls.authenticationStrength", own(id, "Keys", `, "allowedCombinations": ["password,sms"]`))
	r := Import([]File{{"a", one}, {"b", one}, {"c", other}}, nil, Options{})
	if len(r.Strengths) != 1 || r.Verdicts[1].Verdict != Enforced || r.Verdicts[2].Verdict != Refused {
		t.Errorf("two strengths with one name: %+v", r)
	}
}

// TestABuiltInStrengthWithoutItsID is as tools write it that take all ids out.
func TestABuiltInStrengthWithoutItsID(t *testing.T) {
	const form = `{"displayName": "NAME", "policyType": "TYPE", "requirementsSatisfied": "mfa", "allowedCombinations": ["password,sms"], "combinationConfigurations": MORE}`
	for _, test := range []struct{ name, kind, more, want, parts string }{
		{"Phishing-resistant MFA", "builtIn", "[]", policy.PhishingResistantStrength, ""},
		{"passwordless mfa", "builtin", "null", policy.PasswordlessStrength, ""},
		{"Multifactor authentication", "builtIn", "[]", policy.MFAStrength, ""},
		{"Phishing-resistant MFA", "builtIn", `[{"allowedAAGUIDs": ["x"]}]`, "", "grantControls.authenticationStrength.combinationConfigurations[0]"},
		{"Phishing-resistant MFA", "custom", "[]", "", "grantControls.authenticationStrength.displayName: Phishing-resistant MFA is built in, and this is another one"},
		{"Something newer", "builtIn", "[]", "", "grantControls.authenticationStrength.policyType: builtIn"},
	} {
		strength := strings.NewReplacer("NAME", test.name, "TYPE", test.kind, "MORE", test.more).Replace(form)
		v, r := judged(t, change(t, "grantControls.authenticationStrength", strength), nil, Options{})
		if got := strings.Join(v.Parts, ", "); got != test.parts {
			t.Errorf("%s: parts %q, want %q", strength, got, test.parts)
		}
		if test.parts == "" && (len(r.Policies) != 1 || r.Policies[0].Grant.Strength != test.want || len(r.Strengths) != 0) {
			t.Errorf("%s: %+v", strength, r)
		}
	}
}

// FuzzImport holds that whatever is loaded can be written, and comes back equal.
func FuzzImport(f *testing.F) {
	f.Add([]byte(whole))
	f.Add(change(f, "conditions.authenticationFlows", `{"transferMethods": "deviceCodeFlow"}`))
	f.Add(change(f, people, nobody, "conditions.agents", `{"includeAgentUsers": ["All"]}`))
	f.Add(change(f, "grantControls", `{"operator": "AND", "builtInControls": ["block"]}`, "sessionControls.signInFrequency", `{"frequencyInterval": "everyTime", "isEnabled": true, "authenticationType": "secondaryAuthentication"}`))
	f.Add(change(f, "grantControls.authenticationStrength", `{"id": "485c993e-10a9-44fa-98d1-230c8f72f497", "displayName": "Keys", "allowedCombinations": ["fido2"], "combinationConfigurations": [{"appliesToCombinations": ["fido2"], "allowedAAGUIDs": ["x"]}]}`))
	f.Add([]byte(`{"value": [` + whole + `], "@odata.nextLink": "x"}`))
	f.Add([]byte("\xff\xfe{\x00}\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		opts := Options{AllowPartial: true, RiskDetected: true, PasswordChange: true}
		r := Import([]File{{"f", data}}, nil, opts)
		for _, v := range r.Verdicts {
			if v.Parts == nil || v.IDs == nil || v.Verdict == Unresolved && len(v.IDs) == 0 || (v.Verdict == Refused || v.Verdict == NotApplicable) != (len(v.Parts) > 0) {
				t.Errorf("%+v", v)
			}
		}
		out, err := Marshal(r.Policies, r.Strengths)
		if err != nil {
			t.Fatal(err)
		}
		again := Import([]File{{"f", out}}, nil, opts)
		if len(again.Errors) > 0 || !reflect.DeepEqual(again.Policies, r.Policies) || !reflect.DeepEqual(again.Strengths, r.Strengths) {
			t.Errorf("%+v %+v became %+v %+v %v in %s", r.Policies, r.Strengths, again.Policies, again.Strengths, again.Errors, out)
		}
	})
}
