// Package policy decides who must prove what. It is pure: facts go in, a decision comes out, and with it why. The
// request, the sweep over open connections, the sign-in pages, the log, What If and replay ask the same function.
//
// Three things can demand a second factor: security defaults of everybody; Conditional Access policies, which exclude these;
// and a setting of the user's own. The model and its words are Microsoft Entra's.
package policy

import (
	"fmt"
	"slices"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// Action is what happens next. The zero Action refuses.
type Action uint8

// The actions.
const (
	Block        Action = iota // there is nothing that the user could prove here and now
	Authenticate               // the password must be proven again, or a passkey in its place
	Verify                     // a second factor must be proven
	Register                   // a factor must be registered
	AcceptTerms                // terms of use must be accepted
	Allow                      // what was proven is enough
)

var actionNames = [...]string{"block", "authenticate", "verify", "register", "accept_terms", "allow"}

func (a Action) String() string {
	if int(a) < len(actionNames) {
		return actionNames[a]
	}
	return "unknown"
}

// MarshalText writes the action's name.
func (a Action) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (a *Action) UnmarshalText(text []byte) error {
	i := slices.Index(actionNames[:], string(text))
	if i < 0 {
		return fmt.Errorf("there is no action %q", text)
	}
	*a = Action(i)
	return nil
}

// Reason says why, for log and page.
type Reason string

// The reasons.
const (
	NothingProven        Reason = "nothing_proven"
	UserDisabled         Reason = "user_disabled"
	UserBlocked          Reason = "user_blocked"
	DefaultsOff          Reason = "security_defaults_off"
	NoPolicyApplies      Reason = "no_policy_applies"
	PolicySatisfied      Reason = "policy_satisfied"
	PolicyBlocks         Reason = "policy_blocks"
	MFASatisfied         Reason = "mfa_satisfied"
	BrowserRemembered    Reason = "remembered_browser" // which is enough
	MFARequired          Reason = "mfa_required"
	StrengthUnreachable  Reason = "authentication_strength_not_registered"
	SignInFrequencyOver  Reason = "sign_in_frequency"
	DeviceNotCompliant   Reason = "compliant_device_required"
	DeviceNotJoined      Reason = "domain_joined_device_required"
	PasswordChangeNeeded Reason = "password_change_required"
	TermsRequired        Reason = "terms_of_use_required"
	InGrace              Reason = "registration_grace"
	RegistrationRequired Reason = "registration_required"
	RecoveryUsed         Reason = "recovery_code_used"
	RegistrationDenied   Reason = "registration_not_from_here"
)

// Decision is what happens next, and why.
type Decision struct {
	Action Action
	Reason Reason
	Policy *Policy // the one that decided; nil: security defaults, the user's own setting, or none

	// Offer says that the user may register a factor now, though he need not yet.
	Offer bool

	// GraceEnds is when the user must have registered a factor; zero if no time is running.
	GraceEnds time.Time

	// Needs is what would let the user register, where that was denied.
	Needs Need

	// Methods are those of which one must be proven next, with Verify, or registered, with Register. With Authenticate they are the
	// password alone, where nothing can stand in its place; else none.
	Methods Methods

	// Terms are those that must be accepted, with AcceptTerms.
	Terms []Terms

	// MFA says that a second factor was demanded, whether or not it has been proven.
	MFA bool

	// RememberBrowser is for how long this browser may be remembered if its owner wants that and proves a second factor now, with
	// Verify. Zero: not at all.
	RememberBrowser time.Duration

	// Stay is for how long the person may stay signed in if he wants to; zero: as long as every session lasts. See Offers.
	Stay time.Duration

	// Persistent says whether the session outlives the browser.
	Persistent Persistence

	// PasswordSince and SecondSince are when what counts was proven at the earliest; zero: no limit.
	PasswordSince, SecondSince time.Time
}

// Decide says what happens next.
func (s *Set) Decide(f *Facts) Decision { return s.decide(f, nil) }

// Explain decides, and says what each policy has to do with it, in the order of the model. Somebody who is refused before any policy is
// asked (no proof of a password, a disabled or blocked user) meets none.
func (s *Set) Explain(f *Facts) (Decision, []Result) {
	results := make([]Result, len(s.policies))
	return s.decide(f, results), results
}

// withModels adds to what he could prove what his security keys are.
func (s *Set) withModels(f *Facts) *Facts {
	if len(s.models) == 0 || len(f.Models) == 0 {
		return f
	}
	with := *f
	for _, model := range f.Models {
		with.Methods |= s.modelBits(model)
	}
	return &with
}

func (s *Set) decide(f *Facts, results []Result) Decision {
	f = s.couldProve(s.withModels(f))
	if refused := refusal(f); refused != "" {
		s.notAsked(results)
		return Decision{Action: Block, Reason: refused}
	}
	if Legacy(f.Client.App) {
		return s.legacy(f, results)
	}
	f, out, d := s.weigh(f, results)
	d.Stay = s.stay(f, &out)
	d.Persistent, d.PasswordSince, d.SecondSince = out.persistent, out.password, out.second
	return d
}

// weigh decides by what policies say, security defaults and the user's own setting. It gives the facts too that it has decided about.
func (s *Set) weigh(f *Facts, results []Result) (*Facts, outcome, Decision) {
	out := s.conditional(f, results)
	d := s.settle(f, &out)
	if out.entry && d.Action != Allow && d.Action != Block {
		// A step-up begins: for a policy that wants proofs every time, they must be young now.
		again := *f
		again.Entered = false
		f = &again
		clear(results)
		out = s.conditional(f, results)
		d = s.settle(f, &out)
	}
	return f, out, d
}

// refusal says why somebody is refused whatever the policies say; empty: he isn't.
func refusal(f *Facts) Reason {
	switch {
	case f.User == nil || !begun(f.Proofs, time.Time{}), Legacy(f.Client.App) && !f.Proofs.Has(mfa.Password):
		return NothingProven
	case f.User.Disabled:
		return UserDisabled
	case f.Blocked:
		return UserBlocked
	}
	return ""
}

// settle makes a decision of what policies say, security defaults and the user's own setting.
func (s *Set) settle(f *Facts, out *outcome) Decision {
	if out.blocked != nil {
		return Decision{Action: Block, Reason: PolicyBlocks, Policy: out.blocked}
	}
	d := Decision{MFA: out.demandsMFA != nil, Policy: out.demandsMFA}
	if recovering(f.Proofs) {
		// It lets its owner in to replace what he has lost, and nothing else.
		d.Action, d.Reason, d.Methods = Register, RecoveryUsed, s.newMethods()
		if ok, needs := s.registrable(f); !ok {
			d.Action, d.Reason, d.Needs, d.Methods = Block, RegistrationDenied, needs, 0
		}
		return d
	}
	if !begun(f.Proofs, out.password) {
		d.Action, d.Reason = Authenticate, SignInFrequencyOver
		return d
	}
	var graceEnds time.Time
	remember := s.rememberFor(f)
	switch {
	case !s.Defaults.Off:
		d.MFA, d.Policy = true, nil
		graceEnds = s.graceEnds(f)
		if !mfaCombinations.meets(out.have) {
			out.unmet.mfa = append(out.unmet.mfa, mfaCombinations)
		}
	case out.demandsMFA == nil:
		if demanded, ends := s.perUser(f); demanded {
			d.MFA, graceEnds = true, ends
			out.have = out.have&^rememberedSet | s.rememberedByOwn(f, out)
			remember = s.rememberByOwn()
			if !s.perUserCombinations().meets(out.have) {
				out.unmet.mfa = append(out.unmet.mfa, s.perUserCombinations())
			}
		}
	}
	if len(out.unmet.mfa) > 0 {
		if out.unmet.mfaBy != nil {
			d.Policy = out.unmet.mfaBy
		}
		if f.Registered || !f.Now.Before(graceEnds) {
			if s.askMFA(f, out, &d); d.Action == Verify {
				d.RememberBrowser = rememberable(f, out, remember)
			}
			return d
		}
		d.Action, d.Reason, d.GraceEnds = Allow, InGrace, graceEnds
		d.Offer = f.Methods&(passSet|passOnceSet) != 0 || s.MayRegister(f)
	}
	switch u := &out.unmet; {
	case u.compliant != nil:
		return Decision{Action: Block, Reason: DeviceNotCompliant, Policy: u.compliant, MFA: d.MFA}
	case u.domain != nil:
		return Decision{Action: Block, Reason: DeviceNotJoined, Policy: u.domain, MFA: d.MFA}
	case u.password != nil:
		return Decision{Action: Block, Reason: PasswordChangeNeeded, Policy: u.password, MFA: d.MFA}
	case len(u.terms) > 0:
		return Decision{Action: AcceptTerms, Reason: TermsRequired, Policy: u.termsBy, Terms: u.terms, MFA: d.MFA}
	case d.Reason == InGrace:
		return d
	}
	d.Action = Allow
	switch {
	case out.have&secondFactors&^recoverySet != 0:
		d.Reason = MFASatisfied
		d.Offer = !f.Registered && out.have&(passSet|passOnceSet) != 0
	case out.have&rememberedSet != 0 && d.MFA:
		d.Reason = BrowserRemembered
	case out.applied:
		d.Reason = PolicySatisfied
	case len(s.policies) > 0:
		d.Reason = NoPolicyApplies
	default:
		d.Reason = DefaultsOff
	}
	if d.Reason != MFASatisfied {
		d.Offer = !f.Registered && s.MayRegister(f)
	}
	return d
}

// recovering says whether somebody has come with a recovery code and has proven no real factor since. One that he proved before is the
// one that he may have lost.
func recovering(ps mfa.Proofs) bool {
	code, ok := ps.Latest(mfa.RecoveryCode)
	if !ok {
		return false
	}
	for _, p := range ps {
		if !p.At.Before(code.At) && MethodsOf(p.Method, p.Reusable)&secondFactors&^recoverySet != 0 {
			return false
		}
	}
	return true
}

// reachable says whether the person could meet a requirement with what he has, or could register for it.
func (s *Set) reachable(f *Facts, need combinations, have Methods) bool {
	have |= passwordSet // it can be proven again
	if need.meets(have) || need.missing(have, f.Methods) != 0 {
		return true
	}
	if need.missing(have, f.Methods|s.newMethods()) == 0 {
		return false
	}
	if f.Registered {
		return true
	}
	if f.UserAction == RegisterSecurityInfo {
		return false // nobody registers in order to be allowed to register
	}
	ok, _ := s.registrable(f)
	return ok
}

// newMethods are the factors that can be registered.
func (s *Set) newMethods() (ms Methods) {
	if len(s.Registrable) == 0 {
		return totpSet
	}
	for _, m := range s.Registrable {
		if !s.Registers(m) {
			continue
		}
		ms |= MethodsOf(m, false)
		if m == mfa.Passkey && len(s.models) > 0 {
			ms |= modelSets
		}
	}
	return ms
}

// factorMethods are the methods of the factors that a person registers and goes on using.
var factorMethods = []mfa.Method{mfa.Passkey, mfa.Push, mfa.TOTP, mfa.SMS, mfa.Voice, mfa.Email}

// Suffices says whether somebody who proves all that he could gets by what the policies ask of his factors, without registering another.
// What else they ask for, such as a device or a place, is not looked at. A temporary access pass and recovery codes are none of his factors.
func (s *Set) Suffices(f *Facts) bool {
	all := *s.couldProve(f)
	all.Methods &^= passSet | passOnceSet | recoverySet
	all.Proofs = mfa.Proofs{{Method: mfa.Password, At: f.Now}}
	for _, m := range factorMethods {
		if all.Methods.Has(m) {
			all.Proofs = all.Proofs.With(mfa.Proof{Method: m, At: f.Now})
		}
	}
	switch d := s.Decide(&all); d.Action {
	case Register:
		return false
	case Block:
		return d.Reason != StrengthUnreachable && d.Reason != RegistrationDenied
	default:
		return true
	}
}

// Registers says whether a method that can be registered may be: codes that are sent, while security defaults are off.
func (s *Set) Registers(m mfa.Method) bool { return s.Defaults.Off || MethodsOf(m, false)&sentSet == 0 }

// couldProve takes out of the facts the methods whose codes and prompts can't be sent.
func (s *Set) couldProve(f *Facts) *Facts {
	if f.Methods&(sentSet|pushSet)&^s.usable == 0 {
		return f
	}
	without := *f
	without.Methods &^= (sentSet | pushSet) &^ s.usable
	return &without
}

// askMFA says how the person gets to what is demanded: by proving what he has, by registering what he lacks, or not at all.
func (s *Set) askMFA(f *Facts, out *outcome, d *Decision) {
	d.Reason = MFARequired
	var ways, fresh choice
	lacking := false
	with := out.have | passwordSet // who has come with a passkey can still say his password
	for _, need := range out.unmet.mfa {
		missing := need.missing(out.have, f.Methods)
		switch {
		case missing == 0 && need.meets(with):
		case missing == 0 && need.missing(with, f.Methods|s.newMethods()) == 0:
			d.Action, d.Reason = Block, StrengthUnreachable
			return
		case missing == 0 && need.missing(with, f.Methods) != 0:
			ways.add(need.missing(with, f.Methods))
		case missing == 0:
			lacking = true
			fresh.add(need.missing(with, f.Methods|s.newMethods()) & s.newMethods())
		default:
			ways.add(missing)
		}
	}
	switch {
	case !lacking && !ways.begun:
		d.Action, d.Methods = Authenticate, passwordSet
	case !lacking:
		d.Action, d.Methods = Verify, ways.methods()
	case f.Registered && out.have&secondFactors == 0:
		// Who has a factor proves one before he registers another.
		d.Action, d.Methods = Verify, f.Methods&secondFactors
		if d.Methods == 0 { // he has it elsewhere: a passkey of another host
			d.Action, d.Reason = Block, StrengthUnreachable
		}
	default:
		d.Action, d.Reason, d.Methods = Register, RegistrationRequired, fresh.methods()
		if ok, needs := s.registrable(f); !ok {
			d.Action, d.Reason, d.Needs, d.Methods = Block, RegistrationDenied, needs, 0
			if f.Methods&(passSet|passOnceSet) != 0 && out.have&(passSet|passOnceSet) == 0 {
				d.Action, d.Reason, d.Methods = Verify, MFARequired, f.Methods&(passSet|passOnceSet)
			}
		}
	}
}

// choice is among methods that several requirements leave.
type choice struct {
	all, any Methods
	begun    bool
}

func (c *choice) add(ms Methods) {
	if !c.begun {
		c.all, c.begun = ms, true
	}
	c.all &= ms
	c.any |= ms
}

// methods are those that serve every requirement; where there is none, those that serve one.
func (c *choice) methods() Methods {
	if c.all != 0 {
		return c.all
	}
	return c.any
}

// graceEnds says until when the user may put off registration; zero: not at all.
func (s *Set) graceEnds(f *Facts) time.Time {
	if s.Defaults.Grace <= 0 {
		return time.Time{}
	}
	ends := graceFrom(f, f.GraceStarted, s.Defaults.Grace)
	if until := s.Defaults.Until; !until.IsZero() && until.Before(ends) {
		ends = until
	}
	return ends
}

// graceFrom is the end of a period that began at started, or begins now.
func graceFrom(f *Facts, started time.Time, grace time.Duration) time.Time {
	if f.GraceOver || f.PassRequired || grace <= 0 {
		return time.Time{}
	}
	if started.IsZero() {
		started = f.Now
	}
	return started.Add(grace)
}
