package policy

import (
	"net/netip"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// Facts is what a decision rests on. Facts that nobody knows are zero, and zero never helps anybody.
type Facts struct {
	Now    time.Time
	User   *mfa.User
	Client mfa.Client

	Application string     // name of the application that is entered; empty: our own pages
	UserAction  UserAction // what is begun, in place of entering an application
	Entered     bool       // the session has been in the application before

	SignInRisk Risk // empty: not known
	UserRisk   Risk

	Blocked bool       // by an administrator
	Proofs  mfa.Proofs // what was proven in the session

	Methods      Methods  // what he could prove now: registered and usable
	Models       []string // of those passkeys among them for whose model somebody has vouched
	Registered   bool     // he has a factor that lasts
	PassRequired bool     // his factors were reset: only who holds a pass may register another

	// When the time to register began to run, zero if it hasn't; and whether it is over for good, since
	// the user has registered once.
	GraceStarted time.Time
	GraceOver    bool

	PerUser mfa.PerUserState // his own setting
	Asked   time.Time        // when an administrator has made that setting

	Terms map[string]mfa.Acceptance // terms of use that he has accepted, by name
}

// device is what is known of the client's device now. A certificate that has ended says nothing any more.
func (f *Facts) device() mfa.Device {
	if until := f.Client.Device.Until; !until.IsZero() && !f.Now.Before(until) {
		return mfa.Device{}
	}
	return f.Client.Device
}

// compared is an address as ranges are written: not IPv4-in-IPv6, and without zone.
func compared(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }
