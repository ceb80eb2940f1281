package portal

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
	"github.com/caddy-mfa/caddy-mfa/internal/notice"
)

func TestComposeNotice(t *testing.T) {
	texts, err := NewTexts()
	if err != nil {
		t.Fatal(err)
	}
	country := func(a netip.Addr) (string, bool) { return "NL", a == netip.MustParseAddr("192.0.2.7") }
	at := time.Date(2026, 11, 25, 14, 3, 9, 0, time.FixedZone("CET", 3600))
	mine := notice.Change{At: at, Browser: "Firefox 128, Linux", Address: netip.MustParseAddr("192.0.2.7")}
	removed, added, made := mine, mine, mine
	removed.Kind, removed.Method = notice.FactorRemoved, mfa.TOTP
	added.Kind, added.Method, added.At = notice.FactorAdded, mfa.Passkey, at.Add(20*time.Second)
	made.Kind, made.Admin, made.At = notice.PassMade, true, at.Add(time.Minute)
	for reason, tc := range map[string]struct {
		notice notice.Notice
		help   string
		lang   string
		text   string
	}{
		"what one person did at once stands together": {notice.Notice{User: "alice", Host: "hr.example.com", Changes: []notice.Change{removed, added, made}}, "", "en",
			`This has changed for your account alice at hr.example.com:

A way to confirm that it is you was removed: Authenticator app.

A way to confirm that it is you was added: Passkey or security key.

When: 2026-11-25 13:03 UTC
By: somebody who was signed in as you
Browser: Firefox 128, Linux
From: 192.0.2.7 · Netherlands

A temporary access pass was made for you. Whoever has it and knows your password can sign in.

When: 2026-11-25 13:04 UTC
By: an administrator

If you expected this, there is nothing to do.

If you did not, change your password, sign in, choose “Sign out everywhere” on the page of your account, and remove there what is not yours. Tell your administrator.

This mail has no link, on purpose: go to the page as you always do.
`},
		"in Dutch, and the last today": {notice.Notice{User: "a<b", Host: "hr.example.com\nBcc: x", Changes: []notice.Change{{Kind: notice.AppPasswordMade, Application: "<mail>", At: at}}, More: 2, Last: true}, "Kamer 12", "nl",
			`Dit is veranderd voor uw account a<b:

Er is een app-wachtwoord gemaakt. Het opent <mail>.

Wanneer: 2026-11-25 13:03 UTC
Door: iemand die als u was aangemeld

2 andere veranderingen staan hier niet bij.

Verwachtte u dit? Dan hoeft u niets te doen.

Zo niet, verander dan uw wachtwoord, meld u aan, kies ‘Overal afmelden’ op uw accountpagina en verwijder daar wat niet van u is. Vertel het uw beheerder.

Hulp nodig? Kamer 12

In dit bericht staat met opzet geen link: ga naar de pagina zoals u dat altijd doet.

Vandaag krijgt u geen bericht als dit meer, wat er ook nog verandert. Kijk op uw accountpagina.
`},
	} {
		m := &mfa.Message{}
		texts.ComposeNotice(m, tc.notice, tc.help, country, "", tc.lang)
		if m.Text != tc.text || m.Language != tc.lang {
			t.Errorf("%s: in %s\n%s\nwant\n%s", reason, m.Language, m.Text, tc.text)
		}
		if strings.Contains(m.Text+m.HTML, "http") || m.Code != "" {
			t.Errorf("%s: a link or a code\n%s", reason, m.HTML)
		}
		doc, err := html.Parse(strings.NewReader(m.HTML))
		if err != nil {
			t.Fatal(err)
		}
		var said []string
		for n := range doc.Descendants() {
			if n.Type == html.TextNode && n.Parent.Data != "title" && strings.TrimSpace(n.Data) != "" {
				said = append(said, strings.TrimSpace(n.Data))
			}
		}
		if got, want := strings.Join(said, "\n"), strings.TrimSpace(strings.ReplaceAll(m.Text, "\n\n", "\n")); got != want {
			t.Errorf("%s: the HTML says\n%s\nand the text\n%s", reason, got, want)
		}
	}
}

// TestABrowserHasNoSayInAMail has browsers call themselves what an attacker would like the owner to read.
func TestABrowserHasNoSayInAMail(t *testing.T) {
	texts, err := NewTexts()
	if err != nil {
		t.Fatal(err)
	}
	for browser, stands := range map[string]bool{
		"Firefox 140, Linux": true, "Safari 18, iOS 18": true, "Edge 128, Windows 8.1": true, "Samsung Browser 26, Android": true, "Edge 128, Windows 11": true, "Chrome 128": true, "Chrome OS": true,
		"Firefox 140, https://evil.example/": false, "evil.example": false, "Chrome 128, call 0612345678": false, "a@evil.example": false, "Chrome\nBcc x": false,
		"Chrome 128, 192.0.2.66": false, "Chrome 192.0.2.66": false, "<b>Chrome": false, "": false, ", Linux": false,
	} {
		m := &mfa.Message{}
		texts.ComposeNotice(m, notice.Notice{User: "alice", Changes: []notice.Change{{Kind: notice.AppPasswordMade, Application: "mail", Browser: browser}}}, "", nil, "en")
		if said := strings.Contains(m.Text, "Browser: "+browser+"\n"); said != stands || !stands && (strings.Contains(m.Text+m.HTML, "Browser:") || browser != "" && strings.Contains(m.Text, browser)) {
			t.Errorf("%q:\n%s", browser, m.Text)
		}
	}
}

// TestEveryChangeHasWords goes through kinds until there are no more: a change that nobody has words for would be an empty line.
func TestEveryChangeHasWords(t *testing.T) {
	texts, err := NewTexts()
	if err != nil {
		t.Fatal(err)
	}
	for kind := notice.FactorAdded; kind <= notice.Reported; kind++ {
		for _, l := range texts.languages {
			for method := range methodNames {
				m := &mfa.Message{}
				texts.ComposeNotice(m, notice.Notice{User: "alice", Changes: []notice.Change{{Kind: kind, Method: method, Application: "mail"}}}, "", nil, l.Tag)
				what := strings.Split(m.Text, "\n\n")[1]
				if noticeTexts[kind] == "" || what == "" || strings.Contains(what, "notice.") || strings.Contains(what, "account.") {
					t.Errorf("kind %d, %s, %s: %q", kind, method, l.Tag, what)
				}
			}
		}
	}
}
