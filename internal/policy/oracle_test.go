package policy

import (
	"slices"
	"strings"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// oracle says what should come out, as plainly as it can be said: a loop over the policies, and no index, no table of addresses, no
// set of bits. It reads the model and never the Set.
type oracle struct{ Model }

// applies says whether every assignment of a policy matches.
func (o oracle) applies(p *Policy, f *Facts) bool {
	c := &p.Conditions
	return o.selects(c.Users, f.User) && !o.selects(c.ExcludeUsers, f.User) &&
		o.targets(c, f) &&
		(len(c.ClientApps) == 0 || f.Client.App == "" || slices.Contains(c.ClientApps, f.Client.App)) &&
		(len(c.Platforms) == 0 || slices.Contains(c.Platforms, AllPlatforms) || slices.Contains(c.Platforms, f.Client.Platform)) &&
		!(f.Client.Platform != "" && slices.Contains(c.ExcludePlatforms, f.Client.Platform)) &&
		(len(c.Locations) == 0 || o.mayBeAt(c.Locations, &f.Client)) &&
		!o.isAt(c.ExcludeLocations, &f.Client)
}

func (oracle) selects(u Users, user *mfa.User) bool {
	same := func(list []string, name string) bool {
		return slices.ContainsFunc(list, func(s string) bool { return strings.EqualFold(s, name) })
	}
	return u.All || u.Guests && user.Guest || slices.Contains(u.Users, user.Canonical) ||
		slices.ContainsFunc(user.Groups, func(g string) bool { return same(u.Groups, g) }) ||
		slices.ContainsFunc(user.Roles, func(r string) bool { return same(u.Roles, r) })
}

func (oracle) targets(c *Conditions, f *Facts) bool {
	if f.UserAction != "" {
		return slices.Contains(c.UserActions, f.UserAction)
	}
	in := slices.Contains(c.Applications, All) || f.Application != "" && slices.Contains(c.Applications, f.Application)
	return in && !(f.Application != "" && slices.Contains(c.ExcludeApplications, f.Application))
}

// isAt says whether the client is certainly at one of the places, mayBeAt whether it could be, as far as anybody knows.
func (o oracle) isAt(places []string, c *mfa.Client) bool {
	return slices.ContainsFunc(places, func(name string) bool { there, known := o.at(name, c); return there && known })
}

func (o oracle) mayBeAt(places []string, c *mfa.Client) bool {
	return slices.ContainsFunc(places, func(name string) bool { there, known := o.at(name, c); return there || !known })
}

func (o oracle) at(name string, c *mfa.Client) (there, known bool) {
	if name == All {
		return true, true
	}
	known = true
	for _, l := range o.Locations {
		if name != l.Name && (name != AllTrusted || !l.Trusted) {
			continue
		}
		switch address := c.Address.Unmap().WithZone(""); {
		case len(l.Ranges) > 0 && !address.IsValid(), len(l.Ranges) == 0 && !c.CountryKnown:
			known = false
		case len(l.Ranges) > 0:
			for _, r := range l.Ranges {
				there = there || r.Contains(address)
			}
		default:
			there = there || slices.Contains(l.Countries, c.Country) || l.IncludeUnknown && c.Country == ""
		}
	}
	return there, known || there
}

// lets says whether somebody gets in, by policies alone: security defaults are off, and he has no setting of his own.
func (o oracle) lets(f *Facts) bool {
	if !f.Proofs.Has(mfa.Password) && !f.Proofs.Has(mfa.Passkey) || f.User.Disabled || f.Blocked {
		return false
	}
	var password, second time.Time
	later := func(t *time.Time, since time.Time) {
		if since.After(*t) {
			*t = since
		}
	}
	var applying []*Policy
	browser, remembered := f.Proofs.Latest(mfa.RememberedBrowser)
	remembered = remembered && f.Registered && len(f.User.Roles) == 0
	for i := range o.Policies {
		p := &o.Policies[i]
		if p.State != Enabled || !o.applies(p, f) {
			continue
		}
		applying = append(applying, p)
		if p.Session.Persistent == NeverPersistent || p.Session.SignInFrequency != nil && p.Session.SignInFrequency.EveryTime {
			remembered = false
		}
		if s := p.Session.SignInFrequency; s != nil && !(s.EveryTime && f.Entered) {
			age := s.Every
			if s.EveryTime {
				age = 5 * time.Minute
			}
			later(&second, f.Now.Add(-age))
			if !s.SecondaryOnly {
				later(&password, f.Now.Add(-age))
			}
		}
	}
	if f.Client.App == ExchangeActiveSync || f.Client.App == OtherClients {
		// It proves its password with every request, and can do nothing else.
		return f.Proofs.Has(mfa.Password) && !slices.ContainsFunc(applying, func(p *Policy) bool { return !p.Grant.Empty() })
	}
	young := func(m mfa.Method, since time.Time) bool {
		p, ok := f.Proofs.Latest(m)
		return ok && !p.At.Before(since)
	}
	if code, ok := f.Proofs.Latest(mfa.RecoveryCode); ok && !young(mfa.TOTP, code.At) && !young(mfa.Passkey, code.At) && !young(mfa.TemporaryAccessPass, code.At) {
		return false // he must register first
	}
	if !young(mfa.Password, password) && !young(mfa.Passkey, password) {
		return false
	}
	age := f.Now.Sub(browser.At)
	remembered = remembered && age >= 0 && age < o.Remember.Browser && !browser.At.Before(second)
	passkey, pass := young(mfa.Passkey, second), young(mfa.TemporaryAccessPass, second)
	// These are worth something beside a password alone.
	code := young(mfa.Password, password) && young(mfa.TOTP, second)
	recovery := young(mfa.Password, password) && young(mfa.RecoveryCode, second)
	for _, p := range applying {
		g := &p.Grant
		if g.Block {
			return false
		}
		var controls []bool
		if g.MFA {
			controls = append(controls, code || passkey || pass || recovery || remembered)
		}
		switch g.Strength {
		case MFAStrength:
			controls = append(controls, code || passkey || pass || recovery)
		case PhishingResistantStrength:
			controls = append(controls, passkey)
		case "keys of one model":
			p, _ := f.Proofs.Latest(mfa.Passkey)
			controls = append(controls, passkey && p.Model == modelA)
		case "codes":
			controls = append(controls, code)
		}
		if g.CompliantDevice {
			controls = append(controls, f.Client.Device.Known && f.Client.Device.Compliant)
		}
		if g.DomainJoinedDevice {
			controls = append(controls, f.Client.Device.Known && f.Client.Device.DomainJoined)
		}
		for _, name := range g.Terms {
			for _, t := range o.Terms {
				if t.Name == name {
					controls = append(controls, f.Terms[name].Version >= t.Version)
				}
			}
		}
		met := !slices.Contains(controls, false) || g.Any && slices.Contains(controls, true)
		if !met {
			return false
		}
	}
	return true
}
