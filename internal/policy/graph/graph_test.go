package graph

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-mfa/caddy-mfa/internal/policy"
)

// whole is a policy that uses everything that can be enforced.
const whole = `{
	"@odata.context": "https://graph.example/$metadata#identity/conditionalAccess/policies/$entity",
	"id": "809741fe-fb1b-4746-9ff0-83a978a4c891",
	"templateId": null,
	"displayName": "Everything",
	"createdDateTime@odata.type": "#DateTimeOffset",
	"createdDateTime": "2026-01-02T03:04:05Z",
	"modifiedDateTime": null,
	"deletedDateTime": null,
	"partialEnablementStrategy": null,
	"state": "enabledForReportingButNotEnforced",
	"conditions": {
		"userRiskLevels": [], "signInRiskLevels": [], "insiderRiskLevels": null, "times": null, "deviceStates": null,
		"clientAppTypes": ["browser", "mobileAppsAndDesktopClients"],
		"applications": {"includeApplications": ["All"], "excludeApplications": ["intranet"], "includeUserActions": [], "includeAuthenticationContextClassReferences": [], "applicationFilter": null},
		"users": {
			"includeUsers": ["alice"], "excludeUsers": ["bob"], "includeGroups": ["Finance"], "excludeGroups": ["Break glass"],
			"includeRoles": ["62e90394-69f5-4237-9190-012177145e10"], "excludeRoles": [],
			"includeGuestsOrExternalUsers": {"guestOrExternalUserTypes": "internalGuest,b2bCollaborationGuest,b2bCollaborationMember,b2bDirectConnectUser,otherExternalUser,serviceProvider", "externalTenants": {"@odata.type": "#microsoft.graph.conditionalAccessAllExternalTenants", "membershipKind": "all"}},
			"excludeGuestsOrExternalUsers": null
		},
		"platforms": {"includePlatforms": ["all"], "excludePlatforms": ["iOS", "macOS"]},
		"locations": {"includeLocations": ["All"], "excludeLocations": ["AllTrusted", "office"]},
		"devices": {"includeDevices": [], "deviceFilter": {"mode": "exclude", "rule": "device.isCompliant -eq True"}},
		"clientApplications": {"includeServicePrincipals": [], "excludeServicePrincipals": []},
		"authenticationFlows": null
	},
	"grantControls": {
		"operator": "OR", "builtInControls": ["mfa", "compliantDevice", "domainJoinedDevice"], "customAuthenticationFactors": [], "termsOfUse": ["House rules"],
		"authenticationStrength@odata.context": "https://graph.example/",
		"authenticationStrength": {"id": "00000000-0000-0000-0000-000000000004", "displayName": "Phishing-resistant MFA", "policyType": "builtIn", "requirementsSatisfied": "mfa", "allowedCombinations": ["fido2"], "combinationConfigurations": [], "#microsoft.graph.usage": {"title": "usage"}}
	},
	"sessionControls": {
		"disableResilienceDefaults": null, "applicationEnforcedRestrictions": null, "cloudAppSecurity": {"isEnabled": false, "cloudAppSecurityType": "monitorOnly"},
		"signInFrequency": {"value": 12, "type": "hours", "authenticationType": "primaryAndSecondaryAuthentication", "frequencyInterval": "timeBased", "isEnabled": true},
		"persistentBrowser": {"mode": "never", "isEnabled": true},
		"continuousAccessEvaluation": {"mode": "strictLocation"}
	},
	"#microsoft.graph.restore": {"title": "restore", "target": "https://graph.example/"}
}`

// change gives the policy whole with something else at a path, as in conditions.users.includeUsers; null takes it away.
func change(t testing.TB, changes ...string) []byte {
	t.Helper()
	var p map[string]any
	if err := json.Unmarshal([]byte(whole), &p); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(changes); i += 2 {
		var v any
		if err := json.Unmarshal([]byte(changes[i+1]), &v); err != nil {
			t.Fatalf("%s: %v", changes[i+1], err)
		}
		at := p
		keys := strings.Split(changes[i], ".")
		for _, key := range keys[:len(keys)-1] {
			next, ok := at[key].(map[string]any)
			if !ok {
				next = map[string]any{}
				at[key] = next
			}
			at = next
		}
		at[keys[len(keys)-1]] = v
	}
	data, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// judged imports one policy, which must be one.
func judged(t testing.TB, data []byte, names *Names, opts Options) (Verdict, *Result) {
	t.Helper()
	r := Import([]File{{"policy.json", data}}, names, opts)
	if len(r.Verdicts) != 1 {
		t.Fatalf("%d verdicts, errors %v, of %s", len(r.Verdicts), r.Errors, data)
	}
	return r.Verdicts[0], r
}

func TestWhatIsEnforcedMeansTheSame(t *testing.T) {
	v, r := judged(t, []byte(whole), nil, Options{})
	want := Verdict{File: "policy.json", DisplayName: "Everything", Verdict: Enforced, Parts: []string{}, IDs: []ID{}, Loaded: true}
	if !reflect.DeepEqual(v, want) {
		t.Errorf("verdict %+v", v)
	}
	p := policy.Policy{
		ID: "809741fe-fb1b-4746-9ff0-83a978a4c891", Name: "Everything", State: policy.ReportOnly,
		Conditions: policy.Conditions{
			Users:               policy.Users{Guests: true, Users: []string{"alice"}, Groups: []string{"Finance"}, Roles: []string{"Global Administrator"}},
			ExcludeUsers:        policy.Users{Users: []string{"bob"}, Groups: []string{"Break glass"}},
			Applications:        []string{policy.All},
			ExcludeApplications: []string{"intranet"},
			ClientApps:          []policy.ClientApp{policy.Browser, policy.MobileAndDesktop},
			Platforms:           []policy.Platform{policy.AllPlatforms},
			ExcludePlatforms:    []policy.Platform{policy.IOS, policy.MacOS},
			Locations:           []string{policy.All},
			ExcludeLocations:    []string{policy.AllTrusted, "office"},
			Devices:             &policy.DeviceFilter{Exclude: true, Rule: "device.isCompliant -eq True"},
		},
		Grant:   policy.Grant{Any: true, MFA: true, Strength: policy.PhishingResistantStrength, CompliantDevice: true, DomainJoinedDevice: true, Terms: []string{"House rules"}},
		Session: policy.SessionControls{SignInFrequency: &policy.SignInFrequency{Every: 12 * 3600e9}, Persistent: policy.NeverPersistent},
	}
	if len(r.Policies) != 1 || !reflect.DeepEqual(r.Policies[0], p) {
		t.Errorf("it is read as\n%+v\nwant\n%+v", r.Policies, p)
	}
}

const (
	people  = "conditions.users"
	targets = "conditions.applications"
	nobody  = `{"includeUsers": ["None"]}`
)

func TestVerdicts(t *testing.T) {
	for _, test := range []struct {
		name    string
		changes []string
		want    Judgement
		parts   string // with commas between them
	}{
		{"the grant controls that belong to the cloud", []string{"grantControls.builtInControls", `["compliantApplication", "approvedApplication"]`}, Refused, "grantControls.builtInControls: compliantApplication, grantControls.builtInControls: approvedApplication"},
		{"a password can't be changed here", []string{"grantControls.builtInControls", `["mfa", "passwordChange"]`}, Refused, "grantControls.builtInControls: passwordChange"},
		{"a control that came later", []string{"grantControls.builtInControls", `["mfa", "verifiedID"]`}, Refused, "grantControls.builtInControls: verifiedID"},
		{"a factor of somebody else", []string{"grantControls.customAuthenticationFactors", `["DuoMfa"]`}, Refused, "grantControls.customAuthenticationFactors: DuoMfa"},
		{"block is alone", []string{"grantControls.builtInControls", `["block", "mfa"]`}, Refused, "grantControls.builtInControls: block beside others"},
		{"and or or", []string{"grantControls.operator", `"XOR"`}, Refused, "grantControls.operator: XOR"},
		{"several controls without an operator", []string{"grantControls.operator", `null`}, Refused, "grantControls.operator: missing"},
		{"one control needs no operator", []string{"grantControls", `{"builtInControls": ["mfa"]}`}, Enforced, ""},

		{"application-enforced restrictions", []string{"sessionControls.applicationEnforcedRestrictions", `{"isEnabled": true}`}, Refused, "sessionControls.applicationEnforcedRestrictions"},
		{"cloud app security", []string{"sessionControls.cloudAppSecurity", `{"isEnabled": true, "cloudAppSecurityType": "blockDownloads"}`}, Refused, "sessionControls.cloudAppSecurity: blockDownloads"},
		{"token protection", []string{"sessionControls.secureSignInSession", `{"isEnabled": true}`}, Refused, "sessionControls.secureSignInSession"},
		{"token protection switched off", []string{"sessionControls.secureSignInSession", `{"isEnabled": false}`}, Enforced, ""},
		{"a control that says how and not whether", []string{"sessionControls.persistentBrowser", `{"mode": "never"}`}, Refused, "sessionControls.persistentBrowser.isEnabled: neither true nor false"},
		{"a persistence that is none", []string{"sessionControls.persistentBrowser", `{"mode": "sometimes", "isEnabled": true}`}, Refused, "sessionControls.persistentBrowser.mode: sometimes"},
		{"always persistent, in every application", []string{"sessionControls.persistentBrowser", `{"mode": "always", "isEnabled": true}`}, Enforced, ""},
		{"always persistent, in one application", []string{"sessionControls.persistentBrowser", `{"mode": "always", "isEnabled": true}`, targets, `{"includeApplications": ["hr"]}`}, Refused, "sessionControls.persistentBrowser.mode: always for some applications only"},
		{"continuous evaluation can't be switched off here", []string{"sessionControls.continuousAccessEvaluation", `{"mode": "disabled"}`}, Refused, "sessionControls.continuousAccessEvaluation: disabled"},
		{"continuous evaluation of a mode that came later", []string{"sessionControls.continuousAccessEvaluation", `{"mode": "lenient"}`}, Refused, "sessionControls.continuousAccessEvaluation.mode: lenient"},
		{"continuous evaluation alone is something to demand", []string{"grantControls", `null`, "sessionControls", `{"continuousAccessEvaluation": {"mode": "strictEnforcement"}}`}, Enforced, ""},
		{"no resilience is what we do", []string{"grantControls", `null`, "sessionControls", `{"disableResilienceDefaults": true}`}, Enforced, ""},
		{"a number of days that is none", []string{"sessionControls.signInFrequency.value", `"12"`}, Refused, "sessionControls.signInFrequency.value: not a number of hours or days"},
		{"a frequency below an hour", []string{"sessionControls.signInFrequency.value", `0`}, Refused, "sessionControls.signInFrequency.value: 0"},
		{"a frequency of half an hour", []string{"sessionControls.signInFrequency.value", `0.5`}, Refused, "sessionControls.signInFrequency.value: not a number of hours or days"},
		{"a frequency beyond a year", []string{"sessionControls.signInFrequency.value", `9999999999`}, Refused, "sessionControls.signInFrequency.value: 9999999999"},
		{"a frequency in moons", []string{"sessionControls.signInFrequency.type", `"moons"`}, Refused, "sessionControls.signInFrequency.type: moons"},
		{"every time, and every 12 hours", []string{"sessionControls.signInFrequency.frequencyInterval", `"everyTime"`}, Refused, "sessionControls.signInFrequency.value: 12 beside every time"},
		{"nothing is demanded", []string{"grantControls", `{"operator": "OR", "builtInControls": []}`, "sessionControls", `null`}, Refused, "grantControls: nothing is demanded"},
		{"nothing is demanded, since it is switched off", []string{"grantControls", `null`, "sessionControls", `{"persistentBrowser": {"mode": "always", "isEnabled": false}}`}, Refused, "grantControls: nothing is demanded"},

		{"sign-in risk", []string{"conditions.signInRiskLevels", `["high", "medium"]`}, Refused, "conditions.signInRiskLevels: high; medium"},
		{"user risk", []string{"conditions.userRiskLevels", `["high"]`}, Refused, "conditions.userRiskLevels: high"},
		{"insider risk", []string{"conditions.insiderRiskLevels", `"minor,elevated"`}, Refused, "conditions.insiderRiskLevels: minor; elevated"},
		{"the risk of service principals beside people", []string{"conditions.servicePrincipalRiskLevels", `["high"]`}, Refused, "conditions.servicePrincipalRiskLevels"},
		{"a client that came later", []string{"conditions.clientAppTypes", `["browser", "easSupported"]`}, Refused, "conditions.clientAppTypes: easSupported"},
		{"all clients in either case", []string{"conditions.clientAppTypes", `["All"]`}, Enforced, ""},
		{"everybody is excluded", []string{"conditions.users.excludeUsers", `["all"]`}, Refused, "conditions.users.excludeUsers: All"},
		{"every application is excluded", []string{"conditions.applications.excludeApplications", `["All"]`}, Refused, "conditions.applications.excludeApplications: All"},
		{"every application is excluded, by its name", []string{"conditions.applications.excludeApplications", `["application:All"]`}, Refused, "conditions.applications.excludeApplications: All"},
		{"every place is excluded", []string{"conditions.locations.excludeLocations", `["All"]`}, Refused, "conditions.locations.excludeLocations: All"},
		{"every platform is excluded", []string{"conditions.platforms.excludePlatforms", `["all"]`}, Refused, "conditions.platforms.excludePlatforms: all"},
		{"a platform that came later", []string{"conditions.platforms.includePlatforms", `["visionOS"]`}, Refused, "conditions.platforms.includePlatforms: visionOS"},
		{"a list that is a string", []string{"conditions.clientAppTypes", `"browser"`}, Refused, "conditions.clientAppTypes: not a list"},
		{"a list of numbers", []string{"conditions.users.excludeGroups", `["a", 1, null]`}, Refused, "conditions.users.excludeGroups[1]: not a string, conditions.users.excludeGroups[2]: not a string"},
		{"a device rule with a mode that is none", []string{"conditions.devices.deviceFilter.mode", `"only"`}, Refused, "conditions.devices.deviceFilter.mode: only"},
		{"a device rule over what nobody can know here", []string{"conditions.devices.deviceFilter.rule", `"device.extensionAttribute1 -eq \"PAW\" -or device.isCompliant -eq True -and device.model -contains \"x\""`}, Refused, "conditions.devices.deviceFilter: device.extensionAttribute1, conditions.devices.deviceFilter: device.model"},
		{"a device rule that is none", []string{"conditions.devices.deviceFilter.rule", `"device.isCompliant"`}, Refused, "conditions.devices.deviceFilter.rule: *"},
		{"the device states of older policies", []string{"conditions.devices.excludeDevices", `["Compliant"]`}, Refused, "conditions.devices.excludeDevices"},
		{"times of day", []string{"conditions.times", `{"includedRanges": ["9-5"]}`}, Refused, "conditions.times"},

		{"device registration", []string{targets, `{"includeUserActions": ["urn:user:registerdevice"]}`}, Refused, "conditions.applications.includeUserActions: urn:user:registerdevice"},
		{"registration of a factor", []string{targets, `{"includeUserActions": ["urn:user:registersecurityinfo"]}`}, Enforced, ""},
		{"an action that came later", []string{targets, `{"includeUserActions": ["urn:user:fly"]}`}, Refused, "conditions.applications.includeUserActions: urn:user:fly"},
		{"authentication contexts", []string{targets, `{"includeAuthenticationContextClassReferences": ["c1"]}`}, Refused, "conditions.applications.includeAuthenticationContextClassReferences: c1"},
		{"applications by an attribute", []string{targets, `{"applicationFilter": {"mode": "include", "rule": "CustomSecurityAttribute.a_b -eq \"c\""}}`}, Refused, "conditions.applications.applicationFilter: include"},
		{"no application", []string{targets, `{"includeApplications": ["None"]}`}, Enforced, ""},
		{"no application, and one", []string{targets, `{"includeApplications": ["None", "hr"]}`}, Refused, "conditions.applications.includeApplications: None beside others"},
		{"nothing selected", []string{targets, `{"includeApplications": [], "excludeApplications": ["hr"]}`}, Refused, "conditions.applications: nothing is selected"},
		{"applications and actions", []string{targets + ".includeUserActions", `["urn:user:registersecurityinfo"]`}, Refused, "conditions.applications: applications and actions; where one of the two is wanted"},

		{"nobody selected", []string{people, `{"excludeGroups": ["x"]}`}, Refused, "conditions.users: nobody is selected"},
		{"nobody", []string{people, nobody}, Enforced, ""},
		{"nobody, and a group", []string{people, `{"includeUsers": ["None"], "includeGroups": ["x"]}`}, Refused, "conditions.users.includeUsers: None beside others"},
		{"nobody, and a group without a name", []string{people, `{"includeUsers": ["None"], "includeGroups": ["<x>"]}`}, Refused, "conditions.users.includeUsers: None beside others"},
		{"a word for everybody among the groups", []string{people, `{"includeGroups": ["All"], "excludeGroups": ["none"]}`}, Refused, "conditions.users.includeGroups: All, conditions.users.excludeGroups: none"},
		{"a word for guests among the roles", []string{people, `{"includeUsers": ["All"], "excludeRoles": ["GuestsOrExternalUsers"]}`}, Refused, "conditions.users.excludeRoles: GuestsOrExternalUsers"},
		{"a group that is called so", []string{people, `{"includeGroups": ["group:All"]}`}, Enforced, ""},
		{"every guest whom a directory can hold", []string{people, `{"includeGuestsOrExternalUsers": {"guestOrExternalUserTypes": "internalGuest,b2bCollaborationGuest,b2bCollaborationMember,otherExternalUser", "externalTenants": {"membershipKind": "all"}}}`}, Enforced, ""},
		{"guests of some kinds", []string{people, `{"includeGuestsOrExternalUsers": {"guestOrExternalUserTypes": "internalGuest,serviceProvider", "externalTenants": {"membershipKind": "all"}}}`}, Refused, "conditions.users.includeGuestsOrExternalUsers: internalGuest; serviceProvider"},
		{"service providers alone", []string{people + ".excludeGuestsOrExternalUsers", `{"guestOrExternalUserTypes": "serviceProvider", "externalTenants": {"membershipKind": "all"}}`}, Refused, "conditions.users.excludeGuestsOrExternalUsers: serviceProvider"},
		{"guests of one tenant", []string{people + ".excludeGuestsOrExternalUsers", `{"guestOrExternalUserTypes": "internalGuest,b2bCollaborationGuest,b2bCollaborationMember,b2bDirectConnectUser,otherExternalUser,serviceProvider", "externalTenants": {"membershipKind": "enumerated", "members": ["tenant"]}}`}, Refused, "conditions.users.excludeGuestsOrExternalUsers: internalGuest; b2bCollaborationGuest; b2bCollaborationMember; b2bDirectConnectUser; otherExternalUser; serviceProvider; tenant"},
		{"guests of a kind that came later", []string{people, `{"includeGuestsOrExternalUsers": {"guestOrExternalUserTypes": "martian"}}`}, Refused, "conditions.users.includeGuestsOrExternalUsers.guestOrExternalUserTypes: martian"},

		{"device codes", []string{"conditions.authenticationFlows", `{"transferMethods": "deviceCodeFlow,authenticationTransfer"}`}, NotApplicable, "conditions.authenticationFlows: deviceCodeFlow; authenticationTransfer"},
		{"a flow that came later", []string{"conditions.authenticationFlows", `{"transferMethods": "deviceCodeFlow,telepathy"}`}, Refused, "conditions.authenticationFlows.transferMethods: deviceCodeFlow; telepathy"},
		{"service principals", []string{people, nobody, "conditions.clientApplications", `{"includeServicePrincipals": ["ServicePrincipalsInMyTenant"]}`, "conditions.servicePrincipalRiskLevels", `["high"]`}, NotApplicable, "conditions.clientApplications"},
		{"service principals and people", []string{"conditions.clientApplications", `{"includeServicePrincipals": ["ServicePrincipalsInMyTenant"]}`}, Refused, "conditions.clientApplications"},
		{"service principals, by name and by a filter", []string{people, nobody, "conditions.clientApplications", `{"includeServicePrincipals": ["ServicePrincipalsInMyTenant"], "excludeServicePrincipals": ["x"], "servicePrincipalFilter": {"mode": "exclude", "rule": "x"}}`}, NotApplicable, "conditions.clientApplications"},
		{"agents, by name and by a filter", []string{people, nobody, "conditions.clientApplications", `{"includeAgentIdServicePrincipals": ["All"], "agentIdServicePrincipalFilter": {"mode": "include", "rule": "x"}}`, "conditions.agents", `{"includeAgentUsers": ["All"], "agentFilter": {"rule": "x"}}`}, NotApplicable, "conditions.clientApplications, conditions.agents"},
		{"agents", []string{people, nobody, "conditions.agents", `{"includeAgentUsers": ["All"], "excludeAgentUsers": ["x"]}`, "conditions.agentContext", `{"includeAgentContexts": ["x"]}`, "conditions.agentIdRiskLevels", `"high"`}, NotApplicable, "conditions.agents"},
		{"agents and people", []string{"conditions.agents", `{"includeAgentUsers": ["All"]}`}, Refused, "conditions.agents"},
		{"agents, and a control that can't be enforced either", []string{people, nobody, "conditions.agents", `{"includeAgentUsers": ["All"]}`, "grantControls", `{"builtInControls": ["compliantApplication"]}`}, NotApplicable, "conditions.agents"},
		{"agents, and a key that nobody knows", []string{people, nobody, "conditions.agents", `{"includeAgentUsers": ["All"], "andPeople": true}`}, Refused, "conditions.agents.andPeople"},
		{"what agents use", []string{targets, `{"includeApplications": ["AllAgentIdResources"]}`}, NotApplicable, "conditions.applications.includeApplications: AllAgentIdResources"},
		{"what agents use, and an application", []string{targets, `{"includeApplications": ["AllAgentIdResources", "hr"]}`}, Refused, "conditions.applications.includeApplications: AllAgentIdResources"},
		{"a network profile", []string{targets, `{"globalSecureAccess": {"includeTrafficProfiles": "m365"}}`}, NotApplicable, "conditions.applications.globalSecureAccess: m365"},
		{"a network profile and its filter", []string{targets, `{"networkAccess": {"includeTrafficProfiles": "internet"}}`, "grantControls", `{"operator": "OR"}`, "sessionControls", `{"globalSecureAccessFilteringProfile": {"profileId": "1", "isEnabled": true}}`}, NotApplicable, "conditions.applications.networkAccess: internet"},
		{"a network profile and applications", []string{targets + ".globalSecureAccess", `{"includeTrafficProfiles": "m365"}`}, Refused, "conditions.applications.globalSecureAccess: m365"},

		{"a part of the tenant at a time", []string{"partialEnablementStrategy", `{"percentage": 10}`}, Refused, "partialEnablementStrategy"},
		{"a state that is none", []string{"state", `"on"`}, Refused, "state: on"},
		{"a state that is no word", []string{"state", `true`}, Refused, "state: not a string, state: missing"},
		{"no state", []string{"state", `null`}, Refused, "state: missing"},
		{"no name", []string{"displayName", `" "`}, Refused, "displayName: missing"},
		{"no conditions", []string{"conditions", `null`}, Refused, "conditions: missing"},
		{"conditions that are none", []string{"conditions", `"all"`}, Refused, "conditions: not an object, conditions: missing"},
		{"everything with one null below", []string{"conditions.weather", `{"rain": {"mm": null, "where": []}, "wind": ""}`}, Enforced, ""},
		{"a switch of an unknown part is something", []string{"conditions.weather", `{"isEnabled": false}`}, Refused, "conditions.weather"},

		{"groups, users, roles, applications, locations and terms without a name", []string{
			people, `{"includeGroups": ["<G>", "CEEAC9B8-ddf5-48cb-afcb-e2ab8bfd1a57", "ceeac9b8-ddf5-48cb-afcb-e2ab8bfd1a57"], "excludeUsers": ["185c993e-10a9-44fa-98d1-230c8f72f497"], "excludeRoles": ["285c993e-10a9-44fa-98d1-230c8f72f497"]}`,
			targets, `{"includeApplications": ["Office365", "MicrosoftAdminPortals"]}`,
			"conditions.locations.excludeLocations", `["00000000-0000-0000-0000-000000000000"]`,
			"grantControls.termsOfUse", `["385c993e-10a9-44fa-98d1-230c8f72f497"]`,
			"grantControls.authenticationStrength", `{"id": "485c993e-10a9-44fa-98d1-230c8f72f497"}`,
		}, Unresolved, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			v, r := judged(t, change(t, test.changes...), nil, Options{})
			if v.Verdict != test.want {
				t.Errorf("%s %q, want %s", v.Verdict, v.Parts, test.want)
			}
			var parts []string
			for _, p := range v.Parts {
				parts = append(parts, strings.ReplaceAll(p, ", ", "; "))
			}
			want, open := strings.CutSuffix(test.parts, "*")
			if got := strings.Join(parts, ", "); got != want && !(open && strings.HasPrefix(got, want)) {
				t.Errorf("parts %q, want %q", got, test.parts)
			}
			if v.Loaded != (test.want == Enforced) || len(r.Policies) != len(map[bool][]int{true: {0}}[v.Loaded]) {
				t.Errorf("loaded: %v, %d policies", v.Loaded, len(r.Policies))
			}
			if v.Parts == nil || v.IDs == nil {
				t.Error("a list is null")
			}
			if test.want == Unresolved {
				const ids = "[{185c993e-10a9-44fa-98d1-230c8f72f497 user} {<G> group} {CEEAC9B8-ddf5-48cb-afcb-e2ab8bfd1a57 group} {285c993e-10a9-44fa-98d1-230c8f72f497 role} {Office365 application} {MicrosoftAdminPortals application} {00000000-0000-0000-0000-000000000000 location} {385c993e-10a9-44fa-98d1-230c8f72f497 terms} {485c993e-10a9-44fa-98d1-230c8f72f497 strength}]"
				slices.SortFunc(v.IDs, func(a, b ID) int {
					return slices.Index(Kinds, a.Kind) - slices.Index(Kinds, b.Kind)
				})
				if got := fmt.Sprint(v.IDs); got != ids {
					t.Errorf("ids\n%s, want\n%s", got, ids)
				}
			}
		})
	}
}

func TestWhatADetectionOrADirectoryMakesPossible(t *testing.T) {
	data := change(t, "conditions.signInRiskLevels", `["low", "none"]`, "conditions.userRiskLevels", `["HIGH"]`, "grantControls.builtInControls", `["passwordChange"]`)
	v, r := judged(t, data, nil, Options{RiskDetected: true, PasswordChange: true})
	if v.Verdict != Enforced {
		t.Fatalf("%+v", v)
	}
	if c := r.Policies[0].Conditions; !slices.Equal(c.SignInRisk, []policy.Risk{policy.LowRisk, policy.NoRisk}) || !slices.Equal(c.UserRisk, []policy.Risk{policy.HighRisk}) || !r.Policies[0].Grant.PasswordChange {
		t.Errorf("%+v", r.Policies[0])
	}
	if v, _ := judged(t, change(t, "conditions.signInRiskLevels", `["low", "hidden"]`), nil, Options{RiskDetected: true}); v.Verdict != Refused {
		t.Errorf("a level that can't be told from others: %+v", v)
	}
}

// objects gives the paths of every object in a policy.
func objects(v any, path string) []string {
	m, ok := v.(map[string]any)
	if !ok || strings.Contains(path, "#") {
		return nil
	}
	paths := []string{path}
	for key, v := range m {
		paths = append(paths, objects(v, strings.TrimPrefix(path+"."+key, "."))...)
	}
	return paths
}

func TestAnUnknownKeyIsAlwaysRefused(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for name, changes := range map[string][]string{
		"enforced":       nil,
		"not applicable": {"conditions.authenticationFlows", `{"transferMethods": "deviceCodeFlow"}`},
		"agents":         {people, nobody, "conditions.agents", `{"includeAgentUsers": ["All"]}`},
	} {
		var p any
		if err := json.Unmarshal(change(t, changes...), &p); err != nil {
			t.Fatal(err)
		}
		for _, path := range objects(p, "") {
			for range 20 {
				key := make([]byte, 1+random.IntN(12))
				for i := range key {
					key[i] = "abcdefghijklmnopqrstuvwxyzABCDEIN_-@#0123456789 "[random.IntN(48)]
				}
				value := []string{"true", "false", "0", `"x"`, `["x"]`, `{"isEnabled": false}`, `[null]`, `{"a": {"b": 1}}`}[random.IntN(8)]
				at := strings.TrimPrefix(path+"."+string(key), ".")
				v, r := judged(t, change(t, append(slices.Clone(changes), at, value)...), nil, Options{AllowPartial: true})
				if v.Verdict != Refused || !slices.Contains(v.Parts, at) || len(r.Policies) != 0 {
					t.Fatalf("%s: %s with %s: %s is %+v", name, at, value, path, v)
				}
			}
		}
	}
}

func TestAKeyThatStandsTwiceIsRefused(t *testing.T) {
	for path, keys := range map[string][]string{
		"state":                                   {`"displayName":"Everything"`, `"state":"disabled","displayName":"Everything"`},
		"conditions.users.excludeGroups":          {`"excludeGroups"`, `"excludeGroups":[],"excludeGroups"`},
		"grantControls.operator":                  {`"operator":`, `"operator":"AND","operator":`},
		"conditions.devices.deviceFilter.mode":    {`"mode":"exclude"`, `"mode":"include","mode":"exclude"`},
		"sessionControls":                         {`"sessionControls":`, `"sessionControls":null,"sessionControls":`},
		"grantControls.authenticationStrength.id": {`"id":"00000000-0000-0000-0000-000000000004"`, `"id":"00000000-0000-0000-0000-000000000002","\u0069d":"00000000-0000-0000-0000-000000000004"`},
	} {
		data := string(change(t))
		if !strings.Contains(data, keys[0]) {
			t.Fatalf("no %s in %s", keys[0], data)
		}
		v, _ := judged(t, []byte(strings.Replace(data, keys[0], keys[1], 1)), nil, Options{AllowPartial: true})
		if v.Verdict != Refused || !slices.Contains(v.Parts, path+": stands twice") || v.Loaded {
			t.Errorf("%s: %+v", path, v)
		}
	}
}

func TestPartialIsNeverWeaker(t *testing.T) {
	always := []string{"sessionControls.persistentBrowser.mode", `"always"`}
	for _, test := range []struct {
		name    string
		changes []string
		loaded  bool
		check   func(policy.Policy) bool
	}{
		{"without a condition it applies to more", []string{"conditions.signInRiskLevels", `["high"]`}, true, func(p policy.Policy) bool { return p.Conditions.SignInRisk == nil }},
		{"what applies to more and blocks, blocks more", []string{"conditions.insiderRiskLevels", `"elevated"`, "grantControls", `{"operator": "OR", "builtInControls": ["block"]}`}, true, func(p policy.Policy) bool { return p.Grant.Block }},
		{"more sessions would outlive the browser", append([]string{"conditions.signInRiskLevels", `["high"]`}, always...), false, nil},
		{"without a rule it applies to every device", []string{"conditions.devices.deviceFilter.rule", `"device.extensionAttribute1 -eq \"PAW\""`}, true, func(p policy.Policy) bool { return p.Conditions.Devices == nil }},
		{"without a rule that includes, too", []string{"conditions.devices.deviceFilter", `{"mode": "include", "rule": "device.model -eq \"x\""}`}, true, func(p policy.Policy) bool { return p.Conditions.Devices == nil }},
		{"without an exclusion it applies to more", []string{"conditions.platforms.excludePlatforms", `["visionOS", "iOS"]`}, true, func(p policy.Policy) bool {
			return slices.Equal(p.Conditions.ExcludePlatforms, []policy.Platform{policy.IOS})
		}},
		{"without a platform it applies to fewer", []string{"conditions.platforms.includePlatforms", `["visionOS", "iOS"]`}, false, nil},
		{"without a kind of client it applies to fewer", []string{"conditions.clientAppTypes", `["browser", "easSupported"]`}, false, nil},
		{"some guests are excluded, none will be", []string{people + ".excludeGuestsOrExternalUsers", `{"guestOrExternalUserTypes": "internalGuest", "externalTenants": {"membershipKind": "all"}}`}, true, func(p policy.Policy) bool { return !p.Conditions.ExcludeUsers.Guests }},
		{"some guests are selected, all will be", []string{people + ".includeGuestsOrExternalUsers", `{"guestOrExternalUserTypes": "internalGuest", "externalTenants": {"membershipKind": "all"}}`}, true, func(p policy.Policy) bool { return p.Conditions.Users.Guests }},
		{"guests of a kind that nobody knows", []string{people + ".includeGuestsOrExternalUsers", `{"guestOrExternalUserTypes": "martian"}`}, false, nil},
		{"without one way of several there are fewer ways in", []string{"grantControls.builtInControls", `["mfa", "approvedApplication"]`}, true, func(p policy.Policy) bool { return p.Grant.MFA && p.Grant.Any }},
		{"without one of the controls that are all needed, less is", []string{"grantControls.operator", `"AND"`, "grantControls.builtInControls", `["mfa", "approvedApplication"]`}, false, nil},
		{"without the only control nothing is demanded", []string{"grantControls", `{"operator": "OR", "builtInControls": ["approvedApplication"]}`}, false, nil},
		{"without two ways there is still the third", []string{"grantControls", `{"operator": "OR", "builtInControls": ["approvedApplication", "compliantApplication"], "termsOfUse": ["x"]}`}, true, func(p policy.Policy) bool { return slices.Equal(p.Grant.Terms, []string{"x"}) }},
		{"a control that nobody knows may say anything", []string{"grantControls.builtInControls", `["mfa", "unlessItIsSunday"]`}, false, nil},
		{"a session control is on top", []string{"sessionControls.applicationEnforcedRestrictions", `{"isEnabled": true}`}, false, nil},
		{"continuous evaluation is more than none", []string{"sessionControls.continuousAccessEvaluation.mode", `"disabled"`}, true, nil},
		{"without its action it applies to nothing", []string{targets, `{"includeUserActions": ["urn:user:registerdevice"]}`}, false, nil},
		{"without one of its actions it applies to fewer", []string{targets, `{"includeUserActions": ["urn:user:registerdevice", "urn:user:registersecurityinfo"]}`}, false, nil},
		{"without a context it applies to fewer", []string{targets, `{"includeAuthenticationContextClassReferences": ["c1"]}`}, false, nil},
		{"applications that are filtered out are in", []string{targets + ".applicationFilter", `{"mode": "exclude", "rule": "x"}`}, true, nil},
		{"applications that are filtered in are not", []string{targets, `{"applicationFilter": {"mode": "include", "rule": "x"}}`}, false, nil},
		{"one part may be left out, another not", []string{"conditions.signInRiskLevels", `["high"]`, "sessionControls.secureSignInSession", `{"isEnabled": true}`}, false, nil},
		{"two parts may be left out", []string{"conditions.signInRiskLevels", `["high"]`, "grantControls.builtInControls", `["mfa", "passwordChange"]`}, true, func(p policy.Policy) bool { return p.Conditions.SignInRisk == nil && !p.Grant.PasswordChange }},
		{"a part may be left out, and a name is missing", []string{"conditions.signInRiskLevels", `["high"]`, people, `{"includeGroups": ["<G>"]}`}, false, nil},
		{"a strength that is restricted to certificates, beside others", []string{"grantControls.authenticationStrength", `{"displayName": "Cards", "allowedCombinations": ["x509CertificateMultiFactor"], "combinationConfigurations": [{"allowedIssuerSkis": ["9A"], "appliesToCombinations": ["x509CertificateMultiFactor"]}]}`}, true, func(p policy.Policy) bool { return p.Grant.Strength == "" }},
	} {
		t.Run(test.name, func(t *testing.T) {
			data := change(t, test.changes...)
			v, r := judged(t, data, nil, Options{AllowPartial: true})
			if v.Verdict != Refused || v.Loaded != test.loaded || len(r.Policies) == 1 != test.loaded {
				t.Fatalf("%+v", v)
			}
			if test.check != nil && !test.check(r.Policies[0]) {
				t.Errorf("%+v", r.Policies[0])
			}
			if _, r := judged(t, data, nil, Options{}); len(r.Policies) != 0 {
				t.Error("it is loaded without being asked for")
			}
		})
	}
}

func TestFilesOfManyPolicies(t *testing.T) {
	one := string(change(t))
	for name, test := range map[string]struct {
		data     string
		verdicts int
		err      string
	}{
		"a list":                               {"[" + one + "," + one + "]", 2, ""},
		"Graph's answer":                       {`{"@odata.context": "x", "@odata.count": 2, "@microsoft.graph.tips": "use $select", "value": [` + one + "," + one + "]}", 2, ""},
		"Graph's answer without policies":      {`{"value": []}`, 0, ""},
		"an answer that goes on":               {`{"value": [` + one + `], "@odata.nextLink": "https://graph.example/?$skiptoken=x"}`, 1, "file: the list goes on at its @odata.nextLink: these are not all policies"},
		"an answer with something beside it":   {`{"value": [` + one + `], "more": [1]}`, 1, `file: "more" stands beside the list, and nobody here knows it`},
		"two answers in one":                   {`{"value": [` + one + `], "value": []}`, 0, `file: "value" stands twice, and what the list is depends on who reads it`},
		"a list with a group among them":       {"[" + one + `, {"displayName": "Finance"}]`, 1, "file: no Conditional Access policy: it has neither conditions nor controls"},
		"a group":                              {`{"displayName": "Finance", "groupTypes": []}`, 0, "file: no Conditional Access policy: it has neither conditions nor controls"},
		"groups":                               {`{"value": [{"displayName": "Finance"}, {"displayName": "HR"}]}`, 0, "file: no Conditional Access policy: it has neither conditions nor controls"},
		"a policy in an envelope":              {`{"ExportDate": "x", "PolicyConfig": ` + one + `}`, 0, "file: PolicyConfig is a policy, but " + ErrWrapped.Error()},
		"policies under another key":           {`{"policies": [` + one + `]}`, 0, "file: policies[0] is a policy, but " + ErrWrapped.Error()},
		"templates of Graph's":                 {`{"value": [{"name": "Block", "details": {"conditions": {"users": {"includeUsers": ["All"]}}}}]}`, 0, "file: [0].details is a policy, but " + ErrWrapped.Error()},
		"a policy with its parts side by side": {`{"ResourceName": "AADConditionalAccessPolicy", "DisplayName": "x", "IncludeUsers": ["All"], "BuiltInControls": ["mfa"]}`, 0, "file: a policy, but " + ErrWrapped.Error()},
		"a number":                             {`3`, 0, "file: no Conditional Access policy: it has neither conditions nor controls"},
		"an empty object":                      {`{}`, 0, "file: no Conditional Access policy: it has neither conditions nor controls"},
	} {
		t.Run(name, func(t *testing.T) {
			r := Import([]File{{"file", []byte(test.data)}}, nil, Options{})
			var errs []string
			for _, err := range r.Errors {
				errs = append(errs, err.Error())
			}
			if len(r.Verdicts) != test.verdicts || strings.Join(errs, "\n") != test.err {
				t.Errorf("%d verdicts, errors %q", len(r.Verdicts), errs)
			}
		})
	}
}

func TestWhatLiesBesideThePoliciesHasNames(t *testing.T) {
	r := Import([]File{
		{"a", []byte(`{"id": "8E75AF29-0000-4372-a718-724b8a4620dc", "displayName": "Staff"}`)},
		{"b", []byte(`{"value": [{"id": "1", "displayName": "Office"}, {"id": "2"}]}`)},
		{"c", []byte(`[{"Id": "3", "DisplayName": "Keys"}]`)},
	}, nil, Options{})
	if want := map[string]string{"8e75af29-0000-4372-a718-724b8a4620dc": "Staff", "1": "Office", "3": "Keys"}; !reflect.DeepEqual(r.Others, want) {
		t.Errorf("%v, want %v", r.Others, want)
	}
	if len(r.Errors) != 3 || len(r.Verdicts) != 0 {
		t.Errorf("%+v", r)
	}
}

func TestOneBadFileHidesNoOther(t *testing.T) {
	r := Import([]File{{"a", []byte(`{"displayName": "a",`)}, {"b", change(t)}, {"c", []byte("[}")}}, nil, Options{})
	if len(r.Verdicts) != 1 || len(r.Errors) != 2 || r.Errors[0].File != "a" || r.Errors[1].File != "c" {
		t.Errorf("%+v", r)
	}
}
