package policy

import (
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// Policy is one Conditional Access policy, with names in place of Entra's ids. It says what Graph's conditionalAccessPolicy
// says, as far as that means something in front of web applications; package graph reads and writes that form.
type Policy struct {
	ID         string // Graph's id; empty for one that was written by hand
	Name       string // displayName
	State      State
	Conditions Conditions
	Grant      Grant
	Session    SessionControls
}

// State says whether a policy is in force. The zero State is none.
type State string

// The states, in Graph's words.
const (
	Enabled    State = "enabled"
	Disabled   State = "disabled"
	ReportOnly State = "enabledForReportingButNotEnforced"
)

// Names that select without naming anything.
const (
	All        = "All"        // applications, locations
	None       = "None"       // applications
	AllTrusted = "AllTrusted" // locations
)

// Conditions are a policy's assignments. All that are configured must match; what is excluded is not included.
type Conditions struct {
	Users        Users
	ExcludeUsers Users

	// The target: applications by name, All or None; or user actions in their place.
	Applications        []string
	ExcludeApplications []string
	UserActions         []UserAction

	ClientApps []ClientApp // empty: all

	Platforms        []Platform // empty: all
	ExcludePlatforms []Platform

	Locations        []string // names of named locations, All, AllTrusted; empty: all
	ExcludeLocations []string

	SignInRisk []Risk // empty: all
	UserRisk   []Risk

	Devices *DeviceFilter // nil: all
}

// Users selects people.
type Users struct {
	All    bool
	None   bool // nobody, and nothing else beside it
	Guests bool // whom their directory calls a guest
	Users  []string
	Groups []string
	Roles  []string
}

// Empty says whether nothing at all is selected, not even None.
func (u Users) Empty() bool {
	return !u.All && !u.None && !u.Guests && len(u.Users)+len(u.Groups)+len(u.Roles) == 0
}

// UserAction is something that a person begins, other than to enter an application.
type UserAction string

// RegisterSecurityInfo is the registration, change or removal of a factor.
const RegisterSecurityInfo UserAction = "urn:user:registersecurityinfo"

// ClientApp is a kind of client.
type ClientApp = mfa.ClientApp

// The kinds. The last two are legacy authentication.
const (
	Browser                      = mfa.Browser
	MobileAndDesktop   ClientApp = "mobileAppsAndDesktopClients"
	ExchangeActiveSync ClientApp = "exchangeActiveSync"
	OtherClients       ClientApp = "other"
)

// ClientApps lists every kind.
var ClientApps = []ClientApp{Browser, MobileAndDesktop, ExchangeActiveSync, OtherClients}

// Platform is what a device runs.
type Platform = mfa.Platform

// The platforms. AllPlatforms also matches one that nobody knows.
const (
	AllPlatforms Platform = "all"
	Android      Platform = "android"
	IOS          Platform = "iOS"
	Windows      Platform = "windows"
	WindowsPhone Platform = "windowsPhone"
	MacOS        Platform = "macOS"
	Linux        Platform = "linux"
)

// Platforms lists every platform that can be named.
var Platforms = []Platform{Android, IOS, Windows, WindowsPhone, MacOS, Linux}

// Risk is how likely it is that somebody else signs in.
type Risk string

// The levels.
const (
	LowRisk    Risk = "low"
	MediumRisk Risk = "medium"
	HighRisk   Risk = "high"
	NoRisk     Risk = "none"
)

// DeviceFilter selects devices by a rule in Entra's syntax, see package filter.
type DeviceFilter struct {
	Exclude bool // the policy applies to devices that the rule does not match
	Rule    string
}

// Grant is what lets somebody in: nothing (the zero Grant), or never (Block), or the controls that are set.
type Grant struct {
	Block bool
	Any   bool // one of the controls is enough (OR); else all of them are needed (AND)

	MFA                bool
	Strength           string // name of an authentication strength
	CompliantDevice    bool
	DomainJoinedDevice bool
	PasswordChange     bool
	Terms              []string // names of terms of use
}

// Empty says whether nothing is demanded.
func (g Grant) Empty() bool {
	return !g.Block && !g.MFA && g.Strength == "" && !g.CompliantDevice && !g.DomainJoinedDevice && !g.PasswordChange && len(g.Terms) == 0
}

// DemandsMFA says whether a second factor is among what is demanded.
func (g Grant) DemandsMFA() bool { return g.MFA || g.Strength != "" }

// SessionControls bound what comes after the sign-in.
type SessionControls struct {
	SignInFrequency *SignInFrequency // nil: as long as the session lasts
	Persistent      Persistence
}

// SignInFrequency is how old a proof may be.
type SignInFrequency struct {
	Every     time.Duration // zero with EveryTime
	EveryTime bool          // at most EveryTimeAge old when an application is entered, a step-up or a user action begins

	// SecondaryOnly leaves the password alone: only second factors must be as young.
	SecondaryOnly bool
}

// EveryTimeAge is how old a proof may be for a policy that wants one every time.
const EveryTimeAge = 5 * time.Minute

// Persistence says whether a session outlives the browser that holds it.
type Persistence string

// The persistences. The zero Persistence leaves it to the operator's settings.
const (
	AlwaysPersistent Persistence = "always"
	NeverPersistent  Persistence = "never"
)
