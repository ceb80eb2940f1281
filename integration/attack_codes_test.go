package integration

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

// Whoever knows no password learns no number, not even what is left of it behind the mask, and has nothing sent.
func TestNothingIsSentOrShownBeforeThePassword(t *testing.T) {
	t.Parallel()
	g, up := lab.NewGateway(t), lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Global: asked + g.Config(""), Users: withPhone})
	var bodies []string
	for _, user := range []string{"alice", "bob", "dora", "nobody"} {
		b := lab.NewBrowser(t, p.URL)
		page := b.Password("/", user, "not "+lab.Password).WantStatus(http.StatusUnprocessableEntity)
		bodies = append(bodies, page.Body)
		for _, ref := range []string{"/_mfa/verify", "/_mfa/verify?method=sms", "/_mfa/register?page=sms", "/_mfa/account"} {
			bodies = append(bodies, b.Get(ref).Body)
		}
		for _, form := range []url.Values{
			{"action": {"send"}, "method": {"sms"}}, {"action": {"send"}, "method": {"voice"}, "credential": {"directory-phone"}, "username": {user}},
			{"action": {"send"}, "method": {"sms"}, "to": {aliceNumber}},
		} {
			bodies = append(bodies, b.Post("/_mfa/verify", form).Body)
		}
		for _, form := range []url.Values{{"action": {"number"}, "method": {"sms"}, "to": {aliceNumber}}, {"action": {"again"}, "method": {"sms"}}} {
			bodies = append(bodies, b.Post("/_mfa/register", form).Body)
		}
	}
	for _, body := range bodies {
		if strings.Contains(body, "••") || strings.Contains(body, "12345678") {
			t.Errorf("a page shows a number:\n%s", body)
		}
	}
	if sent := g.Sent(); len(sent) != 0 {
		t.Errorf("messages were sent: %+v", sent)
	}
	up.WantNothing(t)
}

func TestAFormThatNamesItsOwnNumberIsNotBelieved(t *testing.T) {
	t.Parallel()
	g, up := lab.NewGateway(t), lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Global: asked + g.Config(""), Users: withPhone})
	b := lab.NewBrowser(t, p.URL)
	page := b.Password("/", "alice", lab.Password)
	page.Submit("send", "to", bobNumber, "number", bobNumber, "phone", bobNumber, "To", bobNumber)
	page.Submit("send", "credential", bobNumber, "to", bobNumber).WantStatus(http.StatusConflict)
	page.Submit("send", "method", "email", "to", "mallory@example.net").WantStatus(http.StatusConflict)
	// Nor does registration, whose form does name one, begin without a proof of what she has.
	session := func() string { _, fields := page.Form("send"); return fields.Get("session") }()
	b.Post("/_mfa/register", url.Values{"action": {"number"}, "method": {"sms"}, "to": {bobNumber}, "session": {session}, "t": {page.URL.Query().Get("t")}})
	for _, s := range g.Sent() {
		if s.Form.Get("To") != aliceNumber {
			t.Errorf("a message went to %s", s.Form.Get("To"))
		}
	}
	if n := len(g.Sent()); n != 1 {
		t.Errorf("%d messages were sent", n)
	}
	// State is not changed by GET, nor from another site.
	if n := b.Get("/_mfa/verify?action=send&method=voice&session=" + session); n.Has("gebeld met") {
		t.Errorf("a link sends: %s", n)
	}
	b.Header.Set("Sec-Fetch-Site", "cross-site")
	b.Header.Set("Origin", "https://evil.example")
	page.Submit("send", "method", "voice").WantStatus(http.StatusForbidden)
	if n := len(g.Sent()); n != 1 {
		t.Errorf("%d messages were sent", n)
	}
	up.WantNothing(t)
}

func TestMessagesThatCostTooMuchAreNotSent(t *testing.T) {
	t.Parallel()
	g := lab.NewGateway(t)
	global := strings.Replace(asked+g.Config(""), "factor sms {", "message_limits {\n\t\t\tuser 2\n\t\t}\n\t\tfactor sms {\n\t\t\tprefixes +31 +32", 1)
	p := lab.Start(t, lab.NewUpstream(t, nil).Address, lab.Options{Global: global, Users: withPhone})
	b := lab.NewBrowser(t, p.URL)
	page := b.Password("/", "bob", lab.Password)
	page = b.Get("/_mfa/register?page=sms&t=" + url.QueryEscape(page.URL.Query().Get("t")))
	for number, says := range map[string]string{"+8816 5550143": "No code can be sent there.", "+31612345678 ext 4": "That is not a phone number.", "+31612345678;+4915112345678": "That is not a phone number.", "+31 6 1234\r\n5678": "That is not a phone number."} {
		page.Submit("number", "to", number).WantStatus(http.StatusUnprocessableEntity).Want(says)
	}
	if n := len(g.Sent()); n != 0 {
		t.Fatalf("%d messages were sent", n)
	}

	t.Log("alice has two a day; an administrator gives her more, and stops them all")
	press := func() *lab.Page {
		t.Helper()
		return lab.NewBrowser(t, p.URL).Password("/", "alice", lab.Password).Submit("send")
	}
	press().WantStatus(http.StatusOK)
	press().WantStatus(http.StatusTooManyRequests).Want("Er is net een code gestuurd")
	c := lab.NewBrowser(t, p.URL)
	c.Password("/", "alice", lab.Password)
	c.Get("/_mfa/verify?method=voice").Submit("send").WantStatus(http.StatusOK)
	time.Sleep(31 * time.Second)
	press().WantStatus(http.StatusTooManyRequests).Want("Er kunnen nu geen codes meer gestuurd worden.")
	p.Command("user", "unlock", "alice")
	press().WantStatus(http.StatusOK)
	if n := len(g.Sent()); n != 3 {
		t.Errorf("%d messages were sent", n)
	}
	want(t, p.Command("messages", "stop"), "Codes are not sent", "3 of 1000 were sent since ")
	p.Command("user", "unlock", "alice")
	press().WantStatus(http.StatusServiceUnavailable).Want("De code kon niet gestuurd worden.").Want("Gebeld worden")
	want(t, p.Command("messages", "start"), "Codes are sent.")
	press().WantStatus(http.StatusOK)
	reasons := ""
	for _, e := range p.Events("code_not_sent") {
		reasons += e["reason"].(string) + ", "
	}
	if reasons != "pace, messages to the user, stopped, " {
		t.Errorf("reasons: %s", reasons)
	}
}

// TestOtherSenders has a web hook, a command and a mail server bring codes, in the real binary.
func TestOtherSenders(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script := filepath.Join(dir, "send")
	if err := os.WriteFile(script, []byte("#!/bin/sh\ncat >"+dir+"/sent.new && mv "+dir+"/sent.new "+dir+"/sent\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	mails := lab.NewMailServer(t)
	hook := lab.NewUpstream(t, nil)
	global := asked + `sender hook webhook http://` + hook.Address + `/send?key={file.` + script + `.key} {
			header Authorization "Bearer {file.` + script + `.key}"
			body ` + "`{\"number\":{{json .To}},\"words\":{{json .Text}}}`" + `
		}
		sender modem command ` + script + ` --port 1
		factor sms {
			sender hook
		}
		factor voice {
			sender modem
		}
		` + mails.Config()
	if err := os.WriteFile(script+".key", []byte("k3y"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := lab.Start(t, lab.NewUpstream(t, nil).Address, lab.Options{Global: global, Users: withPhone})
	b := lab.NewBrowser(t, p.URL)
	page := b.Password("/", "alice", lab.Password).Submit("send").Want("is onderweg naar")
	got := hook.Last(t)
	var words struct{ Number, Words string }
	if err := json.Unmarshal([]byte(got.Body), &words); err != nil || words.Number != aliceNumber || got.Header["Authorization"][0] != "Bearer k3y" || got.URI != "/send?key=k3y" || len(got.Header["Idempotency-Key"]) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	page.Submit("code", "code", words.Words[:6]).Follow().Want("secret report")

	c := lab.NewBrowser(t, p.URL)
	c.Password("/", "alice", lab.Password)
	page = c.Get("/_mfa/verify?method=voice").Submit("send").Want("U wordt gebeld")
	raw, err := os.ReadFile(filepath.Join(dir, "sent"))
	var said map[string]string
	if err != nil || json.Unmarshal(raw, &said) != nil || said["to"] != aliceNumber || said["method"] != "voice" || said["language"] != "nl-NL" {
		t.Fatalf("%v: %s", err, raw)
	}
	page.Submit("code", "code", said["code"]).Follow().Want("secret report")

	d := lab.NewBrowser(t, p.URL)
	page = d.Password("/", "bob", lab.Password)
	page = d.Get("/_mfa/register?page=email&t=" + url.QueryEscape(page.URL.Query().Get("t")))
	page.Submit("number", "to", "bob@example.com\r\nBcc: mallory@example.net").WantStatus(http.StatusUnprocessableEntity)
	page = page.Submit("number", "to", "bob@example.com").Want("b••••@example.com")
	page.Submit("finish", "code", mails.Code(t, "bob@example.com")).Submit("kept").Follow().Want("secret report")
	mail := mails.Mails()[0]
	if mail.Header.Get("Subject") != "Your code for app" || !strings.Contains(mail.Part("text/html"), mails.Code(t, "bob@example.com")) || strings.Contains(mail.Text, "mallory") {
		t.Errorf("mail:\n%s", mail.Text)
	}
	for _, secret := range []string{"k3y", "bob@example.com", aliceNumber, said["code"]} {
		if strings.Contains(p.Log(), secret) {
			t.Errorf("the log holds %s", secret)
		}
	}
}
