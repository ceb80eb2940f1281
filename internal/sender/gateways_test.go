package sender

import (
	"bufio"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

func twilio(url string) *Twilio {
	return &Twilio{URL: url, AccountSID: "AC0123456789abcdef0123456789abcdef", AuthToken: "tok:en", From: "+31970000000"}
}

func TestTwilioRequests(t *testing.T) {
	for reason, tc := range map[string]struct {
		change func(*Twilio, *mfa.Message)
		path   string
		user   string
		form   map[string]string
	}{
		"message": {func(*Twilio, *mfa.Message) {}, "Messages", "AC0123456789abcdef0123456789abcdef", map[string]string{"To": "+31612345678", "From": "+31970000000", "Body": "123456 is your code."}},
		"message through a service, with an API key": {func(tw *Twilio, _ *mfa.Message) { tw.Service, tw.Key = "MG01", "SK01" }, "Messages", "SK01", map[string]string{"To": "+31612345678", "MessagingServiceSid": "MG01", "Body": "123456 is your code."}},
		"call": {func(tw *Twilio, m *mfa.Message) {
			m.Method, m.Language, m.Text, tw.Voice = mfa.Voice, "nl-NL", "Uw code is: 1, 2. \"<&>\"", "Polly.Lotte"
		}, "Calls", "AC0123456789abcdef0123456789abcdef", map[string]string{
			"To": "+31612345678", "From": "+31970000000",
			"Twiml": `<?xml version="1.0" encoding="UTF-8"?><Response><Pause length="1"></Pause><Say voice="Polly.Lotte" language="nl-NL">Uw code is: 1, 2. &#34;&lt;&amp;&gt;&#34;</Say></Response>`,
		}},
	} {
		t.Run(reason, func(t *testing.T) {
			var got *http.Request
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if err := r.ParseForm(); err != nil {
					t.Error(err)
				}
				got = r
				w.WriteHeader(http.StatusCreated)
			}))
			defer server.Close()
			tw, m := twilio(server.URL+"/"), sms()
			tc.change(tw, m)
			if err := tw.Send(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			if want := "/2010-04-01/Accounts/AC0123456789abcdef0123456789abcdef/" + tc.path + ".json"; got.Method != "POST" || got.URL.String() != want {
				t.Errorf("%s %s, want POST %s", got.Method, got.URL, want)
			}
			if user, password, _ := got.BasicAuth(); user != tc.user || password != "tok:en" {
				t.Errorf("as %s:%s", user, password)
			}
			if len(got.PostForm) != len(tc.form) {
				t.Errorf("form %v", got.PostForm)
			}
			for name, want := range tc.form {
				if v := got.PostForm.Get(name); v != want {
					t.Errorf("%s is %q, want %q", name, v, want)
				}
			}
			if twiml := got.PostForm.Get("Twiml"); twiml != "" {
				if err := xml.Unmarshal([]byte(twiml), new(struct{})); err != nil {
					t.Error(err)
				}
			}
		})
	}
	m := sms()
	m.Method = mfa.Email
	if err := twilio("http://127.0.0.1:1").Send(t.Context(), m); !errors.Is(err, mfa.ErrNotAccepted) {
		t.Errorf("a mail: %v", err)
	}
}

// TestWhatAGatewayDoesIsTakenForWhatItMeans runs the same misfortunes for both that speak HTTP.
func TestWhatAGatewayDoesIsTakenForWhatItMeans(t *testing.T) {
	for reason, tc := range map[string]struct {
		handle   http.HandlerFunc
		accepted bool
		certain  bool // that it was not accepted
	}{
		"200": {func(w http.ResponseWriter, r *http.Request) {}, true, false},
		"201": {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(201) }, true, false},
		"400, number is not one": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(400)
			io.WriteString(w, `{"code":21211,"message":"The 'To' number +31612345678 is not a valid phone number."}`)
		}, false, true},
		"401, wrong token":         {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(401) }, false, true},
		"408, took too long":       {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(408) }, false, false},
		"429, too many":            {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(429) }, false, true},
		"500":                      {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) }, false, false},
		"502, from one in between": {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(502) }, false, false},
		"503":                      {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(503) }, false, false},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, false, false},
		"accepted, answer breaks off": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.WriteHeader(201)
			io.WriteString(w, "{")
		}, true, false},
		"answer is lost": {func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				panic(err)
			}
			conn.Close()
		}, false, false},
		"endless answer": {func(w http.ResponseWriter, r *http.Request) {
			for range 10_000 {
				if _, err := io.WriteString(w, strings.Repeat("x", 1<<10)); err != nil {
					return
				}
			}
		}, true, false},
	} {
		t.Run(reason, func(t *testing.T) {
			var requests atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				requests.Add(1)
				io.Copy(io.Discard, r.Body)
				tc.handle(w, r)
			}))
			defer server.Close()
			hook, err := NewWebhook(server.URL+"/key-in-the-path", nil, "", "")
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range []mfa.Sender{twilio(server.URL), hook} {
				requests.Store(0)
				err := s.Send(t.Context(), sms())
				if (err == nil) != tc.accepted || errors.Is(err, mfa.ErrNotAccepted) != tc.certain {
					t.Errorf("%T: %v", s, err)
				}
				if n := requests.Load(); n != 1 {
					t.Errorf("%T: %d requests", s, n)
				}
				if err != nil && (strings.Contains(err.Error(), "612345678") || strings.Contains(err.Error(), "key-in-the-path") || strings.Contains(err.Error(), "123456")) {
					t.Errorf("%T: the error holds what is secret: %v", s, err)
				}
			}
		})
	}
}

func TestAGatewayThatIsNotReachedHasNotAccepted(t *testing.T) {
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	untrusted := httptest.NewTLSServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = nil
	defer untrusted.Close()
	for reason, url := range map[string]string{
		"nobody listens":               closed.URL,
		"a certificate nobody vouches": untrusted.URL,
		"no such host":                 "http://gateway.invalid",
		"no address":                   "http://[::1",
	} {
		if err := twilio(url).Send(t.Context(), sms()); !errors.Is(err, mfa.ErrNotAccepted) {
			t.Errorf("%s: %v", reason, err)
		}
	}
}

// TestAGatewayThatTakesTheRequestAndHangs is one whose answer nobody knows: it may have sent.
func TestAGatewayThatTakesTheRequestAndHangs(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var connections atomic.Int64
	got := make(chan string, 4)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			go func() {
				defer conn.Close()
				r, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil {
					return
				}
				body, _ := io.ReadAll(r.Body)
				got <- string(body)
				conn.Read(make([]byte, 1)) // until the other side gives up
			}()
		}
	}()
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-got; cancel() }()
	if err := twilio("http://"+l.Addr().String()).Send(ctx, sms()); err == nil || errors.Is(err, mfa.ErrNotAccepted) {
		t.Errorf("error %v", err)
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

func TestWebhook(t *testing.T) {
	var body, key, auth, contentType string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		body, key, auth, contentType = string(raw), r.Header.Get("Idempotency-Key"), r.Header.Get("Authorization"), r.Header.Get("Content-Type")
	}))
	defer server.Close()
	m := sms()
	m.Text = "123456 is your \"code\".\n\n@hr.example.com #123456"
	hook, err := NewWebhook(server.URL, http.Header{"Authorization": {"Bearer secret"}}, "", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := hook.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	var got map[string]string
	if err := json.Unmarshal([]byte(body), &got); err != nil || got["to"] != m.To || got["text"] != m.Text || got["code"] != m.Code || got["method"] != "sms" || got["id"] != m.ID {
		t.Errorf("%v: %s", err, body)
	}
	if key != m.ID || auth != "Bearer secret" || contentType != "application/json" {
		t.Errorf("headers %q, %q, %q", key, auth, contentType)
	}
	if hook, err = NewWebhook(server.URL, nil, "application/x-www-form-urlencoded", `recipient={{query .To}}&message={{query .Text}}`); err != nil {
		t.Fatal(err)
	}
	if err := hook.Send(t.Context(), m); err != nil || body != "recipient=%2B31612345678&message=123456+is+your+%22code%22.%0A%0A%40hr.example.com+%23123456" {
		t.Errorf("%v: %s", err, body)
	}

	for reason, template := range map[string]string{
		"no template":                  "{{",
		"a field that there is not":    "{{json .Password}}",
		"a function that there is not": "{{env \"HOME\"}}",
		"quotes that break":            `{"text":"{{.Text}}"}`,
		"writes without end":           `{{define "a"}}{{range "x"}}{{end}}{{json .Text}}{{template "a" .}}{{end}}{{template "a" .}}`,
	} {
		if _, err := NewWebhook(server.URL, nil, "", template); err == nil {
			t.Errorf("%s: the template is taken", reason)
		}
	}
	if _, err := NewWebhook(server.URL, nil, "application/x-www-form-urlencoded", "text={{.Text}}"); err == nil {
		t.Error("a form whose values are not escaped is taken")
	}
}

func FuzzWebhookTemplate(f *testing.F) {
	for _, seed := range []string{DefaultBody, `{"to":{{json .To}}}`, "{{", `{{query .Text}}`, `{{range .To}}x{{end}}`, `{{.Nothing}}`} {
		f.Add(seed, "a \"b\"\r\n\x00é")
	}
	f.Fuzz(func(t *testing.T, body, text string) {
		hook, err := NewWebhook("http://127.0.0.1", nil, "text/plain", body)
		if err != nil {
			return
		}
		m := sms()
		m.Text = text
		written, err := hook.write(m)
		if err == nil && body == DefaultBody && !json.Valid([]byte(written)) {
			t.Fatalf("%q makes no JSON: %s", text, written)
		}
		if len(written) > maxAnswer {
			t.Fatalf("%d bytes", len(written))
		}
	})
}

func TestCommand(t *testing.T) {
	script := func(text string) *Command {
		t.Helper()
		path := filepath.Join(t.TempDir(), "send")
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		return &Command{Path: path}
	}
	t.Setenv("MFA_SECRET", "nobody's business")
	out := filepath.Join(t.TempDir(), "out")
	t.Run("accepts", func(t *testing.T) {
		c := script(`cat >"$1"; printf '%s' "$*|$MFA_SECRET|" >"$1.args"`)
		c.Args = []string{out, "{{.To}}"}
		m := sms()
		m.Text = "'; rm -rf / #\n$(id)"
		if err := c.Send(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(out)
		var got map[string]string
		if err != nil || json.Unmarshal(raw, &got) != nil || got["text"] != m.Text || got["to"] != m.To || got["code"] != "123456" {
			t.Errorf("%v: %s", err, raw)
		}
		if args, err := os.ReadFile(out + ".args"); err != nil || string(args) != out+" {{.To}}||" {
			t.Errorf("%v: arguments %s", err, args)
		}
	})
	t.Run("does not accept", func(t *testing.T) {
		err := script(`read line; echo "no modem for $line" >&2; exit 3`).Send(t.Context(), sms())
		if !errors.Is(err, mfa.ErrNotAccepted) || !strings.Contains(err.Error(), "status 3: no modem") || strings.Contains(err.Error(), "123456") || strings.Contains(err.Error(), "612345678") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("does not exist", func(t *testing.T) {
		if err := (&Command{Path: "/nonexistent/send"}).Send(t.Context(), sms()); !errors.Is(err, mfa.ErrNotAccepted) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("is ended by a signal", func(t *testing.T) {
		if err := script(`kill -9 $$`).Send(t.Context(), sms()); err == nil || errors.Is(err, mfa.ErrNotAccepted) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("takes too long", func(t *testing.T) {
		began := filepath.Join(t.TempDir(), "began")
		takes := script(`: >` + began + `; exec sleep 600`)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { // its time is over when it has begun
			for {
				if _, err := os.Stat(began); err == nil || ctx.Err() != nil {
					cancel()
					return
				}
				time.Sleep(time.Millisecond)
			}
		}()
		if err := takes.Send(ctx, sms()); err == nil || errors.Is(err, mfa.ErrNotAccepted) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("talks without end", func(t *testing.T) {
		if err := script(`head -c 10000000 /dev/zero; exit 0`).Send(t.Context(), sms()); err != nil {
			t.Errorf("error %v", err)
		}
	})
}
