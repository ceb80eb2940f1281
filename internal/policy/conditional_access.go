package policy

import (
	"math/bits"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// outcome is what the policies that apply say together.
type outcome struct {
	blocked    *Policy // one that blocks
	applied    bool    // at least one applies
	demands    *Policy // one that demands anything
	demandsMFA *Policy // one that demands a second factor

	password, second time.Time // since when proofs count
	everyTime        bool      // a policy wants proofs every time
	entry            bool      // proofs need only be young when something begins, which it has already
	persistent       Persistence

	have  Methods // what was proven, and is young enough
	unmet unmet
}

// unmet is what is still demanded.
type unmet struct {
	mfa       []combinations // all of them
	mfaBy     *Policy
	compliant *Policy
	domain    *Policy
	password  *Policy
	terms     []Terms
	termsBy   *Policy
}

// control is a set of grant controls.
type control uint8

// The controls, in the order in which Entra asks for them.
const (
	controlMFA control = 1 << iota
	controlStrength
	controlCompliant
	controlDomainJoined
	controlPassword
	controlTerms
)

// Result is what one policy has to do with a sign-in.
type Result struct {
	Policy    *Policy
	Unmet     Unmet // why it doesn't apply; NotEnoughInformation: it does
	Applies   bool
	Satisfied bool // every control that it has is met
	Ask       bool // not satisfied, and the person could do something about it
}

// inlinePolicies is how many policies are decided about without an allocation.
const inlinePolicies = 512

// conditional evaluates the policies. Where results are asked for, it looks at all of them and fills in one for each; else at
// those that concern the user and what he enters. It is the same evaluation: nothing else decides, logs or explains.
func (s *Set) conditional(f *Facts, results []Result) (out outcome) {
	out.have = s.have(f, &out)
	if len(s.policies) == 0 {
		return out
	}
	var inline [5][inlinePolicies / 64]uint64
	sets := [5]bitset{inline[0][:], inline[1][:], inline[2][:], inline[3][:], inline[4][:]}
	words := (len(s.policies) + 63) / 64
	for i := range sets {
		if words > len(sets[i]) {
			sets[i] = make(bitset, words)
		}
		sets[i] = sets[i][:words]
	}
	users, notUsers, target, notTarget, applies := sets[0], sets[1], sets[2], sets[3], sets[4]
	s.selectUser(f.User, users, notUsers)
	s.selectTarget(f, target, notTarget)
	client := f.Client
	client.Address, client.Device = compared(client.Address), f.device()
	for w := range words {
		candidates := users[w] &^ notUsers[w] & target[w] &^ notTarget[w]
		if results == nil {
			candidates &= s.enabled[w]
		}
		for ; candidates != 0; candidates &= candidates - 1 {
			i := w*64 + bits.TrailingZeros64(candidates)
			why, uncertain := s.circumstances(&s.policies[i], f, &client)
			if why == "" {
				applies.set(i)
			}
			if results != nil {
				results[i].Applies, results[i].Unmet = why == "", why
				if uncertain {
					results[i].Unmet = NotEnoughInformation
				}
			}
		}
	}
	for i := range results {
		s.explainSelection(i, f, results, users.has(i) && !notUsers.has(i), target.has(i) && !notTarget.has(i))
	}

	// Session controls come first: they say which proofs count.
	for w := range words {
		for enforced := applies[w] & s.enabled[w]; enforced != 0; enforced &= enforced - 1 {
			out.bound(&s.policies[w*64+bits.TrailingZeros64(enforced)], f)
		}
	}
	out.have = s.have(f, &out)
	for w := range words {
		for enforced := applies[w] & s.enabled[w]; enforced != 0; enforced &= enforced - 1 {
			p := &s.policies[w*64+bits.TrailingZeros64(enforced)]
			out.applied = true
			if p.Grant.Block {
				if out.blocked == nil {
					out.blocked = p.Policy
				}
				continue
			}
			if out.demands == nil && !p.Grant.Empty() {
				out.demands = p.Policy
			}
			open := p.open(f, out.have)
			if open != 0 && p.Grant.Any {
				open = s.choose(p, f, open, out.have)
			}
			if out.demandsMFA == nil && s.demandsMFA(p, open, out.have) {
				out.demandsMFA = p.Policy
			}
			s.demand(&out.unmet, p, f, open)
		}
	}
	for i := range results {
		s.judge(&results[i], &s.policies[i], f, out)
	}
	return out
}

// notAsked fills in results where no policy was asked.
func (s *Set) notAsked(results []Result) {
	for i := range results {
		results[i].Policy = s.policies[i].Policy
		if results[i].Policy.State == Disabled {
			results[i].Unmet = UnmetState
		}
	}
}

// explainSelection says of a policy that was not looked at why it wasn't.
func (s *Set) explainSelection(i int, f *Facts, results []Result, user, target bool) {
	r := &results[i]
	r.Policy = s.policies[i].Policy
	switch {
	case r.Policy.State == Disabled:
		r.Applies, r.Unmet = false, UnmetState
	case !user:
		r.Applies, r.Unmet = false, UnmetUsers
	case target:
	case len(r.Policy.Conditions.UserActions) > 0 && f.UserAction == "":
		r.Unmet = UnmetAction
	case f.UserAction != "" && len(r.Policy.Conditions.UserActions) == 0:
		r.Unmet = UnmetAction
	default:
		r.Unmet = UnmetTarget
	}
}

// bound takes a policy's session controls: the shortest frequency and the strictest persistence win.
func (out *outcome) bound(p *compiled, f *Facts) {
	if p.Session.Persistent == NeverPersistent || out.persistent == "" {
		out.persistent = p.Session.Persistent
	}
	frequency := p.Session.SignInFrequency
	if frequency == nil {
		return
	}
	age := frequency.Every
	if frequency.EveryTime {
		out.everyTime = true
		if f.Entered && f.UserAction == "" {
			out.entry = true
			return
		}
		age = EveryTimeAge
	}
	since := f.Now.Add(-age)
	if since.After(out.second) {
		out.second = since
	}
	if !frequency.SecondaryOnly && since.After(out.password) {
		out.password = since
	}
}

// open gives the controls of a policy that are not met; none if its operator is satisfied.
func (p *compiled) open(f *Facts, have Methods) (open control) {
	g := &p.Grant
	met := false
	check := func(demanded, ok bool, c control) {
		if demanded && !ok {
			open |= c
		}
		met = met || demanded && ok
	}
	check(g.MFA, mfaCombinations.meets(have), controlMFA)
	check(g.Strength != "", p.strength.meets(have), controlStrength)
	device := f.device()
	check(g.CompliantDevice, device.Known && device.Compliant, controlCompliant)
	check(g.DomainJoinedDevice, device.Known && device.DomainJoined, controlDomainJoined)
	check(g.PasswordChange, false, controlPassword)
	for _, t := range p.terms {
		check(true, accepted(f, t), controlTerms)
	}
	if g.Any && met {
		return 0
	}
	return open
}

func accepted(f *Facts, t Terms) bool {
	a, ok := f.Terms[t.Name]
	return ok && a.Version >= t.Version
}

// possible says whether the person could meet a control here and now.
func (s *Set) possible(p *compiled, f *Facts, c control, have Methods) bool {
	switch c {
	case controlMFA:
		return s.reachable(f, mfaCombinations, have)
	case controlStrength:
		return s.reachable(f, p.strength, have)
	}
	return c == controlTerms
}

// demandsMFA says whether it is a second factor that a policy demands. Where something else is enough, and is what was met or what is
// asked for, it isn't: such a policy must not free anybody from his own setting.
func (s *Set) demandsMFA(p *compiled, open control, have Methods) bool {
	switch {
	case !p.Grant.Any:
		return p.Grant.DemandsMFA()
	case open != 0:
		return open&(controlMFA|controlStrength) != 0
	}
	return p.Grant.MFA && mfaCombinations.meets(have) || p.Grant.Strength != "" && p.strength.meets(have)
}

// demand adds what is open of what a policy demands.
func (s *Set) demand(u *unmet, p *compiled, f *Facts, open control) {
	if open&controlMFA != 0 {
		u.mfa, u.mfaBy = append(u.mfa, mfaCombinations), first(u.mfaBy, p.Policy)
	}
	if open&controlStrength != 0 {
		u.mfa, u.mfaBy = append(u.mfa, p.strength), first(u.mfaBy, p.Policy)
	}
	if open&controlCompliant != 0 {
		u.compliant = first(u.compliant, p.Policy)
	}
	if open&controlDomainJoined != 0 {
		u.domain = first(u.domain, p.Policy)
	}
	if open&controlPassword != 0 {
		u.password = first(u.password, p.Policy)
	}
	if open&controlTerms != 0 {
		u.termsBy = first(u.termsBy, p.Policy)
		for _, t := range p.terms {
			if !accepted(f, t) {
				u.terms = append(u.terms, t)
			}
		}
	}
}

// choose picks one of several open controls of which one is enough: in the order of prompts, the first that is possible.
func (s *Set) choose(p *compiled, f *Facts, open control, have Methods) control {
	for c := controlMFA; c <= controlTerms; c <<= 1 {
		if open&c != 0 && s.possible(p, f, c, have) {
			return c
		}
	}
	return open & -open
}

func first(p, other *Policy) *Policy {
	if p != nil {
		return p
	}
	return other
}

// judge completes a result: would this policy let the person in, and if not, could he do something about it? Session controls of
// others that are enforced count against second factors. A password that is too old counts against the policy that says so.
func (s *Set) judge(r *Result, p *compiled, f *Facts, out outcome) {
	if !r.Applies || p.Grant.Block {
		return
	}
	var own outcome
	own.bound(p, f)
	if !begun(f.Proofs, own.password) {
		r.Ask = true
		return
	}
	if p.State == ReportOnly {
		out.bound(p, f)
	}
	have := s.have(f, &out)
	if f.Proofs.Has(mfa.Password) {
		have |= passwordSet
	}
	open := p.open(f, have)
	r.Satisfied = open == 0
	if r.Satisfied {
		return
	}
	if p.Grant.Any {
		open = s.choose(p, f, open, have)
	}
	r.Ask = true
	for c := controlMFA; c <= controlTerms; c <<= 1 {
		if open&c != 0 && !s.possible(p, f, c, have) {
			r.Ask = false
		}
	}
}
