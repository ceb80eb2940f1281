package integration

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

// TestPeopleAreToldOfChanges has somebody register, lose what he has, come back with a recovery code and get a pass: the mails say so, at the
// address of the directory, in his language, and hold no secret. Who has no address gets none, and an administrator sees that in the log.
func TestPeopleAreToldOfChanges(t *testing.T) {
	t.Parallel()
	mails := lab.NewMailServer(t)
	users := strings.Replace(lab.Users, "    email: alice@example.com\n", "    email: alice@example.com\n    language: nl\n", 1)
	sender := "sender mailserver smtp " + mails.Address + " {\n\t\t\ttls none\n\t\t\tfrom \"Example <mfa@example.com>\"\n\t\t}\n\t\tnotify_changes {\n\t\t\tsender mailserver\n\t\t}"
	p := lab.Start(t, lab.NewUpstream(t, nil).Address, lab.Options{Global: sender, Users: users})
	var seen int
	told := func(what string, want ...string) string {
		t.Helper()
		lab.Eventually(t, 20*time.Second, "a mail about "+what, func() bool { return len(mails.Mails()) > seen })
		mail := mails.Mails()[seen]
		seen++
		if text := mail.Part("text/plain"); !slices.Equal(mail.To, []string{"alice@example.com"}) || mail.Header.Get("Content-Language") != "nl" || strings.Contains(mail.Text, "http:") || mail.Part("text/html") == "" {
			t.Errorf("%s: to %q:\n%s", what, mail.To, mail.Text)
		} else {
			for _, w := range want {
				if !strings.Contains(text, w) {
					t.Errorf("%s: %q is not in\n%s", what, w, text)
				}
			}
		}
		return mail.Text
	}

	b := lab.NewBrowser(t, p.URL)
	alice := b.Register("alice")
	text := told("a new factor", "account alice bij localhost", "toegevoegd: Authenticator-app.", "Browser: Firefox 140, Linux", "Vanaf: 127.0.0.1")
	for _, secret := range append(slices.Clone(alice.Codes), alice.Key) {
		if strings.Contains(strings.ReplaceAll(text, "=\r\n", ""), secret) {
			t.Errorf("the mail holds a secret: %s", secret)
		}
	}
	c := lab.NewBrowser(t, p.URL)
	c.Password("/", "alice", lab.Password)
	c.Get("/_mfa/verify?method=recovery_code").Submit("code", "code", alice.Codes[0])
	told("a recovery code", "Met een van uw herstelcodes", "Door: iemand die als u was aangemeld")
	p.Command("user", "pass", "alice")
	told("a pass", "tijdelijke toegangspas", "Door: een beheerder")
	p.Command("user", "reset", "alice")
	told("a reset", "Elke manier", "Door: een beheerder")

	lab.NewBrowser(t, p.URL).Register("bob")
	lab.Eventually(t, 20*time.Second, "the log says that bob was not told", func() bool {
		return slices.ContainsFunc(p.Events("change_not_told"), func(e map[string]any) bool { return e["user"] == "bob" && e["reason"] == "no address" })
	})
	if events := p.Events("change_told"); len(events) != 4 || len(mails.Mails()) != 4 {
		t.Errorf("%d mails, and in the log %v", len(mails.Mails()), events)
	}
}

// TestAMailServerThatIsDownHoldsUpNobody registers a factor while nothing can be sent, and stops the server: neither waits.
func TestAMailServerThatIsDownHoldsUpNobody(t *testing.T) {
	t.Parallel()
	sender := "sender mailserver smtp 127.0.0.1:9 {\n\t\t\ttls none\n\t\t\tfrom mfa@example.com\n\t\t}\n\t\tnotify_changes {\n\t\t\tsender mailserver\n\t\t}"
	p := lab.Start(t, lab.NewUpstream(t, nil).Address, lab.Options{Global: sender})
	lab.NewBrowser(t, p.URL).Register("alice")
	began := time.Now()
	p.Stop()
	if took := time.Since(began); took > 20*time.Second { // the next try is a minute away
		t.Errorf("stopping took %v", took)
	}
	if events := p.Events("change_not_told"); len(events) != 1 || events[0]["reason"] != "not accepted" || events[0]["user"] != "alice" {
		t.Errorf("the log says %v", events)
	}
}

// TestAReloadSendsWhatWaitsAndOnce reloads while a mail waits for what else happens.
func TestAReloadSendsWhatWaitsAndOnce(t *testing.T) {
	t.Parallel()
	mails := lab.NewMailServer(t)
	up := lab.NewUpstream(t, nil)
	o := lab.Options{Global: "sender mailserver smtp " + mails.Address + " {\n\t\t\ttls none\n\t\t\tfrom mfa@example.com\n\t\t}\n\t\tnotify_changes {\n\t\t\tsender mailserver\n\t\t}"}
	p := lab.Start(t, up.Address, o)
	lab.NewBrowser(t, p.URL).Register("alice")
	o.Global += "\n\t\thelp \"Room 12\""
	if err := p.Reload(lab.Caddyfile(p, up.Address, o)); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, 20*time.Second, "the mail", func() bool { return len(mails.Mails()) > 0 })
	p.Command("user", "pass", "alice")
	lab.Eventually(t, 20*time.Second, "a mail by the new configuration", func() bool { return len(mails.Mails()) > 1 })
	all := mails.Mails()
	if len(all) != 2 || strings.Contains(all[0].Part("text/plain"), "Room 12") || !strings.Contains(all[1].Part("text/plain"), "Room 12") {
		t.Errorf("%d mails: %v", len(all), all)
	}
	if events := p.Events("change_told"); len(events) != 2 || len(p.Events("change_not_told")) != 0 {
		t.Errorf("the log says %v", events)
	}
}

// TestWhoseAddressIsTakenAwayIsToldThere has an administrator take away the only address of somebody whom the directory has none of.
func TestWhoseAddressIsTakenAwayIsToldThere(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"reset", "re-register"} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			mails := lab.NewMailServer(t)
			global := asked + "sender mailserver smtp " + mails.Address + " {\n\t\t\ttls none\n\t\t\tfrom mfa@example.com\n\t\t}\n\t\tfactor email {\n\t\t\tsender mailserver\n\t\t}"
			p := lab.Start(t, lab.NewUpstream(t, nil).Address, lab.Options{Global: global})
			b := lab.NewBrowser(t, p.URL)
			page := b.Password("/", "bob", lab.Password)
			page = b.Get("/_mfa/register?page=email&t="+url.QueryEscape(page.URL.Query().Get("t"))).Submit("number", "to", "bob@example.com")
			page.Submit("finish", "code", mails.Code(t, "bob@example.com")).Submit("kept").Follow().Want("secret report")
			lab.Eventually(t, 20*time.Second, "a mail about the factor", func() bool { return len(mails.Mails()) == 2 })
			p.Command("user", command, "bob")
			lab.Eventually(t, 20*time.Second, "a mail about the change", func() bool { return len(mails.Mails()) == 3 })
			if mail := mails.Mails()[2]; !slices.Equal(mail.To, []string{"bob@example.com"}) || !strings.Contains(mail.Part("text/plain"), "By: an administrator") {
				t.Errorf("to %q:\n%s", mail.To, mail.Text)
			}
			if events := p.Events("change_not_told"); len(events) != 0 {
				t.Errorf("the log says %v", events)
			}
		})
	}
}
