package graph

import "github.com/caddy-mfa/caddy-mfa/internal/policy"

// part is a part of a policy that can't be enforced here.
type part struct {
	path, value string // as in conditions.platforms.includePlatforms; empty value: all that stands there
	leaving     leaving
}

func (p part) String() string {
	if p.value == "" {
		return p.path
	}
	return p.path + ": " + p.value
}

// leaving is what becomes of a policy when one of its parts is left out. The zero leaving is the worst.
type leaving uint8

const (
	// never: it would apply to fewer sign-ins, or demand less, or nobody can tell.
	never leaving = iota

	// wider: it applies to more sign-ins. That is an exclusion, or a whole condition beside the others, all of which must match.
	// To demand something of more sign-ins is never less; to let more sessions outlive the browser is.
	wider

	// oneOfSeveral: it is a control. Where one of several is enough, there is one way less to be let in, as long as there is another;
	// where all are needed, less is demanded.
	oneOfSeveral

	// harder: it demands more.
	harder
)

// known are the parts that are known and can't be enforced, and what leaving them out does. What isn't listed is never left out.
var known = map[string]leaving{
	// A whole condition, beside the others.
	"conditions.signInRiskLevels":  wider,
	"conditions.userRiskLevels":    wider,
	"conditions.insiderRiskLevels": wider,
	"conditions.devices":           wider, // which devices, by a rule or in the ways of older policies
	"conditions.deviceStates":      wider,
	"conditions.times":             wider,

	// Exclusions.
	"conditions.users.excludeGuestsOrExternalUsers":                          wider,
	"conditions.applications.excludeApplications":                            wider,
	"conditions.applications.applicationFilter (exclude)":                    wider,
	"conditions.platforms.excludePlatforms":                                  wider,
	"conditions.users.includeGuestsOrExternalUsers (kinds and tenants)":      wider, // it becomes every guest
	"conditions.users.includeGuestsOrExternalUsers.guestOrExternalUserTypes": never, // a kind that nobody knows

	// What is selected: without it, less is.
	"conditions.applications.includeApplications":                         never,
	"conditions.applications.includeUserActions":                          never,
	"conditions.applications.includeAuthenticationContextClassReferences": never,
	"conditions.applications.applicationFilter (include)":                 never,
	"conditions.applications.globalSecureAccess":                          never,
	"conditions.applications.networkAccess":                               never,
	"conditions.clientAppTypes":                                           never,
	"conditions.platforms.includePlatforms":                               never,

	// Who else than people signs in, beside people.
	"conditions.authenticationFlows":        never,
	"conditions.clientApplications":         never,
	"conditions.agents":                     never,
	"conditions.agentContext":               never,
	"conditions.agentIdRiskLevels":          never,
	"conditions.servicePrincipalRiskLevels": never,

	"grantControls.builtInControls":             oneOfSeveral,
	"grantControls.customAuthenticationFactors": oneOfSeveral,
	"grantControls.authenticationStrength":      oneOfSeveral,

	// Session controls come on top of each other: without one, less is demanded.
	"sessionControls.applicationEnforcedRestrictions":    never,
	"sessionControls.cloudAppSecurity":                   never,
	"sessionControls.secureSignInSession":                never,
	"sessionControls.globalSecureAccessFilteringProfile": never,
	"sessionControls.networkAccessSecurity":              never,
	"sessionControls.continuousAccessEvaluation":         harder, // disabled; it is always done here
}

// partial says whether a policy may be loaded without its refused parts: what is then left applies to more sign-ins or demands more.
func (j *judge) partial() bool {
	for _, p := range j.refused {
		switch p.leaving {
		case never:
			return false
		case wider:
			if j.p.Session.Persistent == policy.AlwaysPersistent {
				return false
			}
		case oneOfSeveral:
			if !j.p.Grant.Any || j.p.Grant.Empty() {
				return false
			}
		}
	}
	return true
}
