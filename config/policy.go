package config

import "net/netip"

// Policy is a Conditional Access policy. Everything in it must match for the policy to apply; what is excluded is not
// included. Lists hold the words of the Caddyfile.
type Policy struct {
	// The policy's name: in logs, metrics, answers of commands. Required.
	Name string `json:"name"`

	// enabled, disabled, or report_only: judged and logged, and never felt. Required.
	State string `json:"state"`

	// Whom it concerns: all, none, guests, <user> or user:<user>, group:<name>, role:<name>. Required.
	Users []string `json:"users,omitempty"`

	// Whom it doesn't concern: guests, <user> or user:<user>, group:<name>, role:<name>. Default: nobody.
	ExcludeUsers []string `json:"exclude_users,omitempty"`

	// The applications that it guards: all, none, or their names. This or user_action is required.
	Applications []string `json:"applications,omitempty"`

	// Applications that it doesn't guard. Default: none.
	ExcludeApplications []string `json:"exclude_applications,omitempty"`

	// What it guards in place of applications: register_security_info, which is to register, change or remove a factor.
	UserAction string `json:"user_action,omitempty"`

	// Kinds of clients: all, or browser, mobile_and_desktop, exchange_active_sync, other. Default: all.
	ClientApps []string `json:"client_apps,omitempty"`

	// What the device says that it runs: all, or android, ios, windows, windows_phone, macos, linux. Default: all.
	Platforms []string `json:"platforms,omitempty"`

	// Platforms to which it doesn't apply. Default: none.
	ExcludePlatforms []string `json:"exclude_platforms,omitempty"`

	// Where the client is: all, trusted, or names of named locations. Default: all.
	Locations []string `json:"locations,omitempty"`

	// Where it doesn't apply: trusted, or names of named locations. Default: nowhere.
	ExcludeLocations []string `json:"exclude_locations,omitempty"`

	// Levels of risk. Refused as long as nothing detects a risk.
	SignInRisk []string `json:"sign_in_risk,omitempty"`
	UserRisk   []string `json:"user_risk,omitempty"`

	// A rule about the device. Default: all devices.
	Devices *DeviceFilter `json:"devices,omitempty"`

	// What lets somebody in. This, sign_in_frequency or persistent_browser is required.
	Grant *Grant `json:"grant,omitempty"`

	// How old a proof may be. Default: as old as the session.
	SignInFrequency *SignInFrequency `json:"sign_in_frequency,omitempty"`

	// Whether a session outlives the browser: always or never. With `applications all` only. Default: as `session` says.
	PersistentBrowser string `json:"persistent_browser,omitempty"`
}

// The words of a policy's state.
const (
	StateEnabled    = "enabled"
	StateDisabled   = "disabled"
	StateReportOnly = "report_only"
)

// DeviceFilter selects devices by a rule in Entra's syntax. Exactly one of its fields is set.
type DeviceFilter struct {
	// The policy applies to devices that match.
	Include string `json:"include,omitempty"`

	// The policy applies to devices that don't match.
	Exclude string `json:"exclude,omitempty"`
}

// Grant is what lets somebody in. Exactly one of its fields is set. The controls are mfa, strength:<name>,
// compliant_device, domain_joined_device, terms:<name>.
type Grant struct {
	// Nothing does.
	Block bool `json:"block,omitempty"`

	// All of these controls are needed.
	AllOf []string `json:"all_of,omitempty"`

	// One of these controls is enough.
	AnyOf []string `json:"any_of,omitempty"`
}

// Controls are those of the operator that is set.
func (g *Grant) Controls() []string {
	if g == nil {
		return nil
	}
	return append(g.AllOf[:len(g.AllOf):len(g.AllOf)], g.AnyOf...)
}

// SignInFrequency is how old a proof may be. Exactly one of Every and EveryTime is set.
type SignInFrequency struct {
	// Whole hours or days, at most 365d.
	Every Duration `json:"every,omitzero"`

	// At most five minutes when an application is entered, or a step-up or a user action begins. Default: false.
	EveryTime bool `json:"every_time,omitempty"`

	// Only the second factor must be as young, not the password. Default: false.
	Secondary bool `json:"secondary,omitempty"`
}

// PolicyImport loads policies that were exported from Entra. They stand beside those that are written here.
type PolicyImport struct {
	// Files, folders, and patterns such as policies/*.json. At least one is required.
	Files []string `json:"files"`

	// YAML file that says what the ids of users, groups, roles, applications and locations are called here. Default: none.
	Names string `json:"names,omitempty"`

	// Leaves out parts that can't be enforced, where the policy then applies to more or demands more. Default: false.
	AllowPartial bool `json:"allow_partial,omitempty"`
}

// NamedLocation is a set of address ranges, or a set of countries.
type NamedLocation struct {
	// What policies call it. Required.
	Name string `json:"name"`

	// Address ranges.
	Ranges []netip.Prefix `json:"ranges,omitempty"`

	// The ranges belong to `locations trusted`. Default: false.
	Trusted bool `json:"trusted,omitempty"`

	// Countries, as two letters of ISO 3166. They need `geoip`.
	Countries []string `json:"countries,omitempty"`

	// Also addresses that belong to no country. With countries only. Default: false.
	IncludeUnknown bool `json:"include_unknown,omitempty"`
}

// Strength is an authentication strength: combinations of methods, each of which is enough.
type Strength struct {
	// What policies call it: strength:<name>. Required.
	Name string `json:"name"`

	// Graph's words, joined by commas: fido2, or password,softwareOath. At least one is required.
	Combinations []string `json:"combinations"`

	// The models of security keys that count as fido2, by AAGUID, if their makers vouch for them: see factor.webauthn.attestation_roots,
	// which is required then. Default: every passkey.
	AAGUIDs []string `json:"aaguids,omitempty"`
}

// DeviceRules say which client certificates, that Caddy has verified, belong to which devices.
type DeviceRules struct {
	// What `compliant_device` means. Default: no device is compliant.
	Compliant string `json:"compliant,omitempty"`

	// What `domain_joined_device` means. Default: no device has joined a domain.
	DomainJoined string `json:"domain_joined,omitempty"`
}

// Terms are terms of use.
type Terms struct {
	// What policies call them: terms:<name>. Required.
	Name string `json:"name"`

	// Who has accepted an older version is asked again. At least 1. Required.
	Version int `json:"version"`

	// File that holds the text. Required.
	Text string `json:"text"`
}

// PerUserMFA holds the settings of the per-user setting, `mfa user state`. Without it nobody has one.
type PerUserMFA struct {
	// Address ranges from which nobody is asked for a second factor because of it. Default: none.
	TrustedRanges []netip.Prefix `json:"trusted_ranges,omitempty"`

	// The factors that count: totp, webauthn, push, sms, voice, email, recovery_codes. Default: all.
	Methods []string `json:"methods,omitempty"`

	// For how long a user may put off registering, from when he was first asked. Default: 0.
	RegistrationGrace Duration `json:"registration_grace,omitzero"`

	// on or off: whether users whose setting is enabled or enforced may use app passwords in every application that doesn't
	// say `app_passwords off`. Default: off.
	AppPasswords string `json:"app_passwords,omitempty"`

	// For how long a browser stands for the second step of a user who has such a setting and ticks that box. Whole days, from 1d to
	// 365d. Of this and `remember_browser` in `session` the shorter counts. Default: what `session` says.
	RememberBrowser Duration `json:"remember_browser,omitzero"`
}
