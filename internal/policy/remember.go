package policy

import (
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// Remembering is what people may ask of their browsers. The zero Remembering is nothing.
//
// A remembered browser stands for the second factor that was proven in it, as of then: where a second factor is demanded, and
// nothing more. It meets no authentication strength, is too old where a sign-in frequency says so, and never young enough for one that
// wants proofs every time; it doesn't count where a policy has no browser persist, for a user action, and for administrators.
type Remembering struct {
	Session time.Duration // for how long somebody may stay signed in; zero: as long as sessions last
	Browser time.Duration // for how long a browser may stand for the second factor; zero: never
}

// administrator says whether the user holds a role. Every role of a directory is one of administrators.
func administrator(u *mfa.User) bool { return len(u.Roles) > 0 }

// have gives what was proven and counts, a remembered browser included.
func (s *Set) have(f *Facts, out *outcome) Methods {
	return s.proven(f.Proofs, out.password, out.second) | s.remembered(f, out, s.rememberFor(f))
}

// rememberFor is for how long a browser is remembered for somebody. Who has a setting of his own is bound by what is said of that too.
func (s *Set) rememberFor(f *Facts) time.Duration {
	all := s.Remember.Browser
	if own := s.PerUser.RememberBrowser; own > 0 && own < all && s.hasOwn(f) {
		return own
	}
	return all
}

// remembered gives what a remembered browser counts as, where one is good for so long.
func (s *Set) remembered(f *Facts, out *outcome, length time.Duration) Methods {
	p, ok := f.Proofs.Latest(mfa.RememberedBrowser)
	switch {
	case !ok || !f.Registered || f.User == nil || administrator(f.User) || f.UserAction != "":
	case out.persistent == NeverPersistent || out.everyTime || p.At.Before(out.second):
	case p.At.After(f.Now) || f.Now.Sub(p.At) >= length:
	default:
		return rememberedSet
	}
	return 0
}

// rememberedByOwn is remembered where the user's own setting demands the second factor. The method that the browser stands for must be
// one that the setting accepts.
func (s *Set) rememberedByOwn(f *Facts, out *outcome) Methods {
	p, _ := f.Proofs.Latest(mfa.RememberedBrowser) // whether there is one, remembered says
	if s.allowed != nil && !s.allowed.meets(passwordSet|MethodsOf(p.Of, false)) {
		return 0
	}
	return s.remembered(f, out, s.rememberByOwn())
}

// rememberByOwn is for how long a browser is remembered for somebody whose own setting demands the second factor: the shorter time of
// those that are configured.
func (s *Set) rememberByOwn() time.Duration {
	own, all := s.PerUser.RememberBrowser, s.Remember.Browser
	if own <= 0 || all > 0 && all < own {
		return all
	}
	return own
}

// rememberable says for how long a browser could be remembered, up to length, if a second factor is proven in it now; zero: not at
// all, since that would not be enough for what is demanded, or not for as long.
func rememberable(f *Facts, out *outcome, length time.Duration) time.Duration {
	if administrator(f.User) || !f.Registered || out.persistent == NeverPersistent || out.everyTime || !out.second.IsZero() {
		return 0
	}
	for _, need := range out.unmet.mfa {
		if !need.meets(out.have | passwordSet | rememberedSet) {
			return 0
		}
	}
	return max(length, 0)
}

// stay says for how long somebody may stay signed in who wants to.
func (s *Set) stay(f *Facts, out *outcome) time.Duration {
	if administrator(f.User) || out.persistent == NeverPersistent {
		return 0
	}
	return max(s.Remember.Session, 0)
}

// Offers says for how long the person may choose to stay signed in; zero: he is not asked. Where a policy decides how long a session
// or a proof is good for, there is nothing to choose; and who is to register a factor does that first.
func (d *Decision) Offers() time.Duration {
	if d.Offer || d.Reason == InGrace || d.Action == Register {
		return 0
	}
	if d.Persistent != "" || !d.PasswordSince.IsZero() || !d.SecondSince.IsZero() {
		return 0
	}
	return d.Stay
}
