package integration

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

// tokenOf is the sealed way on that a browser gets which is sent to sign in.
func tokenOf(t *testing.T, p *lab.Proxy, ref string) string {
	t.Helper()
	page := lab.NewBrowser(t, p.URL).NoRedirects().Get(ref)
	location, err := url.Parse(page.Header.Get("Location"))
	if err != nil || location.Query().Get("t") == "" {
		t.Fatalf("%s leads to %q", ref, page.Header.Get("Location"))
	}
	return location.Query().Get("t")
}

func TestAttackTheWayToOneApplicationIsNoneToAnother(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Global: mfaForPayroll, Site: twoApplications})
	lab.NewBrowser(t, p.URL).Password("/wiki/", "alice", lab.Password).Submit("later").Follow().Want("secret report")
	alice := lab.NewBrowser(t, p.URL)
	page := alice.Password("/payroll/", "alice", lab.Password).Submit("begin")
	person := &lab.Person{Name: "alice", Key: page.Key()}
	page.Submit("code", "code", person.Code(t)).Submit("kept").Follow().Want("secret report")

	t.Log("whoever knows the password, and comes with the token of the wiki")
	wiki := tokenOf(t, p, "/wiki/")
	b := lab.NewBrowser(t, p.URL)
	b.Post("/_mfa/signin", url.Values{"username": {"alice"}, "password": {lab.Password}, "t": {wiki}})
	up.Forget()
	for _, ref := range []string{"/payroll/", "/payroll/?t=" + wiki, "/wiki/../payroll/", "/wiki/..%2fpayroll/", "/payroll//wiki/"} {
		b.Get(ref)
	}
	up.WantNothing(t)
	_, form := b.Get("/_mfa/account?t=" + wiki).Form("everywhere")
	session := form.Get("session")
	for what, fields := range map[string]url.Values{
		"new recovery codes": {"action": {"recovery"}}, "one app less": {"action": {"remove"}, "id": {"x"}},
	} {
		fields.Set("session", session)
		fields.Set("t", wiki)
		if page := b.Post("/_mfa/account", fields); !page.Has("confirm once more that it is you") || strings.Contains(page.Body, `id="codes"`) {
			t.Errorf("%s: %v", what, page)
		}
	}
	if page := b.Post("/_mfa/register", url.Values{"action": {"begin"}, "session": {session}, "t": {wiki}}); strings.Contains(page.Body, "otpauth:") {
		t.Errorf("another app: %v", page)
	}
	b.Get("/payroll/").Want("Enter the code that your authenticator app shows now.")
	up.WantNothing(t)
}

func TestAttackTerms(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	rules := filepath.Join(t.TempDir(), "house-rules.md")
	if err := os.WriteFile(rules, []byte("# Be kind\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := lab.Start(t, up.Address, lab.Options{Global: fmt.Sprintf(`security_defaults off
		terms house_rules {
			version 3
			text %s
		}
		policy "House rules" {
			state enabled
			users all
			applications all
			grant terms:house_rules
		}`, rules)})
	b := lab.NewBrowser(t, p.URL)
	_, form := b.Password("/", "alice", lab.Password).Want("Terms of use").Form("terms")
	_, bobs := lab.NewBrowser(t, p.URL).Password("/", "bob", lab.Password).Want("Terms of use").Form("terms")
	with := func(name, value string) url.Values {
		changed := url.Values{}
		for k, v := range form {
			changed[k] = v
		}
		changed.Set(name, value)
		return changed
	}
	for what, fields := range map[string]url.Values{
		"an older version": with("version", "2"), "a later version": with("version", "4"), "no version": with("version", ""), "a version with more behind it": with("version", "3 "),
		"other terms": with("terms", "others"), "the session of somebody else": with("session", bobs.Get("session")), "no session": with("session", ""),
	} {
		b.Post("/_mfa/terms", fields)
		if b.SignedIn() {
			t.Errorf("%s is accepted", what)
		}
	}
	b.Get("/_mfa/terms?" + form.Encode())
	for _, header := range []http.Header{{"Origin": {"https://evil.example"}}, {"Origin": {"null"}}, {"Sec-Fetch-Site": {"cross-site"}}, {"Sec-Fetch-Site": {"same-site"}}} {
		r := b.Request(http.MethodPost, "/_mfa/terms", form)
		r.Header.Del("Origin")
		r.Header.Del("Sec-Fetch-Site")
		for name, values := range header {
			r.Header[name] = values
		}
		b.Do(r)
	}
	if b.SignedIn() {
		t.Error("they are accepted by a link, or from elsewhere")
	}
	t.Log("whoever has not accepted them registers nothing")
	if page := b.Post("/_mfa/register", url.Values{"action": {"begin"}, "session": {form.Get("session")}}); strings.Contains(page.Body, "otpauth:") || !page.Has("Terms of use") {
		t.Errorf("a factor can be registered: %v", page)
	}
	up.WantNothing(t)
	b.Post("/_mfa/terms", form)
	if !b.SignedIn() {
		t.Error("they can't be accepted")
	}
}

func TestAttackPoliciesThatCanNotHoldRefuseTheStart(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	imported := func(text string) string {
		path := filepath.Join(t.TempDir(), "policy.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return "policies import " + path + "\n"
	}
	const enabled = `{"displayName": "MFA", "state": "enabled", "conditions": {"users": {"includeUsers": ["All"]}, "applications": {"includeApplications": ["All"]}%s},
		"grantControls": {"operator": "OR", "builtInControls": ["mfa"]}}`
	const proxies = "servers {\n trusted_proxies static 10.0.0.0/8\n }\n"
	for reason, tc := range map[string]struct {
		global, servers, want string
	}{
		"an imported policy beside security defaults": {imported(fmt.Sprintf(enabled, "")), "", "security defaults are on"},
		"an imported place, and addresses that clients write": {
			"security_defaults off\nnamed_location office {\n ranges 203.0.113.0/24\n trusted\n }\n" +
				imported(fmt.Sprintf(enabled, `, "locations": {"includeLocations": ["All"], "excludeLocations": ["AllTrusted"]}`)), proxies, "trusted_proxies_strict",
		},
		"trusted ranges of the per-user setting, and addresses that clients write": {
			"security_defaults off\nper_user_mfa {\n trusted_ranges 10.0.0.0/8\n }\n", proxies, "trusted_proxies_strict",
		},
		"a key that stands twice": {
			"security_defaults off\n" + imported(`{"displayName": "MFA", "state": "enabled", "State": "disabled", "conditions": {"users": {"includeUsers": ["All"]},
				"applications": {"includeApplications": ["All"]}}, "grantControls": {"operator": "OR", "builtInControls": ["mfa"]}}`), "", "stands twice",
		},
	} {
		t.Run(reason, func(t *testing.T) {
			p := lab.Start(t, up.Address, lab.Options{Global: tc.global, Servers: tc.servers, MayFail: true})
			// Caddy starts its apps in no order: for a moment it may serve, and refuse.
			lab.Eventually(t, 10*time.Second, "it ends", func() bool { return !p.Running() })
			if text := p.Log(); !strings.Contains(text, tc.want) {
				t.Errorf("it says\n%s", text)
			}
			if _, err := http.Get(p.URL); err == nil {
				t.Error("it serves")
			}
		})
	}
	up.WantNothing(t)
}
