package portal

import (
	"bytes"
	"cmp"
	"html/template"
	"regexp"
	"strings"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

// domainName is a host that a code can be bound to.
var domainName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)

// mailBody is the HTML of a mail: what its text says, and the code so that nobody overlooks it.
var mailBody = template.Must(template.New("mail").Parse(`<!doctype html>
<html lang="{{.Lang}}" dir="{{.Dir}}">
<head><meta charset="utf-8"><title>{{.Title}}</title></head>
<body style="font-family: sans-serif; font-size: 16px; line-height: 1.5">
<p>{{.Lead}}</p>
<p style="font-size: 28px; letter-spacing: 4px" dir="ltr"><strong>{{.Code}}</strong></p>
{{range .Rest}}<p>{{.}}</p>
{{end}}</body>
</html>
`))

// Compose writes what is said to somebody who is sent a code: see signin.Compose.
func (t *Texts) Compose(m *mfa.Message, host, application string, languages ...string) {
	lang := t.Choose(languages...)
	s := t.speak(lang)
	m.Language = lang.Tag
	where := cmp.Or(application, host)
	switch m.Method {
	case mfa.SMS:
		m.Text = s.T("message.sms", "Code", m.Code, "Application", where)
		if domainName.MatchString(host) {
			// The last line lets browsers fill the code in, on this host alone (Origin-bound one-time codes delivered via SMS).
			m.Text += "\n\n@" + host + " #" + m.Code
		}
	case mfa.Voice:
		m.Language = s.T("message.voice_language")
		m.Text = s.T("message.voice", "Digits", strings.Join(strings.Split(m.Code, ""), ", "), "Application", where)
	case mfa.Email:
		lead, rest := s.T("message.mail_lead", "Application", where), []string{s.T("message.mail_use"), s.T("message.mail_not_you")}
		m.Subject = s.T("message.mail_subject", "Application", where)
		m.Text = strings.Join(append([]string{lead, m.Code}, rest...), "\n\n") + "\n"
		var html bytes.Buffer
		err := mailBody.Execute(&html, struct {
			Lang, Dir, Title, Lead, Code string
			Rest                         []string
		}{lang.Tag, lang.Dir, m.Subject, lead, m.Code, rest})
		if err == nil { // texts are always written
			m.HTML = html.String()
		}
	}
}
