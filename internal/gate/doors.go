package gate

import (
	"net/netip"
	"slices"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/legacy"
)

// Doors is what an operator says of legacy authentication in an application. It is pure: a finding and a place go in, and a door comes
// out. The zero Doors leaves it to policy.
type Doors struct {
	Rules         []Rule // in the order in which they are written
	Exceptions    []Exception
	AppPasswords  Switch
	ServiceTokens bool

	// Digest says that app passwords, where they are On, may come over HTTP Digest, too.
	Digest bool

	// Only says that nobody signs in: what carries no legacy credential passes as it came.
	Only bool

	// Unshared says that no connection to the application serves several clients. NTLM proves who is at the other end of a connection,
	// and not who sends a request (MS-NTHT, section 1.3): over one that is shared, everybody would be whoever proved himself last.
	Unshared bool
}

// Mode is what becomes of legacy authentication. The zero Mode is none: policy decides.
type Mode uint8

// The modes.
const (
	NoMode Mode = iota
	Block
	Report
	Allow
)

// Rule gives some classes a mode, inside of a scope.
type Rule struct {
	Classes []legacy.Class // empty: all
	Mode    Mode
	Scope
}

// Exception lets a user's or a machine's legacy authentication through, until it ends.
type Exception struct {
	Name    string // for logs
	Classes []legacy.Class
	User    string // canonical name; empty: it is a service
	Service string
	Until   time.Time
	Scope
}

// Scope is where something holds. The zero Scope is everywhere.
type Scope struct {
	From  []netip.Prefix
	Paths Paths
}

func (s *Scope) bounded() bool { return len(s.From)+len(s.Paths) > 0 }

// spot is where a request comes from, and where it goes.
type spot struct {
	address          netip.Addr // zero: nobody knows
	asked, rewritten string     // escaped
	destinations     []string   // see Request
}

// inside says whether a request is certainly inside: an address that nobody knows is in no range, and a path that two programs could
// read differently is below no prefix.
func (s *Scope) inside(at *spot) bool {
	if len(s.From) > 0 && !within(s.From, at.address) {
		return false
	}
	return len(s.Paths) == 0 || s.Paths.Contain(at.asked) && s.Paths.Contain(at.rewritten) && s.Paths.ContainTargets(at.destinations)
}

// maybeInside says whether it can't be ruled out. It is for what shuts a door.
func (s *Scope) maybeInside(at *spot) bool {
	if len(s.From) > 0 && at.address.IsValid() && !within(s.From, at.address) {
		return false
	}
	return len(s.Paths) == 0 || s.Paths.MayContain(at.asked) || s.Paths.MayContain(at.rewritten) || s.Paths.mayContainTarget(at.destinations)
}

// within says whether an address is in one of the ranges. IPv4 in IPv6 is IPv4.
func within(ranges []netip.Prefix, a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return slices.ContainsFunc(ranges, func(r netip.Prefix) bool { return r.Contains(a) })
}

// way is how a request may go on.
type way uint8

const (
	shut       way = iota // it is refused
	verify                // its Basic credential is verified
	unverified            // it passes as nobody
	counted               // it is counted, and then a request like any other
	askPolicy             // policy decides about the user whom its Basic credential names, which is then verified
)

// door is a way, and what opens it.
type door struct {
	way       way
	mode      Mode       // of the rule; NoMode: none
	exception *Exception // nil: none
}

// find finds the door for a finding: an exception, the emergency switch, the rule of class and application, what holds by itself. named
// is the canonical name of whom a Basic credential claims to be of; empty: nobody can be called so.
func (d *Doors) find(f *legacy.Finding, named string, at *spot, now time.Time, emergency bool) door {
	basic := f.Basic != nil
	if f.NTLM && !d.Unshared {
		return door{way: shut}
	}
	if e := d.exception(f, named, at, now); e != nil {
		if e.User != "" {
			return door{way: verify, exception: e}
		}
		return door{way: unverified, exception: e}
	}
	rule := d.rule(f, at, emergency)
	mode := NoMode
	if rule != nil {
		mode = rule.Mode
	}
	if emergency {
		mode = Report
	}
	switch {
	case mode == Block:
		return door{way: shut, mode: mode}
	case d.Only && (mode != NoMode || f.Class.Reported()):
		return door{way: unverified, mode: mode}
	case d.Only:
		return door{way: shut}
	case mode != NoMode && basic:
		return door{way: verify, mode: mode}
	// A Basic credential that could not be told from another that stands beside it is in no scope.
	case mode != NoMode && rule != nil && rule.bounded() && f.Scheme != legacy.Basic:
		return door{way: unverified, mode: mode}
	case f.Class.Reported():
		return door{way: counted, mode: mode}
	case mode == NoMode && basic:
		return door{way: askPolicy}
	}
	return door{way: shut, mode: mode}
}

// rule is the one that holds: those for the class come before those for the scheme, and before those for all; of each the
// narrower ones before that for everywhere. In an emergency every rule opens.
func (d *Doors) rule(f *legacy.Finding, at *spot, emergency bool) *Rule {
	for _, class := range [...]legacy.Class{f.Class, f.Scheme, legacy.None} {
		var everywhere *Rule
		for i := range d.Rules {
			r := &d.Rules[i]
			switch {
			case class == legacy.None && len(r.Classes) > 0, class != legacy.None && !slices.Contains(r.Classes, class):
			case !r.bounded():
				everywhere = r
			case r.Mode == Block && !emergency && r.maybeInside(at), (r.Mode != Block || emergency) && r.inside(at):
				return r
			}
		}
		if everywhere != nil {
			return everywhere
		}
	}
	return nil
}

// exception is the one that covers a request; those for a user come first.
func (d *Doors) exception(f *legacy.Finding, named string, at *spot, now time.Time) *Exception {
	var service *Exception
	for i := range d.Exceptions {
		e := &d.Exceptions[i]
		if !now.Before(e.Until) || !slices.Contains(e.Classes, f.Class) && !slices.Contains(e.Classes, f.Scheme) || !e.inside(at) {
			continue
		}
		if e.User == "" && service == nil {
			service = e
		}
		if e.User != "" && e.User == named && f.Basic != nil {
			return e
		}
	}
	return service
}

// handshakes are the classes whose clients first ask without a credential, and need the application's own challenge.
var handshakes = []legacy.Class{legacy.Digest, legacy.NTLM, legacy.Kerberos}

// handshake says whether a program's request without a credential passes, since it asks for a challenge that only the application can
// make: inside the scope of a rule that lets such a class through, and for a machine that has an exception.
func (d *Doors) handshake(at *spot, now time.Time, emergency bool) bool {
	for _, class := range handshakes {
		if d.Admits(class, at.address, at.asked, at.rewritten, now, emergency) {
			return true
		}
	}
	return slices.ContainsFunc(d.Exceptions, func(e Exception) bool { return e.User == "" && now.Before(e.Until) && e.inside(at) })
}

// Admits says whether a credential of this scheme may reach the application from there, by what the operator says, so that the application's
// challenge for it is of use. What policy says of Basic is not in it.
func (d *Doors) Admits(scheme legacy.Class, address netip.Addr, asked, rewritten string, now time.Time, emergency bool) bool {
	at := spot{address: address, asked: asked, rewritten: rewritten}
	f := legacy.Finding{Class: scheme, Scheme: scheme, NTLM: scheme == legacy.NTLM}
	if scheme == legacy.Basic {
		f.Basic = &legacy.Credential{}
	}
	switch d.find(&f, "", &at, now, emergency).way {
	case verify, unverified:
		return true
	}
	return false
}

// verifies says whether a Basic credential of somebody could be verified here by what the operator says.
func (d *Doors) verifies(at *spot, now time.Time, emergency bool) bool {
	if emergency {
		return true
	}
	if slices.ContainsFunc(d.Exceptions, func(e Exception) bool { return e.User != "" && now.Before(e.Until) && e.inside(at) }) {
		return true
	}
	for i := range d.Rules {
		r := &d.Rules[i]
		if len(r.Classes) > 0 && !slices.ContainsFunc(r.Classes, legacy.Class.Verifiable) {
			continue
		}
		for _, class := range r.Classes {
			f := legacy.Finding{Class: class, Scheme: legacy.Basic}
			if held := d.rule(&f, at, false); class.Verifiable() && held == r && r.Mode != Block {
				return true
			}
		}
		if f := (legacy.Finding{Class: legacy.Basic, Scheme: legacy.Basic}); len(r.Classes) == 0 && r.Mode != Block && d.rule(&f, at, false) == r {
			return true
		}
	}
	return false
}

// silent says whether the operator leaves Basic to policy.
func (d *Doors) silent(at *spot) bool {
	return d.rule(&legacy.Finding{Class: legacy.Basic, Scheme: legacy.Basic}, at, false) == nil
}
