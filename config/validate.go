package config

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/publicsuffix"
)

// Problem is one mistake in a configuration.
type Problem struct {
	Field   string // as in JSON: session.idle, users[0].file.path
	Message string // what is wrong, and what would be right
}

// Problems is every mistake that was found in one run. It is an error unless it is empty.
type Problems []Problem

// Error writes one problem a line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Field + ": " + p.Message
	}
	return strings.Join(lines, "\n")
}

// Err gives the problems as an error, or nil if there are none.
func (ps Problems) Err() error {
	if len(ps) == 0 {
		return nil
	}
	return ps
}

func (ps *Problems) add(field, format string, args ...any) {
	*ps = append(*ps, Problem{field, fmt.Sprintf(format, args...)})
}

// MinSecret is the length of the shortest secret, in bytes.
const MinSecret = 32

// MaxHelp is the length of the longest help text, in bytes.
const MaxHelp = 500

var directoryName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

// Validate reports every mistake at once. Values that hold a placeholder are checked when it has been resolved.
func (c *Config) Validate() Problems {
	var ps Problems
	for i, s := range c.Secret {
		if !strings.Contains(s, "{") && len(s) < MinSecret {
			ps.add(fmt.Sprintf("secret[%d]", i), "the secret has %d bytes; it must have at least %d, for example from `openssl rand -base64 32`", len(s), MinSecret)
		}
	}

	idle, lifetime := orDefault(c.Session.Idle, DefaultIdle), orDefault(c.Session.Lifetime, DefaultLifetime)
	if idle < Duration(time.Second) {
		ps.add("session.idle", "a session must last at least a second without activity, not %v", idle)
	}
	if lifetime < idle {
		ps.add("session.lifetime", "the lifetime (%v) is shorter than the idle time (%v); make it at least as long", lifetime, idle)
	}
	checkDays(&ps, "session.remember", c.Session.Remember)
	if stay := c.Session.Remember; stay != 0 && stay < lifetime {
		ps.add("session.remember", "who stays signed in would be signed out sooner (%v) than others (%v); make it at least as long as the lifetime", stay, lifetime)
	}
	checkDays(&ps, "session.remember_browser", c.Session.RememberBrowser)
	if cache := c.Session.Cache; cache > Duration(time.Hour) {
		ps.add("session.cache", "what was read from the store may be used for at most 1h, not %v", cache)
	}

	if r := c.Registration; r != nil && len(r.From) == 0 && !r.RequirePass {
		ps.add("registration", "it says neither `from` nor `require_pass`; leave it out to let everybody register with the password")
	} else if r != nil {
		checkRanges(&ps, "registration.from", r.From)
	}

	names := map[string]bool{}
	for i, d := range c.Users {
		field := fmt.Sprintf("users[%d]", i)
		name := d.Name()
		switch {
		case d.File != nil && d.Htpasswd != nil:
			ps.add(field, "it names two kinds of directory; write one for each")
			continue
		case d.File != nil:
			field += ".file"
			if d.File.Path == "" {
				ps.add(field+".path", "the file is missing; write for example `users file users.yaml`")
			}
		case d.Htpasswd != nil:
			field += ".htpasswd"
			if d.Htpasswd.Path == "" {
				ps.add(field+".path", "the file is missing; write for example `users htpasswd /etc/apache2/htpasswd`")
			}
		default:
			ps.add(field, "it names no kind of directory; want `file` or `htpasswd`")
			continue
		}
		if !directoryName.MatchString(name) {
			ps.add(field+".name", "%q can't name a directory; want a lower-case letter, then up to 31 lower-case letters, digits or hyphens", name)
		}
		if isReserved(name, "service", "nobody") {
			ps.add(field+".name", "%q names what is in no directory; give this one another `name`", name)
		}
		if names[name] {
			ps.add(field+".name", "two directories are called %q; give this one another `name`, which must then never change: accounts are kept under it", name)
		}
		names[name] = true
	}

	if t := c.Factor.TOTP; t != nil {
		// The label of an otpauth URI is "issuer:account": a colon would move the border.
		if strings.ContainsAny(t.Issuer, ":\n\r") || !utf8.ValidString(t.Issuer) || len(t.Issuer) > 64 {
			ps.add("factor.totp.issuer", "%q can't be an issuer; want at most 64 bytes without colon and line break", t.Issuer)
		}
	}

	if w := c.Factor.WebAuthn; w != nil {
		if problem := checkRPID(w.RPID); problem != "" {
			ps.add("factor.webauthn.rp_id", "%q %s", w.RPID, problem)
		}
		if strings.ContainsFunc(w.DisplayName, unicode.IsControl) || !utf8.ValidString(w.DisplayName) || len(w.DisplayName) > 64 {
			ps.add("factor.webauthn.display_name", "%q can't be a name to show; want at most 64 bytes without line break", w.DisplayName)
		}
		w.validateRelated(&ps)
	}

	if p := c.Factor.Push; p != nil {
		ps.push(p)
	} else if p := c.PerUserMFA; p != nil {
		if i := slices.Index(p.Methods, "push"); i >= 0 {
			ps.add(fmt.Sprintf("per_user_mfa.methods[%d]", i), "there is no `factor push`, so that nobody could use it; add it, or take the word out")
		}
	}

	if len(c.Help) > MaxHelp || !utf8.ValidString(c.Help) || strings.ContainsFunc(c.Help, unicode.IsControl) {
		ps.add("help", "the text must be one line of at most %d bytes; say where help is found, for example \"Service desk, phone 1234\"", MaxHelp)
	}

	if sd := c.SecurityDefaults; sd.Off && (sd.RegistrationGrace != nil && *sd.RegistrationGrace != Duration(DefaultRegistrationGrace) || !sd.Until.IsZero()) {
		ps.add("security_defaults.off", "security defaults are off, and yet have a grace period; take one of the two out")
	}
	c.validatePolicy(&ps)
	c.AppPasswords.validate(&ps)
	c.validateServiceTokens(&ps)
	c.validateSenders(&ps)
	c.SignInLog.validate(&ps)
	c.LegacyReport.validate(&ps)
	return ps
}

var domainName = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// checkRPID says why a text can't be a relying party; empty: it can.
func checkRPID(id string) string {
	if id == "" || id == "localhost" {
		return ""
	}
	if strings.Contains(id, "://") || strings.ContainsAny(id, ":/") {
		return "is an address, and must be a domain; write for example `rp_id example.com`"
	}
	if _, err := netip.ParseAddr(id); err == nil {
		return "is an IP address, to which browsers give no passkeys; write a domain, for example `rp_id example.com`"
	}
	if len(id) > 253 || !domainName.MatchString(id) {
		return "is not a domain; write it in lower case, as it stands in DNS, for example `rp_id example.com`"
	}
	// A single word that no list knows is a name in somebody's own network.
	if suffix, icann := publicsuffix.PublicSuffix(id); suffix == id && (icann || strings.Contains(id, ".")) {
		return "is a domain under which others have theirs, to which browsers give no passkeys; write your own, for example `rp_id example.com`"
	}
	return ""
}

// validateRelated looks at origins, which must be written as browsers do.
func (w *WebAuthn) validateRelated(ps *Problems) {
	const field = "factor.webauthn.related_origins"
	if len(w.RelatedOrigins) > 0 && w.RPID == "" {
		ps.add(field, "there is no domain that these origins could be related to; add `rp_id example.com`")
	}
	seen := map[string]bool{}
	for _, origin := range w.RelatedOrigins {
		u, err := url.Parse(origin)
		port := ""
		if err == nil && u.Port() != "" {
			if n, err := strconv.ParseUint(u.Port(), 10, 16); err == nil && n > 0 {
				port = strconv.FormatUint(n, 10)
			}
		}
		switch {
		case err != nil || u.Port() != port || u.Scheme != "https" || origin != "https://"+u.Host || u.Port() == "443" || !domainName.MatchString(u.Hostname()) || checkRPID(u.Hostname()) != "":
			ps.add(field, "%q is no origin; want https, a host in lower case, and a port if it isn't 443, for example `related_origins https://hr.example.net`", origin)
		case u.Hostname() == w.RPID || strings.HasSuffix(u.Hostname(), "."+w.RPID):
			ps.add(field, "%s is %s or below it, and has its passkeys anyway; take it out", origin, w.RPID)
		case seen[origin]:
			ps.add(field, "%s stands there twice; write it once", origin)
		}
		seen[origin] = true
	}
}

// MaxRemember is the longest time that a browser remembers something for.
const MaxRemember = Duration(365 * 24 * time.Hour)

// checkDays complains of a time that no box on a page could state: it is said in days.
func checkDays(ps *Problems, field string, d Duration) {
	if day := Duration(24 * time.Hour); d != 0 && (d < day || d > MaxRemember || d%day != 0) {
		ps.add(field, "it is said to people in whole days, from 1d to 365d, not %v; write for example 30d", d)
	}
}

// Bounds of the sign-in log.
const (
	MinSignInLogKeep = Duration(time.Hour)
	MaxSignInLogKeep = Duration(3650 * 24 * time.Hour)
	MinSignInLogMax  = 1000
	MaxSignInLogMax  = 1000000
)

func (l SignInLog) validate(ps *Problems) {
	if l.Off && (l.Keep != 0 || l.Max != 0) {
		ps.add("sign_in_log.off", "the sign-in log is off, and yet says how much is kept; take one of the two out")
	}
	if keep := orDefault(l.Keep, DefaultSignInLogKeep); keep < MinSignInLogKeep || keep > MaxSignInLogKeep {
		ps.add("sign_in_log.keep", "sign-ins are kept from %v to %v, not %v", MinSignInLogKeep, MaxSignInLogKeep, l.Keep)
	}
	if l.Max != 0 && (l.Max < MinSignInLogMax || l.Max > MaxSignInLogMax) {
		ps.add("sign_in_log.max", "from %d to %d sign-ins are kept, not %d", MinSignInLogMax, MaxSignInLogMax, l.Max)
	}
}

func orDefault(d Duration, def time.Duration) Duration {
	if d == 0 {
		return Duration(def)
	}
	return d
}

// MaxApplicationName is the length of the longest name of an application, in bytes.
const MaxApplicationName = 64

// Validate reports every mistake at once.
func (a *Application) Validate() Problems {
	var ps Problems
	if name := a.Application; name != "" && !validApplicationName(name) {
		ps.add("application", "%q can't name an application; want 1 to %d letters, digits, dots, hyphens or underscores", name, MaxApplicationName)
	} else if isReserved(name, "all", "none") {
		ps.add("application", "policies say %q and mean no single application; give this one another name", name)
	}
	for i, p := range a.Bypass {
		checkPathPattern(&ps, fmt.Sprintf("bypass[%d]", i), p)
		if p == "/*" {
			ps.add(fmt.Sprintf("bypass[%d]", i), "it lets everybody reach everything; take `mfa` out of this site instead")
		}
	}
	for i, p := range a.NoIdle {
		checkPathPattern(&ps, fmt.Sprintf("no_idle[%d]", i), p)
	}
	seen := map[string]string{}
	for _, h := range []struct{ field, name string }{
		{"identity.user", a.Identity.User}, {"identity.groups", a.Identity.Groups},
		{"identity.name", a.Identity.Name}, {"identity.email", a.Identity.Email},
	} {
		if h.name == "" {
			continue
		}
		if !httpguts.ValidHeaderFieldName(h.name) {
			ps.add(h.field, "%q can't name a header", h.name)
			continue
		}
		key := http.CanonicalHeaderKey(h.name)
		if reservedHeaders[key] || strings.HasPrefix(key, "Sec-") || strings.HasPrefix(key, "Proxy-") {
			ps.add(h.field, "the header %s has a meaning of its own; choose another, for example Remote-User", key)
		}
		if folded := FoldHeader(key); folded == "mfa-token-id" || folded == "mfa-token-secret" {
			ps.add(h.field, "the header %s holds service tokens, and never reaches an application; choose another, for example Remote-User", key)
		}
		if other := seen[FoldHeader(key)]; other != "" {
			ps.add(h.field, "the header %s can't be told from that of %s by every application; choose another", key, other)
		}
		seen[FoldHeader(key)] = h.field
	}
	a.validateLegacy(&ps)
	a.validateUpstream(&ps)
	return ps
}

// NoUsers says what is wrong where there is no directory of users and somebody has to sign in.
const NoUsers = "no directory of users; add for example `users file users.yaml` to the global option `mfa`"

// reservedHeaders are headers that an identity can't be written to: the request would mean something else, or would
// not arrive.
var reservedHeaders = map[string]bool{
	"Accept": true, "Accept-Encoding": true, "Accept-Language": true, "Authorization": true, "Connection": true,
	"Content-Encoding": true, "Content-Length": true, "Content-Type": true, "Cookie": true, "Date": true, "Expect": true,
	"Forwarded": true, "Host": true, "If-Match": true, "If-Modified-Since": true, "If-None-Match": true, "If-Range": true,
	"If-Unmodified-Since": true, "Keep-Alive": true, "Origin": true, "Range": true, "Referer": true, "Te": true,
	"Trailer": true, "Transfer-Encoding": true, "Upgrade": true, "User-Agent": true, "Via": true, "X-Forwarded-For": true,
	"X-Forwarded-Host": true, "X-Forwarded-Proto": true,
}

// FoldHeader writes a header's name in the form in which the most confusing of backends tells it from others: CGI
// and its descendants turn everything but letters and digits into one character, and letters into one case.
func FoldHeader(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'A' <= r && r <= 'Z':
			return r + 'a' - 'A'
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9':
			return r
		}
		return '-'
	}, name)
}

var applicationName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

func validApplicationName(name string) bool {
	return len(name) <= MaxApplicationName && applicationName.MatchString(name)
}

// CheckPath says what is wrong with a path, or a prefix that ends in /*: nil, if nothing is.
func CheckPath(p string) error {
	var ps Problems
	if checkPathPattern(&ps, "path", p); len(ps) > 0 {
		return errors.New(ps[0].Message)
	}
	return nil
}

// checkPathPattern accepts a clean absolute path, and such a path followed by /*.
func checkPathPattern(ps *Problems, field, p string) {
	prefix, wildcard := strings.CutSuffix(p, "/*")
	switch {
	case !strings.HasPrefix(p, "/"):
		ps.add(field, "%q is not a path; it must begin with a slash", p)
	case strings.Contains(prefix, "*"):
		ps.add(field, "%q has a star in a place where none is understood; want a path, or a prefix that ends in /*", p)
	case strings.ContainsAny(p, "%\\;?#{}") || strings.ContainsFunc(p, func(r rune) bool { return r < 0x20 || r == 0x7f }) || !utf8.ValidString(p):
		ps.add(field, "%q holds a character that no path here can have; write it decoded, and without query, parameter, backslash or placeholder", p)
	case wildcard && prefix == "":
	case path.Clean(prefix) != strings.TrimSuffix(prefix, "/") && prefix != "/", strings.Contains(prefix, "//"):
		ps.add(field, "%q is not a clean path; write it without . and .. and double slashes", p)
	}
}

// Validate reports every mistake at once.
func (r *Redis) Validate() Problems {
	var ps Problems
	if r.Database < 0 {
		ps.add("database", "%d is no number of a database; the first is 0", r.Database)
	}
	if strings.ContainsAny(r.Prefix, "{}\x00 ") {
		ps.add("prefix", "%q can't begin a key; leave out braces and spaces", r.Prefix)
	}
	if a := r.Address; a != "" && !strings.Contains(a, "{") {
		if _, _, err := net.SplitHostPort(a); err != nil {
			ps.add("address", "%q is not host:port; write for example localhost:6379", a)
		}
	}
	return ps
}
