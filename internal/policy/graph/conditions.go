package graph

import (
	"errors"
	"slices"
	"strings"

	"github.com/caddy-mfa/caddy-mfa/internal/policy"
	"github.com/caddy-mfa/caddy-mfa/internal/policy/filter"
)

func (j *judge) conditions(o *object) {
	if o.empty() {
		j.refuseUnknown("conditions", "missing")
		return
	}
	c := &j.p.Conditions
	people := j.users(o.object("users"))
	j.machines(o, people)
	j.applications(o.object("applications"))
	j.clientApps(o)
	j.platforms(o.object("platforms"))
	locations := o.object("locations")
	c.Locations = j.locations(locations, "includeLocations")
	c.ExcludeLocations = j.locations(locations, "excludeLocations")
	if slices.Contains(c.ExcludeLocations, policy.All) {
		j.refuseUnknown("conditions.locations.excludeLocations", policy.All)
	}
	locations.rest()
	c.SignInRisk = j.risk(o, "signInRiskLevels")
	c.UserRisk = j.risk(o, "userRiskLevels")
	j.devices(o.object("devices"))
	if levels := o.flags("insiderRiskLevels"); levels != nil {
		j.refuse("conditions.insiderRiskLevels", strings.Join(levels, ", "))
	}
	for _, key := range []string{"deviceStates", "times"} { // of older policies
		if !o.one(key).empty() {
			j.refuse(o.at(key), "")
		}
	}
	o.rest()
}

// Words that stand where ids do, and select without naming anything.
const (
	all    = "All"
	none   = "None"
	guests = "GuestsOrExternalUsers"
)

var userWords = []string{all, none, guests}

// users reads who is selected, and says whether these are people at all.
func (j *judge) users(o *object) (people bool) {
	c := &j.p.Conditions
	var selected int
	c.Users, selected = j.someUsers(o, "include")
	c.ExcludeUsers, _ = j.someUsers(o, "exclude")
	o.rest()
	if c.Users.None && selected > 0 {
		j.refuseUnknown("conditions.users.includeUsers", "None beside others")
	}
	if c.ExcludeUsers.None {
		j.refuseUnknown("conditions.users.excludeUsers", none)
	}
	if c.ExcludeUsers.All {
		j.refuseUnknown("conditions.users.excludeUsers", all)
	}
	return selected > 0
}

// someUsers reads either half of the users, and counts what is configured in it, named or not.
func (j *judge) someUsers(o *object, half string) (u policy.Users, selected int) {
	path := "conditions.users." + half
	for _, id := range o.texts(half + "Users") {
		selected++
		switch fold(userWords, id) {
		case all:
			u.All = true
		case none:
			u.None = true
			selected--
		case guests:
			u.Guests = true
		default:
			u.Users = append(u.Users, j.named(User, path+"Users", []string{id})...)
		}
	}
	groups, roles, kinds := o.texts(half+"Groups"), o.texts(half+"Roles"), o.object(half+"GuestsOrExternalUsers")
	u.Groups = j.named(Group, path+"Groups", j.noWords(path+"Groups", groups))
	u.Roles = j.named(Role, path+"Roles", j.noWords(path+"Roles", roles))
	if !kinds.empty() {
		selected++
	}
	if j.guests(kinds, half) {
		u.Guests = true
	}
	return u, selected + len(groups) + len(roles)
}

// noWords refuses the words that Entra has among the users only: who is meant by them elsewhere, nobody knows.
func (j *judge) noWords(path string, ids []string) []string {
	for _, id := range ids {
		if fold(userWords, id) != "" {
			j.refuseUnknown(path, id)
		}
	}
	return ids
}

// Kinds of guests and external users. The latter two have no account in the directory of who shares an application with them: they
// sign in at their own. No directory here can hold them, so it makes no difference whether a policy names them.
var (
	guestKinds    = []string{"internalGuest", "b2bCollaborationGuest", "b2bCollaborationMember", "otherExternalUser"}
	outsiderKinds = []string{"b2bDirectConnectUser", "serviceProvider"}
)

// guests says whether guests are meant. A directory here tells neither kinds nor tenants apart: a policy that does is refused.
func (j *judge) guests(o *object, half string) bool {
	if o.empty() {
		return false
	}
	types := o.flags("guestOrExternalUserTypes")
	tenants := o.object("externalTenants")
	membership, members := tenants.text("membershipKind"), tenants.texts("members")
	tenants.rest()
	o.rest()
	complete := len(members) == 0 && (membership == "" || strings.EqualFold(membership, "all"))
	for _, t := range types {
		if fold(guestKinds, t)+fold(outsiderKinds, t) == "" {
			if half == "include" {
				j.refuse(o.at("guestOrExternalUserTypes"), t)
			} else {
				j.refuseAs(o.path, o.at("guestOrExternalUserTypes"), t)
			}
			return false
		}
	}
	for _, k := range guestKinds {
		complete = complete && fold(types, k) != ""
	}
	switch {
	case complete:
		return true
	case half == "include":
		// All guests in place of some.
		j.refuseAs(o.path+" (kinds and tenants)", o.path, strings.Join(append(types, members...), ", "))
		return true
	}
	j.refuse(o.path, strings.Join(append(types, members...), ", "))
	return false
}

// machines reads the conditions on who isn't a person: service principals and agents. They are selected in place of people.
func (j *judge) machines(o *object, people bool) {
	selected := false
	for _, m := range []struct {
		key      string
		includes []string
		others   []string
	}{
		{"clientApplications", []string{"includeServicePrincipals", "servicePrincipalFilter", "includeAgentIdServicePrincipals", "agentIdServicePrincipalFilter"}, []string{"excludeServicePrincipals", "excludeAgentIdServicePrincipals"}},
		{"agents", []string{"includeAgentUsers", "agentFilter"}, []string{"excludeAgentUsers"}},
	} {
		part := o.object(m.key)
		if part.empty() {
			continue
		}
		any := slices.ContainsFunc(m.includes, func(key string) bool { return !part.one(key).empty() })
		part.take(m.includes...) // one of them is enough to know
		part.take(m.others...)
		part.rest()
		if people || !any {
			j.refuse(part.path, "")
			continue
		}
		selected = true
		j.foreign = append(j.foreign, part.path)
	}
	for _, key := range []string{"agentContext", "agentIdRiskLevels", "servicePrincipalRiskLevels"} {
		if !o.one(key).empty() && !selected {
			j.refuse(o.at(key), "")
		}
	}
	flows := o.object("authenticationFlows")
	if methods := flows.flags("transferMethods"); methods != nil {
		value := strings.Join(methods, ", ")
		if slices.ContainsFunc(methods, func(m string) bool { return fold([]string{"deviceCodeFlow", "authenticationTransfer"}, m) == "" }) {
			j.refuseUnknown(flows.at("transferMethods"), value)
		} else {
			j.foreign = append(j.foreign, part{path: flows.path, value: value}.String())
		}
	}
	flows.rest()
	if !selected && !people && !j.p.Conditions.Users.None {
		j.refuseUnknown("conditions.users", "nobody is selected")
	}
}

const agentResources = "AllAgentIdResources"

func (j *judge) applications(o *object) {
	c := &j.p.Conditions
	include, exclude, actions := o.texts("includeApplications"), o.texts("excludeApplications"), o.texts("includeUserActions")
	contexts := o.texts("includeAuthenticationContextClassReferences")
	targets := 0
	for _, some := range [][]string{include, actions, contexts} {
		if len(some) > 0 {
			targets++
		}
	}
	for _, id := range include {
		switch word := fold([]string{all, none, agentResources}, id); {
		case word == agentResources && len(include) == 1:
			j.foreign = append(j.foreign, part{path: o.at("includeApplications"), value: id}.String())
		case word == agentResources:
			j.refuse(o.at("includeApplications"), id)
		case word == none && len(include) > 1:
			j.refuseUnknown(o.at("includeApplications"), "None beside others")
		case word != "":
			c.Applications = append(c.Applications, word)
		default:
			c.Applications = append(c.Applications, j.named(Application, o.at("includeApplications"), []string{id})...)
		}
	}
	for _, id := range exclude {
		switch fold([]string{all, none, agentResources}, id) {
		case all:
			c.ExcludeApplications = append(c.ExcludeApplications, all)
		case none:
			j.refuseUnknown(o.at("excludeApplications"), none)
		case agentResources:
			j.refuse(o.at("excludeApplications"), id)
		default:
			c.ExcludeApplications = append(c.ExcludeApplications, j.named(Application, o.at("excludeApplications"), []string{id})...)
		}
	}
	if slices.Contains(c.ExcludeApplications, all) {
		j.refuseUnknown(o.at("excludeApplications"), all)
	}
	for _, action := range actions {
		switch {
		case strings.EqualFold(action, string(policy.RegisterSecurityInfo)):
			c.UserActions = append(c.UserActions, policy.RegisterSecurityInfo)
		case strings.EqualFold(action, "urn:user:registerdevice"):
			j.refuse(o.at("includeUserActions"), action)
		default:
			j.refuseUnknown(o.at("includeUserActions"), action)
		}
	}
	if contexts != nil {
		j.refuse(o.at("includeAuthenticationContextClassReferences"), strings.Join(contexts, ", "))
	}
	if filter := o.object("applicationFilter"); !filter.empty() {
		mode := strings.ToLower(filter.text("mode"))
		filter.take("rule")
		filter.rest()
		if mode == "include" {
			targets++
		}
		j.refuseAs(filter.path+" ("+mode+")", filter.path, mode)
	}
	for _, key := range []string{"globalSecureAccess", "networkAccess"} { // one feature, before it was renamed and after
		profile := o.object(key)
		if profiles := profile.flags("includeTrafficProfiles"); profiles != nil && targets == 0 {
			j.foreign = append(j.foreign, part{path: profile.path, value: strings.Join(profiles, ", ")}.String())
		} else if profiles != nil {
			j.refuse(profile.path, strings.Join(profiles, ", "))
		}
		profile.rest()
	}
	o.rest()
	switch {
	case targets > 1:
		j.refuseUnknown("conditions.applications", "applications and actions, where one of the two is wanted")
	case targets == 0 && j.foreign == nil:
		j.refuseUnknown("conditions.applications", "nothing is selected")
	}
}

func (j *judge) clientApps(o *object) {
	for _, app := range o.texts("clientAppTypes") {
		known := fold(policy.ClientApps, app)
		switch {
		case strings.EqualFold(app, "all"):
			j.p.Conditions.ClientApps = nil
			return
		case known != "":
			j.p.Conditions.ClientApps = append(j.p.Conditions.ClientApps, known)
		default:
			j.refuse(o.at("clientAppTypes"), app)
		}
	}
}

func (j *judge) platforms(o *object) {
	j.p.Conditions.Platforms = j.somePlatforms(o, "includePlatforms")
	j.p.Conditions.ExcludePlatforms = j.somePlatforms(o, "excludePlatforms")
	if slices.Contains(j.p.Conditions.ExcludePlatforms, policy.AllPlatforms) {
		j.refuseUnknown(o.at("excludePlatforms"), string(policy.AllPlatforms))
	}
	o.rest()
}

func (j *judge) somePlatforms(o *object, key string) (some []policy.Platform) {
	for _, text := range o.texts(key) {
		known := fold(policy.Platforms, text)
		if strings.EqualFold(text, string(policy.AllPlatforms)) {
			known = policy.AllPlatforms
		}
		if known == "" {
			j.refuse(o.at(key), text)
			continue
		}
		some = append(some, known)
	}
	return some
}

func (j *judge) locations(o *object, key string) []string {
	var names []string
	for _, id := range o.texts(key) {
		if word := fold([]string{policy.All, policy.AllTrusted}, id); word != "" {
			names = append(names, word)
		} else {
			names = append(names, j.named(Location, o.at(key), []string{id})...)
		}
	}
	return names
}

// risk reads levels of risk, which are the one condition that waits for a detection.
func (j *judge) risk(o *object, key string) []policy.Risk {
	texts := o.texts(key)
	if texts == nil {
		return nil
	}
	var levels []policy.Risk
	for _, text := range texts {
		if level := fold([]policy.Risk{policy.LowRisk, policy.MediumRisk, policy.HighRisk, policy.NoRisk}, text); level != "" {
			levels = append(levels, level)
		}
	}
	if !j.opts.RiskDetected || len(levels) < len(texts) {
		j.refuse(o.at(key), strings.Join(texts, ", "))
		return nil
	}
	return levels
}

func (j *judge) devices(o *object) {
	f := o.object("deviceFilter")
	if !f.empty() {
		mode, rule := f.text("mode"), f.text("rule")
		f.rest()
		if fold([]string{"include", "exclude"}, mode) == "" {
			j.refuseUnknown(f.at("mode"), or(mode, "missing"))
		} else if j.deviceRule(f, rule) {
			j.p.Conditions.Devices = &policy.DeviceFilter{Exclude: strings.EqualFold(mode, "exclude"), Rule: rule}
		}
	}
	for _, key := range []string{"includeDevices", "excludeDevices", "includeDeviceStates", "excludeDeviceStates"} { // of older policies
		if !o.one(key).empty() {
			j.refuseAs(o.path, o.at(key), "")
		}
	}
	o.rest()
}

// deviceRule says whether a rule can be enforced. What it asks of a device that nobody can know here is named.
func (j *judge) deviceRule(o *object, rule string) bool {
	_, err := filter.Parse(rule, filter.DeviceAttributes)
	if err == nil {
		return true
	}
	var mistakes filter.Problems
	if !errors.As(err, &mistakes) {
		mistakes = filter.Problems{err}
	}
	for _, mistake := range mistakes {
		var unknown *filter.UnknownAttribute
		if errors.As(mistake, &unknown) {
			j.refuseAs("conditions.devices", o.path, unknown.Name)
		} else {
			j.refuseAs("conditions.devices", o.at("rule"), mistake.Error())
		}
	}
	return false
}
