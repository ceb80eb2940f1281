package sender

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// TwilioURL is where Twilio's own interface is.
const TwilioURL = "https://api.twilio.com"

// Twilio sends text messages and makes calls by Twilio's REST API of 2010-04-01, which others offer too. It has no way to say that a
// request repeats another one, so that none is ever repeated.
type Twilio struct {
	URL        string // scheme and host; empty: TwilioURL
	AccountSID string
	Key        string // SID of an API key; empty: AuthToken is the account's
	AuthToken  string
	From       string // number, short code or name that messages and calls come from,
	Service    string // or SID of a messaging service, for messages

	// Voice is the voice that reads, as in <Say voice="…">; empty: the gateway's own.
	Voice string
}

// Send hands over a text message, or a call that reads the text out.
func (t *Twilio) Send(ctx context.Context, m *mfa.Message) error {
	form := url.Values{"To": {m.To}}
	resource := "Messages"
	switch m.Method {
	case mfa.SMS:
		form.Set("Body", m.Text)
		if t.Service != "" {
			form.Set("MessagingServiceSid", t.Service)
		} else {
			form.Set("From", t.From)
		}
	case mfa.Voice:
		resource = "Calls"
		twiml, err := t.twiml(m)
		if err != nil {
			return fmt.Errorf("%w: %w", mfa.ErrNotAccepted, err)
		}
		form.Set("From", t.From)
		form.Set("Twiml", twiml)
	default:
		return fmt.Errorf("%w: the gateway sends text messages and makes calls, no %s", mfa.ErrNotAccepted, m.Method)
	}
	base := t.URL
	if base == "" {
		base = TwilioURL
	}
	user := t.Key
	if user == "" {
		user = t.AccountSID
	}
	address := strings.TrimSuffix(base, "/") + "/2010-04-01/Accounts/" + url.PathEscape(t.AccountSID) + "/" + resource + ".json"
	status, answer, err := post(ctx, address, form.Encode(), func(r *http.Request) {
		r.SetBasicAuth(user, t.AuthToken)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Accept", "application/json")
	})
	if err != nil {
		return err
	}
	return judge(status, detail(answer))
}

// detail is Twilio's number of an error. The words behind it may repeat the number that was dialled.
func detail(answer []byte) string {
	var e struct {
		Code int `json:"code"`
	}
	if json.Unmarshal(answer, &e) != nil || e.Code == 0 {
		return ""
	}
	return fmt.Sprintf(" (error %d)", e.Code)
}

// Elements of TwiML.
type (
	response struct {
		XMLName xml.Name `xml:"Response"`
		Verbs   []any
	}
	say struct {
		XMLName  xml.Name `xml:"Say"`
		Voice    string   `xml:"voice,attr,omitempty"`
		Language string   `xml:"language,attr,omitempty"`
		Text     string   `xml:",chardata"`
	}
	pause struct {
		XMLName xml.Name `xml:"Pause"`
		Length  int      `xml:"length,attr"`
	}
)

// twiml says the text after a moment, in which the phone is brought to an ear.
func (t *Twilio) twiml(m *mfa.Message) (string, error) {
	text, err := xml.Marshal(response{Verbs: []any{pause{Length: 1}, say{Voice: t.Voice, Language: m.Language, Text: m.Text}}})
	if err != nil {
		return "", fmt.Errorf("writing TwiML: %w", err)
	}
	return xml.Header[:len(xml.Header)-1] + string(text), nil
}

var _ mfa.Sender = (*Twilio)(nil)
