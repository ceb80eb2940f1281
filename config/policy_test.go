package config

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// valid is the least that a policy says.
func valid() Config {
	return Config{
		Users: []Directory{{File: &FileDirectory{Path: "users.yaml"}}}, SecurityDefaults: SecurityDefaults{Off: true},
		Policies: []Policy{{Name: "A", State: StateEnabled, Users: []string{"all"}, Applications: []string{"all"}, Grant: &Grant{AllOf: []string{"mfa"}}}},
	}
}

// TestPolicyMistakesInJSON holds what a Caddyfile can't say; what it can stands in caddymodule/testdata.
func TestPolicyMistakesInJSON(t *testing.T) {
	c := valid()
	if err := c.Validate().Err(); err != nil {
		t.Fatalf("the least that can be said is refused: %v", err)
	}
	office := netip.MustParsePrefix("10.0.0.0/8")
	for reason, tc := range map[string]struct {
		change      func(c *Config, p *Policy)
		field, says string
	}{
		"all and any": {
			func(_ *Config, p *Policy) {
				p.Grant = &Grant{AllOf: []string{"mfa"}, AnyOf: []string{"compliant_device"}}
			},
			"policies[0].grant", "in `all_of` and in `any_of`",
		},
		"a grant without a control": {func(_ *Config, p *Policy) { p.Grant = &Grant{} }, "policies[0].grant", "there is no control"},
		"block beside a control": {
			func(_ *Config, p *Policy) { p.Grant = &Grant{Block: true, AllOf: []string{"mfa"}} }, "policies[0].grant", "`block` stands alone",
		},
		"block among the controls": {func(_ *Config, p *Policy) { p.Grant = &Grant{AllOf: []string{"block"}} }, "policies[0].grant", `no control "block"`},
		"strength without a name":  {func(_ *Config, p *Policy) { p.Grant = &Grant{AllOf: []string{"strength:"}} }, "policies[0].grant", `no strength ""`},
		"strength without a colon": {func(_ *Config, p *Policy) { p.Grant = &Grant{AllOf: []string{"strength"}} }, "policies[0].grant", `no control "strength"`},
		"devices that are both": {
			func(_ *Config, p *Policy) { p.Devices = &DeviceFilter{Include: "x", Exclude: "y"} }, "policies[0].devices", "to include or to exclude",
		},
		"devices that are neither": {func(_ *Config, p *Policy) { p.Devices = &DeviceFilter{} }, "policies[0].devices", "to include or to exclude"},
		"a frequency that is both": {
			func(_ *Config, p *Policy) {
				p.SignInFrequency = &SignInFrequency{Every: Duration(time.Hour), EveryTime: true}
			}, "policies[0].sign_in_frequency", "a time and every time",
		},
		"a frequency that is neither": {
			func(_ *Config, p *Policy) { p.SignInFrequency = &SignInFrequency{} }, "policies[0].sign_in_frequency", "0 can't be a sign-in frequency",
		},
		"a name of two lines":         {func(_ *Config, p *Policy) { p.Name = "A\nB" }, "policies[0]", "can't name a policy"},
		"a name with space around it": {func(_ *Config, p *Policy) { p.Name = " A" }, "policies[0]", "can't name a policy"},
		"a name that is too long":     {func(_ *Config, p *Policy) { p.Name = strings.Repeat("x", MaxName+1) }, "policies[0]", "can't name a policy"},
		"a name that is not UTF-8":    {func(_ *Config, p *Policy) { p.Name = "\xff" }, "policies[0]", "can't name a policy"},
		"no user":                     {func(_ *Config, p *Policy) { p.Users = []string{""} }, "policies[0].users[0]", "names nobody"},
		"everybody, as Graph says it": {func(_ *Config, p *Policy) { p.Users = []string{"All"} }, "policies[0].users[0]", "did you mean `all`"},
		"a place, as Graph says it":   {func(_ *Config, p *Policy) { p.Locations = []string{"AllTrusted"} }, "policies[0].locations[0]", "no named location"},
		"a risk of a disabled policy": {func(_ *Config, p *Policy) { p.State, p.SignInRisk = StateDisabled, []string{"high"} }, "policies[0].sign_in_risk", "no detection of risk"},
		"an import of nothing":        {func(c *Config, _ *Policy) { c.PolicyImports = []PolicyImport{{}} }, "policy_imports[0]", "it names no file"},
		"an address range of nothing": {func(c *Config, _ *Policy) { c.PerUserMFA = &PerUserMFA{TrustedRanges: make([]netip.Prefix, 1)} }, "per_user_mfa.trusted_ranges[0]", "no address range"},
		"a range with bits behind it": {func(c *Config, _ *Policy) {
			c.Registration = &Registration{From: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/8")}}
		}, "registration.from[0]", "did you mean 10.0.0.0/8?"},
		"a range in a dress": {func(c *Config, _ *Policy) {
			c.Registration = &Registration{From: []netip.Prefix{netip.MustParsePrefix("::ffff:10.0.0.0/104")}}
		}, "registration.from[0]", "did you mean 10.0.0.0/8?"},
		"unknown countries, trusted": {func(c *Config, _ *Policy) {
			c.NamedLocations = []NamedLocation{{Name: "x", IncludeUnknown: true, Trusted: true}}
		}, "named_locations[0].trusted", "only ranges can be trusted"},
		"ranges and unknown countries": {func(c *Config, _ *Policy) {
			c.NamedLocations = []NamedLocation{{Name: "x", IncludeUnknown: true, Ranges: []netip.Prefix{office}}}
		}, "named_locations[0]", "of ranges and of countries"},
		"unknown countries alone": {func(c *Config, _ *Policy) { c.NamedLocations = []NamedLocation{{Name: "x", IncludeUnknown: true}} }, "named_locations[0]", "is nowhere"},
		"a negative version":      {func(c *Config, _ *Policy) { c.Terms = []Terms{{Name: "x", Version: -1, Text: "x.md"}} }, "terms[0].version", "no version of at least 1"},
	} {
		t.Run(reason, func(t *testing.T) {
			c := valid()
			tc.change(&c, &c.Policies[0])
			for _, p := range c.Validate() {
				if p.Field == tc.field && strings.Contains(p.Message, tc.says) {
					return
				}
			}
			t.Fatalf("it says %v, want %s: …%s…", c.Validate(), tc.field, tc.says)
		})
	}
}

func TestPoliciesComeBackEqual(t *testing.T) {
	in := `{"users":[{"file":{"path":"users.yaml"}}],"security_defaults":{"off":true},` +
		`"policies":[{"name":"A","state":"enabled","users":["all"],"exclude_users":["group:b"],"applications":["all"],"exclude_applications":["hr"],` +
		`"client_apps":["browser"],"platforms":["all"],"exclude_platforms":["ios"],"locations":["office"],"exclude_locations":["trusted"],` +
		`"devices":{"exclude":"device.isCompliant -eq True"},"grant":{"any_of":["mfa","terms:rules"]},"sign_in_frequency":{"every":"1d12h","secondary":true},"persistent_browser":"never"},` +
		`{"name":"B","state":"disabled","users":["none"],"user_action":"register_security_info","grant":{"block":true},"sign_in_frequency":{"every_time":true}}],` +
		`"policy_imports":[{"files":["policies/*.json"],"names":"names.yaml","allow_partial":true}],` +
		`"named_locations":[{"name":"office","ranges":["10.0.0.0/8","2001:db8::/32"],"trusted":true},{"name":"home","countries":["NL"],"include_unknown":true}],"geoip":"countries.mmdb",` +
		`"strengths":[{"name":"app","combinations":["password,softwareOath"]}],"device_rules":{"compliant":"x","domain_joined":"y"},` +
		`"terms":[{"name":"rules","version":2,"text":"rules.md"}],"per_user_mfa":{"trusted_ranges":["10.0.0.0/8"],"methods":["totp"],"registration_grace":"14d"}}`
	var c Config
	d := json.NewDecoder(strings.NewReader(in))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		t.Fatal(err)
	}
	if err := c.Validate().Err(); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(c)
	if err != nil || string(out) != in {
		t.Fatalf("%v\n got %s\nwant %s", err, out, in)
	}
}

// Countries that the databases know, and some that are no country any more or never were one.
func TestCountries(t *testing.T) {
	for code, want := range map[string]bool{
		"NL": true, "GB": true, "US": true, "XK": true, "BQ": true, "SS": true, "AQ": true, "AX": true, "TL": true,
		"UK": false, "EU": false, "AP": false, "A1": false, "ZZ": false, "XX": false, "T1": false, "UN": false, "SU": false, "YU": false, "DD": false, "TP": false, "nl": false, "NLD": false, "": false, "N": false,
	} {
		var ps Problems
		checkCountry(&ps, "countries[0]", code)
		if (len(ps) == 0) != want {
			t.Errorf("%q: %v", code, ps)
		}
	}
}
