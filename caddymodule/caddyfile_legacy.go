package caddymodule

import (
	"fmt"
	"slices"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-mfa/caddy-mfa/config"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// legacyOptions are the options of the directive about legacy authentication. Syntax:
//
//	legacy_auth all | <class>… block | report | allow [from <range>…] [path <path>…]     # several lines
//	legacy_exception <class>… {                                                           # several
//		user    <user>
//		service <name>
//		from    <range>…         # several lines
//		path    <path>…
//		until   <day>
//		owner   <text>
//		reason  <text>
//	}
//	legacy_login   <path>…
//	legacy_only
//	app_passwords  on [digest] | off
//	service_tokens on | off
func (p *parser) legacyOptions(a *config.Application) map[string]option {
	return map[string]option{
		"legacy_auth":      p.legacyAuth(a),
		"legacy_exception": p.legacyException(a),
		"legacy_login":     p.texts(&a.LoginPaths, "legacy_login /login"),
		"legacy_only":      p.flag(&a.LegacyOnly),
		"app_passwords":    p.appPasswords(a),
		"service_tokens":   p.onOff(func(on string) { a.ServiceTokens = on == config.On }),
	}
}

// machineOptions are the options of the global option about machines and legacy authentication. Syntax:
//
//	service_token <name> {
//		expires      <day>
//		applications <application>…
//	}
//	app_passwords {
//		lifetime     <duration>
//		max_lifetime <duration>
//		outlive      password_change | disabling …
//	}
//	legacy_emergency
//	legacy_report [off] {
//		keep <duration>
//		show_unknown_names
//	}
func (p *parser) machineOptions(c *config.Config) map[string]option {
	return map[string]option{
		"service_token":    p.serviceToken(c),
		"app_passwords":    p.appPasswordSettings(&c.AppPasswords),
		"legacy_emergency": p.flag(&c.LegacyEmergency),
		"legacy_report":    p.legacyReport(c),
	}
}

func (p *parser) legacyAuth(a *config.Application) option {
	return func(d *caddyfile.Dispenser) {
		const example = "legacy_auth basic report from 10.0.0.0/8"
		p.at[fmt.Sprintf("legacy_auth[%d]", len(a.LegacyAuth))] = position(d)
		args, ok := p.args(d, 2, -1, example)
		p.end(d)
		if !ok {
			return
		}
		mode := slices.IndexFunc(args, func(word string) bool { return slices.Contains(config.LegacyModes, word) })
		if mode < 0 {
			p.wrong(d, "it doesn't say what becomes of them; want `block`, `report` or `allow` behind the classes, for example `%s`", example)
			return
		}
		rule := config.LegacyRule{Classes: args[:mode], Mode: args[mode]}
		before := len(p.mistakes)
		what, values := "", 0
		done := map[string]bool{}
		finish := func() {
			if what != "" && values == 0 {
				p.wrong(d, "behind `%s` stands nothing; write for example `from 10.0.0.0/8` or `path /dav/*`", what)
			}
		}
		for _, word := range args[mode+1:] {
			switch {
			case word == "from" || word == "path":
				finish()
				if done[word] {
					p.wrong(d, "`%s` stands here twice; write all that is meant behind one", word)
				}
				what, values, done[word] = word, 0, true
			case what == "from":
				if prefix, ok := p.prefix(d, word); ok {
					rule.From = append(rule.From, prefix)
				}
				values++
			case what == "path":
				rule.Paths = append(rule.Paths, word)
				values++
			default:
				p.wrong(d, "behind `%s` stands `from` or `path`, not %q; write for example `%s`", rule.Mode, word, example)
				return
			}
		}
		finish()
		if len(p.mistakes) == before {
			a.LegacyAuth = append(a.LegacyAuth, rule)
		}
	}
}

func (p *parser) legacyException(a *config.Application) option {
	return func(d *caddyfile.Dispenser) {
		field := fmt.Sprintf("legacy_exceptions[%d]", len(a.LegacyExceptions))
		p.at[field] = position(d)
		before := len(p.mistakes)
		var out config.LegacyException
		if args, ok := p.args(d, 1, -1, "legacy_exception basic {"); ok {
			out.Classes = args
		} else {
			p.failed[field+".classes"] = true
		}
		p.block(d, "application."+field, map[string]option{
			"user":    p.text(&out.User, "user alice"),
			"service": p.text(&out.Service, "service printer"),
			"from":    p.ranges(&out.From, "from 10.1.2.3"),
			"path":    p.texts(&out.Paths, "path /dav/*"),
			"until":   p.day(&out.Until, "until 2027-03-01"),
			"owner":   p.text(&out.Owner, `owner "Facilities, phone 1234"`),
			"reason":  p.text(&out.Reason, `reason "the printer on floor 2 knows nothing else"`),
		})
		// Of what could not be read, nobody can say that it lacks something.
		p.failed[field] = len(p.mistakes) > before
		p.failed[field+".service"] = p.failed[field+".service"] || p.failed[field+".from"]
		a.LegacyExceptions = append(a.LegacyExceptions, out)
	}
}

func (p *parser) appPasswordSettings(out *config.AppPasswords) option {
	return func(d *caddyfile.Dispenser) {
		p.args(d, 0, 0, "app_passwords {")
		p.block(d, "app_passwords", map[string]option{
			"lifetime":     p.duration(&out.Lifetime, "lifetime 90d"),
			"max_lifetime": p.duration(&out.MaxLifetime, "max_lifetime 365d"),
			"outlive":      p.texts(&out.Outlive, "outlive password_change"),
		})
	}
}

func (p *parser) serviceToken(c *config.Config) option {
	return func(d *caddyfile.Dispenser) {
		field := fmt.Sprintf("service_tokens[%d]", len(c.ServiceTokens))
		before := len(p.mistakes)
		var out config.ServiceToken
		p.named(d, field, "service_token backup {", &out.Name, map[string]option{
			"expires":      p.day(&out.Expires, "expires 2027-01-31"),
			"applications": p.texts(&out.Applications, "applications hr"),
		})
		p.failed[field+".name"] = out.Name == "" && len(p.mistakes) > before
		c.ServiceTokens = append(c.ServiceTokens, out)
	}
}

func (p *parser) legacyReport(c *config.Config) option {
	return func(d *caddyfile.Dispenser) {
		args, ok := p.args(d, 0, 1, "legacy_report off")
		if !ok {
			return
		}
		if len(args) == 1 {
			if args[0] != "off" {
				p.wrong(d, "the report of legacy authentication is on as long as nobody says `legacy_report off`, not %q", args[0])
			}
			c.LegacyReport.Off = true
			p.at["legacy_report.off"] = position(d)
		}
		p.block(d, "legacy_report", map[string]option{
			"keep":               p.duration(&c.LegacyReport.Keep, "keep 90d"),
			"show_unknown_names": p.flag(&c.LegacyReport.ShowUnknownNames),
		})
	}
}

// appPasswords reads whether app passwords open an application, and over what.
func (p *parser) appPasswords(a *config.Application) option {
	return func(d *caddyfile.Dispenser) {
		args, ok := p.args(d, 1, 2, "app_passwords on")
		p.end(d)
		switch {
		case !ok:
		case args[0] != config.On && args[0] != config.Off:
			p.wrong(d, "`app_passwords` is `on` or `off`, not %q", args[0])
		case len(args) == 2 && args[0] == config.Off:
			p.wrong(d, "behind `app_passwords off` stands nothing, not %q; write for example `app_passwords on digest`", args[1])
		case len(args) == 2 && args[1] != "digest":
			p.wrong(d, "behind `app_passwords on` can stand `digest`, not %q", args[1])
		default:
			a.AppPasswords, a.AppPasswordsDigest = args[0], len(args) == 2
		}
	}
}

// onOff reads an option that is on or off.
func (p *parser) onOff(set func(string)) option {
	return func(d *caddyfile.Dispenser) {
		name := d.Val()
		text, ok := p.one(d, name+" on")
		switch {
		case !ok:
		case text != config.On && text != config.Off:
			p.wrong(d, "`%s` is `on` or `off`, not %q", name, text)
		default:
			set(text)
		}
	}
}

// day reads an option that is a day.
func (p *parser) day(field *config.Date, example string) option {
	return func(d *caddyfile.Dispenser) {
		text, ok := p.one(d, example)
		if !ok {
			return
		}
		day, err := config.ParseDate(text)
		if err != nil {
			p.wrong(d, "%v", err)
			return
		}
		*field = day
	}
}

// checkUserNames finds names in exceptions that no user can have, which package config can't.
func checkUserNames(a *config.Application) (problems config.Problems) {
	for i, e := range a.LegacyExceptions {
		if e.User == "" {
			continue
		}
		if _, err := mfa.CanonicalName(e.User); err != nil {
			problems = append(problems, config.Problem{
				Field: fmt.Sprintf("legacy_exceptions[%d].user", i), Message: fmt.Sprintf("%q can't be a user's name; want it as it stands in the directory, for example alice", e.User),
			})
		}
	}
	return problems
}
