package config

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/language"
)

// MaxName is the length of the longest name of a policy and of what policies name, in bytes.
const MaxName = 256

// MaxSignInFrequency is the longest time between two sign-ins that a policy can ask for.
const MaxSignInFrequency = 365 * 24 * time.Hour

// The words of policies, as in the Caddyfile.
var (
	States            = []string{StateEnabled, StateDisabled, StateReportOnly}
	UserActions       = []string{"register_security_info"}
	ClientApps        = []string{"browser", "mobile_and_desktop", "exchange_active_sync", "other"}
	Platforms         = []string{"android", "ios", "windows", "windows_phone", "macos", "linux"}
	Persistences      = []string{"always", "never"}
	BuiltInStrengths  = []string{"mfa", "passwordless", "phishing_resistant"}
	PerUserMFAMethods = []string{"totp", "webauthn", "push", "sms", "voice", "email", "recovery_codes"}
)

// AuthenticationMethodModes are the words that the combinations of a strength are made of, as Graph has them.
var AuthenticationMethodModes = []string{
	"password", "softwareOath", "hardwareOath", "sms", "voice", "email", "fido2", "windowsHelloForBusiness", "microsoftAuthenticatorPush", "deviceBasedPush",
	"temporaryAccessPassOneTime", "temporaryAccessPassMultiUse", "x509CertificateSingleFactor", "x509CertificateMultiFactor", "federatedSingleFactor",
	"federatedMultiFactor", "qrCodePin",
}

// controls of a grant that have no name behind them.
var controls = []string{"mfa", "compliant_device", "domain_joined_device"}

func (c *Config) validatePolicy(ps *Problems) {
	c.validateNamed(ps)
	names := map[string]bool{}
	for i := range c.Policies {
		field := fmt.Sprintf("policies[%d]", i)
		checkName(ps, field, "policy", c.Policies[i].Name, names)
		c.Policies[i].validate(ps, field, c)
	}
	for i, p := range c.PolicyImports {
		field := fmt.Sprintf("policy_imports[%d]", i)
		if len(p.Files) == 0 {
			ps.add(field, "it names no file; write for example `policies import policies/*.json`")
		}
		for j, file := range p.Files {
			if _, err := filepath.Match(file, ""); err != nil || file == "" {
				ps.add(fmt.Sprintf("%s.files[%d]", field, j), "%q is no pattern of files; write for example policies/*.json", file)
			}
		}
	}
	if p := c.PerUserMFA; p != nil {
		checkRanges(ps, "per_user_mfa.trusted_ranges", p.TrustedRanges)
		if v := p.AppPasswords; v != "" && v != On && v != Off {
			ps.add("per_user_mfa.app_passwords", "app passwords are `on` or `off`, not %q", v)
		}
		checkDays(ps, "per_user_mfa.remember_browser", p.RememberBrowser)
		for i, word := range p.Methods {
			field := fmt.Sprintf("per_user_mfa.methods[%d]", i)
			checkWord(ps, field, "method", word, PerUserMFAMethods)
			checkOnce(ps, field, p.Methods, i)
		}
	}
}

// validateNamed checks what policies name.
func (c *Config) validateNamed(ps *Problems) {
	locations, strengths, terms := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for i, l := range c.NamedLocations {
		field := fmt.Sprintf("named_locations[%d]", i)
		checkName(ps, field, "named location", l.Name, locations)
		if isReserved(l.Name, "all", "none", "trusted", "AllTrusted") {
			ps.add(field, "policies say %q and mean no single location; give this one another name", l.Name)
		}
		l.validate(ps, field, c.GeoIP)
	}
	for i, s := range c.Strengths {
		field := fmt.Sprintf("strengths[%d]", i)
		checkName(ps, field, "strength", s.Name, strengths)
		if isReserved(s.Name, append([]string{"Multifactor authentication", "Passwordless MFA", "Phishing-resistant MFA"}, BuiltInStrengths...)...) {
			ps.add(field, "the strength %q is built in, and can't be another; give this one another name", s.Name)
		}
		if len(s.Combinations) == 0 {
			ps.add(field+".combinations", "the strength %q has no combination of methods; write for example `combinations password,softwareOath fido2`", s.Name)
		}
		seen := map[string]bool{}
		for j, combination := range s.Combinations {
			checkCombination(ps, fmt.Sprintf("%s.combinations[%d]", field, j), combination, seen)
		}
		c.checkModels(ps, field+".aaguids", s)
	}
	for i, t := range c.Terms {
		field := fmt.Sprintf("terms[%d]", i)
		checkName(ps, field, "set of terms", t.Name, terms)
		if t.Version < 1 {
			ps.add(field+".version", "the terms %q have no version of at least 1; write for example `version 1`, and raise it when everybody must accept them again", t.Name)
		}
		if t.Text == "" {
			ps.add(field+".text", "the terms %q have no text; write for example `text terms.md`", t.Name)
		}
	}
}

func (l NamedLocation) validate(ps *Problems, field, geoip string) {
	switch {
	case len(l.Ranges) > 0 && (len(l.Countries) > 0 || l.IncludeUnknown):
		ps.add(field, "the named location %q is made of ranges and of countries; make two of it, and name both in the policy", l.Name)
	case len(l.Ranges) > 0:
	case l.Trusted:
		ps.add(field+".trusted", "only ranges can be trusted, and the named location %q has none", l.Name)
	case len(l.Countries) == 0:
		ps.add(field, "the named location %q is nowhere; write for example `ranges 203.0.113.0/24` or `countries NL BE`", l.Name)
	case geoip == "":
		ps.add(field+".countries", "countries need a database of addresses; add for example `geoip /usr/share/GeoIP/GeoLite2-Country.mmdb`")
	}
	checkRanges(ps, field+".ranges", l.Ranges)
	for i, country := range l.Countries {
		at := fmt.Sprintf("%s.countries[%d]", field, i)
		checkCountry(ps, at, country)
		checkOnce(ps, at, l.Countries, i)
	}
}

func (p *Policy) validate(ps *Problems, field string, c *Config) {
	switch {
	case p.State == "":
		ps.add(field+".state", "the policy %q has no `state`; want one of %s", p.Name, list(States))
	case !slices.Contains(States, p.State):
		checkWord(ps, field+".state", "state", p.State, States)
	case p.State == StateEnabled && !c.SecurityDefaults.Off:
		ps.add(field+".state", "the policy %q is enabled while security defaults are on, and they exclude each other; write `security_defaults off` beside the policies, "+
			"which then alone decide who needs a second factor, or `state report_only` to see first what the policy would do", p.Name)
	}
	p.validateAssignments(ps, field, c)
	p.validateControls(ps, field, c)
}

func (p *Policy) validateAssignments(ps *Problems, field string, c *Config) {
	if len(p.Users) == 0 {
		ps.add(field+".users", "the policy %q says nothing of whom it concerns; write for example `users all`", p.Name)
	}
	checkUsers(ps, field+".users", p.Users, "all", "none")
	checkUsers(ps, field+".exclude_users", p.ExcludeUsers)

	switch {
	case len(p.Applications) == 0 && p.UserAction == "":
		ps.add(field+".applications", "the policy %q says nothing of what it guards; write for example `applications all`, or `user_action register_security_info`", p.Name)
	case p.UserAction != "" && len(p.Applications)+len(p.ExcludeApplications) > 0:
		ps.add(field+".user_action", "the policy %q guards applications and a user action, and can do one of them only; make two policies of it", p.Name)
	}
	if p.UserAction != "" {
		checkWord(ps, field+".user_action", "user action", p.UserAction, UserActions)
	}
	application := func(ps *Problems, field, name string) {
		switch {
		case isReserved(name, "all", "none"):
			ps.add(field, "%q can't name an application; did you mean `%s`?", name, strings.ToLower(name))
		case !validApplicationName(name):
			ps.add(field, "%q can't name an application; want what stands behind `mfa` in its site, or the site's host", name)
		}
	}
	checkList(ps, field+".applications", p.Applications, []string{"all", "none"}, application)
	checkList(ps, field+".exclude_applications", p.ExcludeApplications, nil, application)

	word := func(what string, words []string) func(*Problems, string, string) {
		return func(ps *Problems, field, value string) { checkWord(ps, field, what, value, words) }
	}
	checkList(ps, field+".client_apps", p.ClientApps, []string{"all"}, word("client app", ClientApps))
	checkList(ps, field+".platforms", p.Platforms, []string{"all"}, word("platform", Platforms))
	checkList(ps, field+".exclude_platforms", p.ExcludePlatforms, nil, word("platform", Platforms))

	location := func(ps *Problems, field, name string) {
		if name != "trusted" && !slices.ContainsFunc(c.NamedLocations, func(l NamedLocation) bool { return l.Name == name }) {
			ps.add(field, "there is no named location %q; write `named_location` and what belongs to it beside the policies", name)
		}
	}
	checkList(ps, field+".locations", p.Locations, []string{"all"}, location)
	checkList(ps, field+".exclude_locations", p.ExcludeLocations, nil, location)

	const noRisk = "`%s` is not available in this version of caddy-mfa: there is no detection of risk yet, so a policy with levels of risk would never apply"
	if len(p.SignInRisk) > 0 {
		ps.add(field+".sign_in_risk", noRisk, "sign_in_risk")
	}
	if len(p.UserRisk) > 0 {
		ps.add(field+".user_risk", noRisk, "user_risk")
	}
	if d := p.Devices; d != nil && (d.Include == "") == (d.Exclude == "") {
		ps.add(field+".devices", "a rule about devices is there to include or to exclude them; write for example `devices exclude \"device.isCompliant -eq True\"`")
	}
}

func (p *Policy) validateControls(ps *Problems, field string, c *Config) {
	if p.Grant == nil && p.SignInFrequency == nil && p.PersistentBrowser == "" {
		ps.add(field+".grant", "the policy %q demands nothing; write for example `grant mfa` or `grant block`", p.Name)
	}
	if g := p.Grant; g != nil {
		g.validate(ps, field+".grant", c)
	}
	if f := p.SignInFrequency; f != nil {
		every := time.Duration(f.Every)
		switch {
		case f.EveryTime && every != 0:
			ps.add(field+".sign_in_frequency", "it is a time and every time; want one of them")
		case !f.EveryTime && (every < time.Hour || every > MaxSignInFrequency || every%time.Hour != 0):
			ps.add(field+".sign_in_frequency", "%v can't be a sign-in frequency; want whole hours or days, from 1h to %v, or every_time", f.Every, Duration(MaxSignInFrequency))
		}
	}
	if p.PersistentBrowser != "" {
		checkWord(ps, field+".persistent_browser", "persistence", p.PersistentBrowser, Persistences)
		if !slices.Equal(p.Applications, []string{"all"}) {
			ps.add(field+".persistent_browser", "a session is one for all applications, so `persistent_browser` goes with `applications all` only")
		}
	}
}

func (g *Grant) validate(ps *Problems, field string, c *Config) {
	all := g.Controls()
	switch {
	case g.Block && len(all) > 0, len(all) > 1 && slices.Contains(all, "block"):
		ps.add(field, "`block` stands alone: who is blocked can't be asked for anything; make two policies of it")
		return
	case len(g.AllOf) > 0 && len(g.AnyOf) > 0:
		ps.add(field, "there are controls in `all_of` and in `any_of`; make two policies of it")
	case len(all) == 0 && !g.Block:
		ps.add(field, "there is no control; write for example `grant mfa` or `grant block`")
	}
	mfa, strength := false, ""
	for i, control := range all {
		checkOnce(ps, field, all, i)
		kind, name, named := strings.Cut(control, ":")
		switch {
		case control == "mfa":
			mfa = true
		case control == "compliant_device" && c.DeviceRules.Compliant == "":
			ps.add(field, "`compliant_device` needs a `device_rule compliant` that says which client certificates such devices have; without it nobody could get in")
		case control == "domain_joined_device" && c.DeviceRules.DomainJoined == "":
			ps.add(field, "`domain_joined_device` needs a `device_rule domain_joined` that says which client certificates such devices have; without it nobody could get in")
		case slices.Contains(controls, control):
		case control == "password_change":
			ps.add(field, "`password_change` is not available in this version of caddy-mfa: no directory here can change passwords")
		case kind == "strength" && named:
			if strength != "" && strength != name {
				ps.add(field, "there are two strengths, and a policy has room for one; make two policies of it, and both must be met")
			}
			strength = name
			if !slices.Contains(BuiltInStrengths, name) && !slices.ContainsFunc(c.Strengths, func(s Strength) bool { return s.Name == name }) {
				ps.add(field, "there is no strength %q; want one of %s, or one that `strength` defines", name, list(BuiltInStrengths))
			}
		case kind == "terms" && named:
			if !slices.ContainsFunc(c.Terms, func(t Terms) bool { return t.Name == name }) {
				ps.add(field, "there are no terms %q; write `terms` with their version and text beside the policies", name)
			}
		default:
			ps.add(field, "there is no control %q; want `block`, or some of %s, `strength:<name>`, `terms:<name>`", control, list(controls))
		}
	}
	if mfa && strength != "" {
		ps.add(field, "`mfa` and `strength:%s` are two words for the second factor; leave `mfa` out", strength)
	}
}

// checkName complains of what can't be a name, and of one that was given before. Names are for people: those that differ in case
// only are one.
func checkName(ps *Problems, field, what, name string, seen map[string]bool) {
	switch folded := strings.ToLower(name); {
	case !isName(name):
		ps.add(field, "%q can't name a %s; want one line of at most %d bytes, without white space around it", name, what, MaxName)
	case seen[folded]:
		ps.add(field, "the name %q of a %s was given before; give this one another", name, what)
	default:
		seen[folded] = true
	}
}

func isName(s string) bool {
	unseen := func(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }
	return s != "" && len(s) <= MaxName && utf8.ValidString(s) && strings.TrimSpace(s) == s && !strings.ContainsFunc(s, unseen)
}

func isReserved(name string, words ...string) bool {
	return slices.ContainsFunc(words, func(word string) bool { return strings.EqualFold(word, name) })
}

func checkWord(ps *Problems, field, what, word string, words []string) {
	if !slices.Contains(words, word) {
		ps.add(field, "there is no %s %q; want one of %s", what, word, list(words))
	}
}

// checkOnce complains of a value that stood in the list before.
func checkOnce(ps *Problems, field string, values []string, i int) {
	if slices.Contains(values[:i], values[i]) {
		ps.add(field, "%q stands here twice; write it once", values[i])
	}
}

// checkList checks each value of a list. The words alone stand for everything or nothing, and have nobody beside them.
func checkList(ps *Problems, field string, values, alone []string, check func(ps *Problems, field, value string)) {
	for i, value := range values {
		at := fmt.Sprintf("%s[%d]", field, i)
		switch {
		case slices.Contains(alone, value):
			if len(values) > 1 {
				ps.add(at, "`%s` stands alone; take the others out, or leave `%s` out", value, value)
			}
		case value == "all" || value == "none":
			ps.add(at, "`%s` can't stand here; want those that are meant, by name", value)
		default:
			check(ps, at, value)
		}
		checkOnce(ps, at, values, i)
	}
}

func checkUsers(ps *Problems, field string, values []string, alone ...string) {
	checkList(ps, field, values, alone, func(ps *Problems, field, value string) {
		kind, name, found := strings.Cut(value, ":")
		if !found {
			kind, name = "user", value
		}
		switch {
		case kind != "user" && kind != "group" && kind != "role":
			ps.add(field, "%q is neither `user:<name>` nor `group:<name>` nor `role:<name>`; a user whose name has a colon is `user:%s`", value, value)
		case !found && isReserved(name, "all", "none", "guests") && name != "guests":
			ps.add(field, "%q can't stand here; did you mean `%s`? A user of that name is `user:%s`", name, strings.ToLower(name), name)
		case !isName(name):
			ps.add(field, "%q names nobody; write for example `alice`, `group:Finance` or `\"role:Global Administrator\"`", value)
		}
	})
}

func checkRanges(ps *Problems, field string, ranges []netip.Prefix) {
	for i, r := range ranges {
		if err := CheckRange(r); err != nil {
			ps.add(fmt.Sprintf("%s[%d]", field, i), "%v", err)
		}
	}
}

// CheckRange refuses ranges that hold other addresses than they seem to.
func CheckRange(r netip.Prefix) error {
	switch {
	case !r.IsValid():
		return fmt.Errorf("it is no address range; write for example 10.0.0.0/8 or 2001:db8::/32")
	case r != r.Masked():
		return fmt.Errorf("%s has bits behind its mask; did you mean %s?", r, r.Masked())
	case r.Addr().Is4In6() && r.Bits() >= 96:
		return fmt.Errorf("%s is IPv4 in the dress of IPv6; did you mean %s?", r, netip.PrefixFrom(r.Addr().Unmap(), r.Bits()-96))
	}
	return nil
}

// withdrawn are codes that ISO 3166 had once. No address is there any more.
var withdrawn = []string{"AN", "CS", "SU", "YU", "UN"}

func checkCountry(ps *Problems, field, text string) {
	if err := CheckCountry(text); err != nil {
		ps.add(field, "%v", err)
	}
}

// CheckCountry refuses what is no country of ISO 3166-1 alpha-2, in capitals.
func CheckCountry(text string) error {
	upper := strings.ToUpper(text)
	region, err := language.ParseRegion(upper)
	switch {
	case len(text) != 2 || err != nil || !region.IsCountry() || slices.Contains(withdrawn, upper):
		return fmt.Errorf("%q is no country; want its two letters in ISO 3166, as in NL", text)
	case region.Canonicalize().String() != text:
		return fmt.Errorf("%q is no country in ISO 3166; did you mean %s?", text, region.Canonicalize())
	}
	return nil
}

var spaceOrEnd = regexp.MustCompile(`\s|^,|,$|,,|^$`)

// checkCombination checks one combination of methods. seen holds those before it, with their methods in order.
func checkCombination(ps *Problems, field, text string, seen map[string]bool) {
	if spaceOrEnd.MatchString(text) {
		ps.add(field, "%q is no combination of methods; write them without spaces, as in password,softwareOath", text)
		return
	}
	modes := strings.Split(text, ",")
	for i, mode := range modes {
		checkWord(ps, field, "authentication method", mode, AuthenticationMethodModes)
		checkOnce(ps, field, modes, i)
	}
	if text == "password" {
		ps.add(field, "a password alone is no strength: everybody has proven it before a policy is asked")
	}
	slices.Sort(modes)
	key := strings.Join(modes, ",")
	if seen[key] {
		ps.add(field, "the combination %s stands here twice; write it once", text)
	}
	seen[key] = true
}

var aaguid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// checkModels checks the models of security keys that a strength names.
func (c *Config) checkModels(ps *Problems, field string, s Strength) {
	if len(s.AAGUIDs) == 0 {
		return
	}
	for i, id := range s.AAGUIDs {
		if !aaguid.MatchString(id) {
			ps.add(field, "%q is no AAGUID; write it in lower case, as in cb69481e-8ff7-4039-93ec-0a2729a154a8", id)
		}
		checkOnce(ps, field, s.AAGUIDs, i)
	}
	if !slices.Contains(s.Combinations, "fido2") {
		ps.add(field, "the strength %q names models of security keys, and fido2 is none of its combinations", s.Name)
	}
	if w := c.Factor.WebAuthn; w == nil || w.AttestationRoots == "" {
		ps.add(field, "%s", NeedsRoots)
	}
}

// NeedsRoots says what a strength needs that names models of security keys.
const NeedsRoots = "which model a security key is of can only be known from its maker; name the makers' certificates, for example " +
	"`factor webauthn { attestation_roots /etc/caddy-mfa/makers }`"

func list(words []string) string { return "`" + strings.Join(words, "`, `") + "`" }
