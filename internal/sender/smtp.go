package sender

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	netmail "net/mail"
	"strings"
	"time"

	"github.com/wneessen/go-mail"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// TLSMode is how the way to a mail server is encrypted.
type TLSMode string

// The modes. The zero mode is StartTLS.
const (
	StartTLS    TLSMode = "starttls" // required: a server that doesn't offer it gets nothing
	ImplicitTLS TLSMode = "implicit"
	NoTLS       TLSMode = "none" // for a server on this machine
)

// SMTP hands mails to a mail server.
type SMTP struct {
	Host     string
	Port     int
	TLS      TLSMode
	Config   *tls.Config // roots; nil: the system's
	Username string      // empty: no authentication
	Password string
	From     string // mail address, a name may stand before it
}

// Send hands the mail over.
func (s *SMTP) Send(ctx context.Context, m *mfa.Message) error {
	msg, err := s.message(m)
	if err != nil {
		return fmt.Errorf("%w: writing mail: %w", mfa.ErrNotAccepted, err)
	}
	client, err := s.client(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", mfa.ErrNotAccepted, err)
	}
	err = client.DialAndSendWithContext(ctx, msg)
	var failed *mail.SendError
	switch {
	case err == nil, msg.IsDelivered():
		return nil // what goes wrong after the server has taken it is of no interest
	case !errors.As(err, &failed):
		return fmt.Errorf("%w: %w", mfa.ErrNotAccepted, err) // it has not come to sending
	case failed.ErrorCode() >= 400:
		return fmt.Errorf("%w: %s: the server answers %d %s", mfa.ErrNotAccepted, failed.Reason, failed.ErrorCode(), failed.EnhancedStatusCode())
	case failed.Reason == mail.ErrSMTPDataClose, failed.Reason == mail.ErrWriteContent, failed.Reason == mail.ErrAmbiguous:
		return fmt.Errorf("%s: the connection has ended", failed.Reason) // its words hold the address
	}
	return fmt.Errorf("%w: %s", mfa.ErrNotAccepted, failed.Reason)
}

func (s *SMTP) client(ctx context.Context) (*mail.Client, error) {
	patience := 10 * time.Second
	if deadline, ok := ctx.Deadline(); ok {
		patience = max(time.Until(deadline), time.Millisecond)
	}
	settings := s.Config.Clone()
	if settings == nil {
		settings = &tls.Config{}
	}
	settings.MinVersion, settings.ServerName = tls.VersionTLS12, s.Host
	options := []mail.Option{mail.WithPort(s.Port), mail.WithTimeout(patience), mail.WithoutNoop(), mail.WithoutRset(), mail.WithoutSMTPUTF8(), mail.WithTLSConfig(settings)}
	switch s.TLS {
	case ImplicitTLS:
		options = append(options, mail.WithSSL())
	case NoTLS:
		if ip := net.ParseIP(s.Host); s.Host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return nil, errors.New("a code is not sent without encryption to another machine")
		}
		options = append(options, mail.WithTLSPolicy(mail.NoTLS))
	default:
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory))
	}
	if s.Username != "" {
		options = append(options, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(s.Username), mail.WithPassword(s.Password))
	}
	client, err := mail.NewClient(s.Host, options...)
	if err != nil {
		return nil, fmt.Errorf("setting up mail: %w", err)
	}
	return client, nil
}

// message writes the mail, in text and in HTML. Nothing of the person stands in a header but the address.
func (s *SMTP) message(m *mfa.Message) (*mail.Msg, error) {
	if m.Method != mfa.Email {
		return nil, fmt.Errorf("a mail server takes mails, no %s", m.Method)
	}
	msg := mail.NewMsg(mail.WithNoDefaultUserAgent())
	if err := msg.From(s.From); err != nil {
		return nil, err
	}
	if err := msg.To(m.To); err != nil {
		return nil, err
	}
	msg.Subject(m.Subject)
	msg.SetDate()
	msg.SetMessageIDWithValue(m.ID + "@" + domain(s.From))
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: nobody's holiday answers it
	msg.SetGenHeader("Content-Language", m.Language)
	msg.SetBodyString(mail.TypeTextPlain, m.Text)
	if m.HTML != "" {
		msg.AddAlternativeString(mail.TypeTextHTML, m.HTML)
	}
	return msg, nil
}

// domain is that of a mail address, behind a name or not.
func domain(address string) string {
	parsed, err := netmail.ParseAddress(address)
	if err != nil {
		return "localhost"
	}
	return parsed.Address[strings.LastIndexByte(parsed.Address, '@')+1:]
}

var _ mfa.Sender = (*SMTP)(nil)
