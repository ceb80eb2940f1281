package sender

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/template"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// Webhook posts messages to an address, as an operator's template writes them. Every attempt has the message's id in the header
// Idempotency-Key.
type Webhook struct {
	URL         string
	Header      http.Header // beside the content type
	ContentType string
	body        *template.Template
}

// DefaultBody is what is posted where no template says otherwise.
const DefaultBody = `{"id":{{json .ID}},"method":{{json .Method}},"to":{{json .To}},"code":{{json .Code}},"language":{{json .Language}},"text":{{json .Text}}}`

// fields are what a template may use.
type fields struct{ ID, Method, To, Code, Language, Subject, Text string }

// mayUse says what a template may use, to who has written another word.
const mayUse = "it has .ID, .Method, .To, .Code, .Language, .Subject and .Text, and the functions json and query"

func fieldsOf(m *mfa.Message) fields {
	return fields{m.ID, string(m.Method), m.To, m.Code, m.Language, m.Subject, m.Text}
}

var functions = template.FuncMap{
	"json": func(v string) (string, error) {
		text, err := json.Marshal(v)
		return string(text), err
	},
	"query": url.QueryEscape,
}

// NewWebhook reads the template, with Go's text/template: {{json .To}} writes a JSON string, {{query .Text}} a value of a form. What is
// wrong with it is told in the error.
func NewWebhook(address string, header http.Header, contentType, body string) (*Webhook, error) {
	if body == "" {
		body = DefaultBody
	}
	if contentType == "" {
		contentType = "application/json"
	}
	t, err := template.New("body").Option("missingkey=error").Funcs(functions).Parse(body)
	if err != nil {
		return nil, fmt.Errorf("reading template: %w; "+mayUse, err)
	}
	w := &Webhook{address, header, contentType, t}
	// A name that doesn't exist is found now, and so is a value that breaks what stands around it.
	written, err := w.write(&mfa.Message{ID: "1", Method: mfa.SMS, To: "+31612345678", Code: "123456", Language: "en", Text: "a \"quoted\"\nline & more"})
	if err != nil {
		return nil, fmt.Errorf("%w; "+mayUse, err)
	}
	if strings.Contains(contentType, "json") && !json.Valid([]byte(written)) {
		return nil, errors.New("the template writes no JSON for a text with quotes and line breaks; write texts as {{json .Text}}, without quotes around them")
	}
	if strings.Contains(contentType, "x-www-form-urlencoded") && strings.ContainsAny(written, "\" \n") {
		return nil, errors.New("the template writes no form for a text with spaces and line breaks; write texts as {{query .Text}}")
	}
	return w, nil
}

func (w *Webhook) write(m *mfa.Message) (string, error) {
	var b bytes.Buffer
	if err := w.body.Execute(limited{&b}, fieldsOf(m)); err != nil {
		return "", fmt.Errorf("writing template: %w", err)
	}
	return b.String(), nil
}

// limited ends a template that writes without end.
type limited struct{ *bytes.Buffer }

func (l limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > maxAnswer {
		return 0, io.ErrShortWrite
	}
	return l.Buffer.Write(p)
}

// Send posts the message.
func (w *Webhook) Send(ctx context.Context, m *mfa.Message) error {
	body, err := w.write(m)
	if err != nil {
		return fmt.Errorf("%w: %w", mfa.ErrNotAccepted, err)
	}
	status, _, err := post(ctx, w.URL, body, func(r *http.Request) {
		for name, values := range w.Header {
			r.Header[name] = values
		}
		r.Header.Set("Content-Type", w.ContentType)
		r.Header.Set("Idempotency-Key", m.ID)
	})
	if err != nil {
		return err
	}
	return judge(status, "")
}

var _ mfa.Sender = (*Webhook)(nil)
