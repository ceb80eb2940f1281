package integration

import (
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

// TestAMailServerThatWasNotMadeForIt sends codes to a mail server of somebody else's, over STARTTLS. It lies beside a checkout of ours
// and not in it: without it there is nothing to run, as with TestRealApplications.
func TestAMailServerThatWasNotMadeForIt(t *testing.T) {
	script, err := filepath.Abs(filepath.Join(fixtures, "smtpsink.sh"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(script); os.IsNotExist(err) {
		t.Log("smtpsink is not beside this checkout")
		return
	}
	t.Setenv("STARTTLS", "1")
	server := &realApp{t: t, script: script, port: lab.FreePort(t), more: lab.FreePort(t)}
	if server.dir, err = os.MkdirTemp("", "realworld"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(server.dir) })
	if err := os.Chmod(server.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	server.run("install")
	t.Cleanup(func() { server.run("stop") })
	server.run("start")
	find := func(pattern string) []string {
		t.Helper()
		var found []string
		for _, p := range []string{pattern, "*/" + pattern} {
			files, err := filepath.Glob(filepath.Join(server.dir, p))
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, files...)
		}
		return found
	}
	cert := find("c.pem")
	if len(cert) != 1 {
		t.Fatalf("the server's certificate: %v", cert)
	}
	global := asked + "sender mailserver smtp localhost:" + strconv.Itoa(server.port) + " {\n\t\t\tca " + cert[0] + "\n\t\t\tfrom \"Example <mfa@example.com>\"\n\t\t}\n\t\tfactor email {\n\t\t\tsender mailserver\n\t\t}"
	p := lab.Start(t, lab.NewUpstream(t, nil).Address, lab.Options{Global: global})
	b := lab.NewBrowser(t, p.URL)
	b.Header.Set("Accept-Language", "nl")
	page := b.Password("/", "bob", lab.Password)
	page = b.Get("/_mfa/register?page=email&t=" + url.QueryEscape(page.URL.Query().Get("t")))
	page = page.Submit("number", "to", "bob@example.com").Want("b••••@example.com")
	var mails []string
	lab.Eventually(t, 10*time.Second, "the mail", func() bool { mails = find("mail/new/*"); return len(mails) > 0 })
	raw, err := os.ReadFile(mails[0])
	if err != nil || len(mails) != 1 {
		t.Fatalf("%d mails, %v", len(mails), err)
	}
	mail, err := lab.ReadMail(string(raw))
	if err != nil {
		t.Fatalf("%v\n%s", err, raw)
	}
	text := strings.ReplaceAll(mail.Part("text/plain"), "\r\n", "\n")
	paragraphs := strings.Split(strings.TrimSpace(text), "\n\n")
	if len(paragraphs) != 4 || paragraphs[0] != "Dit is uw code om u aan te melden bij app:" || len(paragraphs[1]) != 6 || !strings.Contains(mail.Part("text/html"), paragraphs[1]) {
		t.Fatalf("the mail reads\n%s\nas it came:\n%s", text, raw)
	}
	page.Submit("finish", "code", paragraphs[1]).Submit("kept").Follow().Want("secret report")

	t.Log("and tells of the change, at the address that was confirmed: the directory has none")
	lab.Eventually(t, 20*time.Second, "the second mail", func() bool { return len(find("mail/new/*")) > 1 })
	for _, file := range find("mail/new/*") {
		if file == mails[0] {
			continue
		}
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		notice, err := lab.ReadMail(string(raw))
		if err != nil {
			t.Fatalf("%v\n%s", err, raw)
		}
		if text := notice.Part("text/plain"); !strings.Contains(text, "is toegevoegd: E-mail.") || !strings.Contains(notice.Part("text/html"), "is toegevoegd: E-mail.") {
			t.Errorf("the second mail:\n%s", raw)
		}
	}
}
