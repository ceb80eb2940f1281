package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
)

// twoApplications is a site with an application that the password opens, and one that asks for more.
const twoApplications = `mfa /wiki/* wiki
	mfa /payroll/* payroll
	reverse_proxy {upstream}`

const mfaForPayroll = `security_defaults off
		policy "MFA for payroll" {
			state enabled
			users all
			applications payroll
			grant mfa
		}`

func TestAnApplicationThatNeedsMoreAsksOnlyForThat(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Global: mfaForPayroll, Site: twoApplications})
	b := lab.NewBrowser(t, p.URL)

	t.Log("the password opens the wiki; a second step is offered, and put off")
	b.Password("/wiki/start", "alice", lab.Password).Want("Set up your second step").Submit("later").Follow().Want("secret report")
	up.Forget()
	t.Log("payroll asks for a second step, which alice has yet to register, and goes on to where she was going")
	page := b.Get("/payroll/2026?month=5&x=a%20b").Want("Set up your second step").Submit("begin")
	up.WantNothing(t)
	alice := &lab.Person{Name: "alice", Key: page.Key()}
	page = page.Submit("code", "code", alice.Code(t))
	page.Submit("kept").Follow().Want("secret report")
	if uri := up.Last(t).URI; uri != "/payroll/2026?month=5&x=a%20b" {
		t.Fatalf("landed at %s", uri)
	}

	t.Log("another browser: the wiki with the password, payroll with a code and without the password")
	b = lab.NewBrowser(t, p.URL)
	b.Password("/wiki/start", "alice", lab.Password).Follow().Want("secret report")
	up.Forget()
	page = b.Get("/payroll/").Want("Enter the code that your authenticator app shows now.")
	if page.Has("Your password") {
		t.Error("the password is asked for again")
	}
	up.WantNothing(t)
	page.Submit("code", "code", alice.Code(t)).Follow().Want("secret report")
	b.Get("/wiki/start").Want("secret report")
}

func TestAPolicyThatBlocksSaysSo(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Site: twoApplications, Global: `security_defaults off
		named_location abroad {
			ranges 127.0.0.0/8 ::1
		}
		policy "Payroll from the office" {
			state enabled
			users all
			exclude_users bob
			applications payroll
			locations abroad
			grant block
		}
		policy "MFA for everybody" {
			state report_only
			users all
			applications all
			grant mfa
		}`})
	b := lab.NewBrowser(t, p.URL)
	b.Password("/wiki/", "alice", lab.Password).Submit("later").Follow().Want("secret report")
	up.Forget()
	page := b.Get("/payroll/").WantStatus(403).Want("You can't open payroll from here").Want("Reference")
	if page.Has("Payroll from the office") {
		t.Error("the page tells what the policy is called")
	}
	up.WantNothing(t)
	t.Log("whoever looks for the reference on one of the pages finds one record")
	b = lab.NewBrowser(t, p.URL)
	shown := referenceOn(t, b.Password("/payroll/", "carol", lab.Password).WantStatus(403))
	for _, path := range []string{"/payroll/", "/payroll/other"} {
		if other := referenceOn(t, b.Get(path).WantStatus(403)); other != shown {
			t.Errorf("%s has the reference %s, the page before %s", path, other, shown)
		}
	}
	if all := asJSON[[]audit.SignIn](t, p.Command("sign-ins", "--json", "--user", "carol")); len(all) != 1 || all[0].CorrelationID != shown {
		t.Errorf("in the log stands %+v, on the page %s", all, shown)
	}
	if events := p.Events("access_refused"); len(events) != 4 || events[3]["reference"] != shown {
		t.Errorf("audit events: %v", events)
	}

	other := lab.NewBrowser(t, p.URL)
	other.Password("/payroll/", "bob", lab.Password).Submit("later").Follow().Want("secret report")
}

var pageReference = regexp.MustCompile(`Reference <code>([a-z2-7]+)</code>`)

// reference is what a page shows for the help desk.
func referenceOn(t *testing.T, page *lab.Page) string {
	t.Helper()
	m := pageReference.FindStringSubmatch(page.Body)
	if m == nil {
		t.Fatalf("no reference: %s", page)
	}
	return m[1]
}

func TestTermsOfUseAreAcceptedOncePerVersion(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	rules := filepath.Join(t.TempDir(), "house-rules.md")
	if err := os.WriteFile(rules, []byte("# Be kind\n\nDo not *copy*. <script>alert(1)</script>\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	config := func(version string) lab.Options {
		return lab.Options{Global: `security_defaults off
		terms house_rules {
			version ` + version + `
			text ` + rules + `
		}
		policy "House rules" {
			state enabled
			users all
			applications all
			grant terms:house_rules
		}`}
	}
	p := lab.Start(t, up.Address, config("1"))
	b := lab.NewBrowser(t, p.URL)
	page := b.Password("/reports?x=1", "alice", lab.Password).Want("Terms of use").Want("<h2>Be kind</h2>").Want("<em>copy</em>")
	if strings.Contains(page.Body, "alert(1)</script>") {
		t.Error("script in the text is kept")
	}
	up.WantNothing(t)
	b.Get("/reports").Want("Terms of use")
	page = page.Submit("terms")
	page.Submit("later").Follow().Want("secret report")
	if uri := up.Last(t).URI; uri != "/reports?x=1" {
		t.Fatalf("landed at %s", uri)
	}
	lab.NewBrowser(t, p.URL).Password("/", "alice", lab.Password).Submit("later").Follow().Want("secret report")

	t.Log("a new version is asked for at once, also in a session that has begun")
	if err := p.Reload(lab.Caddyfile(p, up.Address, config("2"))); err != nil {
		t.Fatal(err)
	}
	up.Forget()
	page = b.Get("/").Want("Terms of use")
	up.WantNothing(t)
	page.Submit("terms").Follow().Want("secret report")
}
