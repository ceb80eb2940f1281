package caddymodule

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-mfa/caddy-mfa/config"
	"github.com/caddy-mfa/caddy-mfa/internal/sender"
)

// senderOptions are the options about codes that are sent. Syntax:
//
//	sender <name> twilio {
//		account_sid       <sid>
//		auth_token        <placeholder>
//		api_key           <sid>
//		from              <number>
//		messaging_service <sid>
//		voice             <voice>
//		url               <address>
//		timeout           <duration>
//	}
//	sender <name> webhook <address> {
//		header       <name> <value>
//		content_type <type>
//		body         <template>
//		timeout      <duration>
//	}
//	sender <name> command <program> [<argument>…] {
//		timeout <duration>
//	}
//	sender <name> smtp <host>:<port> {
//		tls      starttls | implicit | none
//		ca       <file>
//		username <text>
//		password <placeholder>
//		from     <address>
//		timeout  <duration>
//	}
//	message_limits [off] {
//		user   <number>
//		number <number>
//		prefix <number>
//		total  <number>
//	}
//	notify_changes [off] {
//		sender <name>…
//	}
func (p *parser) senderOptions(c *config.Config) map[string]option {
	return map[string]option{"sender": p.sender(c), "message_limits": p.messageLimits(c), "notify_changes": p.notifyChanges(c)}
}

func (p *parser) notifyChanges(c *config.Config) option {
	return func(d *caddyfile.Dispenser) {
		args, ok := p.args(d, 0, 1, "notify_changes off")
		if !ok {
			return
		}
		mistakes := len(p.mistakes)
		if len(args) == 1 {
			if c.NotifyChanges.Off = args[0] == "off"; !c.NotifyChanges.Off {
				p.wrong(d, "people are told of changes as long as nobody says `notify_changes off`, not %q", args[0])
			}
			p.at["notify_changes.off"] = position(d)
		}
		p.block(d, "notify_changes", map[string]option{"sender": p.texts(&c.NotifyChanges.Senders, "sender mailserver")})
		if !c.NotifyChanges.Off && len(c.NotifyChanges.Senders) == 0 && len(p.mistakes) == mistakes {
			p.wrong(d, "`notify_changes` names no sender; write for example `sender mailserver` in its block, or take it out to use those of `factor email`")
		}
	}
}

// sentFactor reads `factor sms`, `factor voice` and `factor email`. Syntax:
//
//	factor sms|voice|email {
//		sender   <name>…
//		prefixes <prefix>…      # not with email
//	}
func (p *parser) sentFactor(d *caddyfile.Dispenser, kind string, field **config.SentFactor) {
	if *field != nil {
		p.wrong(d, "`factor %s` stands here twice; write it once", kind)
		return
	}
	f := &config.SentFactor{}
	*field = f
	path := "factor." + kind
	p.at[path] = position(d)
	p.block(d, path, map[string]option{"sender": p.texts(&f.Senders, "sender gateway"), "prefixes": p.texts(&f.Prefixes, "prefixes +31 +32")})
}

func (p *parser) sender(c *config.Config) option {
	return func(d *caddyfile.Dispenser) {
		args, ok := p.args(d, 2, -1, "sender gateway twilio {")
		if !ok {
			return
		}
		name, kind, rest := args[0], args[1], args[2:]
		path := fmt.Sprintf("senders[%d]", len(c.SendersRaw))
		if _, twice := c.SendersRaw[name]; twice {
			p.wrong(d, "there are two senders %q; give one of them another name", name)
			return
		}
		p.at["senders."+name], p.at[path] = position(d), position(d)
		var module any
		var problems func() config.Problems
		switch kind {
		case config.TwilioKind:
			t := &config.Twilio{}
			p.none(d, name, kind, rest)
			p.block(d, path, map[string]option{
				"account_sid":       p.text(&t.AccountSID, "account_sid {env.TWILIO_ACCOUNT_SID}"),
				"auth_token":        p.text(&t.AuthToken, "auth_token {file./run/secrets/twilio}"),
				"api_key":           p.text(&t.APIKey, "api_key SK0123456789abcdef0123456789abcdef"),
				"from":              p.text(&t.From, "from +31970000000"),
				"messaging_service": p.text(&t.MessagingService, "messaging_service MG0123456789abcdef0123456789abcdef"),
				"voice":             p.text(&t.Voice, "voice Polly.Lotte"),
				"url":               p.text(&t.URL, "url https://gateway.example.com"),
				"timeout":           p.duration(&t.Timeout, "timeout 10s"),
			})
			module, problems = t, t.Validate
		case config.WebhookKind:
			w := &config.Webhook{}
			if len(rest) != 1 {
				p.wrong(d, "a webhook has one address; write for example `sender %s webhook https://gateway.example.com/send`", name)
			} else {
				w.URL = rest[0]
			}
			p.block(d, path, map[string]option{
				"header": func(d *caddyfile.Dispenser) {
					args, ok := p.args(d, 2, 2, `header Authorization "Bearer {file./run/secrets/gateway}"`)
					p.end(d)
					if !ok {
						return
					}
					if w.Headers == nil {
						w.Headers = map[string]string{}
					}
					w.Headers[args[0]] = args[1]
				},
				"content_type": p.text(&w.ContentType, "content_type application/json"),
				"body":         p.text(&w.Body, "body `{\"to\":{{json .To}},\"text\":{{json .Text}}}`"),
				"timeout":      p.duration(&w.Timeout, "timeout 10s"),
			})
			module, problems = w, func() config.Problems {
				ps := w.Validate()
				// Address and headers may hold placeholders, which are resolved at start. The template holds none.
				if _, err := sender.NewWebhook("", nil, w.ContentType, w.Body); err != nil {
					ps = append(ps, config.Problem{Field: "body", Message: err.Error()})
				}
				return ps
			}
		case config.CommandKind:
			cmd := &config.Command{Command: rest}
			p.block(d, path, map[string]option{"timeout": p.duration(&cmd.Timeout, "timeout 10s")})
			module, problems = cmd, cmd.Validate
		case config.SMTPKind:
			s := &config.SMTP{}
			if len(rest) != 1 {
				p.wrong(d, "a mail server has one address; write for example `sender %s smtp mail.example.com:587`", name)
			} else {
				s.Server = rest[0]
			}
			p.block(d, path, map[string]option{
				"tls":      p.text(&s.TLS, "tls starttls"),
				"ca":       p.text(&s.CA, "ca /etc/ssl/mail-ca.pem"),
				"username": p.text(&s.Username, "username mfa"),
				"password": p.text(&s.Password, "password {file./run/secrets/mail}"),
				"from":     p.text(&s.From, `from "Example <mfa@example.com>"`),
				"timeout":  p.duration(&s.Timeout, "timeout 10s"),
			})
			module, problems = s, s.Validate
		default:
			p.wrong(d, "there is no kind of sender %q; want one of %s", kind, list(config.SenderKinds))
			return
		}
		for _, problem := range problems() {
			if !p.failed[path+"."+problem.Field] && (len(rest) == 1 || problem.Field != "url" && problem.Field != "server" || kind == config.TwilioKind) {
				p.mistakes = append(p.mistakes, p.position(path+"."+problem.Field, "sender "+name)+problem.Message)
			}
		}
		if c.SendersRaw == nil {
			c.SendersRaw = map[string]json.RawMessage{}
		}
		c.SendersRaw[name] = caddyconfig.JSONModuleObject(module, "module", kind, nil)
	}
}

// none complains of arguments where there are none.
func (p *parser) none(d *caddyfile.Dispenser, name, kind string, args []string) {
	if len(args) > 0 {
		p.wrong(d, "`sender %s %s` has no value behind it; write its options in a block, not %s", name, kind, strings.Join(args, " "))
	}
}

func (p *parser) messageLimits(c *config.Config) option {
	return func(d *caddyfile.Dispenser) {
		args, ok := p.args(d, 0, 1, "message_limits off")
		if !ok {
			return
		}
		l := &c.MessageLimits
		if len(args) == 1 {
			if args[0] != "off" {
				p.wrong(d, "messages are sent as long as nobody says `message_limits off`, not %q", args[0])
			}
			l.Off = true
		}
		number := func(field *int, example string) option {
			return func(d *caddyfile.Dispenser) {
				text, ok := p.one(d, example)
				if !ok {
					return
				}
				n, err := strconv.Atoi(text)
				if err != nil || n < 1 {
					p.wrong(d, "%q is no number of messages; write for example `%s`, or `message_limits off` to send none", text, example)
					return
				}
				*field = n
			}
		}
		p.block(d, "message_limits", map[string]option{
			"user": number(&l.User, "user 20"), "number": number(&l.Number, "number 20"), "prefix": number(&l.Prefix, "prefix 200"), "total": number(&l.Total, "total 1000"),
		})
	}
}
