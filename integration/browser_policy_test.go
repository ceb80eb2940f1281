package integration

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
	"github.com/caddy-mfa/caddy-mfa/internal/audit"
)

// guarded is a site where each of these applications stands below its own name.
func guarded(applications ...string) string {
	var b strings.Builder
	for _, name := range applications {
		fmt.Fprintf(&b, "mfa /%[1]s/* %[1]s\n\t", name)
	}
	return b.String() + "reverse_proxy {upstream}"
}

// signInsOf waits until the sign-in log holds so many records of a user, and gives them, the oldest first.
func signInsOf(t *testing.T, p *lab.Proxy, user string, number int) []audit.SignIn {
	t.Helper()
	var all []audit.SignIn
	lab.Eventually(t, 30*time.Second, fmt.Sprintf("%d sign-ins of %s in the log", number, user), func() bool {
		all = asJSON[[]audit.SignIn](t, p.Command("sign-ins", "--json", "--limit", "0", "--user", user))
		return len(all) >= number
	})
	if len(all) > number {
		for _, r := range all {
			t.Logf("%+v", r)
		}
		t.Fatalf("%d sign-ins of %s in the log, want %d", len(all), user, number)
	}
	slices.Reverse(all)
	return all
}

// wantRecord fails the test unless a record says this. policies are pairs of a policy's name and its result.
func wantRecord(t *testing.T, r audit.SignIn, what, application string, code int, requirement, status string, policies ...string) {
	t.Helper()
	if r.AppDisplayName != application || r.Status.ErrorCode != code || r.Requirement != requirement || r.ConditionalAccess != status {
		t.Errorf("%s: %s, %d %q, %s, %s; want %s, %d, %s, %s", what, r.AppDisplayName, r.Status.ErrorCode, r.Status.FailureReason, r.Requirement, r.ConditionalAccess,
			application, code, requirement, status)
	}
	for i := 0; i < len(policies); i += 2 {
		result := audit.PolicyResult("missing")
		for _, p := range r.Policies {
			if p.DisplayName == policies[i] {
				result = p.Result
			}
		}
		if string(result) != policies[i+1] {
			t.Errorf("%s: the policy %q: %s, want %s", what, policies[i], result, policies[i+1])
		}
	}
}

const (
	single, multi = audit.SingleFactor, audit.MultiFactor
	notApplied    = audit.AccessNotApplied
	satisfied     = audit.AccessSuccess
	unmet         = audit.AccessFailure
)

func TestInABrowserAPersonPostponesThenRegisters(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, application(""))
	p := lab.Start(t, up.Address, lab.Options{Site: guarded("wiki"), Global: `policy "MFA for everybody" {
			state report_only
			users all
			applications all
			grant mfa
		}`})
	chromium := lab.NewChromium(t)
	postpone(chromium.Profile(t, "en").Open(p.URL+"/wiki/").Want("User name"), "alice", "secret report")
	tab := chromium.Profile(t, "en").Open(p.URL + "/wiki/page?a=b").Want("User name")
	password(tab, "alice").Want("You can do this later for 14 more days.").Click("Set up").Want("Scan this code")
	alice := &lab.Person{Name: "alice", Key: key(tab)}
	tab.Fill("code", alice.Code(t)).Click("Confirm").Want("Keep your recovery codes").Click("I have kept them")
	landed(t, tab, "/wiki/page?a=b")
	tab = chromium.Profile(t, "en").Open(p.URL + "/wiki/").Want("User name")
	password(tab, "alice").Want("Signing in as alice").Fill("code", alice.Code(t)).Click("Continue")
	landed(t, tab, "/wiki/")

	all := signInsOf(t, p, "alice", 3)
	for _, r := range all[:2] {
		wantRecord(t, r, "in grace", "wiki", 0, single, notApplied, "MFA for everybody", "reportOnlyInterrupted")
	}
	wantRecord(t, all[2], "registered", "wiki", 0, multi, notApplied, "MFA for everybody", "reportOnlySuccess")
	if d := all[2].Device; d.OperatingSystem != "Linux" || !strings.Contains(d.Browser, "Chrome") {
		t.Errorf("the browser is %q on %q", d.Browser, d.OperatingSystem)
	}
}

// stepUpPolicies: the wiki opens with the password, payroll asks for more, and one policy watches without being felt.
const stepUpPolicies = `security_defaults off
		policy "MFA for payroll" {
			state enabled
			users all
			applications payroll
			grant mfa
		}
		policy "MFA for everybody" {
			state report_only
			users all
			applications all
			grant mfa
		}
		policy "Nobody reads the news" {
			state report_only
			users all
			applications news
			grant block
		}`

func TestInABrowserAStepUpAsksOnlyForWhatIsMissing(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, application(""))
	options := lab.Options{Global: stepUpPolicies, Site: guarded("wiki", "payroll", "news")}
	p := lab.Start(t, up.Address, options)
	chromium := lab.NewChromium(t)

	t.Log("the password opens the wiki; payroll wants a second step, which is registered on the way")
	first := chromium.Profile(t, "en").Open(p.URL + "/wiki/").Want("User name")
	postpone(first, "alice", "secret report")
	first.Open(p.URL + "/payroll/2026?month=5&x=a%20b").Want("Set up your second step")
	if first.Says("Not now") {
		t.Error("what payroll demands can be put off")
	}
	first.Click("Set up").Want("Scan this code")
	alice := &lab.Person{Name: "alice", Key: key(first)}
	first.Fill("code", alice.Code(t)).Click("Confirm").Want("Keep your recovery codes").Click("I have kept them")
	landed(t, first, "/payroll/2026?month=5&x=a%20b")
	all := signInsOf(t, p, "alice", 3)
	wantRecord(t, all[0], "the wiki", "wiki", 0, single, notApplied, "MFA for payroll", "notApplied", "MFA for everybody", "reportOnlyInterrupted", "Nobody reads the news", "reportOnlyNotApplied")
	wantRecord(t, all[1], "payroll, asked", "payroll", audit.CodeMustRegister, multi, unmet, "MFA for payroll", "failure", "MFA for everybody", "reportOnlyInterrupted")
	wantRecord(t, all[2], "payroll, registered", "payroll", 0, multi, satisfied, "MFA for payroll", "success", "MFA for everybody", "reportOnlySuccess")

	t.Log("another browser: payroll asks for the code, and not for the password")
	tab := chromium.Profile(t, "en").Open(p.URL + "/wiki/").Want("User name")
	password(tab, "alice")
	landed(t, tab, "/wiki/")
	up.Forget()
	tab.Open(p.URL + "/payroll/2026?month=6#here").Want("Enter the code that your authenticator app shows now.")
	if tab.Says("User name") || lab.Eval[bool](tab, `document.getElementById("password") !== null`) {
		t.Error("the password is asked for again")
	}
	tab.Reload()
	tab.Want("Signed in as alice").Fill("code", "000000").Click("Continue").Want("That code is not right.")
	up.WantNothing(t)
	tab.Fill("code", alice.Code(t)).Click("Continue")
	landed(t, tab, "/payroll/2026?month=6")
	all = signInsOf(t, p, "alice", 7)
	wantRecord(t, all[3], "the wiki again", "wiki", 0, single, notApplied)
	wantRecord(t, all[4], "payroll, asked again", "payroll", audit.CodeMFARequired, multi, unmet, "MFA for payroll", "failure")
	wantRecord(t, all[5], "payroll, a wrong code", "payroll", audit.CodeMFADenied, multi, notApplied)
	wantRecord(t, all[6], "payroll, proven", "payroll", 0, multi, satisfied, "MFA for payroll", "success")
	if len(all[6].Details) != 2 || all[6].Details[1].Method != "totp" {
		t.Errorf("proofs: %+v", all[6].Details)
	}

	t.Log("a form whose session is not good enough any more is not lost in silence, and nobody is told that he was signed out")
	third := chromium.Profile(t, "en").Open(p.URL + "/wiki/").Want("User name")
	password(third, "alice")
	landed(t, third, "/wiki/")
	said := lab.Eval[string](third, `new Promise(done => {
		document.body.insertAdjacentHTML("beforeend", "<form method=post action=/payroll/save><button>Send</button></form>");
		const f = document.createElement("iframe");
		f.onload = () => { if (f.contentDocument.URL !== "about:blank") done(f.contentDocument.body.innerText) };
		f.src = "/payroll/part"; document.body.append(f);
	})`)
	if !strings.Contains(said, "This part of the page is shown after one more step.") {
		t.Errorf("the frame says %q", said)
	}
	up.Forget()
	third.Click("Send").Want("One more step").Want("What you typed was not sent.")
	if third.Says("signed out") {
		t.Error("the page says that alice was signed out")
	}
	up.WantNothing(t)
	third.Click("Continue").Want("Enter the code that your authenticator app shows now.").Fill("code", alice.Code(t)).Click("Continue")
	landed(t, third, "/wiki/")

	t.Log("no number of requests tells the log of anything new; another application does, once")
	fetch := func(path string, status int) {
		t.Helper()
		script := fmt.Sprintf(`Promise.all([...Array(50).keys()].map(i => fetch(%q + i).then(r => r.status === %d))).then(all => all.every(ok => ok))`, path, status)
		if !lab.Eval[bool](tab, script) {
			t.Errorf("not every request to %s has status %d", path, status)
		}
	}
	fetch("/payroll/x", http.StatusOK)
	fetch("/wiki/x", http.StatusOK)
	fetch("/news/x", http.StatusOK)
	all = signInsOf(t, p, "alice", 11)
	wantRecord(t, all[10], "the news", "news", 0, single, notApplied, "Nobody reads the news", "reportOnlyFailure", "MFA for everybody", "reportOnlySuccess")
	if all[10].IsInteractive {
		t.Error("nobody was asked for anything, and the record says that somebody was")
	}

	t.Log("a policy is enabled: the verdict changes, once")
	options.Global = strings.Replace(stepUpPolicies, "state report_only\n\t\t\tusers all\n\t\t\tapplications news", "state enabled\n\t\t\tusers all\n\t\t\tapplications news", 1)
	if err := p.Load(lab.Caddyfile(p, up.Address, options)); err != nil {
		t.Fatal(err)
	}
	tab.Accept("status of 403") // of what is refused
	tab.Accept("has status 403")
	fetch("/news/x", http.StatusForbidden)
	fetch("/payroll/x", http.StatusOK)
	all = signInsOf(t, p, "alice", 12)
	wantRecord(t, all[11], "the news, blocked", "news", audit.CodeBlocked, single, unmet, "Nobody reads the news", "failure", "MFA for everybody", "reportOnlySuccess")

	t.Log("a person, a script and a program are told, each in its way, with the reference of the record")
	problem := lab.Eval[struct {
		Kind, Type, Title, Detail, Reference string
		Status                               int
	}](tab, `fetch("/news/feed").then(async r => Object.assign({ Kind: r.headers.get("Content-Type") }, ...Object.entries(await r.json()).map(([k, v]) => ({ [k[0].toUpperCase() + k.slice(1)]: v }))))`)
	if problem.Kind != "application/problem+json" || problem.Status != http.StatusForbidden || problem.Type != "urn:caddy-mfa:problem:refused" || problem.Reference != all[11].CorrelationID || problem.Detail != "policy_blocks" {
		t.Errorf("a script is told %+v", problem)
	}
	tab.Open(p.URL + "/news/today").Want("You can't open news from here")
	shown := lab.Eval[string](tab, `document.querySelector(".reference code").textContent`)
	if shown != all[11].CorrelationID {
		t.Errorf("the page has the reference %q, the log %q", shown, all[11].CorrelationID)
	}
	if tab.Says("Nobody reads the news") {
		t.Error("the page tells what the policy is called")
	}
	line, err := exec.Command("curl", "--silent", "--noproxy", "*", "--write-out", "%{http_code} %{content_type}", "--cookie", "mfa_session="+tab.Cookie("mfa_session").Value, "--resolve", fmt.Sprintf("localhost:%d:127.0.0.1", p.Port), p.URL+"/news/feed").Output()
	if want := "Policy refuses this. Reference: " + shown + "\n403 text/plain; charset=utf-8"; err != nil || string(line) != want {
		t.Errorf("curl is told %q, %v; want %q", line, err, want)
	}
	if found := asJSON[[]audit.SignIn](t, p.Command("sign-ins", "--json", "--reference", shown)); len(found) != 1 || found[0].AppDisplayName != "news" {
		t.Errorf("with the reference on the page, the log finds %+v", found)
	}
	signInsOf(t, p, "alice", 12)

	for labels, n := range map[string]float64{
		`policy="MFA for payroll",result="success"`: 3, `policy="MFA for payroll",result="failure"`: 3, `policy="MFA for payroll",result="notApplied"`: 5,
		`policy="MFA for everybody",result="reportOnlyInterrupted"`: 6, `policy="MFA for everybody",result="reportOnlySuccess"`: 5,
		`policy="Nobody reads the news",result="reportOnlyFailure"`: 1, `policy="Nobody reads the news",result="failure"`: 1,
	} {
		if got := metric(t, p, "caddy_mfa_policy_results_total{"+labels+"}"); got != n {
			t.Errorf("%s: %v, want %v", labels, got, n)
		}
	}
}

func TestInABrowserAnOldSignInIsAskedForAgain(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, application(""))
	p := lab.Start(t, up.Address, lab.Options{Site: guarded("wiki", "vault", "bank"), Global: `security_defaults off
		policy "Every four hours" {
			state enabled
			users all
			applications wiki
			grant mfa
			sign_in_frequency 4h
		}
		policy "Every time" {
			state enabled
			users all
			applications vault bank
			grant mfa
			sign_in_frequency every_time
		}`})
	tab := lab.NewChromium(t).Profile(t, "en").Open(p.URL + "/wiki/").Want("User name")
	alice := begin(tab, "alice")
	tab.Fill("code", alice.Code(t)).Click("Confirm").Want("Keep your recovery codes").Click("I have kept them")
	landed(t, tab, "/wiki/")
	again := func(path, why, whyToo string) {
		t.Helper()
		up.Forget()
		tab.Open(p.URL + path).Want(why)
		if user := lab.Eval[string](tab, `document.getElementById("username").value`); user != "alice" {
			t.Errorf("the user name is %q", user)
		}
		if tab.Focus() != "password" {
			t.Errorf("the focus is on %q", tab.Focus())
		}
		tab.Fill("password", "wrong").Click("Sign in").Want("Your user name or password is not right.").Want(why).Want("Signed in as alice")
		tab.Fill("password", lab.Password).Click("Sign in").Want(whyToo).Want("Enter the code that your authenticator app shows now.")
		up.WantNothing(t)
		tab.Fill("code", alice.Code(t)).Click("Continue")
		landed(t, tab, path)
	}

	t.Log("what was proven is good for four hours")
	p.Age("alice", 3*time.Hour+50*time.Minute)
	tab.Open(p.URL + "/wiki/other")
	landed(t, tab, "/wiki/other")
	p.Age("alice", 20*time.Minute)
	again("/wiki/deep?x=1&y=a%20b", "wiki asks you to sign in once more because the last time was more than 4 hours ago.",
		"wiki asks for a second step because the last time was more than 4 hours ago.")

	t.Log("who enters must have proven it just now; who is inside is not asked")
	tab.Open(p.URL + "/vault/")
	landed(t, tab, "/vault/")
	p.Age("alice", 10*time.Minute)
	for _, path := range []string{"/vault/inside", "/wiki/"} {
		tab.Open(p.URL + path)
		landed(t, tab, path)
	}
	again("/bank/?x=1", "bank asks you to sign in every time.", "bank asks for a second step every time.")
	p.Age("alice", 10*time.Minute)
	for _, path := range []string{"/bank/inside", "/bank/further", "/vault/inside"} {
		tab.Open(p.URL + path)
		landed(t, tab, path)
	}

	var told []string
	for _, r := range signInsOf(t, p, "alice", 8) {
		if r.Status.ErrorCode == audit.CodeMFARequired {
			told = append(told, r.AppDisplayName+" "+r.Status.FailureReason)
		}
	}
	if got := strings.Join(told, ", "); got != "wiki sign_in_frequency, bank sign_in_frequency" {
		t.Errorf("the log says: %s", got)
	}
}

func TestInABrowserTermsAreAcceptedOncePerVersion(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, application(""))
	text := filepath.Join(t.TempDir(), "house-rules.md")
	if err := os.WriteFile(text, []byte(houseRules), 0o600); err != nil {
		t.Fatal(err)
	}
	p := lab.Start(t, up.Address, lab.Options{Site: guarded("wiki"), Global: houseRulesPolicy(text, 1)})
	chromium := lab.NewChromium(t)
	tab := chromium.Profile(t, "en").Open(p.URL + "/wiki/a?b=c").Want("User name")
	password(tab, "alice").Want("Terms of use").Want("Before you go on to wiki, read and accept this.").Want("Be kind")
	if found := lab.Eval[int](tab, `document.querySelectorAll("h1").length`); found != 1 {
		t.Errorf("%d headings of the first level", found)
	}
	reach(t, tab, "I accept")
	tab.Click("I don't accept: sign me out").Want("You are signed out")
	up.WantNothing(t)
	tab.Open(p.URL + "/wiki/a?b=c").Want("User name")
	password(tab, "alice").Want("Terms of use")
	tab.Open(p.URL + "/wiki/a?b=c").Want("Terms of use")
	up.WantNothing(t)
	tab.Click("I accept").Want("Not now").Click("Not now")
	landed(t, tab, "/wiki/a?b=c")
	other := chromium.Profile(t, "en").Open(p.URL + "/wiki/").Want("User name")
	postpone(other, "alice", "secret report")

	t.Log("another version is asked for once, in every session at once")
	if err := p.Load(lab.Caddyfile(p, up.Address, lab.Options{Site: guarded("wiki"), Global: houseRulesPolicy(text, 2)})); err != nil {
		t.Fatal(err)
	}
	tab.Open(p.URL + "/wiki/d").Want("Terms of use").Click("I accept")
	landed(t, tab, "/wiki/d")
	other.Open(p.URL + "/wiki/e")
	landed(t, other, "/wiki/e")

	all := signInsOf(t, p, "alice", 4)
	wantRecord(t, all[0], "accepted", "wiki", 0, single, satisfied, "House rules", "success")
	wantRecord(t, all[2], "the next version", "wiki", audit.CodeMFARequired, single, unmet, "House rules", "failure")
	wantRecord(t, all[3], "accepted again", "wiki", 0, single, satisfied, "House rules", "success")
	if events := p.Events("terms_of_use_accepted"); len(events) != 2 {
		t.Errorf("audit events: %v", events)
	}
}

func houseRulesPolicy(text string, version int) string {
	return fmt.Sprintf(`security_defaults off
		terms house_rules {
			version %d
			text %s
		}
		policy "House rules" {
			state enabled
			users all
			applications all
			grant terms:house_rules
		}`, version, text)
}

// houseRules has everything that such a text may have.
var houseRules = `# Be kind

Do not *copy*, do not **sell**. See the [whole text](https://intranet.example.com/rules) or ask.

## What you may do

1. Read what concerns you.
2. Write what is true.
   - in your own name
   - and not in ` + "`another's`" + `

> Whoever leaves, leaves the papers.

### What we keep

    who, when, from where

` + strings.Repeat("We keep the time, the address and the application of each sign-in for thirty days, and tell nobody but the works council. ", 12) + `

---

A_long_word_without_any_room_to_break_it_that_somebody_has_pasted_from_a_contract_and_never_looked_at.
`

func TestInABrowserTheSessionOutlivesItOrNot(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, application(""))
	p := lab.Start(t, up.Address, lab.Options{Site: guarded("wiki"), Global: `security_defaults off
		policy "Stay" {
			state enabled
			users alice bob
			applications all
			grant mfa
			persistent_browser always
		}
		policy "Go" {
			state enabled
			users bob
			applications all
			persistent_browser never
		}`})
	chromium := lab.NewChromium(t)
	people := map[string]*lab.Tab{}
	for _, user := range []string{"alice", "bob", "carol"} {
		tab := chromium.Profile(t, "en").Open(p.URL + "/wiki/").Want("User name")
		people[user] = tab
		if user == "carol" {
			postpone(tab, user, "secret report")
		} else {
			person := begin(tab, user)
			tab.Fill("code", person.Code(t)).Click("Confirm").Want("Keep your recovery codes").Click("I have kept them")
			landed(t, tab, "/wiki/")
			// A change of factors gives the session another token.
			tab.Open(p.URL+"/_mfa/account").Click("Make new recovery codes").Want("confirm once more").Fill("code", person.Code(t)).Click("Continue").
				Want("Make new recovery codes?").Click("Make new recovery codes").Want("The old ones no longer work")
		}
		tab.Open(p.URL + "/wiki/")
		landed(t, tab, "/wiki/")
	}
	now := float64(time.Now().Unix())
	for user, stays := range map[string]bool{"alice": true, "bob": false, "carol": false} {
		c := people[user].Cookie("mfa_session")
		if c == nil || c.Session == stays {
			t.Errorf("%s: %+v", user, c)
		} else if left := c.Expires - now; stays && (left < 11*3600 || left > 12*3600) {
			t.Errorf("%s: the cookie is kept for %v seconds", user, left)
		}
	}
}

// The pages that only policies lead to, as everybody may need to read them.
func TestEveryPageOfPolicyCanBeUsedByEverybody(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, application(""))
	text := filepath.Join(t.TempDir(), "house-rules.md")
	if err := os.WriteFile(text, []byte(houseRules), 0o600); err != nil {
		t.Fatal(err)
	}
	site := "mfa /wiki/* Wiki\nmfa /payroll/* Payroll\nmfa /vault/* Vault\nmfa /bank/* Bank\nmfa /news/* News\nmfa /desk/* Desk\nreverse_proxy {upstream}"
	p := lab.Start(t, up.Address, lab.Options{Site: site, Global: `help "Service desk, room 12, phone 1234"
		security_defaults off
		device_rule compliant "certificate.issuer -eq 'CN=Example Devices CA'"
		strength smart_cards {
			combinations x509CertificateMultiFactor
		}
		terms house_rules {
			version 1
			text ` + text + `
		}
		policy "House rules" {
			state enabled
			users all
			applications Wiki
			grant terms:house_rules
		}
		policy "Our machines" {
			state enabled
			users all
			applications Payroll
			grant compliant_device
		}
		policy "Smart cards" {
			state enabled
			users all
			applications Vault
			grant strength:smart_cards
		}
		policy "Nobody" {
			state enabled
			users all
			applications News
			grant block
		}
		policy "Every hour" {
			state enabled
			users all
			applications Bank
			sign_in_frequency 1h
		}
		named_location headquarters {
			ranges 192.0.2.0/24
			trusted
		}
		policy "Outside" {
			state enabled
			users all
			applications Desk
			exclude_locations headquarters
			grant mfa
		}`})
	chromium := lab.NewChromium(t)
	texts := map[string]map[string]string{
		"en": {
			"terms": "read and accept this", "accept": "I accept", "device": "devices that your organisation manages", "strength": "a way to sign in that you have not set up",
			"block": "does not allow this", "again": "Bank asks you to sign in once more because the last time was more than 1 hour ago.", "wrong": "is not right", "signin": "User name", "submit": "Sign in", "later": "Not now",
			"begin": "Set up", "scan": "Scan this code", "confirm": "Confirm", "kept": "I have kept them", "why": "Desk asks for a second step because you are outside the networks that your organisation trusts.",
		},
		"nl": {
			"terms": "Lees en aanvaard", "accept": "Ik ga akkoord", "device": "uw organisatie beheert", "strength": "die u niet hebt ingesteld",
			"block": "staat dit niet toe", "again": "omdat de vorige keer meer dan 1 uur geleden is", "wrong": "klopt niet", "signin": "Gebruikersnaam", "submit": "Aanmelden", "later": "Nu niet",
			"begin": "Instellen", "scan": "Scan deze code", "confirm": "Bevestigen", "kept": "Ik heb ze bewaard", "why": "Desk vraagt om een tweede stap omdat u buiten de netwerken bent die uw organisatie vertrouwt.",
		},
	}
	galleries := map[string]*gallery{}
	for user, lang := range map[string]string{"alice": "en", "bob": "nl"} {
		g := &gallery{t: t, tab: chromium.Profile(t, lang), lang: lang, text: texts[lang]}
		galleries[user] = g
		tab, say := g.tab, g.say
		tab.Open(p.URL+"/wiki/").Fill("username", user).Fill("password", lab.Password).Click(say("submit"))
		g.look("terms", say("terms"))
		for lab.Eval[string](tab, `document.activeElement.className`) != "terms" {
			tab.Tabulator()
		}
		if !lab.Eval[bool](tab, `(s => s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2)(getComputedStyle(document.activeElement))`) {
			t.Error("one can't see that the focus is on the terms")
		}
		tab.Screenshot("terms-focus-" + lang)
		tab.Click(say("accept")).Want(say("later")).Click(say("later")).Want("secret report")
		tab.Open(p.URL + "/payroll/")
		g.look("refused-device", say("device"))
		tab.Open(p.URL + "/vault/")
		g.look("refused-strength", say("strength"))
		tab.Open(p.URL + "/news/")
		g.look("refused-block", say("block"))
	}
	p.Age("alice", 2*time.Hour)
	p.Age("bob", 2*time.Hour)
	for _, g := range galleries {
		g.tab.Open(p.URL + "/bank/")
		g.look("again", g.say("again"))
		g.tab.Fill("password", "wrong").Click(g.say("submit"))
		g.look("again-wrong", g.say("wrong"))
	}
	for user, g := range galleries {
		tab, say := g.tab, g.say
		signIn := func() {
			tab.ForgetCookies()
			tab.Open(p.URL+"/desk/").Want(say("signin")).Fill("username", user).Fill("password", lab.Password).Click(say("submit"))
		}
		signIn()
		tab.Want(say("begin")).Click(say("begin")).Want(say("scan"))
		person := &lab.Person{Name: user, Key: key(tab)}
		tab.Fill("code", person.Code(t)).Click(say("confirm")).Want(say("kept")).Click(say("kept")).Want("secret report")
		signIn()
		g.look("why", say("why"))
	}
}
