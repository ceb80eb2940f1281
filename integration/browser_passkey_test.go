package integration

import (
	"slices"
	"strings"
	"testing"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

func signOut(tab *lab.Tab, p *lab.Proxy) {
	tab.Open(p.URL + "/_mfa/signout").Want("will be signed out").Click("Sign out").Want("You are signed out")
}

// A person with an app adds a passkey, signs in with it, and takes it away again.
func TestAPasskeyAsTheSecondStep(t *testing.T) {
	t.Parallel()
	w := newWays(t, "")
	tab := w.open(t, "/a?b=c")
	device := tab.Authenticator()
	alice := begin(tab, "alice")
	tab.Fill("code", alice.Code(t)).Click("Confirm").Want("Keep your recovery codes").Click("I have kept them")
	landed(t, tab, "/a?b=c")

	tab.Open(w.p.URL + "/_mfa/account").Want("Your second step").Click("Add another second step")
	tab.Want("confirm once more").Fill("code", alice.Code(t)).Click("Continue").Want("Set up a passkey").Click("Set up a passkey").Want("keep the passkey")
	device.Verifies(false)
	tab.Click("Make a passkey").Want("That did not work, or was cancelled.")
	device.Verifies(true)
	tab.Click("Make a passkey").Want("Where you are signed in").Want("Passkey or security key")
	kept := device.Passkeys()
	if len(kept) != 1 || kept[0].RpID != "localhost" || len(kept[0].UserHandle) != 32 {
		t.Fatalf("%+v", kept)
	}
	if !strings.Contains(tab.String(), "Chrom") {
		t.Errorf("the passkey has no name:\n%s", tab)
	}

	signOut(tab, w.p)
	tab.Open(w.p.URL + "/a?b=c").Want("User name")
	password(tab, "alice").Want("Use your passkey")
	if focus := tab.Focus(); focus != "Use your passkey" {
		t.Errorf("the focus is on %q", focus)
	}
	tab.Enter()
	landed(t, tab, "/a?b=c")
	if got := w.up.Last(t).Header["Remote-User"]; len(got) != 1 || got[0] != "alice" {
		t.Errorf("Remote-User = %q", got)
	}

	signOut(tab, w.p)
	tab.Open(w.p.URL + "/a?b=c").Want("User name")
	device.Forges(true)
	password(tab, "alice").Want("Use your passkey").Click("Use your passkey").Want("This passkey was not accepted.")
	device.Forges(false)
	tab.Click("Use a code from your authenticator app").Want("app shows now").Click("Use a passkey or security key").Want("Use your passkey").Click("Use your passkey")
	landed(t, tab, "/a?b=c")

	// A second browser profile has a copy of the passkey, as it was before the last sign-ins.
	thief := w.open(t, "/a?b=c")
	thief.Authenticator().Copy(kept[0])
	password(thief, "alice").Want("Use your passkey").Click("Use your passkey").Want("This passkey was not accepted.")
	if !slices.ContainsFunc(w.p.Events("factor_refused"), func(e map[string]any) bool { return e["method"] == "passkey" && e["reason"] == "cloned" }) {
		t.Error("the log does not tell of the copy")
	}

	tab.Open(w.p.URL + "/_mfa/account").Want("Passkey or security key")
	lab.Eval[bool](tab, `(() => { [...document.querySelectorAll(".list li")].find(e => e.textContent.includes("Passkey")).querySelector("button").click(); return true })()`)
	tab.Want("It was removed.") // paid with the sign-in of just now
	signOut(tab, w.p)
	tab.Open(w.p.URL + "/a?b=c").Want("User name")
	password(tab, "alice").Want("Enter the code that your authenticator app shows now.")
	if tab.Says("passkey") {
		t.Errorf("the passkey is asked for:\n%s", tab)
	}
}

func TestAPasskeyAsTheFirstFactorThatIsRegistered(t *testing.T) {
	t.Parallel()
	w := newWays(t, "")
	tab := w.open(t, "/b")
	device := tab.Authenticator()
	password(tab, "bob").Want("Set up a passkey").Click("Set up a passkey").Want("keep the passkey").Click("Make a passkey").Want("Keep your recovery codes")
	recovery := codes(tab)
	tab.Click("I have kept them")
	landed(t, tab, "/b")
	signOut(tab, w.p)

	// The device is lost: what it holds is worth nothing once another has taken its place.
	tab.Open(w.p.URL + "/b").Want("User name")
	password(tab, "bob").Want("Use your passkey").Click("Use a recovery code").Want("Each works once").Fill("code", recovery[0]).Click("Continue")
	tab.Want("Every app, passkey and phone that you had set up").Click("Set up").Want("Scan this code")
	bob := &lab.Person{Name: "bob", Key: key(tab)}
	tab.Fill("code", bob.Code(t)).Click("Confirm").Want("Keep your recovery codes").Click("I have kept them")
	landed(t, tab, "/b")
	if len(device.Passkeys()) != 1 {
		t.Fatal("the device has lost it")
	}
	signOut(tab, w.p)
	tab.Open(w.p.URL + "/b").Want("User name")
	password(tab, "bob").Want("app shows now")
	if tab.Says("passkey") {
		t.Errorf("the lost passkey is asked for:\n%s", tab)
	}
}

// The step-up from a code to an application that takes passkeys alone.
func TestStepUpFromACodeToAPasskey(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Site: twoApplications, Global: `security_defaults off
		policy "Passkeys for payroll" {
			state enabled
			users all
			applications payroll
			grant strength:phishing_resistant
		}
		policy "MFA for the wiki" {
			state enabled
			users all
			applications wiki
			grant mfa
		}`})
	const there = "/payroll/2026?month=5&x=a%20b"
	chromium := lab.NewChromium(t)
	tab := chromium.Profile(t, "en")
	tab.Accept("/favicon.ico") // of the application
	tab.Authenticator()
	tab.Open(p.URL + "/wiki/x").Want("User name")
	alice := begin(tab, "alice")
	tab.Fill("code", alice.Code(t)).Click("Confirm").Want("Keep your recovery codes").Click("I have kept them").Want("secret report")
	signOut(tab, p)
	up.Forget()

	tab.Open(p.URL + there).Want("User name")
	password(tab, "alice").Want("app shows now").Fill("code", alice.Code(t)).Click("Continue").Want("asks for a stronger second step")
	if tab.Says("Authenticator app") || tab.Says("Not now") {
		t.Errorf("something is offered that would not do:\n%s", tab)
	}
	for _, r := range up.Requests() {
		if r.URI != "/favicon.ico" {
			t.Errorf("%s has reached the application", r.URI)
		}
	}
	tab.Click("Set up a passkey").Want("keep the passkey").Click("Make a passkey").Want("secret report")
	if got := tab.Path(); got != there {
		t.Errorf("landed at %s, want %s", got, there)
	}

	// The second visit asks for the passkey alone.
	signOut(tab, p)
	tab.Open(p.URL + there).Want("User name")
	password(tab, "alice").Want("Use your passkey")
	if tab.Says("app") {
		t.Errorf("another way is offered:\n%s", tab)
	}
	tab.Click("Use your passkey").Want("secret report")
	if got := tab.Path(); got != there {
		t.Errorf("landed at %s, want %s", got, there)
	}

	// The third does without the password.
	signOut(tab, p)
	tab.Open(p.URL + there).Want("User name").Click("Sign in with a passkey").Want("secret report")
	if got := tab.Path(); got != there {
		t.Errorf("landed at %s, want %s", got, there)
	}

	// It can't be removed, and the page says why.
	tab.Open(p.URL + "/_mfa/account").Want("payroll asks for this one, so it can't be removed.")
	if n := lab.Eval[int](tab, `[...document.querySelectorAll("button")].filter(b => b.textContent.trim() === "Remove").length`); n != 1 {
		t.Errorf("%d factors can be removed, want the app alone:\n%s", n, tab)
	}

	tab.Click("Remove").Want("It was removed.").Want("This is your only second step") // paid with the sign-in of just now

	// Who has nothing is offered nothing weaker. He comes from the wiki, signed in a while ago.
	other := chromium.Profile(t, "en")
	other.Accept("/favicon.ico")
	other.Authenticator()
	other.Open(p.URL + there).Want("User name")
	password(other, "bob").Want("Set up a passkey")
	if other.Says("Authenticator app") {
		t.Errorf("an app is offered:\n%s", other)
	}
	other.Click("Set up a passkey").Want("keep the passkey").Click("Make a passkey").Want("Keep your recovery codes").Click("I have kept them").Want("secret report")
}

// Without a script, or without WebAuthn, pages say so, and there are other ways.
func TestPasskeyPagesWithoutWebAuthn(t *testing.T) {
	t.Parallel()
	w := newWays(t, "")
	tab := w.open(t, "/a")
	tab.WithoutWebAuthn()
	tab.Open(w.p.URL + "/a").Want("User name")
	password(tab, "alice").Want("Set up a passkey").Click("Set up a passkey").Want("This browser can't use passkeys.").Click("I can't use this now").Want("Authenticator app")

	plain := lab.NewBrowser(t, w.p.URL)
	page := plain.Password("/a", "alice", lab.Password).Submit("passkey").Want("Passkeys need JavaScript")
	if _, options, ok := strings.Cut(page.Body, `data-options="`); !ok || strings.Contains(options[:strings.Index(options, `>`)], "alice@") {
		t.Errorf("the page has no options:\n%s", page.Body)
	}
	if page := page.Submit("code", "code", "{}"); page.Status != 422 || !page.Has("This passkey was not accepted.") {
		t.Errorf("%d:\n%s", page.Status, page.Body)
	}
}

func TestPasskeyPagesCanBeUsedByEverybody(t *testing.T) {
	t.Parallel()
	w := newWays(t, "")
	text := map[string]map[string]string{
		"en": {"begin": "Set up a passkey", "make": "Make a passkey", "page": "keep the passkey", "codes": "Keep your recovery codes", "kept": "I have kept them", "use": "Use your passkey", "failed": "did not work", "wrong": "was not accepted", "account": "Where you are signed in", "add": "Add another second step", "signin": "Sign in", "fresh": "confirm once more", "known": "set up this one already", "more": "more than one second step"},
		"nl": {"begin": "Een toegangssleutel instellen", "make": "Toegangssleutel maken", "page": "bewaard moet worden", "codes": "Bewaar uw herstelcodes", "kept": "Ik heb ze bewaard", "use": "Uw toegangssleutel gebruiken", "failed": "niet gelukt", "wrong": "niet aanvaard", "account": "Waar u bent aangemeld", "add": "Nog een tweede stap toevoegen", "signin": "Aanmelden", "fresh": "Bevestig nog één keer", "known": "hebt u al ingesteld", "more": "meer dan één tweede stap"},
	}
	for user, lang := range map[string]string{"alice": "en", "bob": "nl"} {
		g := &gallery{t: t, tab: w.chromium.Profile(t, lang), lang: lang, text: text[lang]}
		tab, say := g.tab, g.say
		device := tab.Authenticator()
		signIn := func() {
			tab.ForgetCookies()
			tab.Open(w.p.URL+"/a").Want(say("signin")).Fill("username", user).Fill("password", lab.Password).Click(say("signin"))
		}
		signIn()
		g.look("passkey-register", say("begin"))
		tab.Click(say("begin"))
		g.look("passkey", say("page"))
		device.Verifies(false)
		tab.Click(say("make"))
		g.look("passkey-failed", say("failed"))
		device.Verifies(true)
		tab.Click(say("make")).Want(say("codes")).Click(say("kept")).Want("secret report")
		signIn()
		g.look("passkey-verify", say("use"))
		device.Verifies(false)
		tab.Click(say("use"))
		g.look("passkey-verify-failed", say("failed"))
		device.Verifies(true)
		device.Forges(true)
		tab.Click(say("use"))
		g.look("passkey-verify-wrong", say("wrong"))
		device.Forges(false)
		tab.Click(say("use")).Want("secret report")
		tab.Open(w.p.URL + "/_mfa/account")
		g.look("passkey-account", say("account"))
		tab.Click(say("add"))
		g.look("passkey-more", say("more"))
		tab.Click(say("begin")).Want(say("page")).Click(say("make"))
		g.look("passkey-known", say("known"))
	}
}

func TestPasskeysInLogAndAccount(t *testing.T) {
	t.Parallel()
	w := newWays(t, "")
	tab := w.open(t, "/a")
	tab.Authenticator()
	password(tab, "alice").Want("Set up a passkey").Click("Set up a passkey").Want("keep the passkey").Click("Make a passkey").Want("Keep your recovery codes").Click("I have kept them")
	landed(t, tab, "/a")
	want(t, w.p.Command("user", "show", "alice", "--json"), `"passkey"`)
	for _, e := range w.p.Events("factor_registered") {
		if e["method"] != "passkey" {
			t.Errorf("%v", e)
		}
	}
	if len(w.p.Events("factor_registered")) != 1 {
		t.Error("no registration is in the log")
	}
}
