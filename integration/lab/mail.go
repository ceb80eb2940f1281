package lab

import (
	"bufio"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"strings"
	"sync"
	"testing"
	"time"
)

// MailServer is a mail server that keeps what it gets (RFC 5321), and talks without encryption.
type MailServer struct {
	Address string // host:port

	mu    sync.Mutex
	mails []Mail
}

// Mail is one that has come.
type Mail struct {
	To    []string // of the envelope
	Text  string   // as it came
	parts map[string]string
	*mail.Message
}

// Part is what a mail says in a media type: text/plain, text/html.
func (m *Mail) Part(kind string) string { return m.parts[kind] }

// NewMailServer starts one. It ends with the test.
func NewMailServer(t testing.TB) *MailServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	s := &MailServer{Address: l.Addr().String()}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(conn)
		}
	}()
	return s
}

func (s *MailServer) serve(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	say := func(line string) { io.WriteString(conn, line+"\r\n") }
	var to []string
	say("220 sink")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSpace(line)
		switch verb := strings.ToUpper(strings.Fields(line + " x")[0]); verb {
		case "RCPT":
			to = append(to, strings.Trim(line[strings.IndexByte(line, ':')+1:], " <>"))
			say("250 fine")
		case "DATA":
			say("354 go on")
			var text strings.Builder
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				text.WriteString(strings.TrimPrefix(line, "."))
			}
			if m, err := ReadMail(text.String()); err == nil {
				m.To, to = to, nil
				s.mu.Lock()
				s.mails = append(s.mails, *m)
				s.mu.Unlock()
				say("250 kept")
			} else {
				say("554 " + err.Error())
			}
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 fine")
		}
	}
}

// ReadMail takes a mail of several parts apart.
func ReadMail(text string) (*Mail, error) {
	m, err := mail.ReadMessage(strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	out := &Mail{Text: text, Message: m, parts: map[string]string{}}
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		return nil, err
	}
	for r := multipart.NewReader(m.Body, params["boundary"]); ; {
		p, err := r.NextRawPart()
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		kind, _, err := mime.ParseMediaType(p.Header.Get("Content-Type"))
		if err != nil {
			return nil, err
		}
		var body io.Reader = p
		if p.Header.Get("Content-Transfer-Encoding") == "quoted-printable" {
			body = quotedprintable.NewReader(p)
		}
		raw, err := io.ReadAll(body)
		if err != nil {
			return nil, err
		}
		out.parts[kind] = string(raw)
	}
}

// Mails are those that have come, oldest first.
func (s *MailServer) Mails() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Mail(nil), s.mails...)
}

// Code is the code of the newest mail to an address.
func (s *MailServer) Code(t testing.TB, to string) string {
	t.Helper()
	var code string
	Eventually(t, 5*time.Second, "a mail to "+to, func() bool {
		mails := s.Mails()
		for i := len(mails) - 1; i >= 0; i-- {
			if len(mails[i].To) == 1 && mails[i].To[0] == to {
				code = sixDigits.FindString(mails[i].Part("text/plain"))
				return code != ""
			}
		}
		return false
	})
	return code
}

// Config is what stands in the block `mfa` to have codes sent by this server.
func (s *MailServer) Config() string {
	return "sender mailserver smtp " + s.Address + " {\n\t\t\ttls none\n\t\t\tfrom \"Example <mfa@example.com>\"\n\t\t}\n\t\tfactor email {\n\t\t\tsender mailserver\n\t\t}"
}
