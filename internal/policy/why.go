package policy

import (
	"slices"
	"time"
)

// Cause is why somebody is asked for a second step, or to sign in once more, as far as whoever is asked may know: he has typed a password,
// and need not be the one whose it is. So it names no policy, no place and no group, and doesn't
// say that somebody is an administrator, whose account is worth more. The zero Cause is that he is asked, and no more.
type Cause uint8

// The causes.
const (
	CauseNone      Cause = iota
	CauseTooOld          // what he has proven is older than may be
	CauseEveryTime       // it is asked for every time
	CauseTooWeak         // the second step that he has proven is not strong enough
	CauseOutside         // he is at none of the places that are trusted
	CauseElsewhere       // where he is, by any other list of places
	CauseDevice          // nobody vouches for his device
)

var causeNames = [...]string{"none", "too_old", "every_time", "too_weak", "outside", "elsewhere", "device"}

func (c Cause) String() string {
	if int(c) < len(causeNames) {
		return causeNames[c]
	}
	return "unknown"
}

// Because is why somebody is asked.
type Because struct {
	Cause Cause
	Age   time.Duration // how old it may be, with CauseTooOld
}

// Why says why the decision about these facts is to authenticate or to verify; for any other it has nothing to say. It is for pages: it
// decides once more, and looks at every policy.
//
// A cause is given where the person would not be asked without it. So there is none where a policy asks whoever he is and wherever,
// nor where two policies ask for reasons that differ.
func (s *Set) Why(f *Facts) Because {
	f = s.couldProve(s.withModels(f))
	if refusal(f) != "" || Legacy(f.Client.App) {
		return Because{}
	}
	results := make([]Result, len(s.policies))
	f, out, d := s.weigh(f, results)
	switch {
	case d.Action == Authenticate && d.Reason == SignInFrequencyOver:
		return out.aged(f, out.password)
	case d.Action != Verify:
		return Because{}
	case !out.second.IsZero() && s.metWhenOld(f, &out):
		return out.aged(f, out.second)
	case mfaCombinations.meets(out.have &^ rememberedSet):
		return Because{Cause: CauseTooWeak}
	case !s.Defaults.Off:
		return Because{}
	case out.demandsMFA == nil:
		if s.offices != nil && f.Client.Address.IsValid() {
			return Because{Cause: CauseOutside} // of the ranges of the user's own setting
		}
		return Because{}
	}
	return Because{Cause: s.whoAsks(f, &out, results)}
}

// aged is the cause of a proof that is older than since.
func (out *outcome) aged(f *Facts, since time.Time) Because {
	age := f.Now.Sub(since)
	if out.everyTime && age == EveryTimeAge {
		return Because{Cause: CauseEveryTime}
	}
	return Because{CauseTooOld, age}
}

// metWhenOld says whether what was proven would be enough if it were not too old.
func (s *Set) metWhenOld(f *Facts, out *outcome) bool {
	whenever := *out
	whenever.second, whenever.everyTime = time.Time{}, false
	have := s.have(f, &whenever)
	return !slices.ContainsFunc(out.unmet.mfa, func(need combinations) bool { return !need.meets(have) })
}

// whoAsks gives the cause that all policies share which ask for a second step.
func (s *Set) whoAsks(f *Facts, out *outcome, results []Result) (cause Cause) {
	asked := false
	for i := range results {
		p := &s.policies[i]
		if p.State != Enabled || !results[i].Applies || p.Grant.Block {
			continue
		}
		open := p.open(f, out.have)
		if open != 0 && p.Grant.Any {
			open = s.choose(p, f, open, out.have)
		}
		if open&(controlMFA|controlStrength) == 0 {
			continue
		}
		c := s.narrowed(p, f)
		if asked && c != cause {
			return CauseNone
		}
		cause, asked = c, true
	}
	return cause
}

// narrowed says what it is about the person that a policy which applies does not ask of everybody. Where it is more than one thing, what
// he could change comes first.
func (s *Set) narrowed(p *compiled, f *Facts) Cause {
	client := f.Client
	client.Address, client.Device = compared(client.Address), f.device()
	cond := &p.Conditions
	away := len(p.excludeLocations) > 0 && s.among(p.excludeLocations, &client) == no
	among := len(p.locations) > 0 && !slices.Contains(cond.Locations, All) && s.among(p.locations, &client) == yes
	enough := p.Grant.Any && (p.Grant.CompliantDevice || p.Grant.DomainJoinedDevice) // a device in place of the second step
	switch {
	case away && !slices.ContainsFunc(cond.ExcludeLocations, func(name string) bool { return !s.trusts(name) }):
		return CauseOutside
	case away, among:
		return CauseElsewhere
	case !client.Device.Known && (enough || p.filter != nil && cond.Devices.Exclude):
		return CauseDevice
	}
	return CauseNone
}

// trusts says whether a name stands for places that are trusted, and no others.
func (s *Set) trusts(place string) bool {
	return place == AllTrusted || slices.ContainsFunc(s.Locations, func(l NamedLocation) bool { return l.Name == place && l.Trusted })
}
