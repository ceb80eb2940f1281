package policy

import (
	"slices"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// LegacyAuth says that the client can't be asked for a second factor, where one is demanded.
const LegacyAuth Reason = "legacy_authentication"

// Legacy says whether clients of this kind can't be asked for anything but a password.
func Legacy(app ClientApp) bool { return app == ExchangeActiveSync || app == OtherClients }

// legacy decides about a legacy client, which has proven a password now. It can be asked for nothing, so that every control blocks
// it: there is neither a step-up nor a grace period, and what somebody has proven or shown elsewhere is not this client's.
func (s *Set) legacy(f *Facts, results []Result) Decision {
	only := *f
	only.Proofs = mfa.Proofs{}.With(mfa.Proof{Method: mfa.Password, At: f.Now})
	out := s.conditional(&only, results)
	for i := range results {
		r := &results[i]
		r.Ask, r.Satisfied = false, r.Applies && r.Policy.Grant.Empty()
	}
	demanded, _ := s.perUser(f)
	d := Decision{MFA: out.demandsMFA != nil || !s.Defaults.Off || demanded, Persistent: out.persistent, PasswordSince: out.password, SecondSince: out.second}
	switch {
	case out.blocked != nil:
		d.Reason, d.Policy = PolicyBlocks, out.blocked
	case !s.Defaults.Off:
		d.Reason = LegacyAuth
	case out.demands != nil:
		d.Reason, d.Policy = LegacyAuth, out.demands
	case demanded && f.PerUser == mfa.PerUserEnforced:
		d.Reason = LegacyAuth
	case out.applied:
		d.Action, d.Reason = Allow, PolicySatisfied
	case len(s.policies) > 0:
		d.Action, d.Reason = Allow, NoPolicyApplies
	default:
		d.Action, d.Reason = Allow, DefaultsOff
	}
	return d
}

// everyClient says whether a policy is for every kind of client.
func everyClient(apps []ClientApp) bool {
	return len(apps) == 0 || !slices.ContainsFunc(ClientApps, func(app ClientApp) bool { return !slices.Contains(apps, app) })
}

// compileLegacy finds the policies that the questions about legacy clients are about.
func (s *Set) compileLegacy() {
	for i := range s.policies {
		p := &s.policies[i]
		c := &p.Conditions
		if p.State != Enabled || len(c.Applications) == 0 || p.Grant.Empty() {
			continue
		}
		if p.Grant.Block && everyClient(c.ClientApps) {
			s.blocking = append(s.blocking, i)
		}
		if c.Users.All && !c.Users.None && c.ExcludeUsers.Empty() {
			s.everybody = append(s.everybody, i)
		}
	}
}

// BlocksEverybody says whether a legacy client is refused here whoever uses it, before anybody is named. The facts are of the request:
// user and proofs are not looked at. It may say no where every single user is refused by one policy or another.
func (s *Set) BlocksEverybody(f *Facts) (Decision, bool) {
	if !s.Defaults.Off {
		return Decision{Reason: LegacyAuth, MFA: true}, true
	}
	if p := s.applies(s.everybody, f); p != nil {
		if p.Grant.Block {
			return Decision{Reason: PolicyBlocks, Policy: p.Policy}, true
		}
		return Decision{Reason: LegacyAuth, Policy: p.Policy, MFA: p.Grant.DemandsMFA()}, true
	}
	return Decision{}, false
}

// BlocksClients says whether a policy that is for every kind of client blocks all users here, before anybody is named.
func (s *Set) BlocksClients(f *Facts) (Decision, bool) {
	for _, i := range s.blocking {
		if slices.Contains(s.everybody, i) {
			if p := s.applies([]int{i}, f); p != nil {
				return Decision{Reason: PolicyBlocks, Policy: p.Policy}, true
			}
		}
	}
	return Decision{}, false
}

// Blocks says whether the user is refused whatever he uses and proves: he is disabled or blocked, or a policy that is for every kind of
// client blocks him. It is what comes before an exception that an operator has made.
func (s *Set) Blocks(f *Facts) (Decision, bool) {
	switch {
	case f.User == nil:
		return Decision{Reason: NothingProven}, true
	case f.User.Disabled:
		return Decision{Reason: UserDisabled}, true
	case f.Blocked:
		return Decision{Reason: UserBlocked}, true
	case len(s.blocking) == 0:
		return Decision{}, false
	}
	words := (len(s.policies) + 63) / 64
	include, exclude := make(bitset, words), make(bitset, words)
	s.selectUser(f.User, include, exclude)
	selected := slices.DeleteFunc(slices.Clone(s.blocking), func(i int) bool { return !include.has(i) || exclude.has(i) })
	if p := s.applies(selected, f); p != nil {
		return Decision{Reason: PolicyBlocks, Policy: p.Policy}, true
	}
	return Decision{}, false
}

// applies gives the first of these policies whose target and circumstances are met.
func (s *Set) applies(policies []int, f *Facts) *compiled {
	if len(policies) == 0 {
		return nil
	}
	words := (len(s.policies) + 63) / 64
	include, exclude := make(bitset, words), make(bitset, words)
	s.selectTarget(f, include, exclude)
	client := f.Client
	client.Address, client.Device = compared(client.Address), f.device()
	for _, i := range policies {
		if !include.has(i) || exclude.has(i) {
			continue
		}
		if why, _ := s.circumstances(&s.policies[i], f, &client); why == "" {
			return &s.policies[i]
		}
	}
	return nil
}
