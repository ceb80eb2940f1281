// Package config is what an operator can say, as plain Go values. The comment of a field is its entry in the manual
// and ends in its default. The JSON names are the Caddyfile's words in snake_case.
package config

import (
	"encoding/json"
	"net/netip"
	"time"
)

// Config is the app `mfa`: the global option `mfa { … }` of a Caddyfile, `apps.mfa` in JSON.
type Config struct {
	// Where state is kept: a module of the namespace mfa.stores. Default: bolt.
	StoreRaw json.RawMessage `json:"store,omitempty" caddy:"namespace=mfa.stores inline_key=module"`

	// Where sessions are kept, if elsewhere. They may be lost: then everybody signs in again. Default: as `store`.
	SessionsRaw json.RawMessage `json:"sessions,omitempty" caddy:"namespace=mfa.stores inline_key=module"`

	// Where accounts are kept, if elsewhere: registrations, counters, states. They may not be lost. Default: as `store`.
	AccountsRaw json.RawMessage `json:"accounts,omitempty" caddy:"namespace=mfa.stores inline_key=module"`

	// Secrets of at least 32 bytes, the newest first; older ones still open what they have sealed. Placeholders
	// are allowed: {file./run/secrets/mfa}, {env.MFA_SECRET}. Required with a store that several machines share.
	// Default: one is made at the first start, and kept in Caddy's storage in a file of its own.
	Secret []string `json:"secret,omitempty"`

	// How long a session lasts.
	Session Session `json:"session,omitzero"`

	// Where a first factor may be registered. Default: anywhere, with the password.
	Registration *Registration `json:"registration,omitempty"`

	// The directories that know the users. They are asked in this order; the first that knows a name decides.
	// At least one is required, unless every application is `legacy_only`.
	Users []Directory `json:"users,omitempty"`

	// Settings of the second factors. Default: passkeys, authenticator app, recovery codes and
	// temporary access passes.
	Factor Factor `json:"factor,omitzero"`

	// What sends codes: modules of the namespace mfa.senders, by the names under which factors use them. Default: none.
	SendersRaw map[string]json.RawMessage `json:"senders,omitempty" caddy:"namespace=mfa.senders inline_key=module"`

	// How many codes are sent in a day.
	MessageLimits MessageLimits `json:"message_limits,omitzero"`

	// The mails that tell people what has changed about their accounts. Default: they are sent where there is `factor email`.
	NotifyChanges NotifyChanges `json:"notify_changes,omitzero"`

	// Whom to ask for help, shown at the foot of every page: "Service desk, room 12, phone 1234". Default: nothing.
	Help string `json:"help,omitempty"`

	// Security defaults: every user needs a second factor, in every application. Default: on.
	SecurityDefaults SecurityDefaults `json:"security_defaults,omitzero"`

	// Conditional Access policies, in one evaluation with those of `policy_imports`. Enabled ones need security
	// defaults to be off. Default: none.
	Policies []Policy `json:"policies,omitempty"`

	// Policies that are loaded from files: `policies import`. Default: none.
	PolicyImports []PolicyImport `json:"policy_imports,omitempty"`

	// Places that policies name. Default: none.
	NamedLocations []NamedLocation `json:"named_locations,omitempty"`

	// MaxMind DB file that knows the country of an address. It is read again when it changes. Required with countries.
	GeoIP string `json:"geoip,omitempty"`

	// Authentication strengths that policies name, beside mfa, passwordless and phishing_resistant. Default: none.
	Strengths []Strength `json:"strengths,omitempty"`

	// Which client certificates belong to compliant devices, and which to devices in the domain. Default: none.
	DeviceRules DeviceRules `json:"device_rules,omitzero"`

	// Terms of use that policies name. Default: none.
	Terms []Terms `json:"terms,omitempty"`

	// Lets administrators decide user by user, where security defaults and policies don't. Default: off.
	PerUserMFA *PerUserMFA `json:"per_user_mfa,omitempty"`

	// For how long app passwords last, and what they outlive.
	AppPasswords AppPasswords `json:"app_passwords,omitzero"`

	// Keys for machines. Default: none.
	ServiceTokens []ServiceToken `json:"service_tokens,omitempty"`

	// Every class of legacy authentication is reported and not blocked, in every application and whatever policies say of
	// legacy clients. Only what is verified passes, or what is inside the scope of a rule. Default: false.
	LegacyEmergency bool `json:"legacy_emergency,omitempty"`

	// The sign-in log, which `mfa sign-ins` reads. It is kept where accounts are. Default: on.
	SignInLog SignInLog `json:"sign_in_log,omitzero"`

	// Who still uses legacy authentication, which `mfa legacy report` shows. It is kept where accounts are. Default: on.
	LegacyReport LegacyInventory `json:"legacy_report,omitzero"`
}

// Session says how long a session lasts.
type Session struct {
	// The session ends after so long without a request that counts as activity. Default: 1h.
	Idle Duration `json:"idle,omitzero"`

	// The session ends so long after sign-in, whatever happens. Default: 12h.
	Lifetime Duration `json:"lifetime,omitzero"`

	// "Stay signed in": for how long a session lasts whose owner ticks that box, without activity too. Whole days, from 1d to 365d.
	// Never for users with a role. Default: there is no such box.
	Remember Duration `json:"remember,omitzero"`

	// "Don't ask for the second step on this browser": for how long a browser stands for the second step of a user who ticks that
	// box. Whole days, from 1d to 365d. Never for users with a role. Default: there is no such box.
	RememberBrowser Duration `json:"remember_browser,omitzero"`

	// For how long this process may answer from what it has read of the store, while the store tells it of every
	// change. Default: 30s.
	Cache Duration `json:"cache,omitzero"`
}

// Registration bounds the registration of a first factor. With both, one of them is enough: inside the ranges the
// password, elsewhere a temporary access pass.
type Registration struct {
	// Address ranges from which the password is enough.
	From []netip.Prefix `json:"from,omitempty"`

	// A temporary access pass must have been proven. Default: off.
	RequirePass bool `json:"require_pass,omitempty"`
}

// Directory is one source of users. Exactly one of its fields is set.
type Directory struct {
	File     *FileDirectory     `json:"file,omitempty"`
	Htpasswd *HtpasswdDirectory `json:"htpasswd,omitempty"`
}

// Name is what accounts are kept under.
func (d Directory) Name() string {
	switch {
	case d.File != nil && d.File.Name != "":
		return d.File.Name
	case d.File != nil:
		return "file"
	case d.Htpasswd != nil && d.Htpasswd.Name != "":
		return d.Htpasswd.Name
	case d.Htpasswd != nil:
		return "htpasswd"
	}
	return ""
}

// FileDirectory is a YAML file of users.
type FileDirectory struct {
	// The file. It is read again when it changes. Required.
	Path string `json:"path"`

	// The name that accounts are kept under. It must not change: the accounts would be lost. Default: file.
	Name string `json:"name,omitempty"`
}

// HtpasswdDirectory is a file of users that Apache's htpasswd has written.
type HtpasswdDirectory struct {
	// The file. It is read again when it changes. Required.
	Path string `json:"path"`

	// The name that accounts are kept under. It must not change: the accounts would be lost. Default: htpasswd.
	Name string `json:"name,omitempty"`

	// A file of groups, in the format of Apache's AuthGroupFile. It is read again when it changes. Default: nobody is in a group.
	Groups string `json:"groups,omitempty"`

	// The day until whose beginning, in UTC, passwords are accepted that are kept as apr1 or SHA-1. Default: such lines are
	// mistakes.
	WeakHashesUntil Date `json:"weak_hashes_until,omitzero"`
}

// Factor holds the settings of the second factors.
type Factor struct {
	TOTP          *TOTP          `json:"totp,omitempty"`
	WebAuthn      *WebAuthn      `json:"webauthn,omitempty"`
	RecoveryCodes *RecoveryCodes `json:"recovery_codes,omitempty"`

	// Approval on a phone, with number matching. Default: none.
	Push *Push `json:"push,omitempty"`

	// Codes by text message, by phone call, by mail. A person can register them while security defaults are off. Default: none.
	SMS   *SentFactor `json:"sms,omitempty"`
	Voice *SentFactor `json:"voice,omitempty"`
	Email *SentFactor `json:"email,omitempty"`
}

// TOTP is the authenticator app.
type TOTP struct {
	// What the app shows beside the code. Default: the host that the user registers at.
	Issuer string `json:"issuer,omitempty"`
}

// WebAuthn is passkeys and security keys.
type WebAuthn struct {
	// The domain that passkeys are good for, with every host below it. Passkeys that were registered under another are not good any
	// more. Default: each is good for the host that it was registered on.
	RPID string `json:"rp_id,omitempty"`

	// What browsers call the one who asks. Default: the domain.
	DisplayName string `json:"display_name,omitempty"`

	// Origins outside of the domain that its passkeys are good for too: https, host, and port if it isn't 443. Browsers ask the domain
	// itself for this list, at /.well-known/webauthn. Needs rp_id. Default: none.
	RelatedOrigins []string `json:"related_origins,omitempty"`

	// File or folder of certificates (PEM) of the makers of security keys who are believed about what they have made. With it, browsers
	// are asked for the maker's attestation when a passkey is registered. Required with aaguids in a strength. Default: nobody is asked.
	AttestationRoots string `json:"attestation_roots,omitempty"`
}

// Push is approval on a phone: a page of ours in its browser.
type Push struct {
	// Whom push services turn to when something is wrong with the notifications: mailto:ops@example.com, or an address with https.
	// Without it, none are sent, and phones learn of a sign-in while their page is open. Default: none.
	Contact string `json:"contact,omitempty"`

	// Hosts of push services, with port, that may be at private addresses: push.corp.example:8443. Others must be on the internet. Default: none.
	Allow []string `json:"allow,omitempty"`
}

// RecoveryCodes has no settings. There are ten, made when a first factor is registered.
type RecoveryCodes struct{}

// SecurityDefaults is the policy that holds when nobody writes another.
type SecurityDefaults struct {
	// Turns security defaults off: then the password is enough for everybody. Default: false.
	Off bool `json:"off,omitempty"`

	// For how long a user may put off registering his second factor, from his first sign-in. Default: 14d.
	RegistrationGrace *Duration `json:"registration_grace,omitempty"`

	// The day at whose beginning, in UTC, the grace period ends for everybody. Default: none.
	Until Date `json:"until,omitzero"`
}

// SignInLog says how much is kept of who signed in.
type SignInLog struct {
	// Keeps nothing. What is written to the log mfa.signin stays as it is. Default: false.
	Off bool `json:"off,omitempty"`

	// For how long a sign-in is kept, from 1h to 3650d. Default: 30d.
	Keep Duration `json:"keep,omitzero"`

	// How many sign-ins are kept, from 1000 to 1000000. Default: 100000.
	Max int `json:"max,omitzero"`
}

// Application is the directive `mfa` of a site: the handler `mfa` in JSON.
type Application struct {
	// The application's name: in policies, logs, pages. Default: the site's host, where it has exactly one.
	Application string `json:"application,omitempty"`

	// Paths that are reached without signing in: a path, or a prefix that ends in /*. Both the path that was
	// asked for and the one that it was rewritten to must be inside. Default: none.
	Bypass []string `json:"bypass,omitempty"`

	// Paths whose requests don't count as activity, in the same notation. Default: none.
	NoIdle []string `json:"no_idle,omitempty"`

	// Answers /.well-known/passkey-endpoints and /.well-known/change-password on the site, in the application's place. Default: false.
	WellKnown bool `json:"well_known,omitempty"`

	// The headers that tell the application who is signed in.
	Identity Identity `json:"identity,omitzero"`

	// What becomes of legacy authentication: `legacy_auth`. Default: what policy says; where nobody signs in, it is blocked.
	LegacyAuth []LegacyRule `json:"legacy_auth,omitempty"`

	// Whom legacy authentication is allowed all the same, until when and why: `legacy_exception`. Default: nobody.
	LegacyExceptions []LegacyException `json:"legacy_exceptions,omitempty"`

	// on or off: whether app passwords open this application. Default: off, except for users for whom `per_user_mfa` has
	// them on.
	AppPasswords string `json:"app_passwords,omitempty"`

	// Whether app passwords may come over HTTP Digest, too: `app_passwords on digest`. Programs that know both then choose Digest, over which
	// only those are good that were made since. Default: false.
	AppPasswordsDigest bool `json:"app_passwords_digest,omitempty"`

	// Whether service tokens open this application. Default: false.
	ServiceTokens bool `json:"service_tokens,omitempty"`

	// Nobody signs in here: legacy authentication is recognised, counted and blocked, and every other request passes
	// as it came. Default: false.
	LegacyOnly bool `json:"legacy_only,omitempty"`

	// Paths that the application's own sign-in form is sent to, in the notation of bypass. A POST to one of them is legacy
	// authentication of the class form-login. Default: none.
	LoginPaths []string `json:"legacy_login,omitempty"`

	// What becomes of a legacy credential, such as Basic, that comes with a session: strip removes it, pass lets Basic, Digest and
	// signed requests reach the application, replace puts the application's own in its place, which `upstream_basic` names.
	// Default: strip; with `upstream_basic`, replace.
	WithSession string `json:"with_session,omitempty"`

	// The application's own credential, user:password, sent to it with HTTP Basic for those who may pass: a reference such as
	// {file./run/secrets/hr} or {env.HR_LOGIN}, or a user name, a colon and a reference to the password; or per_user: each user's
	// own, which he or an administrator stores. Default: none.
	UpstreamBasic string `json:"upstream_basic,omitempty"`
}

// What becomes of a legacy credential that comes with a session.
const (
	WithSessionStrip   = "strip"
	WithSessionPass    = "pass"
	WithSessionReplace = "replace"
)

// PerUser is the word of `upstream_basic` for credentials that each user has of his own.
const PerUser = "per_user"

// Identity names the headers that an application gets.
type Identity struct {
	User   string `json:"user,omitempty"`   // Default: Remote-User
	Groups string `json:"groups,omitempty"` // Default: Remote-Groups
	Name   string `json:"name,omitempty"`   // Default: Remote-Name
	Email  string `json:"email,omitempty"`  // Default: Remote-Email
}

// Bolt is the store in one file.
type Bolt struct {
	// The file. Default: mfa/store.db in Caddy's data directory.
	File string `json:"file,omitempty"`
}

// Redis is the store that several machines can share. Placeholders are allowed in address, username, password and ca.
type Redis struct {
	// host:port. Default: localhost:6379.
	Address string `json:"address,omitempty"`

	// ACL user. Default: Redis' default user.
	Username string `json:"username,omitempty"`

	Password string `json:"password,omitempty"`

	// TLS to the server. Default: none.
	TLS *RedisTLS `json:"tls,omitempty"`

	// Number of the database. Default: 0.
	Database int `json:"database,omitempty"`

	// What every key begins with. Default: mfa:
	Prefix string `json:"prefix,omitempty"`
}

// RedisTLS is how the server proves who it is.
type RedisTLS struct {
	// PEM file of the authorities that may have signed the server's certificate. Default: the system's.
	CA string `json:"ca,omitempty"`
}

// Defaults.
const (
	DefaultIdle              = time.Hour
	DefaultLifetime          = 12 * time.Hour
	DefaultCache             = 30 * time.Second
	DefaultRegistrationGrace = 14 * 24 * time.Hour
	DefaultSignInLogKeep     = 30 * 24 * time.Hour
	DefaultSignInLogMax      = 100000
	DefaultRedisAddress      = "localhost:6379"
	DefaultRedisPrefix       = "mfa:"
)

// SetDefaults fills in what was not said.
func (c *Config) SetDefaults() {
	setDefault(&c.Session.Idle, Duration(DefaultIdle))
	setDefault(&c.Session.Lifetime, Duration(DefaultLifetime))
	setDefault(&c.Session.Cache, Duration(DefaultCache))
	if c.SecurityDefaults.RegistrationGrace == nil {
		grace := Duration(DefaultRegistrationGrace)
		c.SecurityDefaults.RegistrationGrace = &grace
	}
	setDefault(&c.SignInLog.Keep, Duration(DefaultSignInLogKeep))
	setDefault(&c.SignInLog.Max, DefaultSignInLogMax)
	setDefault(&c.LegacyReport.Keep, Duration(DefaultLegacyReportKeep))
	c.AppPasswords.SetDefaults()
	c.MessageLimits.SetDefaults()
	for _, d := range c.Users {
		switch {
		case d.File != nil:
			setDefault(&d.File.Name, d.Name())
		case d.Htpasswd != nil:
			setDefault(&d.Htpasswd.Name, d.Name())
		}
	}
}

// SetDefaults fills in what was not said.
func (a *Application) SetDefaults() {
	setDefault(&a.Identity.User, "Remote-User")
	setDefault(&a.Identity.Groups, "Remote-Groups")
	setDefault(&a.Identity.Name, "Remote-Name")
	setDefault(&a.Identity.Email, "Remote-Email")
	if a.UpstreamBasic != "" {
		setDefault(&a.WithSession, WithSessionReplace)
	}
	setDefault(&a.WithSession, WithSessionStrip)
}

// SetDefaults fills in what was not said.
func (r *Redis) SetDefaults() {
	setDefault(&r.Address, DefaultRedisAddress)
	setDefault(&r.Prefix, DefaultRedisPrefix)
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
