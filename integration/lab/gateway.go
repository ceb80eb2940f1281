package lab

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// Gateway stands in for a gateway of text messages and calls with Twilio's REST interface of 2010-04-01.
type Gateway struct {
	URL string
	SID string // of the account

	t    testing.TB
	mu   sync.Mutex
	sent []Sent
	does func(w http.ResponseWriter, r *http.Request) bool
}

// Sent is a request that has come.
type Sent struct {
	Method, Path, ContentType string
	User, Password            string // as HTTP Basic says
	Form                      url.Values
}

// GatewayToken is the token that the gateway wants.
const GatewayToken = "0123456789abcdef0123456789abcdef"

// NewGateway starts one. It ends with the test.
func NewGateway(t testing.TB) *Gateway {
	t.Helper()
	g := &Gateway{t: t, SID: "AC00000000000000000000000000000001"}
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	g.URL = server.URL
	return g
}

// Does has the gateway do something else: does says whether it has answered. nil: it works again.
func (g *Gateway) Does(does func(w http.ResponseWriter, r *http.Request) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.does = does
}

// Fails has it answer with a status.
func (g *Gateway) Fails(status int) {
	g.Does(func(w http.ResponseWriter, r *http.Request) bool {
		twilioError(w, status, 20000+status, "It does not work.")
		return true
	})
}

// Hangs has it take requests and not answer for so long.
func (g *Gateway) Hangs(d time.Duration) {
	g.Does(func(w http.ResponseWriter, r *http.Request) bool {
		select {
		case <-time.After(d):
		case <-r.Context().Done():
		}
		return false
	})
}

// Drops has it take a message and end the connection without an answer.
func (g *Gateway) Drops() {
	g.Does(func(w http.ResponseWriter, r *http.Request) bool {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			conn.Close()
		}
		return true
	})
}

// Sent are the requests that have come, oldest first.
func (g *Gateway) Sent() []Sent {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]Sent(nil), g.sent...)
}

var (
	resource     = regexp.MustCompile(`^/2010-04-01/Accounts/(AC[0-9a-f]{32})/(Messages|Calls)\.json$`)
	twilioNumber = regexp.MustCompile(`^\+[1-9][0-9]{6,14}$`)
	sixDigits    = regexp.MustCompile(`\b([0-9]{6})\b`)
	digits       = regexp.MustCompile(`[0-9](?:, [0-9]){5}`)
)

func twilioError(w http.ResponseWriter, status, code int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{"code": code, "message": message, "more_info": fmt.Sprintf("https://www.twilio.com/docs/errors/%d", code), "status": status})
}

// ServeHTTP answers as Twilio does.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		twilioError(w, http.StatusBadRequest, 20001, "The form can't be read.")
		return
	}
	sent := Sent{Method: r.Method, Path: r.URL.RequestURI(), ContentType: r.Header.Get("Content-Type"), Form: r.PostForm}
	sent.User, sent.Password, _ = r.BasicAuth()
	g.mu.Lock()
	g.sent = append(g.sent, sent)
	does := g.does
	g.mu.Unlock()
	if does != nil && does(w, r) {
		return
	}
	path := resource.FindStringSubmatch(r.URL.Path)
	form := r.PostForm
	switch {
	case sent.Password != GatewayToken || sent.User != g.SID:
		twilioError(w, http.StatusUnauthorized, 20003, "Authenticate")
		return
	case path == nil || path[1] != g.SID || r.Method != http.MethodPost:
		twilioError(w, http.StatusNotFound, 20404, "The requested resource "+r.URL.Path+" was not found")
		return
	case !twilioNumber.MatchString(form.Get("To")):
		twilioError(w, http.StatusBadRequest, 21211, "The 'To' number "+form.Get("To")+" is not a valid phone number.")
		return
	case form.Get("From") == "" && form.Get("MessagingServiceSid") == "":
		twilioError(w, http.StatusBadRequest, 21603, "A 'From' phone number is required.")
		return
	}
	answer := map[string]any{"account_sid": g.SID, "to": form.Get("To"), "from": form.Get("From"), "status": "queued", "uri": r.URL.Path, "price": nil}
	switch path[2] {
	case "Messages":
		if form.Get("Body") == "" || len(form.Get("Body")) > 1600 {
			twilioError(w, http.StatusBadRequest, 21602, "Message body is required.")
			return
		}
		answer["sid"], answer["body"] = "SM00000000000000000000000000000002", form.Get("Body")
	case "Calls":
		if _, err := TwiML(form.Get("Twiml")); err != nil && form.Get("Url") == "" {
			twilioError(w, http.StatusBadRequest, 21205, "Url or Twiml: "+err.Error())
			return
		}
		answer["sid"] = "CA00000000000000000000000000000003"
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	json.NewEncoder(w).Encode(answer)
}

// TwiML reads the verbs of a response, each with its attributes and its text, in the form <Say language="en-US">text.
func TwiML(text string) ([]string, error) {
	var verbs []string
	depth := 0
	for d := xml.NewDecoder(strings.NewReader(text)); ; {
		token, err := d.Token()
		if err == io.EOF {
			if len(verbs) == 0 {
				return nil, fmt.Errorf("it says nothing")
			}
			return verbs, nil
		}
		if err != nil {
			return nil, err
		}
		switch e := token.(type) {
		case xml.StartElement:
			depth++
			if depth == 1 && e.Name.Local != "Response" {
				return nil, fmt.Errorf("it begins with %s", e.Name.Local)
			}
			if depth > 1 {
				attrs := map[string]string{}
				for _, a := range e.Attr {
					attrs[a.Name.Local] = a.Value
				}
				text, _ := json.Marshal(attrs) // sorted by name
				verbs = append(verbs, e.Name.Local+string(text))
			}
		case xml.CharData:
			if depth == 2 {
				verbs[len(verbs)-1] += string(e)
			}
		case xml.EndElement:
			depth--
		}
	}
}

// Code is the code of the newest message or call, to a number.
func (g *Gateway) Code(t testing.TB, to string) string {
	t.Helper()
	var code string
	Eventually(t, 5*time.Second, "a code for "+to, func() bool {
		sent := g.Sent()
		for i := len(sent) - 1; i >= 0 && code == ""; i-- {
			form := sent[i].Form
			if form.Get("To") != to {
				continue
			}
			if m := sixDigits.FindString(form.Get("Body")); m != "" {
				code = m
			} else if m := digits.FindString(form.Get("Twiml")); m != "" {
				code = strings.ReplaceAll(m, ", ", "")
			}
		}
		return code != ""
	})
	return code
}

// Config is what stands in the block `mfa` to have codes sent by this gateway. more stands in the sender.
func (g *Gateway) Config(more string) string {
	g.t.Helper()
	file := g.t.TempDir() + "/token"
	if err := os.WriteFile(file, []byte(GatewayToken), 0o600); err != nil {
		g.t.Fatal(err)
	}
	return fmt.Sprintf(`sender gateway twilio {
			account_sid %s
			auth_token {file.%s}
			from +31970000000
			url %s
			%s
		}
		factor sms {
			sender gateway
		}
		factor voice {
			sender gateway
		}`, g.SID, file, g.URL, more)
}
