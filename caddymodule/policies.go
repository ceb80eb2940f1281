package caddymodule

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/caddy-mfa/caddy-mfa/config"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
	"github.com/caddy-mfa/caddy-mfa/internal/policy/filter"
)

// policies gives the policies that are written in the configuration, in their order, as package policy knows them. It doesn't read
// those of policy_imports. The configuration must be valid.
func (a *App) policies() []policy.Policy { return policiesOf(&a.Config) }

// looksAtAddresses names what of the configuration depends on where a client is, or nothing.
func looksAtAddresses(c *config.Config, needs policy.Inputs) string {
	if c.Registration != nil && len(c.Registration.From) > 0 {
		return "`registration`"
	}
	for _, p := range c.Policies {
		if len(p.Locations)+len(p.ExcludeLocations) > 0 {
			return fmt.Sprintf("the policy %q", p.Name)
		}
	}
	if c.PerUserMFA != nil && len(c.PerUserMFA.TrustedRanges) > 0 {
		return "`per_user_mfa`"
	}
	if needs.Address || needs.Country {
		return "a policy of `policies import`"
	}
	return ""
}

// maxTerms is the length of the longest text of terms of use, in bytes.
const maxTerms = 256 << 10

// readTerms gives the texts of the terms of use by their names. It reports every file that can't be read.
func readTerms(c *config.Config) (map[string]string, error) {
	texts := map[string]string{}
	var mistakes []error
	for _, t := range c.Terms {
		text, err := readText(t.Text)
		if err != nil {
			mistakes = append(mistakes, fmt.Errorf("reading terms %q: %w", t.Name, err))
		}
		texts[t.Name] = text
	}
	return texts, errors.Join(mistakes...)
}

func readText(path string) (string, error) {
	if absolute, err := filepath.Abs(path); err == nil {
		path = absolute // who runs `caddy-mfa` from another folder must see where it was looked for
	}
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	raw, err := io.ReadAll(io.LimitReader(file, maxTerms+1))
	switch {
	case err != nil:
		return "", err
	case len(raw) > maxTerms:
		return "", fmt.Errorf("%s: the text is longer than %d KiB", path, maxTerms>>10)
	case !utf8.Valid(raw):
		return "", fmt.Errorf("%s: the text is not UTF-8", path)
	}
	text := strings.TrimPrefix(string(raw), "\ufeff")
	if strings.TrimSpace(text) == "" {
		return "", fmt.Errorf("%s: there is no text; nobody can accept nothing", path)
	}
	return text, nil
}

func policiesOf(c *config.Config) []policy.Policy {
	policies := make([]policy.Policy, len(c.Policies))
	for i := range c.Policies {
		policies[i] = policyOf(&c.Policies[i])
	}
	return policies
}

// checkPolicies finds the mistakes that package config can't, since it knows neither people's names nor rules about devices.
func checkPolicies(c *config.Config) (problems config.Problems) {
	for i := range c.Policies {
		p := &c.Policies[i]
		for _, list := range []struct {
			field string
			words []string
		}{{"users", p.Users}, {"exclude_users", p.ExcludeUsers}} {
			_, bad := usersOf(list.words)
			for _, b := range bad {
				problems = append(problems, config.Problem{Field: fmt.Sprintf("policies[%d].%s", i, list.field), Message: b})
			}
		}
		if d := p.Devices; d != nil {
			problems = append(problems, checkRule(fmt.Sprintf("policies[%d].devices", i), d.Include+d.Exclude, filter.DeviceAttributes)...)
		}
	}
	problems = append(problems, checkRule("device_rules.compliant", c.DeviceRules.Compliant, filter.CertificateAttributes)...)
	return append(problems, checkRule("device_rules.domain_joined", c.DeviceRules.DomainJoined, filter.CertificateAttributes)...)
}

// checkRule finds the mistakes in a rule, unless there is none.
func checkRule(field, rule string, attributes []filter.Attribute) (problems config.Problems) {
	if rule == "" {
		return nil
	}
	_, err := filter.Parse(rule, attributes)
	if err == nil {
		return nil
	}
	mistakes := filter.Problems{err}
	errors.As(err, &mistakes)
	for _, m := range mistakes {
		problems = append(problems, config.Problem{Field: field, Message: "in the rule, " + m.Error()})
	}
	return problems
}

// The words of the Caddyfile, and what package policy calls the same.
var (
	states = map[string]policy.State{
		config.StateEnabled: policy.Enabled, config.StateDisabled: policy.Disabled, config.StateReportOnly: policy.ReportOnly,
	}
	userActions = map[string]policy.UserAction{"register_security_info": policy.RegisterSecurityInfo}
	clientApps  = map[string]policy.ClientApp{
		"browser": policy.Browser, "mobile_and_desktop": policy.MobileAndDesktop, "exchange_active_sync": policy.ExchangeActiveSync, "other": policy.OtherClients,
	}
	platforms = map[string]policy.Platform{
		"all": policy.AllPlatforms, "android": policy.Android, "ios": policy.IOS, "windows": policy.Windows, "windows_phone": policy.WindowsPhone,
		"macos": policy.MacOS, "linux": policy.Linux,
	}
	risks        = map[string]policy.Risk{"low": policy.LowRisk, "medium": policy.MediumRisk, "high": policy.HighRisk, "none": policy.NoRisk}
	persistences = map[string]policy.Persistence{"always": policy.AlwaysPersistent, "never": policy.NeverPersistent}

	strengths = map[string]string{
		"mfa": policy.MFAStrength, "passwordless": policy.PasswordlessStrength, "phishing_resistant": policy.PhishingResistantStrength,
	}
	perUserMethods = map[string]mfa.Method{"totp": mfa.TOTP, "webauthn": mfa.Passkey, "push": mfa.Push, "sms": mfa.SMS, "voice": mfa.Voice, "email": mfa.Email, "recovery_codes": mfa.RecoveryCode}

	selectors = map[string]string{"all": policy.All, "none": policy.None}
	places    = map[string]string{"all": policy.All, "trusted": policy.AllTrusted}
)

// policyOf gives a policy as package policy knows it.
func policyOf(p *config.Policy) policy.Policy {
	out := policy.Policy{Name: p.Name, State: states[p.State]}
	c := &out.Conditions
	c.Users, _ = usersOf(p.Users)
	c.ExcludeUsers, _ = usersOf(p.ExcludeUsers)
	c.Applications, c.ExcludeApplications = renamed(p.Applications, selectors), renamed(p.ExcludeApplications, nil)
	if p.UserAction != "" {
		c.UserActions = []policy.UserAction{userActions[p.UserAction]}
	}
	if !slices.Equal(p.ClientApps, []string{"all"}) {
		c.ClientApps = translated(p.ClientApps, clientApps)
	}
	c.Platforms, c.ExcludePlatforms = translated(p.Platforms, platforms), translated(p.ExcludePlatforms, platforms)
	if c.Platforms == nil && c.ExcludePlatforms != nil {
		c.Platforms = []policy.Platform{policy.AllPlatforms} // Entra takes things out of something
	}
	c.Locations, c.ExcludeLocations = renamed(p.Locations, places), renamed(p.ExcludeLocations, places)
	if c.Locations == nil && c.ExcludeLocations != nil {
		c.Locations = []string{policy.All}
	}
	c.SignInRisk, c.UserRisk = translated(p.SignInRisk, risks), translated(p.UserRisk, risks)
	if d := p.Devices; d != nil {
		c.Devices = &policy.DeviceFilter{Exclude: d.Exclude != "", Rule: d.Include + d.Exclude}
	}
	if p.Grant != nil {
		out.Grant = grantOf(p.Grant)
	}
	if f := p.SignInFrequency; f != nil {
		out.Session.SignInFrequency = &policy.SignInFrequency{Every: time.Duration(f.Every), EveryTime: f.EveryTime, SecondaryOnly: f.Secondary}
	}
	out.Session.Persistent = persistences[p.PersistentBrowser]
	return out
}

func grantOf(g *config.Grant) policy.Grant {
	out := policy.Grant{Block: g.Block, Any: len(g.AnyOf) > 0}
	for _, control := range g.Controls() {
		switch kind, name, _ := strings.Cut(control, ":"); kind {
		case "mfa":
			out.MFA = true
		case "strength":
			out.Strength = name
			if long, ok := strengths[name]; ok {
				out.Strength = long
			}
		case "compliant_device":
			out.CompliantDevice = true
		case "domain_joined_device":
			out.DomainJoinedDevice = true
		case "password_change":
			out.PasswordChange = true
		case "terms":
			out.Terms = append(out.Terms, name)
		}
	}
	return out
}

// usersOf gives whom the words select, and what is wrong with those that select nobody.
func usersOf(words []string) (users policy.Users, bad []string) {
	for _, word := range words {
		kind, name, found := strings.Cut(word, ":")
		switch {
		case word == "all":
			users.All = true
		case word == "none":
			users.None = true
		case word == "guests":
			users.Guests = true
		case found && kind == "group":
			users.Groups = append(users.Groups, name)
		case found && kind == "role":
			users.Roles = append(users.Roles, name)
		case found && (kind != "user" || name == ""):
			// Package config says so.
		default:
			canonical, err := mfa.CanonicalName(strings.TrimPrefix(word, "user:"))
			if err != nil {
				bad = append(bad, fmt.Sprintf("%q can't be a user's name; want it as it stands in the directory, for example alice", word))
				continue
			}
			users.Users = append(users.Users, canonical)
		}
	}
	return users, bad
}

// translated gives what the words stand for.
func translated[T any](words []string, meaning map[string]T) []T {
	if len(words) == 0 {
		return nil
	}
	out := make([]T, len(words))
	for i, word := range words {
		out[i] = meaning[word]
	}
	return out
}

// renamed gives the names, with those words replaced that stand for something else.
func renamed(names []string, meaning map[string]string) []string {
	out := slices.Clone(names)
	for i, name := range out {
		if word, ok := meaning[name]; ok {
			out[i] = word
		}
	}
	return out
}
