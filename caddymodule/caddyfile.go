package caddymodule

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/caddy-mfa/caddy-mfa/config"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("mfa", parseGlobalOption)
	httpcaddyfile.RegisterDirective("mfa", parseDirective)
	httpcaddyfile.RegisterDirective("mfa_portal", parsePortalDirective)
	// Caddy's own place for authentication: after redir and rewrite, before everything that answers.
	httpcaddyfile.RegisterDirectiveOrder("mfa", httpcaddyfile.Before, "basicauth")
	httpcaddyfile.RegisterDirectiveOrder("mfa_portal", httpcaddyfile.Before, "basicauth")
}

// notYet are words of the configuration whose time has not come. They are refused by name: ignoring them would be weaker
// than what was written.
var notYet = map[string]bool{
	"portal":              true,
	"users.ldap":          true,
	"store.redis.cluster": true, "store.redis.sentinel": true,
}

// parseGlobalOption reads the global option. Syntax:
//
//	mfa {
//		store    memory | bolt [<file>] | redis { … }
//		sessions …
//		accounts …
//		secret   <text>            # several lines: the newest first
//		session {
//			idle     <duration>
//			lifetime <duration>
//			cache    <duration>
//			remember         <days>
//			remember_browser <days>
//		}
//		registration {
//			from <range>… [or require_pass]
//			require_pass
//		}
//		users file <file> {
//			name <name>
//		}
//		users htpasswd <file> {
//			name        <name>
//			groups      <file>
//			weak_hashes until <day>
//		}
//		factor totp {
//			issuer <text>
//		}
//		factor webauthn {
//			rp_id        <domain>
//			display_name <text>
//			related_origins <origin>…
//			attestation_roots <file or folder>
//		}
//		factor push {
//			contact mailto:<address>
//			allow   <host:port>…
//		}
//		factor recovery_codes
//		factor sms|voice|email {   # see sentFactor
//			sender <name>…
//		}
//		…                          # see senderOptions
//		help <text>
//		security_defaults [off] {
//			registration_grace <duration> [until <day>]
//		}
//		sign_in_log [off] {
//			keep <duration>
//			max  <number>
//		}
//		…                          # see policyOptions and machineOptions
//	}
func parseGlobalOption(d *caddyfile.Dispenser, existing any) (any, error) {
	d.Next() // the option's name
	if existing != nil {
		return nil, fmt.Errorf("%s: the global option `mfa` stands here twice; write it once", position(d))
	}
	p, c := newParser(), &config.Config{}
	p.at[""] = position(d)
	if args := d.RemainingArgs(); len(args) > 0 {
		p.wrong(d, "the global option `mfa` has no value; write `mfa {` and its options below")
	}
	options := map[string]option{
		"store":             p.store("store", &c.StoreRaw),
		"sessions":          p.store("sessions", &c.SessionsRaw),
		"accounts":          p.store("accounts", &c.AccountsRaw),
		"secret":            p.secret(c),
		"session":           p.session(c),
		"registration":      p.registration(c),
		"users":             p.users(c),
		"factor":            p.factor(c),
		"help":              p.text(&c.Help, `help "Service desk, phone 1234"`),
		"security_defaults": p.securityDefaults(c),
		"sign_in_log":       p.signInLog(c),
	}
	maps.Copy(options, p.policyOptions(c))
	maps.Copy(options, p.machineOptions(c))
	maps.Copy(options, p.senderOptions(c))
	p.block(d, "", options)
	if p.shared != "" && len(c.Secret) == 0 && !p.failed["secret"] {
		p.mistakes = append(p.mistakes, p.shared+": "+needsSecret)
	}
	if err := p.err("mfa", append(c.Validate(), checkPolicies(c)...)); err != nil {
		return nil, err
	}
	return httpcaddyfile.App{Name: "mfa", Value: caddyconfig.JSON(c, nil)}, nil
}

func (p *parser) store(field string, raw *json.RawMessage) option {
	return func(d *caddyfile.Dispenser) {
		args, ok := p.args(d, 1, 2, field+" bolt")
		if !ok {
			return
		}
		switch kind := args[0]; kind {
		case "memory":
			if len(args) > 1 {
				p.wrong(d, "`%s memory` has no value", field)
			}
			p.end(d)
			*raw = caddyconfig.JSONModuleObject(&MemoryStore{}, "module", kind, nil)
		case "bolt":
			b := config.Bolt{}
			if len(args) > 1 {
				b.File = args[1]
			}
			p.end(d)
			*raw = caddyconfig.JSONModuleObject(b, "module", kind, nil)
		case "redis":
			p.shared = position(d)
			if len(args) > 1 {
				p.wrong(d, "`%s redis` has no value; write the server as `address` in a block", field)
			}
			r := config.Redis{}
			p.block(d, "store.redis", map[string]option{
				"address":  p.text(&r.Address, "address localhost:6379"),
				"username": p.text(&r.Username, "username {env.REDIS_USERNAME}"),
				"password": p.text(&r.Password, "password {env.REDIS_PASSWORD}"),
				"prefix":   p.text(&r.Prefix, "prefix mfa:"),
				"tls": func(d *caddyfile.Dispenser) {
					args, ok := p.args(d, 0, 1, "tls /etc/ssl/redis-ca.pem")
					p.end(d)
					if ok {
						r.TLS = &config.RedisTLS{CA: strings.Join(args, "")}
					}
				},
				"database": func(d *caddyfile.Dispenser) {
					text, ok := p.one(d, "database 0")
					if !ok {
						return
					}
					n, err := strconv.Atoi(text)
					if err != nil {
						p.wrong(d, "%q is no number of a database; the first is 0", text)
						return
					}
					r.Database = n
				},
			})
			for _, problem := range r.Validate() {
				p.mistakes = append(p.mistakes, p.position("store.redis."+problem.Field, field)+problem.Message)
			}
			*raw = caddyconfig.JSONModuleObject(r, "module", kind, nil)
		default:
			p.wrong(d, "there is no store %q; want `memory`, `bolt` or `redis`", kind)
		}
	}
}

func (p *parser) secret(c *config.Config) option {
	return func(d *caddyfile.Dispenser) {
		p.at[fmt.Sprintf("secret[%d]", len(c.Secret))] = position(d)
		if text, ok := p.one(d, "secret {file./run/secrets/mfa}"); ok {
			c.Secret = append(c.Secret, text)
		}
	}
}

func (p *parser) session(c *config.Config) option {
	return func(d *caddyfile.Dispenser) {
		p.args(d, 0, 0, "session {")
		p.block(d, "session", map[string]option{
			"idle":             p.duration(&c.Session.Idle, "idle 1h"),
			"lifetime":         p.duration(&c.Session.Lifetime, "lifetime 12h"),
			"cache":            p.duration(&c.Session.Cache, "cache 30s"),
			"remember":         p.duration(&c.Session.Remember, "remember 30d"),
			"remember_browser": p.duration(&c.Session.RememberBrowser, "remember_browser 30d"),
		})
	}
}

func (p *parser) registration(c *config.Config) option {
	return func(d *caddyfile.Dispenser) {
		p.args(d, 0, 0, "registration {")
		r := &config.Registration{}
		c.Registration = r
		p.block(d, "registration", map[string]option{
			"from": func(d *caddyfile.Dispenser) {
				args, ok := p.args(d, 1, -1, "from 10.0.0.0/8 or require_pass")
				p.end(d)
				if !ok {
					return
				}
				if n := len(args); n >= 2 && args[n-2] == "or" && args[n-1] == "require_pass" {
					r.RequirePass, args = true, args[:n-2]
				}
				for _, a := range args {
					if prefix, ok := p.prefix(d, a); ok {
						r.From = append(r.From, prefix)
					}
				}
			},
			"require_pass": func(d *caddyfile.Dispenser) {
				p.args(d, 0, 0, "require_pass")
				p.end(d)
				r.RequirePass = true
			},
			"or": func(d *caddyfile.Dispenser) {
				if args, ok := p.args(d, 1, 1, "or require_pass"); ok && args[0] != "require_pass" {
					p.wrong(d, "behind `or` stands `require_pass`, not %q", args[0])
				}
				p.end(d)
				r.RequirePass = true
			},
		})
	}
}

// prefix reads an address range, or one address.
func (p *parser) prefix(d *caddyfile.Dispenser, text string) (netip.Prefix, bool) {
	if prefix, err := netip.ParsePrefix(text); err == nil {
		if err := config.CheckRange(prefix); err != nil {
			p.wrong(d, "%v", err)
			return netip.Prefix{}, false
		}
		return prefix, true
	}
	if address, err := netip.ParseAddr(text); err == nil && address.Zone() == "" {
		address = address.Unmap()
		return netip.PrefixFrom(address, address.BitLen()), true
	}
	p.wrong(d, "%q is no address range; write for example 10.0.0.0/8 or 2001:db8::/32", text)
	return netip.Prefix{}, false
}

func (p *parser) users(c *config.Config) option {
	return func(d *caddyfile.Dispenser) {
		p.at[fmt.Sprintf("users[%d]", len(c.Users))] = position(d)
		name := d.Val()
		args := d.RemainingArgs()
		switch {
		case len(args) > 0 && notYet["users."+args[0]]:
			p.wrong(d, "`users %s` is not available in this version of caddy-mfa", args[0])
			return
		case len(args) > 0 && args[0] != "file" && args[0] != "htpasswd":
			p.wrong(d, "there is no kind of directory %q; want `file` or `htpasswd`", args[0])
			return
		case len(args) != 2:
			p.wrong(d, "`%s` has %s; write for example `users file users.yaml`", name, count(len(args)))
			return
		}
		if args[0] == "file" {
			f := &config.FileDirectory{Path: args[1]}
			c.Users = append(c.Users, config.Directory{File: f})
			p.block(d, "users.file", map[string]option{"name": p.text(&f.Name, "name staff")})
			return
		}
		h := &config.HtpasswdDirectory{Path: args[1]}
		c.Users = append(c.Users, config.Directory{Htpasswd: h})
		p.block(d, "users.htpasswd", map[string]option{
			"name":   p.text(&h.Name, "name staff"),
			"groups": p.text(&h.Groups, "groups /etc/apache2/groups"),
			"weak_hashes": func(d *caddyfile.Dispenser) {
				const example = "weak_hashes until 2027-03-01"
				args, ok := p.args(d, 2, 2, example)
				p.end(d)
				if !ok {
					return
				}
				day, err := config.ParseDate(args[1])
				switch {
				case args[0] != "until":
					p.wrong(d, "weak digests are accepted for a time only; write for example `%s`", example)
				case err != nil:
					p.wrong(d, "%v", err)
				default:
					h.WeakHashesUntil = day
				}
			},
		})
	}
}

func (p *parser) factor(c *config.Config) option {
	return func(d *caddyfile.Dispenser) {
		args, ok := p.args(d, 1, -1, "factor totp")
		if !ok {
			return
		}
		switch kind := args[0]; {
		case notYet["factor."+kind]:
			p.wrong(d, "`factor %s` is not available in this version of caddy-mfa", kind)
		case len(args) > 1:
			p.wrong(d, "`factor %s` has no value; write its options in a block", kind)
		case kind == "totp" && c.Factor.TOTP != nil, kind == "recovery_codes" && c.Factor.RecoveryCodes != nil, kind == "webauthn" && c.Factor.WebAuthn != nil:
			p.wrong(d, "`factor %s` stands here twice; write it once", kind)
		case kind == "totp":
			c.Factor.TOTP = &config.TOTP{}
			p.block(d, "factor.totp", map[string]option{"issuer": p.text(&c.Factor.TOTP.Issuer, `issuer "Example"`)})
		case kind == "webauthn":
			c.Factor.WebAuthn = &config.WebAuthn{}
			p.block(d, "factor.webauthn", map[string]option{
				"rp_id":        p.text(&c.Factor.WebAuthn.RPID, "rp_id example.com"),
				"display_name": p.text(&c.Factor.WebAuthn.DisplayName, `display_name "Example"`),

				"attestation_roots": p.text(&c.Factor.WebAuthn.AttestationRoots, "attestation_roots /etc/caddy-mfa/makers"),

				"related_origins": p.texts(&c.Factor.WebAuthn.RelatedOrigins, "related_origins https://hr.example.net"),
			})
		case kind == "push" && c.Factor.Push != nil:
			p.wrong(d, "`factor push` stands here twice; write it once")
		case kind == "push":
			c.Factor.Push = &config.Push{}
			p.block(d, "factor.push", map[string]option{
				"contact": p.text(&c.Factor.Push.Contact, "contact mailto:ops@example.com"),
				"allow": func(d *caddyfile.Dispenser) {
					if hosts, ok := p.args(d, 1, -1, "allow push.corp.example:8443"); ok {
						c.Factor.Push.Allow = hosts
					}
				},
			})
		case kind == "recovery_codes":
			c.Factor.RecoveryCodes = &config.RecoveryCodes{}
			p.end(d)
		case kind == "sms":
			p.sentFactor(d, kind, &c.Factor.SMS)
		case kind == "voice":
			p.sentFactor(d, kind, &c.Factor.Voice)
		case kind == "email":
			p.sentFactor(d, kind, &c.Factor.Email)
		default:
			p.wrong(d, "there is no factor %q; want `totp`, `webauthn`, `push`, `sms`, `voice`, `email` or `recovery_codes`", kind)
		}
	}
}

func (p *parser) securityDefaults(c *config.Config) option {
	return func(d *caddyfile.Dispenser) {
		args, ok := p.args(d, 0, 1, "security_defaults off")
		if !ok {
			return
		}
		if len(args) == 1 {
			if args[0] != "off" {
				p.wrong(d, "security defaults are on as long as nobody says `security_defaults off`, not %q", args[0])
			}
			c.SecurityDefaults.Off = true
			p.at["security_defaults.off"] = position(d)
		}
		p.block(d, "security_defaults", map[string]option{
			"registration_grace": func(d *caddyfile.Dispenser) {
				args, ok := p.args(d, 1, 3, "registration_grace 14d until 2027-03-01")
				p.end(d)
				if !ok {
					return
				}
				grace, err := config.ParseDuration(args[0])
				if err != nil {
					p.wrong(d, "%v", err)
					return
				}
				c.SecurityDefaults.RegistrationGrace = &grace
				switch {
				case len(args) == 1:
				case len(args) == 2 || args[1] != "until":
					p.wrong(d, "behind the duration stands `until` and a day; write for example `registration_grace 14d until 2027-03-01`")
				default:
					day, err := config.ParseDate(args[2])
					if err != nil {
						p.wrong(d, "%v", err)
						return
					}
					c.SecurityDefaults.Until = day
				}
			},
		})
	}
}

func (p *parser) signInLog(c *config.Config) option {
	return func(d *caddyfile.Dispenser) {
		args, ok := p.args(d, 0, 1, "sign_in_log off")
		if !ok {
			return
		}
		if len(args) == 1 {
			if args[0] != "off" {
				p.wrong(d, "the sign-in log is on as long as nobody says `sign_in_log off`, not %q", args[0])
			}
			c.SignInLog.Off = true
			p.at["sign_in_log.off"] = position(d)
		}
		p.block(d, "sign_in_log", map[string]option{
			"keep": p.duration(&c.SignInLog.Keep, "keep 30d"),
			"max": func(d *caddyfile.Dispenser) {
				text, ok := p.one(d, "max 100000")
				if !ok {
					return
				}
				n, err := strconv.Atoi(text)
				if err != nil || n < 1 {
					p.wrong(d, "%q is no number of sign-ins; write for example `max 100000`", text)
					return
				}
				c.SignInLog.Max = n
			},
		})
	}
}
