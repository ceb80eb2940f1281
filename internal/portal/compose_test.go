package portal

import (
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/caddy-mfa/caddy-mfa/internal/mfa"
)

func TestCompose(t *testing.T) {
	texts, err := NewTexts()
	if err != nil {
		t.Fatal(err)
	}
	compose := func(method mfa.Method, host, application string, languages ...string) *mfa.Message {
		m := &mfa.Message{Method: method, Code: "012345"}
		texts.Compose(m, host, application, languages...)
		return m
	}
	for reason, tc := range map[string]struct {
		got  *mfa.Message
		text string
		lang string
	}{
		"message":                               {compose(mfa.SMS, "hr.example.com", "hr"), "012345 is your code for hr. Never give it to anybody.\n\n@hr.example.com #012345", "en"},
		"message in the user's language":        {compose(mfa.SMS, "hr.example.com", "hr", "", "nl", "en"), "012345 is uw code voor hr. Geef hem aan niemand.\n\n@hr.example.com #012345", "nl"},
		"message in the language of the menu":   {compose(mfa.SMS, "hr.example.com", "hr", "en", "nl"), "012345 is your code for hr. Never give it to anybody.\n\n@hr.example.com #012345", "en"},
		"our own pages":                         {compose(mfa.SMS, "hr.example.com", ""), "012345 is your code for hr.example.com. Never give it to anybody.\n\n@hr.example.com #012345", "en"},
		"a host that a code can't be bound to":  {compose(mfa.SMS, "[::1]", "hr"), "012345 is your code for hr. Never give it to anybody.", "en"},
		"a host that would be read differently": {compose(mfa.SMS, "hr.example.com #999999\n@evil.example", "hr"), "012345 is your code for hr. Never give it to anybody.", "en"},
		"call":                                  {compose(mfa.Voice, "hr.example.com", "hr", "en"), "Hello. Your code for hr is: 0, 1, 2, 3, 4, 5. Once more: 0, 1, 2, 3, 4, 5. Never give it to anybody. Goodbye.", "en-US"},
		"call in Dutch":                         {compose(mfa.Voice, "hr.example.com", "hr", "nl"), "Goedendag. Uw code voor hr is: 0, 1, 2, 3, 4, 5. Nog een keer: 0, 1, 2, 3, 4, 5. Geef hem aan niemand. Tot ziens.", "nl-NL"},
	} {
		if tc.got.Text != tc.text || tc.got.Language != tc.lang {
			t.Errorf("%s: %q in %s, want %q in %s", reason, tc.got.Text, tc.got.Language, tc.text, tc.lang)
		}
	}

	mail := compose(mfa.Email, "hr.example.com", "h<r>", "nl-BE")
	if mail.Language != "nl" || !strings.Contains(mail.Text, "\n\n012345\n\n") || mail.Subject != "Uw code voor h<r>" || strings.Contains(mail.Subject, "012345") {
		t.Errorf("mail %+v", mail)
	}
	doc, err := html.Parse(strings.NewReader(mail.HTML))
	if err != nil {
		t.Fatal(err)
	}
	said := ""
	for n := range doc.Descendants() {
		if n.Type == html.TextNode && n.Parent.Data != "title" && strings.TrimSpace(n.Data) != "" {
			said += strings.TrimSpace(n.Data) + "\n\n"
		}
	}
	if said != mail.Text+"\n" {
		t.Errorf("the HTML says\n%s\nand the text\n%s", said, mail.Text)
	}
}

// TestATextMessageIsOneMessage keeps to letters that fit 160 in a message (GSM 03.38): with others it costs twice as much.
func TestATextMessageIsOneMessage(t *testing.T) {
	texts, err := NewTexts()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range texts.languages {
		m := &mfa.Message{Method: mfa.SMS, Code: "012345"}
		texts.Compose(m, "portal.hr.example.com", "human-resources", l.Tag)
		if len(m.Text) > 160 || strings.ContainsFunc(m.Text, func(r rune) bool { return r > 0x7e || strings.ContainsRune("`[]{}\\^~|", r) }) {
			t.Errorf("%s: %d bytes: %q", l.Tag, len(m.Text), m.Text)
		}
		if !strings.HasSuffix(m.Text, "\n@portal.hr.example.com #012345") {
			t.Errorf("%s: the last line binds the code to nothing: %q", l.Tag, m.Text)
		}
	}
}
