package mfa

import (
	"errors"
	"time"
)

// What a Factor may find wrong with an answer. Each counts as a failure, and may come with more words.
var (
	// ErrWrong says that the answer proves nothing.
	ErrWrong = errors.New("answer is not right")

	// ErrReplayed says that the answer was right once, and has been used.
	ErrReplayed = errors.New("answer was used before")

	// ErrCloned says that the answer is right, and that there is a second copy of what gave it.
	ErrCloned = errors.New("credential has been copied")
)

// Credential is what is kept to verify a factor of one person: an authenticator app's secret, a set of recovery codes.
type Credential struct {
	ID       string
	Method   Method
	Name     string // what its owner calls it
	Added    time.Time
	LastUsed time.Time // zero: never
	Starts   time.Time // not good before; zero: good since it was added
	Expires  time.Time // zero: never

	// RP is the relying party that a passkey is good for: a host, or a domain above hosts. Empty: it is good everywhere.
	RP string

	// Model is the AAGUID of a security key's model, if its maker has vouched for it at registration. Empty: nobody has.
	Model string

	// Data belongs to the factor: keys, hashes, counters. It is sealed wherever it is kept.
	Data []byte
}

// Challenge is what a factor asks, and what has to be remembered until the answer comes.
type Challenge struct {
	Method  Method
	Epoch   uint64    // of the account when this was allowed; after a change of factors it is not any more
	State   []byte    // for Finish; stays on the server, sealed
	Expires time.Time // zero: as long as the sign-in may take

	Key string // for an authenticator app: the key in base32 (RFC 4648, section 6) without padding
	URI string // for an authenticator app: the otpauth URI that holds the key

	To    string    // for a code that was sent: what may be shown of where it went
	Again time.Time // for a code that was sent: another one may be asked for from then on

	Options []byte // for a passkey: what the browser is asked, in the JSON of WebAuthn Level 3
}

// Site is where a browser is.
type Site struct {
	Host   string // lower case, without port
	Origin string // scheme, host and port, as the browser sees them
}

// Factor verifies one kind of credential. It keeps nothing between calls, and knows no store: the proof counts once
// the credential that Finish returns has been saved over the version that was read, so that a replay loses the race.
//
// The factors are a closed table, not plug-ins: each is a security claim that must be reviewed.
type Factor interface {
	Method() Method

	// Finish judges an answer against the person's credentials of this method. It returns the credential
	// that the answer belongs to, as it must be stored next (time step, counter, used codes). The error is
	// ErrWrong, ErrReplayed, or a fault.
	Finish(credentials []Credential, answer string, now time.Time) (Credential, error)
}

// Registrar is a Factor that a person can register by himself.
type Registrar interface {
	Factor

	// BeginRegistration asks the user, who registers at the site and has these credentials of the method. Nothing counts
	// until FinishRegistration.
	BeginRegistration(user *User, site Site, has []Credential, now time.Time) (Challenge, error)

	// FinishRegistration judges the first answer against the state of BeginRegistration, and returns the
	// credential to keep, without ID and Name. has is what he has by now.
	FinishRegistration(state []byte, has []Credential, answer string, now time.Time) (Credential, error)
}

// Challenger is a Factor that asks something else each time. Each state is judged once: whoever calls FinishVerification has
// taken it away before. Its Finish refuses, since nothing was asked.
type Challenger interface {
	Factor

	// BeginVerification asks the user, who is at the site, for one of these credentials.
	BeginVerification(user *User, site Site, credentials []Credential, now time.Time) (Challenge, error)

	// FinishVerification is Finish against the state of BeginVerification.
	FinishVerification(state []byte, credentials []Credential, answer string, now time.Time) (Credential, error)
}

// Local is a Factor whose credentials are good for one relying party each.
type Local interface {
	Factor

	// RP is the relying party of a host; empty: there are no credentials of this kind on it.
	RP(host string) string
}

// Discoverer is a Challenger and Local whose credentials are kept where they are used, together with whose they are: nobody needs
// to say a name before. What is told of a credential without judging it (Discovered) proves nothing.
type Discoverer interface {
	Challenger
	Local

	// BeginDiscovery asks whoever is at the site for a credential that verifies its user.
	BeginDiscovery(site Site, now time.Time) (Challenge, error)

	// Discovered reads from an answer which credential it claims to come from, as PublicID writes it; empty: none.
	Discovered(answer string) (publicID string)

	// FinishDiscovery is Finish against the state of BeginDiscovery: the answer must also name the person whose credentials
	// these are.
	FinishDiscovery(state []byte, credentials []Credential, answer string, now time.Time) (Credential, error)

	// PublicID is what authenticators and browsers call a credential; empty: it can't be read.
	PublicID(c Credential) string

	// Accepted lists, of a person's credentials, those that are good for a relying party.
	Accepted(credentials []Credential, rp string) Accepted

	// Maker names what keeps a credential, as it says itself; empty: nobody knows. It is a name to show, and no proof.
	Maker(c Credential) string
}

// Accepted is what a browser is told of a person's passkeys, so that it stops to offer others (WebAuthn Level 3, section 5.1.10).
// The zero Accepted tells nothing.
type Accepted struct {
	RP   string   `json:"rpId"`
	User string   `json:"userId"` // user handle in base64url
	IDs  []string `json:"allAcceptedCredentialIds"`
}
