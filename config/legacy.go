package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// LegacyRule says what becomes of legacy authentication of some classes in an application.
//
// A class's own rules come before those of the scheme that carries it (a rule for git before one for basic), and both before
// those for all. Among rules for the same class those with `from` or `path` come first, in the order in which they are written:
// the first that a request is inside of holds.
type LegacyRule struct {
	// The classes: all, or one or more of LegacyClasses. Required.
	Classes []string `json:"classes"`

	// block: it is refused. report, allow: a Basic credential is verified and passes with the identity that it
	// proves; what can't be verified passes without identity, inside `from` and `path` only. Required.
	Mode string `json:"mode"`

	// The rule holds for these address ranges only. Default: everywhere.
	From []netip.Prefix `json:"from,omitempty"`

	// The rule holds for these paths only: a path, or a prefix that ends in /*. Both the path that was asked for and
	// the one that it was rewritten to must be inside. Default: everywhere.
	Paths []string `json:"paths,omitempty"`
}

// The modes of a LegacyRule.
const (
	LegacyBlock  = "block"
	LegacyReport = "report"
	LegacyAllow  = "allow"
)

// LegacyModes are the words of LegacyRule.Mode, in the order in which a door is shut.
var LegacyModes = []string{LegacyAllow, LegacyReport, LegacyBlock}

// LegacyClasses are the classes of legacy authentication.
var LegacyClasses = []string{
	"basic", "digest", "ntlm", "kerberos",
	"wsse", "oauth1", "hawk", "aws-sigv4", "hmac",
	"malformed", "url-userinfo",
	"eas", "ews", "mapi", "oab", "rpc-http", "autodiscover", "rps", "reporting",
	"webdav", "git", "svn", "frontpage", "pkg",
	"xmlrpc", "ws-security", "ropc", "query-cred", "form-login",
}

// unverifiable are classes in which there is no Basic credential: whose they are can't be found out here.
var unverifiable = []string{
	"digest", "ntlm", "kerberos", "wsse", "oauth1", "hawk", "aws-sigv4", "hmac", "malformed", "url-userinfo",
	"ws-security", "ropc", "query-cred", "form-login",
}

// LegacyException lets one user, or one machine, use legacy authentication in an application, until a day. What it lets
// through reaches the application as it was sent.
type LegacyException struct {
	// The classes: one or more of LegacyClasses. Required.
	Classes []string `json:"classes"`

	// The user. His Basic credential is verified, and he passes with his identity. Either this or service is required.
	User string `json:"user,omitempty"`

	// What a machine is called in logs. It is known by its address alone: its credential is the application's own, and isn't looked at. It
	// passes without identity. Needs `from`.
	Service string `json:"service,omitempty"`

	// The address ranges from which it holds. Default: everywhere.
	From []netip.Prefix `json:"from,omitempty"`

	// The paths for which it holds, in the notation of LegacyRule. Default: everywhere.
	Paths []string `json:"paths,omitempty"`

	// The day at whose beginning, in UTC, it ends. Required.
	Until Date `json:"until,omitzero"`

	// Who answers for it. Required.
	Owner string `json:"owner"`

	// Why it is needed. Required.
	Reason string `json:"reason"`
}

// Name is what the exception is called in logs and reports: its classes, for whom and where it holds. It stays the same when the
// exception is prolonged.
func (e *LegacyException) Name() string {
	parts := []string{strings.Join(e.Classes, "+"), "user:" + e.User}
	if e.Service != "" {
		parts[1] = "service:" + e.Service
	}
	for _, r := range e.From {
		parts = append(parts, r.String())
	}
	return strings.Join(append(parts, e.Paths...), " ")
}

// ServiceToken is a key for a machine. Its secret is made by `mfa service-token add`.
type ServiceToken struct {
	// What it is called; the machine is the user service:<name>. Required.
	Name string `json:"name"`

	// The day at whose beginning, in UTC, it ends. Required.
	Expires Date `json:"expires,omitzero"`

	// The applications that it opens, which must have `service_tokens on`. Required.
	Applications []string `json:"applications"`
}

// The words of Application.AppPasswords.
const (
	On  = "on"
	Off = "off"
)

const (
	// MaxLegacyText is the length of the longest owner and reason, in bytes.
	MaxLegacyText = 200

	anywhere = "/*"
)

func (a *Application) validateLegacy(ps *Problems) {
	if v := a.AppPasswords; v != "" && v != On && v != Off {
		ps.add("app_passwords", "app passwords are `on` or `off`, not %q", v)
	}
	if a.AppPasswordsDigest && a.AppPasswords != On {
		ps.add("app_passwords_digest", "app passwords come over Digest where they are on; write `app_passwords on digest`, or take `digest` out")
	}
	for i, p := range a.LoginPaths {
		field := fmt.Sprintf("legacy_login[%d]", i)
		checkPathPattern(ps, field, p)
		if p == anywhere {
			ps.add(field, "it calls every POST a sign-in; name the path that the application's own sign-in form is sent to, for example /login")
		}
	}
	for i := range a.LegacyAuth {
		a.validateLegacyRule(ps, i)
	}
	names := map[string]bool{}
	for i := range a.LegacyExceptions {
		e := &a.LegacyExceptions[i]
		e.validate(ps, fmt.Sprintf("legacy_exceptions[%d]", i), a.LegacyOnly)
		if name := e.Name(); names[name] {
			ps.add(fmt.Sprintf("legacy_exceptions[%d]", i), "the exception for %s was written before; write it once", name)
		} else {
			names[name] = true
		}
	}
	if !a.LegacyOnly {
		return
	}
	for _, other := range []struct {
		field   string
		written bool
	}{
		{"app_passwords", a.AppPasswords == On}, {"service_tokens", a.ServiceTokens}, {"no_idle", len(a.NoIdle) > 0}, {"identity", a.Identity.written()},
		{"upstream_basic", a.UpstreamBasic != ""}, {"with_session", a.WithSession != "" && a.WithSession != WithSessionStrip},
	} {
		if other.written {
			ps.add(other.field, "`%s` does nothing beside `legacy_only`, where nobody signs in; take one of the two out", other.field)
		}
	}
}

// written says whether an operator has chosen headers.
func (id Identity) written() bool {
	var defaults Application
	defaults.SetDefaults()
	return id != Identity{} && id != defaults.Identity
}

func (a *Application) validateLegacyRule(ps *Problems, i int) {
	r, field := &a.LegacyAuth[i], fmt.Sprintf("legacy_auth[%d]", i)
	if len(r.Classes) == 0 {
		ps.add(field+".classes", "it names no class; write for example `legacy_auth basic report`")
	}
	checkList(ps, field+".classes", r.Classes, []string{"all"}, checkLegacyClass)
	if !slices.Contains(LegacyModes, r.Mode) {
		ps.add(field+".mode", "there is no mode %q; want `block`, `report` or `allow`", r.Mode)
	}
	checkLegacyScope(ps, field, r.From, r.Paths, r.Mode != LegacyBlock)
	for j := range a.LegacyAuth[:i] {
		before := &a.LegacyAuth[j]
		for _, class := range r.Classes {
			if !slices.Contains(before.Classes, class) || before.scoped() != r.scoped() || !before.covers(r) {
				continue
			}
			switch same := r.covers(before); {
			case same && before.Mode == r.Mode:
				ps.add(field, "the rule for %s was written before; write it once", class)
			case same:
				ps.add(field, "%s is `%s` here and `%s` in a rule before, for the same addresses and paths; take one of the two out", class, r.Mode, before.Mode)
			default:
				ps.add(field, "it never holds for %s: a rule before holds for all of its addresses and paths; write the narrower one first", class)
			}
			return
		}
	}
}

func (r *LegacyRule) scoped() bool { return len(r.From)+len(r.Paths) > 0 }

// covers says whether the rule holds wherever the other does.
func (r *LegacyRule) covers(other *LegacyRule) bool {
	from := len(r.From) == 0 || len(other.From) > 0 && !slices.ContainsFunc(other.From, func(o netip.Prefix) bool {
		return !slices.ContainsFunc(r.From, func(p netip.Prefix) bool { return p.Bits() <= o.Bits() && p.Contains(o.Addr()) })
	})
	paths := len(r.Paths) == 0 || len(other.Paths) > 0 && !slices.ContainsFunc(other.Paths, func(o string) bool {
		return !slices.ContainsFunc(r.Paths, func(p string) bool {
			prefix, wildcard := strings.CutSuffix(p, "*")
			return p == o || wildcard && strings.HasPrefix(o, prefix)
		})
	})
	return from && paths
}

func checkLegacyClass(ps *Problems, field, class string) {
	if !slices.Contains(LegacyClasses, class) {
		ps.add(field, "there is no class %q; want `all`, or one or more of `%s`", class, strings.Join(LegacyClasses, "`, `"))
	}
}

// checkLegacyScope checks where something holds. What opens a door must say of less than everything that it is open.
func checkLegacyScope(ps *Problems, field string, from []netip.Prefix, paths []string, opens bool) {
	checkRanges(ps, field+".from", from)
	for i, r := range from {
		if opens && r.IsValid() && r.Bits() == 0 {
			ps.add(fmt.Sprintf("%s.from[%d]", field, i), "%s is every address; name the ranges that are meant, or leave `from` out", r)
		}
	}
	for i, p := range paths {
		at := fmt.Sprintf("%s.paths[%d]", field, i)
		checkPathPattern(ps, at, p)
		if opens && p == anywhere {
			ps.add(at, "%q is every path; name those that are meant, or leave `path` out", p)
		}
	}
}

func (e *LegacyException) validate(ps *Problems, field string, legacyOnly bool) {
	if len(e.Classes) == 0 {
		ps.add(field+".classes", "it names no class; write for example `legacy_exception basic {`")
	}
	checkList(ps, field+".classes", e.Classes, nil, func(ps *Problems, at, class string) {
		checkLegacyClass(ps, at, class)
		if e.User != "" && slices.Contains(unverifiable, class) {
			ps.add(at, "whose a credential of the class %s is, can't be verified here, so that it is no exception for a user; write `service` and `from` for the machine that sends it", class)
		}
	})
	switch {
	case e.User == "" && e.Service == "":
		ps.add(field, "it says for whom it is neither with `user` nor with `service`; write for example `user alice`")
	case e.User != "" && e.Service != "":
		ps.add(field, "it is for a user and for a service, of which only one can be; make two exceptions of it")
	case e.Service != "" && !validApplicationName(e.Service):
		ps.add(field+".service", "%q can't name a service; want 1 to %d letters, digits, dots, hyphens or underscores", e.Service, MaxApplicationName)
	case e.Service != "" && len(e.From) == 0:
		ps.add(field+".service", "a service is known by its address alone; add `from` with the address of the machine")
	case e.User != "" && legacyOnly:
		ps.add(field+".user", "nobody is verified beside `legacy_only`, so that an exception can't be for a user; write `service` and `from`")
	}
	checkLegacyScope(ps, field, e.From, e.Paths, true)
	if e.Until.IsZero() {
		ps.add(field+".until", "it has no end; write for example `until 2027-03-01`")
	}
	for _, text := range []struct{ name, value, example string }{
		{"owner", e.Owner, `owner "Facilities, phone 1234"`}, {"reason", e.Reason, `reason "the printer on floor 2 knows nothing else"`},
	} {
		switch {
		case strings.TrimSpace(text.value) == "":
			ps.add(field+"."+text.name, "it has no `%s`; write for example `%s`", text.name, text.example)
		case len(text.value) > MaxLegacyText || !utf8.ValidString(text.value) || strings.ContainsFunc(text.value, unicode.IsControl):
			ps.add(field+"."+text.name, "the text must be one line of at most %d bytes; write for example `%s`", MaxLegacyText, text.example)
		}
	}
}

func (c *Config) validateServiceTokens(ps *Problems) {
	names := map[string]bool{}
	for i, t := range c.ServiceTokens {
		field := fmt.Sprintf("service_tokens[%d]", i)
		switch {
		case !validApplicationName(t.Name):
			ps.add(field+".name", "%q can't name a service token; want 1 to %d letters, digits, dots, hyphens or underscores", t.Name, MaxApplicationName)
		case names[t.Name]:
			ps.add(field+".name", "the name %q of a service token was given before; give this one another", t.Name)
		}
		names[t.Name] = true
		if t.Expires.IsZero() {
			ps.add(field+".expires", "the service token %q has no end; write for example `expires 2027-01-31`", t.Name)
		}
		if len(t.Applications) == 0 {
			ps.add(field+".applications", "the service token %q opens no application; write for example `applications hr`", t.Name)
		}
		checkList(ps, field+".applications", t.Applications, nil, func(ps *Problems, at, name string) {
			switch {
			case isReserved(name, "all", "none"):
				ps.add(at, "a service token is for the applications that the machine needs, not for %q; name them", name)
			case !validApplicationName(name):
				ps.add(at, "%q can't name an application; want what stands behind `mfa` in its site, or the site's host", name)
			}
		})
	}
}
