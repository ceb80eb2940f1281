package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// SentFactor is a factor whose codes are sent to the person.
type SentFactor struct {
	// The senders that are asked, in this order: the next when the one before has certainly not accepted a message. Required.
	Senders []string `json:"senders"`

	// What numbers must begin with that codes are sent to: +31. Not with mails. Default: any number.
	Prefixes []string `json:"prefixes,omitempty"`
}

// MessageLimits are how many codes are sent in a day, of all kinds together. Each may cost money.
type MessageLimits struct {
	// To one user. Default: 20.
	User int `json:"user,omitempty"`

	// To one number or mail address. Default: 20.
	Number int `json:"number,omitempty"`

	// To numbers that begin alike: the country and three digits more. Default: 200.
	Prefix int `json:"prefix,omitempty"`

	// In total. Default: 1000.
	Total int `json:"total,omitempty"`

	// Sends nothing at all, until it is taken out. Default: false.
	Off bool `json:"off,omitempty"`
}

// NotifyChanges are the mails that tell people what has changed about their accounts: a factor was added, an app password made.
type NotifyChanges struct {
	// The senders that are asked, in this order. Default: those of `factor email`; without that, nobody is told.
	Senders []string `json:"senders,omitempty"`

	// Tells nobody. Default: false.
	Off bool `json:"off,omitempty"`
}

// ChangeSenders are the senders of mails that tell of changes. None: nobody is told.
func (c *Config) ChangeSenders() []string {
	switch {
	case c.NotifyChanges.Off:
		return nil
	case len(c.NotifyChanges.Senders) > 0 || c.Factor.Email == nil:
		return c.NotifyChanges.Senders
	}
	return c.Factor.Email.Senders
}

// Twilio is a sender of text messages and calls with Twilio's interface. Placeholders are allowed, and demanded for the token.
type Twilio struct {
	// The account. Required.
	AccountSID string `json:"account_sid"`

	// The account's token, or the secret of the API key: {file./run/secrets/twilio}. Required.
	AuthToken string `json:"auth_token"`

	// The API key, in place of the account's own token. Default: none.
	APIKey string `json:"api_key,omitempty"`

	// The number, short code or name that messages and calls come from. Required, unless there is a messaging service and no calls.
	From string `json:"from,omitempty"`

	// The messaging service that messages come from. Default: none.
	MessagingService string `json:"messaging_service,omitempty"`

	// The voice that reads codes: Polly.Lotte. Default: the gateway's own.
	Voice string `json:"voice,omitempty"`

	// Where the interface is. Default: https://api.twilio.com.
	URL string `json:"url,omitempty"`

	// For how long an answer is waited for, from 1s to 1m. Default: 10s.
	Timeout Duration `json:"timeout,omitzero"`
}

// Webhook is a sender that posts to an address. Placeholders are allowed in address and headers, and demanded for secrets.
type Webhook struct {
	// The address. Required.
	URL string `json:"url"`

	// More headers. Default: none.
	Headers map[string]string `json:"headers,omitempty"`

	// Default: application/json.
	ContentType string `json:"content_type,omitempty"`

	// A template (Go's text/template) of what is posted, with .ID, .Method, .To, .Code, .Language, .Subject, .Text and the functions
	// json and query. Default: a JSON object of these.
	Body string `json:"body,omitempty"`

	// For how long an answer is waited for, from 1s to 1m. Default: 10s.
	Timeout Duration `json:"timeout,omitzero"`
}

// Command is a sender that runs a program for each message, with a line of JSON on its standard input.
type Command struct {
	// The program, and its arguments. They are what stands here: nothing is put into them. Required.
	Command []string `json:"command"`

	// For how long it may run, from 1s to 1m. Default: 10s.
	Timeout Duration `json:"timeout,omitzero"`
}

// SMTP is a sender of mails. Placeholders are allowed, and demanded for the password.
type SMTP struct {
	// host:port of the mail server. Required.
	Server string `json:"server"`

	// starttls (demanded of the server), implicit, or none, which is for a server on this machine. Default: starttls.
	TLS string `json:"tls,omitempty"`

	// PEM file of the authorities that may have signed the server's certificate. Default: the system's.
	CA string `json:"ca,omitempty"`

	// Default: no authentication.
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`

	// The mail address that codes come from, a name may stand before it. Required.
	From string `json:"from"`

	// For how long the server may take, from 1s to 1m. Default: 10s.
	Timeout Duration `json:"timeout,omitzero"`
}

// Kinds of senders: the modules of the namespace mfa.senders that come with caddy-mfa.
const (
	TwilioKind  = "twilio"
	WebhookKind = "webhook"
	CommandKind = "command"
	SMTPKind    = "smtp"
)

// SenderKinds lists them.
var SenderKinds = []string{TwilioKind, WebhookKind, CommandKind, SMTPKind}

// Defaults of senders and limits.
const (
	DefaultSenderTimeout  = 10 * time.Second
	DefaultMessagesUser   = 20
	DefaultMessagesNumber = 20
	DefaultMessagesPrefix = 200
	DefaultMessagesTotal  = 1000
)

// SetDefaults fills in what was not said.
func (l *MessageLimits) SetDefaults() {
	setDefault(&l.User, DefaultMessagesUser)
	setDefault(&l.Number, DefaultMessagesNumber)
	setDefault(&l.Prefix, DefaultMessagesPrefix)
	setDefault(&l.Total, DefaultMessagesTotal)
}

var (
	senderName  = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,31}$`)
	phonePrefix = regexp.MustCompile(`^\+[1-9][0-9]{0,9}$`)
	phoneNumber = regexp.MustCompile(`^\+[1-9][0-9]{6,14}$`)
)

// sent are the factors whose codes are sent, by their words.
func (f *Factor) sent() map[string]*SentFactor {
	return map[string]*SentFactor{"sms": f.SMS, "voice": f.Voice, "email": f.Email}
}

// validateSenders checks senders and the factors that name them. What is inside a sender is checked by its module.
func (c *Config) validateSenders(ps *Problems) {
	kinds, callers := map[string]string{}, map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(c.SendersRaw)) {
		field := "senders." + name
		if !senderName.MatchString(name) {
			ps.add(field, "%q can't name a sender; want a lower-case letter, then up to 31 lower-case letters, digits, hyphens or underscores", name)
		}
		var kind struct {
			Module string `json:"module"`
			From   string `json:"from"`
		}
		if err := json.Unmarshal(c.SendersRaw[name], &kind); err != nil || kind.Module == "" {
			ps.add(field, "the sender %q has no `module`; want one of %s", name, strings.Join(SenderKinds, ", "))
		}
		kinds[name], callers[name] = kind.Module, kind.From != ""
	}
	used := map[string]bool{}
	factors := c.Factor.sent()
	for _, word := range slices.Sorted(maps.Keys(factors)) {
		f := factors[word]
		if f == nil {
			continue
		}
		field := "factor." + word
		if len(f.Senders) == 0 {
			ps.add(field, "`factor %s` names no sender; write for example `sender gateway` in its block, and `sender gateway %s …` beside it", word, exampleKind(word))
		}
		for i, name := range f.Senders {
			kind, known := kinds[name]
			switch {
			case !known:
				ps.add(fmt.Sprintf("%s.senders[%d]", field, i), "there is no sender %q; write it beside the factor, for example `sender %s %s { … }`", name, name, exampleKind(word))
			case kind == SMTPKind && word != "email":
				ps.add(fmt.Sprintf("%s.senders[%d]", field, i), "the sender %q sends mails, and no codes for `factor %s`", name, word)
			case kind == TwilioKind && word == "email":
				ps.add(fmt.Sprintf("%s.senders[%d]", field, i), "the sender %q sends text messages and makes calls, and no mails", name)
			case kind == TwilioKind && word == "voice" && !callers[name]:
				ps.add(fmt.Sprintf("%s.senders[%d]", field, i), "the sender %q has no number that it could call from; write for example `from +31970000000` in it", name)
			case slices.Contains(f.Senders[:i], name):
				ps.add(fmt.Sprintf("%s.senders[%d]", field, i), "the sender %q stands here twice; write it once", name)
			}
			used[name] = true
		}
		for i, p := range f.Prefixes {
			switch {
			case word == "email":
				ps.add(field+".prefixes", "mail addresses have no prefix; take `prefixes` out")
			case !phonePrefix.MatchString(p):
				ps.add(fmt.Sprintf("%s.prefixes[%d]", field, i), "%q is not the beginning of a number; write it with its country, for example +31", p)
			}
		}
	}
	if n := c.NotifyChanges; n.Off && len(n.Senders) > 0 {
		ps.add("notify_changes.off", "nobody is told of changes, and yet a sender is named; take one of the two out")
	}
	for i, name := range c.NotifyChanges.Senders {
		field := fmt.Sprintf("notify_changes.senders[%d]", i)
		kind, known := kinds[name]
		switch {
		case !known:
			ps.add(field, "there is no sender %q; write it beside `notify_changes`, for example `sender %[1]s smtp mail.example.com:587 { … }`", name)
		case kind == TwilioKind:
			ps.add(field, "the sender %q sends text messages and makes calls, and no mails", name)
		case slices.Contains(c.NotifyChanges.Senders[:i], name):
			ps.add(field, "the sender %q stands here twice; write it once", name)
		}
		used[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(kinds)) {
		where := "`factor sms`"
		if kinds[name] == SMTPKind {
			where = "`factor email` or `notify_changes`"
		}
		if !used[name] {
			ps.add("senders."+name, "nothing uses the sender %q; write `sender %[1]s` into the block of %[2]s, or take it out", name, where)
		}
	}
	for _, l := range []struct {
		field string
		value int
	}{{"user", c.MessageLimits.User}, {"number", c.MessageLimits.Number}, {"prefix", c.MessageLimits.Prefix}, {"total", c.MessageLimits.Total}} {
		if l.value < 0 {
			ps.add("message_limits."+l.field, "%d is no number of messages; to send none, write `message_limits off`", l.value)
		}
	}
	if p := c.PerUserMFA; p != nil {
		for i, word := range p.Methods {
			if f, ok := factors[word]; ok && f == nil {
				ps.add(fmt.Sprintf("per_user_mfa.methods[%d]", i), "there is no `factor %s`, so that nobody could use it; add it, or take the word out", word)
			}
		}
	}
}

func exampleKind(word string) string {
	if word == "email" {
		return SMTPKind
	}
	return TwilioKind
}

func checkTimeout(ps *Problems, d Duration) {
	if d != 0 && (d < Duration(time.Second) || d > Duration(time.Minute)) {
		ps.add("timeout", "a sender is waited for from 1s to 1m, not %v", d)
	}
}

// checkSecret demands a placeholder: what stands in the configuration itself is read by everybody who reads that.
func checkSecret(ps *Problems, field, value string) {
	if value != "" && !strings.Contains(value, "{") {
		ps.add(field, "the secret itself stands here; write where it is, for example {file./run/secrets/%s} or {env.%s}", field, strings.ToUpper(field))
	}
}

// CheckSenderURL says why nothing is posted to an address; empty: it can be. One that holds a placeholder is checked when it has been resolved.
func CheckSenderURL(text string) string {
	if strings.Contains(text, "{") {
		return ""
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http" {
		return "the address must be as in https://gateway.example.com/send, without user and password"
	}
	if ip, err := netip.ParseAddr(u.Hostname()); u.Scheme == "http" && u.Hostname() != "localhost" && (err != nil || !ip.IsLoopback()) {
		return "a code is not sent to another machine over plain http; write https"
	}
	return ""
}

// Validate reports every mistake at once.
func (t *Twilio) Validate() Problems {
	var ps Problems
	if t.AccountSID == "" {
		ps.add("account_sid", "the account is missing; write for example `account_sid AC0123…`")
	}
	if t.AuthToken == "" {
		ps.add("auth_token", "the token is missing; write for example `auth_token {file./run/secrets/twilio}`")
	}
	checkSecret(&ps, "auth_token", t.AuthToken)
	if t.From == "" && t.MessagingService == "" {
		ps.add("from", "it says neither `from` nor `messaging_service`; write for example `from +31970000000`")
	}
	// A name has a letter in it, and a short code few digits.
	digits := strings.Trim(t.From, "0123456789 ()-./") == ""
	if strings.HasPrefix(t.From, "+") && !phoneNumber.MatchString(t.From) || digits && len(t.From) > 8 {
		ps.add("from", "%q is not a number as in E.164; write for example +31970000000", t.From)
	}
	if t.URL != "" {
		if problem := CheckSenderURL(t.URL); problem != "" {
			ps.add("url", "%s", problem)
		}
	}
	checkTimeout(&ps, t.Timeout)
	return ps
}

// Validate reports every mistake at once.
func (w *Webhook) Validate() Problems {
	var ps Problems
	if problem := CheckSenderURL(w.URL); problem != "" {
		ps.add("url", "%s", problem)
	}
	for _, name := range slices.Sorted(maps.Keys(w.Headers)) {
		if !httpguts.ValidHeaderFieldName(name) {
			ps.add("headers", "%q can't name a header", name)
		}
		lower := strings.ToLower(name)
		if slices.ContainsFunc([]string{"auth", "key", "token", "secret"}, func(word string) bool { return strings.Contains(lower, word) }) && !strings.Contains(w.Headers[name], "{") {
			ps.add("headers", "the secret itself stands in the header %s; write where it is, for example {file./run/secrets/gateway} or {env.GATEWAY_TOKEN}", name)
		}
	}
	checkTimeout(&ps, w.Timeout)
	return ps
}

// Validate reports every mistake at once.
func (c *Command) Validate() Problems {
	var ps Problems
	if len(c.Command) == 0 || c.Command[0] == "" {
		ps.add("command", "the program is missing; write for example `sender modem command /usr/local/bin/send-sms`")
	}
	checkTimeout(&ps, c.Timeout)
	return ps
}

// Validate reports every mistake at once.
func (s *SMTP) Validate() Problems {
	var ps Problems
	host := ""
	if !strings.Contains(s.Server, "{") {
		var port string
		var err error
		host, port, err = net.SplitHostPort(s.Server)
		if n, convErr := strconv.ParseUint(port, 10, 16); err != nil || convErr != nil || n == 0 || host == "" {
			ps.add("server", "%q is not host:port; write for example mail.example.com:587", s.Server)
		}
	}
	switch s.TLS {
	case "", "starttls", "implicit":
	case "none":
		if ip, err := netip.ParseAddr(host); host != "" && host != "localhost" && (err != nil || !ip.IsLoopback()) {
			ps.add("tls", "a code is not sent to another machine without encryption; write `tls starttls` or `tls implicit`")
		}
	default:
		ps.add("tls", "%q is no way to encrypt; want starttls, implicit or none", s.TLS)
	}
	if a, err := mail.ParseAddress(s.From); err != nil || strings.ContainsAny(s.From, "\r\n") || !strings.Contains(a.Address, "@") {
		ps.add("from", "%q is not a mail address; write for example `from \"Example <mfa@example.com>\"`", s.From)
	}
	if (s.Username == "") != (s.Password == "") {
		ps.add("password", "`username` and `password` belong together; write both or none")
	}
	checkSecret(&ps, "password", s.Password)
	checkTimeout(&ps, s.Timeout)
	return ps
}
