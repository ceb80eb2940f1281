package mfa

import (
	"errors"
	"time"
)

// What a Factor may find wrong with an answer. Both count as a failure.
var (
	// ErrWrong says that the answer proves nothing.
	ErrWrong = errors.New("answer is not right")

	// ErrReplayed says that the answer was right once, and has been used.
	ErrReplayed = errors.New("answer was used before")
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

	// Data belongs to the factor: keys, hashes, counters. It is sealed wherever it is kept.
	Data []byte
}

// Challenge is what a factor asks, and what has to be remembered until the answer comes.
type Challenge struct {
	Epoch uint64 // of the account when this was allowed; after a change of factors it is not any more
	State []byte // for Finish; stays on the server, sealed

	Key string // for an authenticator app: the key in base32 (RFC 4648, section 6) without padding
	URI string // for an authenticator app: the otpauth URI that holds the key
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

	// BeginRegistration makes a new secret for the user, who registers at host. Nothing counts until
	// FinishRegistration.
	BeginRegistration(user *User, host string, now time.Time) (Challenge, error)

	// FinishRegistration judges the first answer against the state of BeginRegistration, and returns the
	// credential to keep, without ID and Name.
	FinishRegistration(state []byte, answer string, now time.Time) (Credential, error)
}
