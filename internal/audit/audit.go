// Package audit says who did what: one event for each step, and one record for each sign-in. Neither holds a secret.
package audit

import (
	"crypto/rand"
	"encoding/base32"
	"net/netip"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// Type is what happened. Its text stands in logs.
type Type string

// The types of events.
const (
	PasswordAccepted    Type = "password_accepted"
	PasswordRefused     Type = "password_refused"
	PasswordThrottled   Type = "password_throttled"
	FactorAccepted      Type = "factor_accepted"
	FactorRefused       Type = "factor_refused"
	FactorThrottled     Type = "factor_throttled"
	FactorRegistered    Type = "factor_registered"
	FactorRemoved       Type = "factor_removed"
	FactorRenamed       Type = "factor_renamed"
	CodeSent            Type = "code_sent"     // by the gateway accepted, or under way
	CodeNotSent         Type = "code_not_sent" // the reason says why
	PushAsked           Type = "push_asked"    // the phones were asked
	SuspiciousReported  Type = "suspicious_activity_reported"
	RegistrationRefused Type = "registration_refused"
	RegistrationLater   Type = "registration_postponed"
	RecoveryCodesMade   Type = "recovery_codes_made"
	PassMade            Type = "temporary_access_pass_made"
	FactorsReset        Type = "factors_reset"
	ReregisterRequired  Type = "re_registration_required"
	PerUserChanged      Type = "per_user_mfa_changed"
	TermsAccepted       Type = "terms_of_use_accepted"
	UserBlocked         Type = "user_blocked"
	UserUnblocked       Type = "user_unblocked"
	UserUnlocked        Type = "user_unlocked"
	SignedIn            Type = "signed_in"
	SignedOut           Type = "signed_out"
	SessionEnded        Type = "session_ended"
	SessionsEnded       Type = "sessions_ended"
	SessionKept         Type = "session_kept" // its owner stays signed in
	BrowserRemembered   Type = "browser_remembered"
	BrowserForgotten    Type = "browser_forgotten"
	AccountsAccepted    Type = "account_store_accepted"
	AccessRefused       Type = "access_refused"
	MessagesStopped     Type = "messages_stopped"
	MessagesStarted     Type = "messages_started"
	LegacyRefused       Type = "legacy_refused"
	LegacyAllowed       Type = "legacy_allowed" // Reason says by what
	AppPasswordMade     Type = "app_password_made"
	AppPasswordRevoked  Type = "app_password_revoked"
	AppPasswordsEnded   Type = "app_passwords_ended" // all of a user; Reason says why
	ServiceTokenMade    Type = "service_token_made"
	ServiceTokenRevoked Type = "service_token_revoked"
	KeyRefused          Type = "key_refused" // of an app password or a service token, where it is known; Reason says why
	KeyThrottled        Type = "key_throttled"
	UpstreamStored      Type = "upstream_credential_stored"
	UpstreamRemoved     Type = "upstream_credential_removed"
	ChangeTold          Type = "change_told"     // the user was sent a mail about a change, or it is under way
	ChangeNotTold       Type = "change_not_told" // the reason says why
)

// Event is one step. Fields that don't apply are empty.
type Event struct {
	Type        Type
	User        string // canonical name of a user whom a directory knows; what strangers typed is not kept
	UserID      mfa.UserID
	Session     string // id, no secret
	Application string
	Host        string
	Address     netip.Addr
	Method      mfa.Method
	Credential  string // id, no secret
	Reason      string // from a short list of constants
	Class       string // of legacy authentication
	Exception   string // name of the one that has let it through
	Reference   string // what the person sees on the page
	By          string // who, if not the user himself: admin

	// What only the mail to the user tells, and no log.
	Browser  string   // that it was done in, and its system, as it says of itself
	Language string   // that its pages speak, as in Accept-Language
	Old      []string // mail addresses that codes are not sent to any more
}

// Sink takes what happened. It must not block.
type Sink interface {
	Audit(Event)
	SignIn(SignIn)
}

// NewReference makes a short text that a person can read to a help desk, to find his sign-in in the log.
func NewReference() string {
	var b [5]byte
	rand.Read(b[:]) // never fails, see crypto/rand
	var text [8]byte
	lowerBase32.Encode(text[:], b[:])
	return string(text[:])
}

// lowerBase32 is RFC 4648's alphabet for base32, in lower case.
var lowerBase32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567")
