package portal

import (
	"bytes"
	"html/template"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/notice"
)

// noticeTexts say what has changed.
var noticeTexts = map[notice.Kind]string{
	notice.FactorAdded: "notice.factor_added", notice.FactorRemoved: "notice.factor_removed",
	notice.RecoveryCodesMade: "notice.recovery_codes_made", notice.RecoveryCodeUsed: "notice.recovery_code_used",
	notice.PassMade: "notice.pass_made", notice.FactorsReset: "notice.factors_reset", notice.ReregistrationRequired: "notice.reregister",
	notice.AppPasswordMade: "notice.app_password_made", notice.AppPasswordRevoked: "notice.app_password_revoked",
	notice.UpstreamStored: "notice.upstream_stored", notice.UpstreamRemoved: "notice.upstream_removed", notice.Reported: "notice.reported",
}

// methodNames are what methods are called on the account page.
var methodNames = map[mfa.Method]string{
	mfa.Passkey: "account.passkey", mfa.TOTP: "account.app", mfa.Push: "account.push", mfa.SMS: "account.sms", mfa.Voice: "account.voice", mfa.Email: "account.email",
}

// noticed are changes that were made together.
type noticed struct {
	What  []string
	Facts []string // when, by whom, from where
}

var noticeBody = template.Must(template.New("notice").Parse(`<!doctype html>
<html lang="{{.Lang}}" dir="{{.Dir}}">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{{.Title}}</title></head>
<body style="font-family: sans-serif; font-size: 16px; line-height: 1.5">
<p>{{.Lead}}</p>
{{range .Changes}}{{range .What}}<p><strong>{{.}}</strong></p>
{{end}}<p>{{range $i, $fact := .Facts}}{{if $i}}<br>{{end}}{{$fact}}{{end}}</p>
{{end}}{{range .Rest}}<p>{{.}}</p>
{{end}}</body>
</html>
`))

// ComposeNotice writes a mail that tells somebody of changes, in the first of these languages that there is (BCP 47, or as in
// Accept-Language). It has no link: false mails have, and people learn from ours what to expect.
func (t *Texts) ComposeNotice(m *mfa.Message, n notice.Notice, help string, country func(netip.Addr) (code string, known bool), languages ...string) {
	lang := t.Choose(languages...)
	s := t.speak(lang)
	m.Language, m.Subject = lang.Tag, s.T("notice.subject")
	lead := s.T("notice.lead", "User", n.User)
	if domainName.MatchString(n.Host) {
		lead = s.T("notice.lead_at", "User", n.User, "Host", n.Host)
	}
	var changes []noticed
	for _, c := range n.Changes {
		what := c.Application
		if c.Kind == notice.FactorAdded || c.Kind == notice.FactorRemoved {
			what = s.T(methodNames[c.Method])
		}
		said, facts := s.T(noticeTexts[c.Kind], "What", what), noticeFacts(s, lang, c, country)
		if last := len(changes) - 1; last >= 0 && strings.Join(changes[last].Facts, "\n") == strings.Join(facts, "\n") {
			changes[last].What = append(changes[last].What, said)
		} else {
			changes = append(changes, noticed{[]string{said}, facts})
		}
	}
	var rest []string
	if n.More > 0 {
		rest = append(rest, s.Plural("notice.more", n.More))
	}
	rest = append(rest, s.T("notice.yours"), s.T("notice.not_yours"))
	if help != "" {
		rest = append(rest, s.T("footer.help")+" "+help)
	}
	rest = append(rest, s.T("notice.no_link"))
	if n.Last {
		rest = append(rest, s.T("notice.last"))
	}

	paragraphs := []string{lead}
	for _, c := range changes {
		paragraphs = append(append(paragraphs, c.What...), strings.Join(c.Facts, "\n"))
	}
	m.Text = strings.Join(append(paragraphs, rest...), "\n\n") + "\n"
	var html bytes.Buffer
	err := noticeBody.Execute(&html, struct {
		Lang, Dir, Title, Lead string
		Changes                []noticed
		Rest                   []string
	}{lang.Tag, lang.Dir, m.Subject, lead, changes, rest})
	if err == nil { // texts are always written
		m.HTML = html.String()
	}
}

// plainBrowser is what may stand for a browser and its system in a mail. Who makes a change can have his browser call itself anything, and our mail
// must bring nobody his address or his telephone number.
var plainBrowser = regexp.MustCompile(`^[A-Za-z ]{1,40}( [0-9]{1,4}(\.[0-9]{1,4})?)?(, [A-Za-z ]{1,40}( [0-9]{1,4}(\.[0-9]{1,4})?)?)?$`)

// noticeFacts say when, by whom and from where something was done.
func noticeFacts(s speaker, lang Language, c notice.Change, country func(netip.Addr) (string, bool)) []string {
	facts := []string{s.T("notice.when", "Time", c.At.UTC().Truncate(time.Minute).Format("2006-01-02 15:04 MST"))}
	if c.Admin {
		return append(facts, s.T("notice.by_admin"))
	}
	facts = append(facts, s.T("notice.by_you"))
	if plainBrowser.MatchString(c.Browser) {
		facts = append(facts, s.T("notice.browser", "Browser", c.Browser))
	}
	if c.Address.IsValid() {
		facts = append(facts, s.T("notice.address", "Place", place(lang.Tag, c.Address, country)))
	}
	return facts
}
