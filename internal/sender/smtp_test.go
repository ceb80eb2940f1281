package sender

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/http/httptest"
	netmail "net/mail"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// mailServer is a mail server that keeps what it gets (RFC 5321). Its fields say how it misbehaves.
type mailServer struct {
	t      *testing.T
	listen net.Listener
	tls    *tls.Config
	roots  *x509.CertPool

	plain    bool              // offers no STARTTLS
	implicit bool              // talks TLS from the beginning
	answers  map[string]string // by command: in place of what it would say; "": closes the connection

	mu       sync.Mutex
	commands []string
	mails    []string
	auth     string
}

func newMailServer(t *testing.T) *mailServer {
	t.Helper()
	// A certificate for 127.0.0.1 that somebody else has made.
	certified := httptest.NewTLSServer(http.NotFoundHandler())
	certified.Close()
	s := &mailServer{t: t, tls: certified.TLS.Clone(), roots: x509.NewCertPool(), answers: map[string]string{}}
	s.tls.NextProtos = nil
	s.roots.AddCert(certified.Certificate())
	var err error
	if s.listen, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.listen.Close() })
	go func() {
		for {
			conn, err := s.listen.Accept()
			if err != nil {
				return
			}
			go s.serve(conn)
		}
	}()
	return s
}

func (s *mailServer) sender() *SMTP {
	return &SMTP{Host: "127.0.0.1", Port: s.listen.Addr().(*net.TCPAddr).Port, Config: &tls.Config{RootCAs: s.roots}, From: "Example <mfa@example.com>"}
}

func (s *mailServer) serve(conn net.Conn) {
	defer func() { conn.Close() }()
	s.mu.Lock()
	plain, implicit := s.plain, s.implicit
	s.mu.Unlock()
	secure := false
	if implicit {
		conn, secure = tls.Server(conn, s.tls), true
	}
	r := bufio.NewReader(conn)
	say := func(line string) { io.WriteString(conn, line+"\r\n") }
	say("220 sink")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
		s.mu.Lock()
		s.commands = append(s.commands, line)
		answer, told := s.answers[verb]
		s.mu.Unlock()
		if told {
			if answer == "" {
				return
			}
			say(answer)
			continue
		}
		switch verb {
		case "EHLO", "HELO":
			extensions := "250-sink\r\n250-ENHANCEDSTATUSCODES\r\n"
			if !secure && !plain {
				extensions += "250-STARTTLS\r\n"
			}
			say(extensions + "250 AUTH PLAIN")
		case "STARTTLS":
			say("220 go on")
			conn, secure = tls.Server(conn, s.tls), true
			r = bufio.NewReader(conn)
		case "AUTH":
			words := strings.Fields(line)
			raw, _ := base64.StdEncoding.DecodeString(words[len(words)-1])
			s.mu.Lock()
			s.auth = fmt.Sprintf("%q over TLS: %v", raw, secure)
			s.mu.Unlock()
			say("235 welcome")
		case "DATA":
			say("354 go on")
			var mail strings.Builder
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				mail.WriteString(strings.TrimPrefix(line, "."))
			}
			s.mu.Lock()
			s.mails = append(s.mails, mail.String())
			answer, told := s.answers["."]
			s.mu.Unlock()
			if told && answer == "" {
				return
			}
			if !told {
				answer = "250 2.0.0 kept"
			}
			say(answer)
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 2.0.0 fine")
		}
	}
}

// got gives the one mail that has come.
func (s *mailServer) got() *netmail.Message {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.mails) != 1 {
		s.t.Fatalf("%d mails have come", len(s.mails))
	}
	m, err := netmail.ReadMessage(strings.NewReader(s.mails[0]))
	if err != nil {
		s.t.Fatalf("%v\n%s", err, s.mails[0])
	}
	return m
}

// parts gives the bodies of a mail by their type.
func parts(t *testing.T, m *netmail.Message) map[string]string {
	t.Helper()
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/alternative" {
		t.Fatalf("content type %q: %v", m.Header.Get("Content-Type"), err)
	}
	found, order := map[string]string{}, ""
	for r := multipart.NewReader(m.Body, params["boundary"]); ; {
		p, err := r.NextRawPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		kind, params, err := mime.ParseMediaType(p.Header.Get("Content-Type"))
		if err != nil || !strings.EqualFold(params["charset"], "utf-8") {
			t.Fatalf("part %q: %v", p.Header.Get("Content-Type"), err)
		}
		var body io.Reader = p
		if p.Header.Get("Content-Transfer-Encoding") == "quoted-printable" {
			body = quotedprintable.NewReader(p)
		}
		raw, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		found[kind] = strings.ReplaceAll(string(raw), "\r\n", "\n")
		order += kind + " "
	}
	if order != "text/plain text/html " { // RFC 2046, section 5.1.4: the plainest first
		t.Errorf("parts %s", order)
	}
	return found
}

func letter() *mfa.Message {
	return &mfa.Message{
		ID: "0f3a9c", Method: mfa.Email, To: "alice@example.com", Code: "123456", Language: "nl", Subject: "Uw inlogcode – één keer",
		Text: "Uw code is 123456.\n.\nGeef hem aan niemand.\n", HTML: "<!doctype html><p>Uw code is <b>123456</b>.</p>",
	}
}

func TestMail(t *testing.T) {
	for reason, tc := range map[string]struct {
		server func(*mailServer)
		sender func(*SMTP)
	}{
		"STARTTLS":              {func(*mailServer) {}, func(*SMTP) {}},
		"implicit TLS":          {func(s *mailServer) { s.implicit = true }, func(s *SMTP) { s.TLS = ImplicitTLS }},
		"on this machine":       {func(s *mailServer) { s.plain = true }, func(s *SMTP) { s.TLS = NoTLS }},
		"with a password":       {func(*mailServer) {}, func(s *SMTP) { s.Username, s.Password = "mfa", "s3cret" }},
		"RSET fails afterwards": {func(s *mailServer) { s.answers["RSET"] = "" }, func(*SMTP) {}},
		"QUIT fails afterwards": {func(s *mailServer) { s.answers["QUIT"] = "" }, func(*SMTP) {}},
	} {
		t.Run(reason, func(t *testing.T) {
			server := newMailServer(t)
			server.mu.Lock()
			tc.server(server)
			server.mu.Unlock()
			s := server.sender()
			tc.sender(s)
			if err := s.Send(t.Context(), letter()); err != nil {
				t.Fatal(err)
			}
			m := server.got()
			subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
			if err != nil || subject != letter().Subject {
				t.Errorf("subject %q, %v", subject, err)
			}
			for name, want := range map[string]string{
				"From": `"Example" <mfa@example.com>`, "To": "<alice@example.com>", "Message-Id": "<0f3a9c@example.com>", "Auto-Submitted": "auto-generated",
				"Mime-Version": "1.0", "Content-Language": "nl", "User-Agent": "", "X-Mailer": "",
			} {
				if got := m.Header.Get(name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			if _, err := m.Header.Date(); err != nil {
				t.Errorf("date: %v", err)
			}
			found := parts(t, m)
			if found["text/plain"] != letter().Text || found["text/html"] != letter().HTML {
				t.Errorf("bodies %q", found)
			}
			server.mu.Lock()
			defer server.mu.Unlock()
			if s.Username != "" && server.auth != `"\x00mfa\x00s3cret" over TLS: true` {
				t.Errorf("authenticated as %s", server.auth)
			}
		})
	}
}

func TestMailThatIsNotSent(t *testing.T) {
	for reason, tc := range map[string]struct {
		server  func(*mailServer)
		sender  func(*SMTP)
		message func(*mfa.Message)
		certain bool
		came    int
	}{
		"the server offers no TLS":           {func(s *mailServer) { s.plain = true }, nil, nil, true, 0},
		"nobody vouches for its certificate": {nil, func(s *SMTP) { s.Config = nil }, nil, true, 0},
		"nobody listens":                     {func(s *mailServer) { s.listen.Close() }, nil, nil, true, 0},
		"without TLS to another machine":     {nil, func(s *SMTP) { s.TLS, s.Host = NoTLS, "192.0.2.1" }, nil, true, 0},
		"the password is wrong":              {func(s *mailServer) { s.answers["AUTH"] = "535 5.7.8 no" }, func(s *SMTP) { s.Username, s.Password = "mfa", "s3cret" }, nil, true, 0},
		"nobody has that address":            {func(s *mailServer) { s.answers["RCPT"] = "550 5.1.1 <alice@example.com> unknown" }, nil, nil, true, 0},
		"it is refused for what it says":     {func(s *mailServer) { s.answers["."] = "554 5.7.1 spam" }, nil, nil, true, 1},
		"it is put off":                      {func(s *mailServer) { s.answers["."] = "451 4.7.1 greylisted" }, nil, nil, true, 1},
		"the answer is lost":                 {func(s *mailServer) { s.answers["."] = "" }, nil, nil, false, 1},
		"a second header in the address":     {nil, nil, func(m *mfa.Message) { m.To = "alice@example.com\r\nBcc: mallory@example.net" }, true, 0},
		"a second recipient":                 {nil, nil, func(m *mfa.Message) { m.To = "alice@example.com, mallory@example.net" }, true, 0},
		"a text message":                     {nil, nil, func(m *mfa.Message) { m.Method = mfa.SMS }, true, 0},
	} {
		t.Run(reason, func(t *testing.T) {
			server, m := newMailServer(t), letter()
			s := server.sender()
			if tc.server != nil {
				server.mu.Lock()
				tc.server(server)
				server.mu.Unlock()
			}
			if tc.sender != nil {
				tc.sender(s)
			}
			if tc.message != nil {
				tc.message(m)
			}
			err := s.Send(t.Context(), m)
			if err == nil || errors.Is(err, mfa.ErrNotAccepted) != tc.certain {
				t.Errorf("error %v", err)
			}
			if err != nil && (strings.Contains(err.Error(), "alice") || strings.Contains(err.Error(), "123456") || strings.Contains(err.Error(), "s3cret")) && tc.message == nil {
				t.Errorf("the error holds what is secret: %v", err)
			}
			server.mu.Lock()
			defer server.mu.Unlock()
			if len(server.mails) != tc.came {
				t.Errorf("%d mails have come", len(server.mails))
			}
		})
	}
}

// TestNothingOfAMessageBecomesAHeader tries what a name or an application might hold.
func TestNothingOfAMessageBecomesAHeader(t *testing.T) {
	sent := 0
	for _, text := range []string{"x\r\nBcc: mallory@example.net", "x\nBcc: mallory@example.net", "x\rBcc: mallory@example.net", "x\r\n\r\n<b>body</b>", "x\x00Bcc: mallory@example.net", "x\u2028Bcc: mallory@example.net"} {
		server, m := newMailServer(t), letter()
		m.Subject, m.Text, m.Language = text, "Hello "+text, text
		if err := server.sender().Send(t.Context(), m); err != nil {
			continue // refused, which is as good
		}
		sent++
		got := server.got()
		if got.Header.Get("Bcc") != "" || got.Header.Get("To") != "<alice@example.com>" {
			t.Errorf("%q: headers %v", text, got.Header)
		}
		parts(t, got)
		server.mu.Lock()
		commands := slices.Clone(server.commands)
		server.mu.Unlock()
		for _, c := range commands {
			if strings.HasPrefix(c, "RCPT") && !strings.Contains(c, "alice@example.com") {
				t.Errorf("%q: %s", text, c)
			}
		}
	}
	if sent == 0 {
		t.Error("no mail was looked at")
	}
}
