// Package policy decides who must prove what. It is pure: facts go in, a decision comes out, and with it why. The
// request, the sweep over open connections and the sign-in pages ask the same function.
package policy

import (
	"net/netip"
	"slices"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// Facts is what a decision rests on. Facts that nobody knows are zero, and zero never helps anybody.
type Facts struct {
	Now         time.Time
	User        *mfa.User
	Application string     // name of the application that is entered; empty: our own pages
	Address     netip.Addr // of the client, as Caddy's trusted proxies tell it

	Blocked bool       // by an administrator
	Proofs  mfa.Proofs // what was proven in the session

	Registered    bool // the user has a factor that lasts
	PassAvailable bool // there is a temporary access pass that he could prove
	PassRequired  bool // his factors were reset: only who holds a pass may register another

	// When the time to register began to run, zero if it hasn't; and whether it is over for good, since
	// the user has registered once.
	GraceStarted time.Time
	GraceOver    bool
}

// Action is what happens next. The zero Action refuses.
type Action uint8

// The actions.
const (
	Block    Action = iota // there is nothing that the user could prove here and now
	Verify                 // a second factor must be proven
	Register               // a factor must be registered
	Allow                  // what was proven is enough
)

func (a Action) String() string {
	switch a {
	case Block:
		return "block"
	case Verify:
		return "verify"
	case Register:
		return "register"
	case Allow:
		return "allow"
	}
	return "unknown"
}

// Reason says why, for log and page.
type Reason string

// The reasons.
const (
	NothingProven        Reason = "nothing_proven"
	UserDisabled         Reason = "user_disabled"
	UserBlocked          Reason = "user_blocked"
	DefaultsOff          Reason = "security_defaults_off"
	MFASatisfied         Reason = "mfa_satisfied"
	MFARequired          Reason = "mfa_required"
	InGrace              Reason = "registration_grace"
	RegistrationRequired Reason = "registration_required"
	RecoveryUsed         Reason = "recovery_code_used"
	RegistrationDenied   Reason = "registration_not_from_here"
)

// Decision is what happens next, and why.
type Decision struct {
	Action Action
	Reason Reason

	// Offer says that the user may register a factor now, though he need not yet.
	Offer bool

	// GraceEnds is when the user must have registered a factor; zero if no time is running.
	GraceEnds time.Time

	// Needs is what would let the user register, where that was denied.
	Needs Need
}

// Need is what a user lacks who may not register a factor. The zero Need is nothing.
type Need uint8

// The needs.
const (
	NeedPass    Need = iota + 1 // a temporary access pass
	NeedNetwork                 // to come from one of the ranges
	NeedEither                  // one of the two
)

// SecurityDefaults asks every user for a second factor, in every application.
type SecurityDefaults struct {
	Off   bool          // the password is enough
	Grace time.Duration // from the first sign-in until a factor must be registered
	Until time.Time     // when grace ends for everybody; zero: never
}

// Registration bounds where a first factor may be registered. The zero Registration does not.
type Registration struct {
	From        []netip.Prefix // ranges from which the password is enough
	RequirePass bool           // elsewhere a temporary access pass is needed
}

// Set is all policy of one configuration.
type Set struct {
	Defaults     SecurityDefaults
	Registration Registration
}

// Decide says what happens next.
func (s *Set) Decide(f *Facts) Decision {
	switch {
	case f.User == nil || !f.Proofs.Has(mfa.Password):
		return Decision{Action: Block, Reason: NothingProven}
	case f.User.Disabled:
		return Decision{Action: Block, Reason: UserDisabled}
	case f.Blocked:
		return Decision{Action: Block, Reason: UserBlocked}
	case f.Proofs.Has(mfa.TOTP):
		return Decision{Action: Allow, Reason: MFASatisfied}
	case f.Proofs.Has(mfa.TemporaryAccessPass):
		return Decision{Action: Allow, Reason: MFASatisfied, Offer: !f.Registered}
	case f.Proofs.Has(mfa.RecoveryCode):
		// It lets its owner in to replace what he has lost, and nothing else.
		return Decision{Action: Register, Reason: RecoveryUsed}
	case s.Defaults.Off:
		return Decision{Action: Allow, Reason: DefaultsOff, Offer: !f.Registered && s.MayRegister(f)}
	case f.Registered:
		return Decision{Action: Verify, Reason: MFARequired}
	}
	if ends := s.graceEnds(f); f.Now.Before(ends) {
		return Decision{Action: Allow, Reason: InGrace, Offer: f.PassAvailable || s.MayRegister(f), GraceEnds: ends}
	}
	switch {
	case f.PassAvailable:
		return Decision{Action: Verify, Reason: MFARequired}
	case s.MayRegister(f):
		return Decision{Action: Register, Reason: RegistrationRequired}
	}
	return Decision{Action: Block, Reason: RegistrationDenied, Needs: s.Needs(f)}
}

// graceEnds says until when the user may put off registration; zero: not at all.
func (s *Set) graceEnds(f *Facts) time.Time {
	if f.GraceOver || f.PassRequired || s.Defaults.Grace <= 0 {
		return time.Time{}
	}
	started := f.GraceStarted
	if started.IsZero() {
		started = f.Now
	}
	ends := started.Add(s.Defaults.Grace)
	if until := s.Defaults.Until; !until.IsZero() && until.Before(ends) {
		ends = until
	}
	return ends
}

// MayRegister says whether a user without a factor may register one with what he has proven, from where he is.
func (s *Set) MayRegister(f *Facts) bool {
	if f.Registered || !f.Proofs.Has(mfa.Password) {
		return false
	}
	if f.Proofs.Has(mfa.TemporaryAccessPass) {
		// A pass stands for the administrator who handed it out; ranges alone still bind him who holds one.
		return s.Registration.RequirePass || len(s.Registration.From) == 0 || s.within(f.Address)
	}
	if f.PassRequired {
		return false
	}
	if len(s.Registration.From) == 0 {
		return !s.Registration.RequirePass
	}
	return s.within(f.Address)
}

// Needs says what a user lacks who may not register.
func (s *Set) Needs(f *Facts) Need {
	switch {
	case f.PassRequired || len(s.Registration.From) == 0:
		return NeedPass
	case s.Registration.RequirePass:
		return NeedEither
	}
	return NeedNetwork
}

func (s *Set) within(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return a.IsValid() && slices.ContainsFunc(s.Registration.From, func(p netip.Prefix) bool { return p.Contains(a) })
}
