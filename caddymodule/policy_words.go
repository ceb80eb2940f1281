package caddymodule

import (
	"slices"
	"strings"

	"github.com/caddy-mfa/caddy-mfa/config"
	"github.com/caddy-mfa/caddy-mfa/internal/policy"
)

// writtenPolicy gives a policy in the words of the configuration: the opposite of policyOf.
func writtenPolicy(p *policy.Policy) config.Policy {
	c := &p.Conditions
	out := config.Policy{
		Name: p.Name, State: wordOf(states, p.State), Users: writtenUsers(c.Users), ExcludeUsers: writtenUsers(c.ExcludeUsers),
		Applications: written(selectors, c.Applications), ExcludeApplications: slices.Clone(c.ExcludeApplications),
		ClientApps: written(clientApps, c.ClientApps), Platforms: written(platforms, c.Platforms), ExcludePlatforms: written(platforms, c.ExcludePlatforms),
		Locations: written(places, c.Locations), ExcludeLocations: written(places, c.ExcludeLocations),
		SignInRisk: written(risks, c.SignInRisk), UserRisk: written(risks, c.UserRisk),
		PersistentBrowser: wordOf(persistences, p.Session.Persistent),
	}
	if len(c.UserActions) > 0 {
		out.UserAction = wordOf(userActions, c.UserActions[0])
	}
	if d := c.Devices; d != nil {
		out.Devices = &config.DeviceFilter{Include: d.Rule}
		if d.Exclude {
			out.Devices = &config.DeviceFilter{Exclude: d.Rule}
		}
	}
	if !p.Grant.Empty() {
		out.Grant = writtenGrant(&p.Grant)
	}
	if f := p.Session.SignInFrequency; f != nil {
		out.SignInFrequency = &config.SignInFrequency{Every: config.Duration(f.Every), EveryTime: f.EveryTime, Secondary: f.SecondaryOnly}
	}
	return out
}

func writtenGrant(g *policy.Grant) *config.Grant {
	if g.Block {
		return &config.Grant{Block: true}
	}
	var controls []string
	for _, c := range []struct {
		demanded bool
		word     string
	}{
		{g.MFA, "mfa"}, {g.Strength != "", "strength:" + wordOf(strengths, g.Strength)}, {g.CompliantDevice, "compliant_device"},
		{g.DomainJoinedDevice, "domain_joined_device"}, {g.PasswordChange, "password_change"},
	} {
		if c.demanded {
			controls = append(controls, c.word)
		}
	}
	for _, name := range g.Terms {
		controls = append(controls, "terms:"+name)
	}
	if g.Any {
		return &config.Grant{AnyOf: controls}
	}
	return &config.Grant{AllOf: controls}
}

// writtenUsers gives the words that select them.
func writtenUsers(u policy.Users) (words []string) {
	for _, w := range []struct {
		selected bool
		word     string
	}{{u.All, "all"}, {u.None, "none"}, {u.Guests, "guests"}} {
		if w.selected {
			words = append(words, w.word)
		}
	}
	for _, name := range u.Users {
		if strings.Contains(name, ":") || slices.Contains([]string{"all", "none", "guests"}, name) {
			name = "user:" + name
		}
		words = append(words, name)
	}
	for _, name := range u.Groups {
		words = append(words, "group:"+name)
	}
	for _, name := range u.Roles {
		words = append(words, "role:"+name)
	}
	return words
}

// written gives each value's word; one that has none is its own.
func written[T ~string](meaning map[string]T, values []T) (words []string) {
	for _, v := range values {
		words = append(words, wordOf(meaning, v))
	}
	return words
}

func wordOf[T ~string](meaning map[string]T, value T) string {
	for word, v := range meaning {
		if v == value {
			return word
		}
	}
	return string(value)
}
