// Package legacy recognises sign-ins by clients that can't be asked for a second factor. It reads requests, and knows
// neither users nor policy.
//
// Inspect reads what stands in a request's head. Where that isn't enough, its Finding asks for the beginning of the body, and
// InspectBody completes it. What a User-Agent says shapes the answer and the inventory, and never decides on the Class.
package legacy

import "slices"

// Class is a kind of legacy authentication. The empty Class is none.
type Class string

// The classes.
const (
	None Class = ""

	// Schemes of the Authorization header.
	Basic     Class = "basic"     // RFC 7617
	Digest    Class = "digest"    // RFC 7616
	NTLM      Class = "ntlm"      // MS-NTHT
	Kerberos  Class = "kerberos"  // RFC 4559
	WSSE      Class = "wsse"      // also as X-WSSE
	OAuth1    Class = "oauth1"    // RFC 5849
	Hawk      Class = "hawk"      // a signature by a shared key
	AWSSigV4  Class = "aws-sigv4" // the same, as in S3
	HMAC      Class = "hmac"      // the same, by other names
	Malformed Class = "malformed" // what one server takes for one credential and the next for another, or for none

	UserInfo Class = "url-userinfo" // a password in the request's target

	// Exchange's endpoints, with a legacy scheme.
	EAS          Class = "eas"          // ActiveSync
	EWS          Class = "ews"          // web services
	MAPI         Class = "mapi"         // MAPI over HTTP
	OAB          Class = "oab"          // offline address book
	RPCHTTP      Class = "rpc-http"     // Outlook Anywhere
	Autodiscover Class = "autodiscover" // where a mail program finds its settings
	RPS          Class = "rps"          // remote PowerShell
	Reporting    Class = "reporting"    // reporting web services

	// Protocols of other programs, with a legacy scheme.
	WebDAV     Class = "webdav" // CalDAV and CardDAV too
	Git        Class = "git"
	Subversion Class = "svn"
	FrontPage  Class = "frontpage"
	Packages   Class = "pkg" // apt, npm, pip, Maven, docker and their like

	// Credentials in a body or a query.
	XMLRPC     Class = "xmlrpc"      // a method call with a password among its parameters
	WSSecurity Class = "ws-security" // a UsernameToken in SOAP
	ROPC       Class = "ropc"        // OAuth's password grant: RFC 6749, section 4.3
	QueryCred  Class = "query-cred"  // a parameter that is called like a credential
	FormLogin  Class = "form-login"  // an application's own sign-in form
)

var classes = []Class{
	Basic, Digest, NTLM, Kerberos, WSSE, OAuth1, Hawk, AWSSigV4, HMAC, Malformed, UserInfo,
	EAS, EWS, MAPI, OAB, RPCHTTP, Autodiscover, RPS, Reporting,
	WebDAV, Git, Subversion, FrontPage, Packages,
	XMLRPC, WSSecurity, ROPC, QueryCred, FormLogin,
}

// Classes are all of them but None, in the order of the documentation.
func Classes() []Class { return slices.Clone(classes) }

// ParseClass reads a class as it stands in the configuration.
func ParseClass(s string) (Class, bool) {
	if c := Class(s); slices.Contains(classes, c) {
		return c, true
	}
	return None, false
}

// ActiveSync says whether the policy's client app type is exchangeActiveSync. That of every other class is "other".
func (c Class) ActiveSync() bool { return c == EAS }

// Reported says whether the class is only counted as long as the operator says nothing else: signed requests, which prove a
// machine and not a person, and parameters that are only called like a credential.
func (c Class) Reported() bool {
	switch c {
	case WSSE, OAuth1, Hawk, AWSSigV4, HMAC, QueryCred:
		return true
	}
	return false
}

// Verifiable says whether requests of the class can carry a Basic credential, which we can verify ourselves. Whether one does
// is said by its Finding.
func (c Class) Verifiable() bool {
	switch c {
	case Basic, EAS, EWS, MAPI, OAB, RPCHTTP, Autodiscover, RPS, Reporting, WebDAV, Git, Subversion, FrontPage, Packages, XMLRPC:
		return true
	}
	return false
}
