package policy

import (
	"net/netip"
	"slices"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// Registration bounds where a first factor may be registered. The zero Registration does not.
type Registration struct {
	From        []netip.Prefix // ranges from which the password is enough
	RequirePass bool           // elsewhere a temporary access pass is needed
}

// Need is what a user lacks who may not register a factor. The zero Need is nothing.
type Need uint8

// The needs.
const (
	NeedPass    Need = iota + 1 // a temporary access pass
	NeedNetwork                 // to come from one of the ranges
	NeedEither                  // one of the two
	NeedDevice                  // a device that the organisation knows
	NeedOther                   // what a policy says
)

var needNames = [...]string{"", "temporary_access_pass", "network", "temporary_access_pass_or_network", "device", "policy"}

func (n Need) String() string {
	if int(n) < len(needNames) {
		return needNames[n]
	}
	return "unknown"
}

// MayRegister says whether a user without a factor may register one with what he has proven, from where he is.
func (s *Set) MayRegister(f *Facts) bool {
	ok, _ := s.registrable(f)
	return ok && !f.Registered && f.Proofs.Has(mfa.Password)
}

// Needs says what a user lacks who may not register.
func (s *Set) Needs(f *Facts) Need {
	_, need := s.registrable(f)
	return need
}

// DecideAction says what a person must prove to begin a user action. Only policies on that action decide about it.
func (s *Set) DecideAction(f *Facts, action UserAction) Decision {
	return s.decideAction(f, action, nil)
}

// ExplainAction does the same, and says what each policy has to do with it, in the order of the model.
func (s *Set) ExplainAction(f *Facts, action UserAction) (Decision, []Result) {
	results := make([]Result, len(s.policies))
	return s.decideAction(f, action, results), results
}

func (s *Set) decideAction(f *Facts, action UserAction, results []Result) Decision {
	f = s.couldProve(f)
	if refused := refusal(f); refused != "" {
		s.notAsked(results)
		return Decision{Action: Block, Reason: refused}
	}
	f = s.withModels(f)
	facts := *f
	facts.Application, facts.UserAction = "", action
	if len(s.policies) == 0 {
		return Decision{Action: Allow, Reason: NoPolicyApplies}
	}
	out := s.conditional(&facts, results)
	if out.blocked == nil && !out.applied {
		return Decision{Action: Allow, Reason: NoPolicyApplies}
	}
	d := Decision{Action: Allow, Reason: PolicySatisfied, Policy: out.demandsMFA, MFA: out.demandsMFA != nil}
	switch u := &out.unmet; {
	case out.blocked != nil:
		d = Decision{Action: Block, Reason: PolicyBlocks, Policy: out.blocked}
	case !begun(f.Proofs, out.password):
		d.Action, d.Reason = Authenticate, SignInFrequencyOver
	case len(u.mfa) > 0:
		d.Action, d.Reason, d.Policy = Verify, MFARequired, u.mfaBy
		password := true // is all that is lacking
		for _, need := range u.mfa {
			d.Methods |= need.missing(out.have, f.Methods)
			password = password && need.meets(out.have|passwordSet)
		}
		switch {
		case d.Methods != 0:
		case password:
			d.Action, d.Methods = Authenticate, passwordSet
		default:
			for _, need := range u.mfa {
				d.Methods |= need.missing(out.have|passwordSet, f.Methods)
			}
			if d.Methods == 0 {
				d.Action = Block
			}
		}
	case u.compliant != nil:
		d = Decision{Action: Block, Reason: DeviceNotCompliant, Policy: u.compliant, MFA: d.MFA}
	case u.domain != nil:
		d = Decision{Action: Block, Reason: DeviceNotJoined, Policy: u.domain, MFA: d.MFA}
	case u.password != nil:
		d = Decision{Action: Block, Reason: PasswordChangeNeeded, Policy: u.password, MFA: d.MFA}
	case len(u.terms) > 0:
		d = Decision{Action: AcceptTerms, Reason: TermsRequired, Policy: u.termsBy, Terms: u.terms, MFA: d.MFA}
	}
	d.PasswordSince, d.SecondSince = out.password, out.second
	return d
}

// registrable says whether policies and the rule for registrations let a factor be registered with what was proven, and if not,
// what is missing.
func (s *Set) registrable(f *Facts) (bool, Need) {
	switch d := s.DecideAction(f, RegisterSecurityInfo); {
	case d.Action == Allow:
	case d.Reason == MFARequired:
		return false, NeedPass
	case d.Reason == DeviceNotCompliant, d.Reason == DeviceNotJoined:
		return false, NeedDevice
	case d.Reason == PolicyBlocks && len(d.Policy.Conditions.Locations)+len(d.Policy.Conditions.ExcludeLocations) > 0:
		return false, NeedNetwork
	default:
		return false, NeedOther
	}
	if f.Registered || f.Proofs.Has(mfa.RecoveryCode) {
		return true, 0 // the rule is for a first factor
	}
	rule := &s.Registration
	need := NeedNetwork
	switch {
	case f.PassRequired || len(rule.From) == 0:
		need = NeedPass
	case rule.RequirePass:
		need = NeedEither
	}
	within := s.within(f.Client.Address)
	switch {
	case f.Proofs.Has(mfa.TemporaryAccessPass):
		// A pass stands for the administrator who handed it out; ranges alone still bind him who holds one.
		return rule.RequirePass || len(rule.From) == 0 || within, need
	case f.PassRequired:
		return false, need
	case len(rule.From) == 0:
		return !rule.RequirePass, need
	}
	return within, need
}

func (s *Set) within(a netip.Addr) bool {
	a = compared(a)
	return a.IsValid() && slices.ContainsFunc(s.Registration.From, func(p netip.Prefix) bool { return p.Contains(a) })
}
