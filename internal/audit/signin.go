package audit

import "time"

// SignIn is one sign-in that came to an end, well or not, with the field names of the Graph resource type `signIn`.
//
// Every field is always there: a text that isn't known is empty, a list without elements is [], what nobody detects has the level
// "none". Only Suppressed is left out while it is zero. Fields of Entra's that a proxy can't fill don't exist here.
//
// It says enough to decide the sign-in again under other policies: who, on the way to which application, from where, with what, and
// which proofs there were, with the time of each.
type SignIn struct {
	ID                string          `json:"id"`
	Created           time.Time       `json:"createdDateTime"`
	UserDisplayName   string          `json:"userDisplayName"`
	UserPrincipalName string          `json:"userPrincipalName"` // canonical name of a user whom a directory knows, else empty
	UserID            string          `json:"userId"`            // as mfa.UserID.String writes it
	AppDisplayName    string          `json:"appDisplayName"`    // empty: our own pages
	IPAddress         string          `json:"ipAddress"`
	ClientAppUsed     string          `json:"clientAppUsed"` // see ClientBrowser and its companions
	UserAgent         string          `json:"userAgent"`
	CorrelationID     string          `json:"correlationId"` // what stood on the page that the person saw
	ConditionalAccess string          `json:"conditionalAccessStatus"`
	Policies          []AppliedPolicy `json:"appliedConditionalAccessPolicies"`
	Requirement       string          `json:"authenticationRequirement"`
	Details           []Detail        `json:"authenticationDetails"`
	Device            DeviceDetail    `json:"deviceDetail"`
	Location          Location        `json:"location"`
	RiskLevel         string          `json:"riskLevelDuringSignIn"`
	RiskState         string          `json:"riskState"`
	Status            Status          `json:"status"`
	IsInteractive     bool            `json:"isInteractive"`

	// Suppressed is not Graph's: the record stands for so many sign-ins of this kind that were not kept one by one.
	Suppressed int `json:"suppressed,omitempty"`
}

// Detail is one proof of a sign-in, as in Graph's authenticationDetail.
type Detail struct {
	Time      time.Time `json:"authenticationStepDateTime"`
	Method    string    `json:"authenticationMethod"` // an mfa.Method
	Succeeded bool      `json:"succeeded"`
	Result    string    `json:"authenticationStepResultDetail"`
}

// ByRememberedBrowser is the result of a Detail that is no step of this sign-in, but a second factor that was proven in the browser at
// that time. Entra says so in nearly these words.
const ByRememberedBrowser = "satisfied by remembered browser"

// AppliedPolicy is what one policy said to a sign-in, as in Graph's appliedConditionalAccessPolicy.
type AppliedPolicy struct {
	ID              string       `json:"id"`
	DisplayName     string       `json:"displayName"`
	GrantControls   []string     `json:"enforcedGrantControls"`
	SessionControls []string     `json:"enforcedSessionControls"`
	Result          PolicyResult `json:"result"`
}

// PolicyResult is what a policy came to, in Graph's words.
type PolicyResult string

// The results of a policy.
const (
	PolicySuccess               PolicyResult = "success"
	PolicyFailure               PolicyResult = "failure"
	PolicyNotApplied            PolicyResult = "notApplied"
	PolicyNotEnabled            PolicyResult = "notEnabled"
	PolicyUnknown               PolicyResult = "unknown"
	PolicyReportOnlySuccess     PolicyResult = "reportOnlySuccess"
	PolicyReportOnlyFailure     PolicyResult = "reportOnlyFailure"
	PolicyReportOnlyNotApplied  PolicyResult = "reportOnlyNotApplied"
	PolicyReportOnlyInterrupted PolicyResult = "reportOnlyInterrupted"
)

// PolicyResults lists all of them.
func PolicyResults() []PolicyResult {
	return []PolicyResult{
		PolicySuccess, PolicyFailure, PolicyNotApplied, PolicyNotEnabled, PolicyUnknown, PolicyReportOnlySuccess,
		PolicyReportOnlyFailure, PolicyReportOnlyNotApplied, PolicyReportOnlyInterrupted,
	}
}

// Applied says whether the policy had anything to say, enforced or only reported.
func (r PolicyResult) Applied() bool {
	switch r {
	case PolicyNotApplied, PolicyNotEnabled, PolicyReportOnlyNotApplied, "":
		return false
	}
	return true
}

// DeviceDetail is the device, as in Graph's deviceDetail. Operating system and browser are what the client says of itself; the rest
// comes from a certificate that was verified.
type DeviceDetail struct {
	DeviceID        string `json:"deviceId"`
	DisplayName     string `json:"displayName"`
	OperatingSystem string `json:"operatingSystem"`
	Browser         string `json:"browser"`
	IsCompliant     bool   `json:"isCompliant"`
	IsManaged       bool   `json:"isManaged"`
	TrustType       string `json:"trustType"`
}

// Location is where the address is, as in Graph's signInLocation.
type Location struct {
	City            string `json:"city"`
	CountryOrRegion string `json:"countryOrRegion"` // two letters (ISO 3166-1)
}

// Status is how a sign-in ended, as in Graph's signInStatus. The error code is zero for success.
type Status struct {
	ErrorCode     int    `json:"errorCode"`
	FailureReason string `json:"failureReason"`
}

// Error codes of Entra that mean here what they mean there.
const (
	CodeSuccess         = 0
	CodeInvalidPassword = 50126 // InvalidUserNameOrPassword
	CodeMFARequired     = 50074 // UserStrongAuthClientAuthNRequired
	CodeMFADenied       = 500121
	CodeThrottled       = 50053 // IdsLocked
	CodeMustRegister    = 50072 // UserStrongAuthEnrollmentRequiredInterrupt
	CodeBlocked         = 53003 // BlockedByConditionalAccess
)

// Values of SignIn.ClientAppUsed.
const (
	ClientBrowser            = "Browser"
	ClientMobileAndDesktop   = "Mobile Apps and Desktop clients"
	ClientExchangeActiveSync = "Exchange ActiveSync"
	ClientOther              = "Other clients"
)

// Values of SignIn.ConditionalAccess: what all policies together came to.
const (
	AccessSuccess    = "success"
	AccessFailure    = "failure"
	AccessNotApplied = "notApplied"
)

// Values of SignIn.Requirement.
const (
	SingleFactor = "singleFactorAuthentication"
	MultiFactor  = "multiFactorAuthentication"
)

// RiskNone is the value of SignIn.RiskLevel and SignIn.RiskState where nothing was detected.
const RiskNone = "none"
