package inventory

import (
	"net/netip"
	"time"
)

// What became of a request, in Sighting.Verdict.
const (
	Blocked      = "blocked"
	Reported     = "reported"      // let through because the class is in report mode, or in an emergency
	Allowed      = "allowed"       // let through because the class is allowed, or policy had nothing against it
	AppPassword  = "app_password"  // let through with one
	ServiceToken = "service_token" // let through with one
	Exception    = "exception"     // let through by one
)

// Sighting is one request with legacy authentication.
type Sighting struct {
	At          time.Time // zero: now
	Class       string    // of legacy.Classes
	Application string    // as it is configured, never as the client says
	Path        string    // as it was sent or as it was rewritten; only what Prefix says of it is kept
	User        string    // as it was typed, or empty; with ServiceToken, service:<name>. See the package for what is kept of it
	Client      string    // family, from a short list
	Address     netip.Addr
	Verdict     string // one of the constants
	Would       string // Blocked or Allowed: what would have become of it without report mode or emergency
	Exception   string // name of the one that covered it, or empty
}

var verdicts = [...]string{Blocked, Reported, Allowed, AppPassword, ServiceToken, Exception}

var woulds = [...]string{Blocked, Allowed}
