package caddymodule

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/caddy-mfa/caddy-mfa/config"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
)

// appOf gives what a Caddyfile says about the app.
func appOf(t *testing.T, caddyfile string) *config.Config {
	t.Helper()
	var adapted struct {
		Apps struct {
			MFA config.Config `json:"mfa"`
		} `json:"apps"`
	}
	text := adapt(t, caddyfile)
	if err := json.Unmarshal([]byte(text), &adapted); err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	return &adapted.Apps.MFA
}

// TestPoliciesMeanWhatTheySay takes the Caddyfile that has every option.
func TestPoliciesMeanWhatTheySay(t *testing.T) {
	raw, err := os.ReadFile("testdata/adapt/every_policy_option.caddyfiletest")
	if err != nil {
		t.Fatal(err)
	}
	input, _, _ := strings.Cut(string(raw), separator)
	got := policiesOf(appOf(t, input+"\n"))
	want := []policy.Policy{
		{
			Name: "Every condition", State: policy.Enabled,
			Conditions: policy.Conditions{
				Users: policy.Users{
					Guests: true, Users: []string{"alice", "all"}, Groups: []string{"Finance"}, Roles: []string{"Global Administrator"},
				},
				ExcludeUsers: policy.Users{Users: []string{"breakglass"}, Groups: []string{"Robots"}, Roles: []string{"Global Reader"}},
				Applications: []string{"hr", "wiki.example.com"}, ExcludeApplications: []string{"hr-archive"},
				ClientApps: policy.ClientApps, Platforms: policy.Platforms, ExcludePlatforms: []policy.Platform{policy.Linux},
				Locations: []string{"office", "Home countries"}, ExcludeLocations: []string{policy.AllTrusted},
				Devices: &policy.DeviceFilter{Exclude: true, Rule: "device.isCompliant -eq True"},
			},
			Grant:   policy.Grant{Any: true, MFA: true, CompliantDevice: true, DomainJoinedDevice: true, Terms: []string{"house-rules"}},
			Session: policy.SessionControls{SignInFrequency: &policy.SignInFrequency{Every: 4 * time.Hour, SecondaryOnly: true}},
		},
		{
			Name: "Every word that stands alone", State: policy.ReportOnly,
			Conditions: policy.Conditions{
				Users: policy.Users{All: true}, Applications: []string{policy.All}, Platforms: []policy.Platform{policy.AllPlatforms}, Locations: []string{policy.All},
			},
			Grant:   policy.Grant{Block: true},
			Session: policy.SessionControls{Persistent: policy.NeverPersistent},
		},
		{
			Name: "Registration", State: policy.Disabled,
			Conditions: policy.Conditions{
				Users: policy.Users{None: true}, UserActions: []policy.UserAction{policy.RegisterSecurityInfo},
				Devices: &policy.DeviceFilter{Rule: `device.operatingSystem -eq "Windows"`},
			},
			Grant:   policy.Grant{Strength: "codes", Terms: []string{"house-rules"}},
			Session: policy.SessionControls{SignInFrequency: &policy.SignInFrequency{EveryTime: true}},
		},
		{
			Name: "No application", State: policy.Enabled,
			Conditions: policy.Conditions{Users: policy.Users{Guests: true}, Applications: []string{policy.None}},
			Grant:      policy.Grant{Strength: "Phishing-resistant MFA"},
			Session:    policy.SessionControls{SignInFrequency: &policy.SignInFrequency{Every: 48 * time.Hour}},
		},
		{
			Name: "Sessions", State: policy.Enabled,
			Conditions: policy.Conditions{Users: policy.Users{All: true}, Applications: []string{policy.All}},
			Session:    policy.SessionControls{Persistent: policy.AlwaysPersistent},
		},
	}
	for i, p := range want {
		if i >= len(got) || !reflect.DeepEqual(got[i], p) {
			t.Errorf("policy %q:\n got %+v\nwant %+v", p.Name, got[min(i, len(got)-1)], p)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d policies, want %d", len(got), len(want))
	}
}

func TestPolicyOf(t *testing.T) {
	for reason, tc := range map[string]struct {
		in   config.Policy
		want func(p policy.Policy) any
		is   any
	}{
		"what is excluded is taken out of all platforms": {
			config.Policy{ExcludePlatforms: []string{"ios"}}, func(p policy.Policy) any { return p.Conditions.Platforms }, []policy.Platform{policy.AllPlatforms},
		},
		"what is excluded is taken out of all locations": {
			config.Policy{ExcludeLocations: []string{"office"}}, func(p policy.Policy) any { return p.Conditions.Locations }, []string{policy.All},
		},
		"names of users are compared in one spelling": {
			config.Policy{Users: []string{"ALICE", "user:Ｂob"}}, func(p policy.Policy) any { return p.Conditions.Users.Users }, []string{"alice", "bob"},
		},
		"names of groups keep their colons": {
			config.Policy{Users: []string{"group:a:b"}}, func(p policy.Policy) any { return p.Conditions.Users.Groups }, []string{"a:b"},
		},
		"names of users keep their colons": {
			config.Policy{Users: []string{"user:group:b"}}, func(p policy.Policy) any { return p.Conditions.Users.Users }, []string{"group:b"},
		},
		"all of one control": {
			config.Policy{Grant: &config.Grant{AllOf: []string{"password_change"}}}, func(p policy.Policy) any { return p.Grant }, policy.Grant{PasswordChange: true},
		},
		"levels of risk": {
			config.Policy{SignInRisk: []string{"low", "none"}, UserRisk: []string{"medium", "high"}},
			func(p policy.Policy) any { return slices.Concat(p.Conditions.SignInRisk, p.Conditions.UserRisk) },
			[]policy.Risk{policy.LowRisk, policy.NoRisk, policy.MediumRisk, policy.HighRisk},
		},
	} {
		t.Run(reason, func(t *testing.T) {
			if got := tc.want(policyOf(&tc.in)); !reflect.DeepEqual(got, tc.is) {
				t.Fatalf("got %v, want %v", got, tc.is)
			}
		})
	}
}

// Each word that package config takes must stand for something.
func TestEveryWordHasAMeaning(t *testing.T) {
	check := func(what string, words []string, known func(word string) bool) {
		for _, word := range words {
			if !known(word) {
				t.Errorf("%s: %q has no meaning", what, word)
			}
		}
	}
	check("state", config.States, func(w string) bool { return states[w] != "" })
	check("user action", config.UserActions, func(w string) bool { return userActions[w] != "" })
	check("client app", config.ClientApps, func(w string) bool { return clientApps[w] != "" })
	check("platform", config.Platforms, func(w string) bool { return platforms[w] != "" })
	check("persistence", config.Persistences, func(w string) bool { return persistences[w] != "" })
	check("method", config.PerUserMFAMethods, func(w string) bool { return perUserMethods[w] != "" })
	check("strength", config.BuiltInStrengths, func(w string) bool { return strengths[w] != "" })
}

func TestStrengthsAreMadeOfTheWordsThatPolicyKnows(t *testing.T) {
	checked, known := slices.Sorted(slices.Values(config.AuthenticationMethodModes)), slices.Sorted(slices.Values(policy.Modes()))
	if !slices.Equal(checked, known) {
		t.Fatalf("package config takes %q, package policy %q", checked, known)
	}
}

func TestLooksAtAddresses(t *testing.T) {
	here := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for reason, tc := range map[string]struct {
		c     config.Config
		needs policy.Inputs
		want  string
	}{
		"nothing":                     {want: ""},
		"registration":                {c: config.Config{Registration: &config.Registration{From: here}}, want: "`registration`"},
		"a policy":                    {c: config.Config{Policies: []config.Policy{{Name: "A"}, {Name: "B", Locations: []string{"trusted"}}}}, want: `the policy "B"`},
		"a policy excludes a place":   {c: config.Config{Policies: []config.Policy{{Name: "B", ExcludeLocations: []string{"trusted"}}}}, want: `the policy "B"`},
		"the per-user setting":        {c: config.Config{PerUserMFA: &config.PerUserMFA{TrustedRanges: here}}, want: "`per_user_mfa`"},
		"per-user setting, no ranges": {c: config.Config{PerUserMFA: &config.PerUserMFA{}}, want: ""},
		"an imported policy":          {needs: policy.Inputs{Address: true}, want: "a policy of `policies import`"},
		"an imported policy that asks for the country": {needs: policy.Inputs{Country: true}, want: "a policy of `policies import`"},
	} {
		t.Run(reason, func(t *testing.T) {
			if got := looksAtAddresses(&tc.c, tc.needs); got != tc.want {
				t.Fatalf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestReadTerms(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	texts, err := readTerms(&config.Config{Terms: []config.Terms{{Name: "rules", Text: write("rules.md", "\ufeffBe kind.\n")}}})
	if err != nil || texts["rules"] != "Be kind.\n" {
		t.Fatalf("%q, %v", texts, err)
	}
	_, err = readTerms(&config.Config{Terms: []config.Terms{
		{Name: "missing", Text: filepath.Join(dir, "nothing.md")},
		{Name: "empty", Text: write("empty.md", " \n")},
		{Name: "binary", Text: write("binary.md", "\xff\xfe")},
		{Name: "long", Text: write("long.md", strings.Repeat("x", maxTerms+1))},
	}})
	if err == nil {
		t.Fatal("texts that can't be read are taken")
	}
	for _, says := range []string{`terms "missing": open ` + dir, `terms "empty"`, "nobody can accept nothing", `terms "binary"`, "not UTF-8", `terms "long"`, "longer than 256 KiB"} {
		if !strings.Contains(err.Error(), says) {
			t.Errorf("%q is missing in:\n%v", says, err)
		}
	}
}

// FuzzPolicies writes anything between the braces of the option. What is taken comes back equal from JSON, is still right then, and
// means something in every word. With coverage of all of Caddy it hardly moves: build it with `go test -c`, and run that with
// -test.fuzz and -test.fuzzcachedir.
func FuzzPolicies(f *testing.F) {
	files, err := filepath.Glob("testdata/adapt/*polic*.caddyfiletest")
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		input, _, _ := strings.Cut(string(raw), separator)
		_, options, _ := strings.Cut(input, "users file users.yaml\n")
		options, _, _ = strings.Cut(options, "\n\t}\n}")
		f.Add(options)
	}
	f.Fuzz(func(t *testing.T, options string) {
		tokens, err := caddyfile.Tokenize([]byte("mfa {\nusers file users.yaml\n"+options+"\n}\n"), "Caddyfile")
		if err != nil {
			return
		}
		value, err := parseGlobalOption(caddyfile.NewDispenser(tokens), nil)
		if err != nil {
			return
		}
		out := value.(httpcaddyfile.App).Value
		c := &config.Config{}
		if err := json.Unmarshal(out, c); err != nil {
			t.Fatalf("what was written is not read: %v\n%s", err, out)
		}
		if err := append(c.Validate(), checkPolicies(c)...).Err(); err != nil {
			t.Fatalf("what was taken is wrong in JSON: %v\n%s", err, out)
		}
		for _, p := range policiesOf(c) {
			cond := p.Conditions
			if p.Name == "" || p.State == "" || cond.Users.Empty() || len(cond.Applications)+len(cond.UserActions) == 0 || p.Grant.Empty() && p.Session == (policy.SessionControls{}) ||
				slices.Contains(cond.UserActions, "") || slices.Contains(cond.ClientApps, "") || slices.Contains(cond.Platforms, "") || slices.Contains(cond.ExcludePlatforms, "") {
				t.Fatalf("%+v\n%s", p, out)
			}
			if p.State == policy.Enabled && !c.SecurityDefaults.Off {
				t.Fatalf("the policy %q is enabled beside security defaults", p.Name)
			}
		}
	})
}
