// Package notice tells people by mail what has changed about their accounts, so that the owner learns of what somebody else does.
//
// It listens to the audit events. What happens to one person within a moment stands in one mail.
package notice

import (
	"net/netip"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/audit"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// Kind is what has changed.
type Kind uint8

// The kinds.
const (
	FactorAdded Kind = iota + 1
	FactorRemoved
	RecoveryCodesMade
	RecoveryCodeUsed
	PassMade
	FactorsReset
	ReregistrationRequired
	AppPasswordMade
	AppPasswordRevoked
	UpstreamStored
	UpstreamRemoved
	Reported // that a sign-in was not the person's own
)

// kinds are those of events that are told of whatever else they say.
var kinds = map[audit.Type]Kind{
	audit.FactorRegistered: FactorAdded, audit.FactorRemoved: FactorRemoved, audit.RecoveryCodesMade: RecoveryCodesMade, audit.PassMade: PassMade,
	audit.FactorsReset: FactorsReset, audit.ReregisterRequired: ReregistrationRequired, audit.AppPasswordMade: AppPasswordMade, audit.AppPasswordRevoked: AppPasswordRevoked,
	audit.UpstreamStored: UpstreamStored, audit.UpstreamRemoved: UpstreamRemoved,
}

// Change is one thing that has changed.
type Change struct {
	Kind        Kind
	Method      mfa.Method // of a factor
	Application string     // of an app password or a credential
	At          time.Time
	Admin       bool // an administrator has done it
	Browser     string
	Address     netip.Addr
}

// Notice is what one mail says.
type Notice struct {
	User    string // as the person calls himself
	Host    string // on which pages it was done; empty: on none
	Changes []Change
	More    int  // changes that don't stand in it
	Last    bool // today no other mail like this one is sent to the person
}

// changeOf gives what a person is told of an event; false: nothing.
func changeOf(e audit.Event, at time.Time) (Change, bool) {
	c := Change{Kind: kinds[e.Type], Method: e.Method, Application: e.Application, At: at, Admin: e.By != "", Browser: e.Browser, Address: e.Address}
	switch {
	case e.Type == audit.FactorAccepted && e.Method == mfa.RecoveryCode:
		c.Kind = RecoveryCodeUsed
	case e.Type == audit.SuspiciousReported && e.Method == "": // on a phone, its owner has answered
		c.Kind = Reported
	case e.Type == audit.FactorRemoved && e.Method == mfa.RecoveryCode: // they were replaced with what they belong to
		c.Kind = 0
	}
	return c, c.Kind != 0 && !e.UserID.IsZero()
}
