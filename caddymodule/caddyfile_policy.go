package caddymodule

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-mfa/caddy-mfa/config"
)

// policyOptions are the options about policy. Syntax:
//
//	policy <name> {
//		state                enabled | disabled | report_only
//		users                all | none | guests | [user:]<user> | group:<name> | role:<name> …
//		exclude_users        guests | [user:]<user> | group:<name> | role:<name> …
//		applications         all | none | <application>…
//		exclude_applications <application>…
//		user_action          register_security_info
//		client_apps          all | browser | mobile_and_desktop | exchange_active_sync | other …
//		platforms            all | android | ios | windows | windows_phone | macos | linux …
//		exclude_platforms    <platform>…
//		locations            all | trusted | <named location> …
//		exclude_locations    trusted | <named location> …
//		devices              include | exclude <rule>
//		grant                block | [all_of | any_of] mfa | strength:<name> | compliant_device | domain_joined_device | terms:<name> …
//		sign_in_frequency    <duration> | every_time [secondary]
//		persistent_browser   always | never
//	}
//	policies import <file or pattern>… {
//		names <file>
//		allow_partial
//	}
//	named_location <name> {
//		ranges    <range>…         # several lines
//		trusted
//		countries <country>…
//		include_unknown
//	}
//	geoip <file>
//	strength <name> {
//		combinations <method>[,<method>…]…
//	}
//	device_rule compliant | domain_joined <rule>
//	terms <name> {
//		version <number>
//		text    <file>
//	}
//	per_user_mfa {
//		trusted_ranges     <range>…
//		methods            totp | webauthn | recovery_codes …
//		registration_grace <duration>
//		app_passwords      on | off
//		remember_browser   <days>
//	}
func (p *parser) policyOptions(c *config.Config) map[string]option {
	return map[string]option{
		"policy":         p.policy(c),
		"policies":       p.policyImport(c),
		"named_location": p.namedLocation(c),
		"geoip":          p.text(&c.GeoIP, "geoip /usr/share/GeoIP/GeoLite2-Country.mmdb"),
		"strength":       p.strength(c),
		"device_rule":    p.deviceRule(c),
		"terms":          p.terms(c),
		"per_user_mfa":   p.perUserMFA(c),
	}
}

// named reads an option that is a name and a block. field is where it is kept.
func (p *parser) named(d *caddyfile.Dispenser, field, example string, name *string, options map[string]option) {
	p.at[field] = position(d)
	before := len(p.mistakes)
	args, ok := p.args(d, 1, 1, example)
	if ok {
		*name = args[0]
	}
	p.block(d, field, options)
	// Of what could not be read, nobody can say that it lacks something.
	p.failed[field] = len(p.mistakes) > before
}

func (p *parser) policy(c *config.Config) option {
	return func(d *caddyfile.Dispenser) {
		field := fmt.Sprintf("policies[%d]", len(c.Policies))
		var out config.Policy
		p.named(d, field, `policy "Require MFA for admins" {`, &out.Name, map[string]option{
			"state":                p.text(&out.State, "state report_only"),
			"users":                p.texts(&out.Users, "users group:Finance alice"),
			"exclude_users":        p.texts(&out.ExcludeUsers, "exclude_users breakglass"),
			"applications":         p.texts(&out.Applications, "applications hr wiki"),
			"exclude_applications": p.texts(&out.ExcludeApplications, "exclude_applications wiki"),
			"user_action":          p.text(&out.UserAction, "user_action register_security_info"),
			"client_apps":          p.texts(&out.ClientApps, "client_apps exchange_active_sync other"),
			"platforms":            p.texts(&out.Platforms, "platforms android ios"),
			"exclude_platforms":    p.texts(&out.ExcludePlatforms, "exclude_platforms linux"),
			"locations":            p.texts(&out.Locations, "locations office"),
			"exclude_locations":    p.texts(&out.ExcludeLocations, "exclude_locations trusted"),
			"sign_in_risk":         p.texts(&out.SignInRisk, "sign_in_risk high"),
			"user_risk":            p.texts(&out.UserRisk, "user_risk high"),
			"devices":              p.devices(&out),
			"grant":                p.grant(&out),
			"sign_in_frequency":    p.signInFrequency(&out),
			"persistent_browser":   p.text(&out.PersistentBrowser, "persistent_browser never"),
		})
		// What is missing is said of an option: it isn't, if that option stands there and could not be read.
		p.failed[field+".applications"] = p.failed[field+".applications"] || p.failed[field+".user_action"]
		p.failed[field+".grant"] = p.failed[field+".grant"] || p.failed[field+".sign_in_frequency"] || p.failed[field+".persistent_browser"]
		c.Policies = append(c.Policies, out)
	}
}

func (p *parser) devices(out *config.Policy) option {
	return func(d *caddyfile.Dispenser) {
		const example = `devices exclude "device.isCompliant -eq True"`
		args, ok := p.args(d, 2, 2, example)
		p.end(d)
		switch {
		case !ok:
		case args[0] == "include":
			out.Devices = &config.DeviceFilter{Include: args[1]}
		case args[0] == "exclude":
			out.Devices = &config.DeviceFilter{Exclude: args[1]}
		default:
			p.wrong(d, "devices are there to `include` or to `exclude`, not to %q; write for example `%s`", args[0], example)
		}
	}
}

func (p *parser) grant(out *config.Policy) option {
	return func(d *caddyfile.Dispenser) {
		args, ok := p.args(d, 1, -1, "grant mfa")
		p.end(d)
		if !ok {
			return
		}
		switch {
		case args[0] == "any_of" || args[0] == "all_of":
			if len(args) == 1 {
				p.wrong(d, "behind `%s` stand controls; write for example `grant %s mfa compliant_device`", args[0], args[0])
				return
			}
			if args[0] == "any_of" {
				out.Grant = &config.Grant{AnyOf: args[1:]}
			} else {
				out.Grant = &config.Grant{AllOf: args[1:]}
			}
		case len(args) == 1 && args[0] == "block":
			out.Grant = &config.Grant{Block: true}
		case len(args) > 1 && !slices.Contains(args, "block"):
			p.wrong(d, "there are several controls: are all of them needed, or is one enough? Write `grant all_of …` or `grant any_of …`")
		default:
			out.Grant = &config.Grant{AllOf: args}
		}
	}
}

func (p *parser) signInFrequency(out *config.Policy) option {
	return func(d *caddyfile.Dispenser) {
		args, ok := p.args(d, 1, 2, "sign_in_frequency 4h")
		p.end(d)
		if !ok {
			return
		}
		f := &config.SignInFrequency{}
		if args[0] == "every_time" {
			f.EveryTime = true
		} else {
			every, err := config.ParseDuration(args[0])
			if err != nil {
				p.wrong(d, "%v, or every_time", err)
				return
			}
			f.Every = every
		}
		if len(args) == 2 {
			if args[1] != "secondary" {
				p.wrong(d, "behind the time stands `secondary`, if only the second factor is to be asked again, not %q", args[1])
				return
			}
			f.Secondary = true
		}
		out.SignInFrequency = f
	}
}

func (p *parser) policyImport(c *config.Config) option {
	return func(d *caddyfile.Dispenser) {
		field := fmt.Sprintf("policy_imports[%d]", len(c.PolicyImports))
		p.at[field] = position(d)
		args, ok := p.args(d, 2, -1, "policies import policies/*.json")
		var out config.PolicyImport
		switch {
		case !ok:
		case args[0] != "import":
			p.wrong(d, "behind `policies` stands `import`, not %q; write for example `policies import policies/*.json`, or `policy` for one that is written here", args[0])
		default:
			out.Files = args[1:]
		}
		p.block(d, field, map[string]option{
			"names":         p.text(&out.Names, "names names.yaml"),
			"allow_partial": p.flag(&out.AllowPartial),
		})
		if out.Files != nil {
			c.PolicyImports = append(c.PolicyImports, out)
		}
	}
}

func (p *parser) namedLocation(c *config.Config) option {
	return func(d *caddyfile.Dispenser) {
		field := fmt.Sprintf("named_locations[%d]", len(c.NamedLocations))
		var out config.NamedLocation
		p.named(d, field, "named_location office {", &out.Name, map[string]option{
			"ranges":          p.ranges(&out.Ranges, "ranges 203.0.113.0/24 2001:db8::/32"),
			"trusted":         p.flag(&out.Trusted),
			"countries":       p.texts(&out.Countries, "countries NL BE"),
			"include_unknown": p.flag(&out.IncludeUnknown),
		})
		p.failed[field+".trusted"] = p.failed[field+".trusted"] || p.failed[field]
		c.NamedLocations = append(c.NamedLocations, out)
	}
}

func (p *parser) strength(c *config.Config) option {
	return func(d *caddyfile.Dispenser) {
		var out config.Strength
		p.named(d, fmt.Sprintf("strengths[%d]", len(c.Strengths)), "strength codes {", &out.Name, map[string]option{
			"combinations": p.texts(&out.Combinations, "combinations password,softwareOath fido2"),
			"aaguids":      p.texts(&out.AAGUIDs, "aaguids cb69481e-8ff7-4039-93ec-0a2729a154a8"),
		})
		c.Strengths = append(c.Strengths, out)
	}
}

func (p *parser) deviceRule(c *config.Config) option {
	return func(d *caddyfile.Dispenser) {
		args, ok := p.args(d, 2, 2, `device_rule compliant "`+exampleRule+`"`)
		p.end(d)
		if !ok {
			return
		}
		field := &c.DeviceRules.Compliant
		switch args[0] {
		case "compliant":
		case "domain_joined":
			field = &c.DeviceRules.DomainJoined
		default:
			p.wrong(d, "a device is `compliant` or `domain_joined`, not %q; write for example `device_rule compliant \"%s\"`", args[0], exampleRule)
			return
		}
		switch {
		case args[1] == "":
			p.wrong(d, "the rule is empty; write for example `device_rule %s \"%s\"`", args[0], exampleRule)
		case *field != "":
			p.wrong(d, "`device_rule %s` stands here twice; write it once, with -or between two rules", args[0])
		default:
			p.at["device_rules."+args[0]] = position(d)
			*field = args[1]
		}
	}
}

// exampleRule is over what a client certificate says.
const exampleRule = `certificate.issuer -eq 'CN=Example Devices CA'`

func (p *parser) terms(c *config.Config) option {
	return func(d *caddyfile.Dispenser) {
		var out config.Terms
		p.named(d, fmt.Sprintf("terms[%d]", len(c.Terms)), "terms house-rules {", &out.Name, map[string]option{
			"version": func(d *caddyfile.Dispenser) {
				text, ok := p.one(d, "version 1")
				if !ok {
					return
				}
				n, err := strconv.Atoi(text)
				if err != nil {
					p.wrong(d, "%q is no version; want a whole number, the first is 1", text)
					return
				}
				out.Version = n
			},
			"text": p.text(&out.Text, "text terms.md"),
		})
		c.Terms = append(c.Terms, out)
	}
}

func (p *parser) perUserMFA(c *config.Config) option {
	return func(d *caddyfile.Dispenser) {
		p.args(d, 0, 0, "per_user_mfa {")
		out := &config.PerUserMFA{}
		c.PerUserMFA = out
		p.block(d, "per_user_mfa", map[string]option{
			"trusted_ranges":   p.ranges(&out.TrustedRanges, "trusted_ranges 10.0.0.0/8"),
			"methods":          p.texts(&out.Methods, "methods totp"),
			"remember_browser": p.duration(&out.RememberBrowser, "remember_browser 30d"),
			"app_passwords":    p.onOff(func(on string) { out.AppPasswords = on }),
			"registration_grace": func(d *caddyfile.Dispenser) {
				text, ok := p.one(d, "registration_grace 14d")
				if !ok {
					return
				}
				grace, err := config.ParseDuration(text)
				if err != nil {
					p.wrong(d, "%v", err)
					return
				}
				out.RegistrationGrace = grace
			},
		})
	}
}

// texts reads an option that is one or more texts.
func (p *parser) texts(field *[]string, example string) option {
	return func(d *caddyfile.Dispenser) {
		args, ok := p.args(d, 1, -1, example)
		p.end(d)
		if ok && p.quotes(d, args) {
			*field = args
		}
	}
}

// quotes complains of quotes inside a word: role:"Global Administrator" is two words to Caddy.
func (p *parser) quotes(d *caddyfile.Dispenser, words []string) bool {
	text := strings.Join(words, " ")
	before, rest, found := strings.Cut(text, `"`)
	if !found {
		return true
	}
	word := before[strings.LastIndexByte(before, ' ')+1:]
	name, _, _ := strings.Cut(rest, `"`)
	p.wrong(d, "a quote stands inside of %s\"; quotes go around the whole of it: \"%s%s\"", word, word, name)
	return false
}

// ranges reads an option that is one or more address ranges, on one or more lines.
func (p *parser) ranges(field *[]netip.Prefix, example string) option {
	return func(d *caddyfile.Dispenser) {
		args, ok := p.args(d, 1, -1, example)
		p.end(d)
		if !ok {
			return
		}
		for _, a := range args {
			if prefix, ok := p.prefix(d, a); ok {
				*field = append(*field, prefix)
			}
		}
	}
}

// flag reads an option that is there or isn't.
func (p *parser) flag(field *bool) option {
	return func(d *caddyfile.Dispenser) {
		p.args(d, 0, 0, d.Val())
		p.end(d)
		*field = true
	}
}
