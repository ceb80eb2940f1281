package policy

import (
	"slices"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// Unmet names the first condition of a policy that somebody doesn't meet, in the words of Graph's whatIfAnalysisReasons. The zero
// Unmet says that he meets them all.
type Unmet string

// The conditions, in the order in which they are looked at.
const (
	UnmetState      Unmet = "policyNotEnabled"
	UnmetUsers      Unmet = "users"
	UnmetTarget     Unmet = "application"
	UnmetAction     Unmet = "userActions"
	UnmetClientApp  Unmet = "clientApps"
	UnmetPlatform   Unmet = "devicePlatform"
	UnmetLocation   Unmet = "location"
	UnmetDevices    Unmet = "devices"
	UnmetSignInRisk Unmet = "signInRisk"
	UnmetUserRisk   Unmet = "userRisk"

	// NotEnoughInformation stands beside a policy that applies because a fact is missing that could have kept it from applying.
	NotEnoughInformation Unmet = "notEnoughInformation"
)

// circumstances says whether the conditions beside users and target are met. Where a fact is missing, the policy applies, and
// uncertain says so.
func (s *Set) circumstances(p *compiled, f *Facts, c *mfa.Client) (unmet Unmet, uncertain bool) {
	cond := &p.Conditions
	if len(cond.ClientApps) > 0 {
		switch {
		case c.App == "":
			uncertain = true
		case !slices.Contains(cond.ClientApps, c.App):
			return UnmetClientApp, false
		}
	}
	if len(cond.Platforms) > 0 && !slices.Contains(cond.Platforms, AllPlatforms) && !slices.Contains(cond.Platforms, c.Platform) {
		return UnmetPlatform, false
	}
	// A platform that nobody knows is excluded by no name.
	if slices.Contains(cond.ExcludePlatforms, AllPlatforms) || c.Platform != "" && slices.Contains(cond.ExcludePlatforms, c.Platform) {
		return UnmetPlatform, false
	}
	if len(p.locations) > 0 {
		switch s.among(p.locations, c) {
		case no:
			return UnmetLocation, false
		case unknown:
			uncertain = true
		}
	}
	switch s.among(p.excludeLocations, c) {
	case yes:
		return UnmetLocation, false
	case unknown:
		uncertain = true
	}
	if p.filter != nil && p.matchesDevice(c) == cond.Devices.Exclude {
		return UnmetDevices, false
	}
	for _, risk := range []struct {
		levels []Risk
		is     Risk
		unmet  Unmet
	}{{cond.SignInRisk, f.SignInRisk, UnmetSignInRisk}, {cond.UserRisk, f.UserRisk, UnmetUserRisk}} {
		switch {
		case len(risk.levels) == 0:
		case risk.is == "":
			uncertain = true
		case !slices.Contains(risk.levels, risk.is):
			return risk.unmet, false
		}
	}
	return "", uncertain
}

// among says whether a client is at one of the places.
func (s *Set) among(places []place, c *mfa.Client) tri {
	found := no
	for _, p := range places {
		at := yes
		switch {
		case p.all:
		case p.trusted && s.trusted == nil:
			at = no
		case p.trusted && !c.Address.IsValid():
			at = unknown
		case p.trusted:
			at = answer(s.trusted.Contains(c.Address))
		default:
			at = p.contains(c)
		}
		if at == yes {
			return yes
		}
		if at == unknown {
			found = unknown
		}
	}
	return found
}
