package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// estate has two applications, an administrator, and one other user who is in the group Staff.
func estate() Estate {
	return Estate{
		Now: now, Applications: []string{"hr", "wiki"},
		Users: []*mfa.User{
			{ID: mfa.UserID{Directory: "file", ID: "root"}, Name: "Root", Canonical: "root", Roles: []string{"Global Administrator"}},
			{ID: mfa.UserID{Directory: "file", ID: "alice"}, Name: "alice", Canonical: "alice", Groups: []string{"Staff", "Breakglass"}},
		},
	}
}

// sound is a policy that nothing is wrong with.
func sound(name string, change func(*Policy)) Policy {
	return named(name, func(p *Policy) {
		p.Conditions.ExcludeUsers = Users{Groups: []string{"breakglass"}}
		if change != nil {
			change(p)
		}
	})
}

func TestLintOfOnePolicy(t *testing.T) {
	block := func(p *Policy) { p.Grant = Grant{Block: true} }
	for reason, tc := range map[string]struct {
		change func(*Policy)
		want   string // kinds, and a part of the sentence behind a colon
	}{
		"nothing is wrong":  {nil, ""},
		"it is disabled":    {func(p *Policy) { p.State, p.Conditions.Users = Disabled, Users{None: true} }, ""},
		"no users":          {func(p *Policy) { p.Conditions.Users = Users{None: true} }, "policy_never_applies:users all"},
		"a group of nobody": {func(p *Policy) { p.Conditions.Users = Users{Groups: []string{"Robots"}} }, "unknown_name:Robots policy_never_applies:none of the users"},
		"a user, a group and a role of nobody": {
			func(p *Policy) {
				p.Conditions.ExcludeUsers = Users{Users: []string{"bob"}, Groups: []string{"brakeglass"}, Roles: []string{"Admin"}}
			},
			"unknown_name:bob unknown_name:brakeglass unknown_name:Admin",
		},
		"everybody whom it selects is excluded": {
			func(p *Policy) { p.Conditions.Users = Users{Groups: []string{"Staff"}} }, "policy_never_applies:excludes",
		},
		"guests may come":                 {func(p *Policy) { p.Conditions.Users = Users{Guests: true} }, ""},
		"no application":                  {func(p *Policy) { p.Conditions.Applications = []string{None} }, "policy_never_applies:guards no application"},
		"an application that no site has": {func(p *Policy) { p.Conditions.Applications = []string{"crm"} }, "unknown_name:crm policy_never_applies:hr, wiki"},
		"one of two that no site has":     {func(p *Policy) { p.Conditions.Applications = []string{"crm", "hr"} }, "unknown_name:crm"},
		"its application is excluded": {func(p *Policy) {
			p.Conditions.Applications, p.Conditions.ExcludeApplications = []string{"hr"}, []string{"hr"}
		}, "policy_never_applies:exclude_applications"},
		"a user action": {func(p *Policy) {
			p.Conditions.Applications, p.Conditions.UserActions = nil, []UserAction{RegisterSecurityInfo}
		}, ""},
		"its platforms are excluded": {func(p *Policy) {
			p.Conditions.Platforms, p.Conditions.ExcludePlatforms = []Platform{IOS}, []Platform{IOS, Android}
		}, "policy_never_applies:exclude_platforms"},
		"all platforms": {func(p *Policy) { p.Conditions.Platforms = []Platform{AllPlatforms} }, ""},
		"a platform":    {func(p *Policy) { p.Conditions.Platforms = []Platform{IOS} }, "platform_is_not_verified:iOS"},
		"all platforms but one": {func(p *Policy) {
			p.Conditions.Platforms, p.Conditions.ExcludePlatforms = []Platform{AllPlatforms}, []Platform{Linux}
		}, "platform_is_not_verified:not apply to clients that say that they run linux"},
		"a platform, to end sessions sooner": {func(p *Policy) {
			p.Conditions.Platforms, p.Grant, p.Session.Persistent = []Platform{IOS}, Grant{}, NeverPersistent
		}, ""},
		"its place is excluded": {func(p *Policy) {
			p.Conditions.Locations, p.Conditions.ExcludeLocations = []string{"partner"}, []string{"partner"}
		}, "policy_never_applies:every place"},
		"its place is trusted and excluded": {func(p *Policy) {
			p.Conditions.Locations, p.Conditions.ExcludeLocations = []string{"office"}, []string{AllTrusted}
		}, "policy_never_applies:every place"},
		"one of its places is not excluded": {func(p *Policy) {
			p.Conditions.Locations, p.Conditions.ExcludeLocations = []string{"office", "partner"}, []string{AllTrusted}
		}, ""},
		"everywhere but trusted places": {func(p *Policy) {
			p.Conditions.Locations, p.Conditions.ExcludeLocations = []string{All}, []string{AllTrusted}
		}, ""},
		"programs alone": {func(p *Policy) { p.Conditions.ClientApps = []ClientApp{MobileAndDesktop} }, "policy_rarely_applies:browser"},
		"a block for all": {func(p *Policy) {
			block(p)
			p.Conditions.ExcludeUsers = Users{}
			p.Conditions.Locations = []string{"partner"}
		}, "block_without_exclusion:exclude_users"},
		"a block for all but one group": {func(p *Policy) { block(p); p.Conditions.Locations = []string{"partner"} }, ""},
		"legacy clients are blocked for all": {func(p *Policy) {
			block(p)
			p.Conditions.ExcludeUsers = Users{}
			p.Conditions.ClientApps = []ClientApp{ExchangeActiveSync, OtherClients}
		}, ""},
	} {
		t.Run(reason, func(t *testing.T) {
			set := of(ca(sound("policy", tc.change), sound("for everything", nil)))
			wantFindings(t, set.Lint(estate()), tc.want)
		})
	}
}

// wantFindings compares kinds, and a part of each sentence; underscores stand for spaces inside a part that the list is cut at.
func wantFindings(t *testing.T, findings []Finding, want string) {
	t.Helper()
	rest := want
	for _, f := range findings {
		if f.Kind == LintLegacyExcluded {
			continue // most sets here exclude somebody; it has a test of its own
		}
		kind, found := strings.CutPrefix(rest, string(f.Kind)+":")
		if !found {
			t.Fatalf("%+v; want %q", f, rest)
		}
		part := kind
		rest = ""
		for i := range kind { // up to the next kind
			if next := kind[i:]; strings.HasPrefix(next, " ") && slices.ContainsFunc(kinds, func(k Kind) bool { return strings.HasPrefix(next[1:], string(k)+":") }) {
				part, rest = kind[:i], next[1:]
				break
			}
		}
		if !strings.Contains(f.Sentence, part) {
			t.Errorf("%s: %s\nwant something about %q", f.Kind, f.Sentence, part)
		}
	}
	if rest != "" {
		t.Errorf("not found: %s in %+v", rest, findings)
	}
}

var kinds = []Kind{
	LintStrength, LintUnreached, LintNever, LintRarely, LintUnknownName, LintLockedOut, LintBlockEverybody, LintPlatform, LintAdministrators, LintEmptyLocation,
}

func TestLintOfEverythingTogether(t *testing.T) {
	own := func(of string) func(*Estate) {
		return func(e *Estate) {
			e.PerUser = func(id mfa.UserID) mfa.PerUserState {
				if id.ID == of {
					return mfa.PerUserEnforced
				}
				return ""
			}
		}
	}
	perUser := func(m Model) Model { m.PerUser.On = true; return m }
	forRoot := func(p *Policy) { p.Conditions.Users = Users{Roles: []string{"Global Administrator"}} }
	blockRoot := sound("no administrators", func(p *Policy) { forRoot(p); p.Grant = Grant{Block: true} })
	for reason, tc := range map[string]struct {
		model  Model
		change func(*Estate)
		want   string
	}{
		"security defaults":            {Model{}, nil, ""},
		"nothing":                      {ca(), nil, `application_without_policy:"hr" application_without_policy:"wiki"`},
		"a policy for one application": {ca(sound("hr", func(p *Policy) { p.Conditions.Applications = []string{"hr"} })), nil, `application_without_policy:"wiki"`},
		"policies for other clients than browsers": {
			ca(sound("legacy", func(p *Policy) {
				p.Conditions.ClientApps, p.Grant = []ClientApp{ExchangeActiveSync, OtherClients}, Grant{Block: true}
			}), sound("tokens", func(p *Policy) { p.Conditions.ClientApps = []ClientApp{MobileAndDesktop} })), nil,
			`policy_rarely_applies:browser application_without_policy:"hr" application_without_policy:"wiki"`,
		},
		"a policy for browsers":      {ca(sound("all", func(p *Policy) { p.Conditions.ClientApps = []ClientApp{Browser, OtherClients} })), nil, ""},
		"a policy in report-only":    {ca(sound("all", func(p *Policy) { p.State = ReportOnly })), nil, `application_without_policy:"hr" application_without_policy:"wiki"`},
		"the per-user setting":       {perUser(ca()), nil, ""},
		"administrators are blocked": {ca(blockRoot), nil, `administrators_locked_out:"no administrators"`},
		"outside of the office alone": {ca(sound("office", func(p *Policy) {
			p.Grant = Grant{Block: true}
			p.Conditions.Locations, p.Conditions.ExcludeLocations = []string{All}, []string{"office"}
		})), nil, ""},
		"outside of a country alone": {ca(sound("country", func(p *Policy) {
			p.Grant = Grant{Block: true}
			p.Conditions.Locations, p.Conditions.ExcludeLocations = []string{All}, []string{"benelux"}
		})), nil, ""},
		"in report-only": {ca(sound("all", nil), func() Policy { p := blockRoot; p.State = ReportOnly; return p }()), nil, ""},
		"one administrator of two gets in": {ca(sound("all", nil), blockRoot), func(e *Estate) {
			e.Users = append(e.Users, &mfa.User{Canonical: "second", Name: "second", Roles: []string{"Helpdesk"}})
		}, ""},
		"nobody can prove as much": {ca(sound("keys", func(p *Policy) { p.Grant = Grant{Strength: PhishingResistantStrength} })), nil, `strength_out_of_reach:Phishing-resistant administrators_locked_out:whatever he proves (policies "keys")`},
		"a certificate that nobody takes here": {func() Model {
			m := ca(sound("all", nil), sound("smart cards", func(p *Policy) {
				p.Conditions.Users, p.Grant = Users{Groups: []string{"Staff"}}, Grant{Strength: "cards"}
			}))
			m.Strengths = append(slices.Clone(m.Strengths), Strength{Name: "cards", Combinations: []string{"x509CertificateMultiFactor", "hardwareOath,password"}})
			m.Policies[1].Conditions.ExcludeUsers = Users{}
			return m
		}(), nil, `strength_out_of_reach:"cards"`},
		"a certificate, or a device": {func() Model {
			m := ca(sound("all", nil), sound("smart cards", func(p *Policy) { p.Grant = Grant{Any: true, Strength: "cards", CompliantDevice: true} }))
			m.Strengths = append(slices.Clone(m.Strengths), Strength{Name: "cards", Combinations: []string{"x509CertificateMultiFactor"}})
			return m
		}(), nil, "administrators_locked_out:without a device"},
		"text messages, which can be sent": {func() Model {
			m := ca(sound("all", func(p *Policy) { p.Grant = Grant{Strength: "sms"} }))
			m.Registrable, m.Sent = []mfa.Method{mfa.TOTP, mfa.SMS}, []mfa.Method{mfa.SMS}
			m.Strengths = append(slices.Clone(m.Strengths), Strength{Name: "sms", Combinations: []string{"password,sms"}})
			return m
		}(), nil, ""},
		"a device is needed everywhere":        {ca(sound("device", func(p *Policy) { p.Grant = Grant{CompliantDevice: true} })), nil, `administrators_locked_out:without a device`},
		"an administrator without a setting":   {perUser(ca()), own("alice"), "administrators_without_mfa:Root holds the role Global Administrator, and gets into hr, wiki"},
		"an administrator with a setting":      {perUser(ca()), own("root"), ""},
		"an administrator whom a policy names": {perUser(ca(sound("administrators", forRoot))), own("alice"), ""},
		"at the office nobody is asked":        {func() Model { m := perUser(ca()); m.PerUser.TrustedRanges = office.Ranges; return m }(), own("root"), ""},
		"directories that list nobody":         {ca(blockRoot, sound("all", nil)), func(e *Estate) { e.Users = nil }, ""},
		"a place that is nowhere": {func() Model {
			m := ca(sound("all", nil))
			m.Locations = append(slices.Clone(m.Locations), NamedLocation{Name: "moon"})
			return m
		}(), nil, `location_is_nowhere:"moon"`},
	} {
		t.Run(reason, func(t *testing.T) {
			e := estate()
			if tc.change != nil {
				tc.change(&e)
			}
			wantFindings(t, of(tc.model).Lint(e), tc.want)
		})
	}
}

func TestLintKnowsRolesThatNobodyHolds(t *testing.T) {
	p := sound("administrators", func(p *Policy) {
		p.Conditions.Users = Users{All: true, Roles: []string{"User Administrator", "Use Administrator"}, Groups: []string{"User Administrator"}}
	})
	e := estate()
	e.KnownRole = func(name string) bool { return name == "User Administrator" }
	wantFindings(t, of(ca(p)).Lint(e), `unknown_name:in the group "User Administrator" unknown_name:has the role "Use Administrator";`)
}

// TestWhatCanNeverApplyNeverDoes holds one finding against decisions.
func TestWhatCanNeverApplyNeverDoes(t *testing.T) {
	found := 0
	cases(t, func(d dice) error {
		m := d.model()
		set := of(m)
		e := Estate{Now: now, Applications: []string{"hr", "wiki", "crm", "ACTION"}}
		never := map[string]bool{}
		for _, f := range set.Lint(e) {
			if f.Kind == LintNever {
				never[f.Policy] = true
				found++
			}
		}
		f := d.facts()
		f.Blocked, f.User.Disabled, f.Proofs = false, false, proofs(mfa.Password)
		_, results := set.Explain(f)
		_, byAction := set.ExplainAction(f, RegisterSecurityInfo)
		for _, r := range slices.Concat(results, byAction) {
			if r.Applies && never[r.Policy.Name] && r.Unmet == "" {
				return fmt.Errorf("%+v applies to %+v", r.Policy, f)
			}
		}
		return nil
	})
	if found < 100 {
		t.Errorf("only %d policies could never apply: the cases show little", found)
	}
}

func TestLintOfExclusionsThatLegacyClientsTell(t *testing.T) {
	blockLegacy := func(p *Policy) {
		p.Grant = Grant{Block: true}
		p.Conditions.ExcludeUsers, p.Conditions.ClientApps = Users{}, []ClientApp{ExchangeActiveSync, OtherClients}
	}
	for reason, c := range map[string]struct {
		policies []Policy
		change   func(*Model)
		want     bool
	}{
		"somebody is excluded, everywhere": {[]Policy{sound("one", nil)}, nil, true},
		"nobody is":                        {[]Policy{sound("one", func(p *Policy) { p.Conditions.ExcludeUsers = Users{} })}, nil, false},
		"another refuses them all":         {[]Policy{sound("one", nil), sound("two", blockLegacy)}, nil, false},
		"another refuses them outside": {[]Policy{sound("one", nil), sound("two", func(p *Policy) {
			blockLegacy(p)
			p.Conditions.Locations, p.Conditions.ExcludeLocations = []string{All}, []string{"office"}
		})}, nil, false},
		"another refuses one kind":           {[]Policy{sound("one", nil), sound("two", func(p *Policy) { blockLegacy(p); p.Conditions.ClientApps = []ClientApp{OtherClients} })}, nil, true},
		"it is for browsers":                 {[]Policy{sound("one", func(p *Policy) { p.Conditions.ClientApps = []ClientApp{Browser} })}, nil, false},
		"it only reports":                    {[]Policy{sound("one", func(p *Policy) { p.State = ReportOnly })}, nil, false},
		"it is for a place":                  {[]Policy{sound("one", func(p *Policy) { p.Conditions.Locations = []string{"partner"} })}, nil, false},
		"security defaults refuse everybody": {[]Policy{sound("one", func(p *Policy) { p.State = ReportOnly })}, func(m *Model) { m.Defaults.Off = false }, false},
	} {
		t.Run(reason, func(t *testing.T) {
			m := ca(c.policies...)
			if c.change != nil {
				c.change(&m)
			}
			findings := of(m).Lint(estate())
			if got := slices.ContainsFunc(findings, func(f Finding) bool { return f.Kind == LintLegacyExcluded }); got != c.want {
				t.Errorf("%v: %+v", got, findings)
			}
		})
	}
}
