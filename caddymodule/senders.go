package caddymodule

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-mfa/caddy-mfa/config"
	"github.com/caddy-mfa/caddy-mfa/internal/factor/passcode"
	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/notice"
	"github.com/caddy-mfa/caddy-mfa/internal/portal"
	"github.com/caddy-mfa/caddy-mfa/internal/sender"
	"github.com/caddy-mfa/caddy-mfa/internal/signin"
	"github.com/caddy-mfa/caddy-mfa/internal/throttle"
)

func init() {
	caddy.RegisterModule(new(TwilioSender))
	caddy.RegisterModule(new(WebhookSender))
	caddy.RegisterModule(new(CommandSender))
	caddy.RegisterModule(new(SMTPSender))
}

// senderModule is a module of the namespace mfa.senders.
type senderModule interface {
	Sender() mfa.Sender
	Patience() time.Duration // for one attempt
}

// ready is a sender, made of its configuration.
type ready struct {
	sender   mfa.Sender
	patience time.Duration
}

// Sender gives the sender.
func (r *ready) Sender() mfa.Sender { return r.sender }

// Patience is for how long one attempt may take.
func (r *ready) Patience() time.Duration { return r.patience }

func (r *ready) set(s mfa.Sender, timeout config.Duration) {
	r.sender, r.patience = s, cmp.Or(time.Duration(timeout), config.DefaultSenderTimeout)
}

// resolve fills in placeholders. One that stands for nothing is an error: an empty secret would be sent.
func resolve(fields map[string]*string) error {
	repl := caddy.NewReplacer()
	for name, field := range fields {
		text, err := repl.ReplaceOrErr(*field, true, true)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		*field = text
	}
	return nil
}

// TwilioSender sends text messages and makes calls with Twilio's interface.
type TwilioSender struct {
	config.Twilio
	ready
}

// CaddyModule returns the Caddy module information.
func (*TwilioSender) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mfa.senders.twilio", New: func() caddy.Module { return new(TwilioSender) }}
}

// Provision resolves the settings.
func (s *TwilioSender) Provision(caddy.Context) error {
	if err := s.Validate().Err(); err != nil {
		return err
	}
	c := s.Twilio
	err := resolve(map[string]*string{
		"account_sid": &c.AccountSID, "auth_token": &c.AuthToken, "api_key": &c.APIKey, "from": &c.From, "messaging_service": &c.MessagingService, "url": &c.URL,
	})
	if err != nil {
		return err
	}
	if problem := config.CheckSenderURL(c.URL); c.URL != "" && problem != "" {
		return fmt.Errorf("url: %s", problem)
	}
	s.set(&sender.Twilio{
		URL: c.URL, AccountSID: c.AccountSID, Key: c.APIKey, AuthToken: c.AuthToken, From: c.From, Service: c.MessagingService, Voice: c.Voice,
	}, c.Timeout)
	return nil
}

// WebhookSender posts messages to an address.
type WebhookSender struct {
	config.Webhook
	ready
}

// CaddyModule returns the Caddy module information.
func (*WebhookSender) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mfa.senders.webhook", New: func() caddy.Module { return new(WebhookSender) }}
}

// Provision resolves the settings and reads the template.
func (s *WebhookSender) Provision(caddy.Context) error {
	if err := s.Validate().Err(); err != nil {
		return err
	}
	address, header := s.URL, http.Header{}
	if err := resolve(map[string]*string{"url": &address}); err != nil {
		return err
	}
	if problem := config.CheckSenderURL(address); problem != "" {
		return fmt.Errorf("url: %s", problem)
	}
	for name, value := range s.Headers {
		if err := resolve(map[string]*string{"header " + name: &value}); err != nil {
			return err
		}
		header.Set(name, value)
	}
	hook, err := sender.NewWebhook(address, header, s.ContentType, s.Body)
	if err != nil {
		return fmt.Errorf("body: %w", err)
	}
	s.set(hook, s.Timeout)
	return nil
}

// CommandSender runs a program for each message.
type CommandSender struct {
	config.Command
	ready
}

// CaddyModule returns the Caddy module information.
func (*CommandSender) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mfa.senders.command", New: func() caddy.Module { return new(CommandSender) }}
}

// Provision checks the settings.
func (s *CommandSender) Provision(caddy.Context) error {
	if err := s.Validate().Err(); err != nil {
		return err
	}
	s.set(&sender.Command{Path: s.Command.Command[0], Args: s.Command.Command[1:]}, s.Timeout)
	return nil
}

// SMTPSender hands mails to a mail server.
type SMTPSender struct {
	config.SMTP
	ready
}

// CaddyModule returns the Caddy module information.
func (*SMTPSender) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mfa.senders.smtp", New: func() caddy.Module { return new(SMTPSender) }}
}

// Provision resolves the settings.
func (s *SMTPSender) Provision(caddy.Context) error {
	if err := s.Validate().Err(); err != nil {
		return err
	}
	c := s.SMTP
	if err := resolve(map[string]*string{"server": &c.Server, "ca": &c.CA, "username": &c.Username, "password": &c.Password}); err != nil {
		return err
	}
	if c.Server != s.Server { // what has been resolved is checked now
		if err := (&config.SMTP{Server: c.Server, TLS: c.TLS, From: c.From}).Validate().Err(); err != nil {
			return err
		}
	}
	host, port, err := net.SplitHostPort(c.Server)
	if err != nil {
		return fmt.Errorf("server: %w", err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return fmt.Errorf("server: %w", err)
	}
	settings := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		pem, err := os.ReadFile(c.CA)
		if err != nil {
			return fmt.Errorf("reading ca: %w", err)
		}
		settings.RootCAs = x509.NewCertPool()
		if !settings.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("reading ca: %s holds no PEM certificate", c.CA)
		}
	}
	s.set(&sender.SMTP{
		Host: host, Port: number, TLS: sender.TLSMode(cmp.Or(c.TLS, string(sender.StartTLS))), Config: settings,
		Username: c.Username, Password: c.Password, From: c.From,
	}, c.Timeout)
	return nil
}

// provisionSenders loads the senders that factors use.
func (a *App) provisionSenders() error {
	a.senders = map[string]senderModule{}
	if len(a.SendersRaw) == 0 {
		return nil
	}
	loaded, err := a.ctx.LoadModule(a, "SendersRaw")
	if err != nil {
		return fmt.Errorf("loading senders: %w", err)
	}
	modules, ok := loaded.(map[string]any)
	if !ok {
		return fmt.Errorf("loading senders: %T is no map of them", loaded)
	}
	for name, module := range modules {
		s, ok := module.(senderModule)
		if !ok {
			return fmt.Errorf("loading sender %q: %T is no sender", name, module)
		}
		a.senders[name] = s
	}
	return nil
}

// sentFactor is a factor whose codes are sent, and how.
type sentFactor struct {
	method mfa.Method
	*config.SentFactor
}

// sentFactors are those that are configured, the strongest first.
func (a *App) sentFactors() (factors []sentFactor) {
	for _, f := range []sentFactor{{mfa.SMS, a.Factor.SMS}, {mfa.Voice, a.Factor.Voice}, {mfa.Email, a.Factor.Email}} {
		if f.SentFactor != nil {
			factors = append(factors, f)
		}
	}
	return factors
}

// sentMethods are their methods.
func (a *App) sentMethods() (methods []mfa.Method) {
	for _, f := range a.sentFactors() {
		methods = append(methods, f.method)
	}
	return methods
}

// passcodes are the factors, and the courier that brings their codes.
func (a *App) passcodes(stop <-chan struct{}) ([]passcode.Factor, *sender.Courier) {
	var factors []passcode.Factor
	routes := map[mfa.Method][]sender.Route{}
	for _, f := range a.sentFactors() {
		factors = append(factors, passcode.New(f.method, f.Prefixes))
		for _, name := range f.Senders {
			s := a.senders[name]
			countMessages(f.method, name, sender.Accepted).Add(0) // a counter that isn't there can't rise
			routes[f.method] = append(routes[f.method], sender.Route{Name: name, Sender: s.Sender(), Timeout: s.Patience()})
		}
	}
	return factors, sender.NewCourier(routes, countMessage, a.slog, stop)
}

// teller tells people by mail what has changed about their accounts; nil: nobody is told.
func (a *App) teller(service *signin.Service, texts *portal.Texts, stop <-chan struct{}) *notice.Teller {
	names := a.ChangeSenders()
	if len(names) == 0 {
		return nil
	}
	var routes []sender.Route
	for _, name := range names {
		s := a.senders[name]
		countMessages(noticeMessage, name, sender.Accepted).Add(0) // a counter that isn't there can't rise
		routes = append(routes, sender.Route{Name: name, Sender: s.Sender(), Timeout: s.Patience()})
	}
	t := notice.NewTeller()
	t.Users, t.Messages, t.Confirmed, t.Sink, t.Log = service.Users, service.Messages, service.MailAddresses, a.sink.write, a.slog
	// A courier of its own: codes must not wait behind mails that nobody waits for.
	t.Courier = sender.NewCourier(map[mfa.Method][]sender.Route{mfa.Email: routes}, func(r sender.Report) {
		countMessages(noticeMessage, r.Route, r.Result).Inc()
	}, a.slog, stop)
	t.Compose = func(m *mfa.Message, n notice.Notice, languages ...string) {
		texts.ComposeNotice(m, n, a.Help, a.country, languages...)
	}
	return t
}

// noticeMessage is what mails that tell of changes are called in metrics, beside the methods of codes.
const noticeMessage mfa.Method = "notice"

// messages counts what is sent.
func (a *App) messages() *throttle.Messages {
	l := a.MessageLimits
	limits := throttle.MessageLimits{User: l.User, Number: l.Number, Prefix: l.Prefix, Total: l.Total}
	if l.Off {
		limits = throttle.MessageLimits{}
	}
	return throttle.NewMessages(a.accounts.Store(), limits)
}

func countMessage(r sender.Report) {
	countMessages(r.Method, r.Route, r.Result).Inc()
}

func countMessages(m mfa.Method, route string, result sender.Result) prometheus.Counter {
	return messagesTotal.WithLabelValues(string(m), route, string(result))
}

// Interface guards
var (
	_ caddy.Provisioner = (*TwilioSender)(nil)
	_ senderModule      = (*TwilioSender)(nil)
	_ caddy.Provisioner = (*WebhookSender)(nil)
	_ senderModule      = (*WebhookSender)(nil)
	_ caddy.Provisioner = (*CommandSender)(nil)
	_ senderModule      = (*CommandSender)(nil)
	_ caddy.Provisioner = (*SMTPSender)(nil)
	_ senderModule      = (*SMTPSender)(nil)
)
