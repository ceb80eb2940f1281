package integration

import (
	"strings"
	"testing"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

// TestABrowserReadsTheCodeOfATextMessage registers a phone and signs in without typing a code.
func TestABrowserReadsTheCodeOfATextMessage(t *testing.T) {
	t.Parallel()
	g := lab.NewGateway(t)
	up := lab.NewUpstream(t, application(""))
	p := lab.Start(t, up.Address, lab.Options{Global: asked + g.Config("") + "\n\t\tsession {\n\t\t\tremember_browser 30d\n\t\t}"})
	tab := lab.NewChromium(t).Profile(t, "en")
	tab.TextMessages()
	comes := func() {
		t.Helper()
		if waits := lab.Eval[string](tab, `sessionStorage.getItem("otp")`); waits != `{"transport":["sms"]}` {
			t.Errorf("the page waits for %s", waits)
		}
		lab.Eval[bool](tab, `message("`+g.Code(t, bobNumber)+`")`)
	}
	tab.Open(p.URL + "/a?b=c").Want("User name")
	password(tab, "bob").Want("Text message").Click("Set up text messages").Want("Phone number, with its country")
	tab.Fill("to", bobNumber).Click("Send the code").Want("is on its way to")
	comes()
	tab.Want("Keep your recovery codes").Click("I have kept them")
	landed(t, tab, "/a?b=c")
	signOut(tab, p)

	// There is a box beside the code: it is filled in, and the person sends it.
	tab.Open(p.URL + "/a?b=c").Want("User name")
	password(tab, "bob").Want("A code can be sent").Click("Send a code to +31 •••• ••21").Want("is on its way to").Want("Don't ask for the second step")
	comes()
	lab.Eventually(t, 5e9, "the code", func() bool {
		return lab.Eval[bool](tab, `document.getElementById("code").value === "`+g.Code(t, bobNumber)+`" && document.activeElement.textContent === "Continue"`)
	})
	tab.Click("Continue")
	landed(t, tab, "/a?b=c")
	if waits := lab.Eval[string](tab, `sessionStorage.getItem("otp")`); waits != "aborted" {
		t.Errorf("after the form was sent, the page waits for %s", waits)
	}
}

// TestASecondWayIsSuggested goes from the recovery codes to a second factor, and then to where it was going; and, for somebody else, not now.
func TestASecondWayIsSuggested(t *testing.T) {
	t.Parallel()
	w := newWays(t, "")
	text := map[string]map[string]string{
		"en": {"user": "User name", "signin": "Sign in", "begin": "Set up", "scan": "Scan this code", "confirm": "Confirm", "lost": "What if you lose this one?", "second": "Set up a second way", "app": "authenticator app shows now",
			"fresh": "confirm once more", "submit": "Continue", "add": "You can have more than one", "later": "Not now", "passkey": "Set up a passkey", "make": "Make a passkey"},
		"nl": {"user": "Gebruikersnaam", "signin": "Aanmelden", "begin": "Instellen", "scan": "Scan deze code", "confirm": "Bevestigen", "lost": "Wat als u dit kwijtraakt?", "second": "Een tweede manier instellen", "app": "authenticator-app nu toont",
			"fresh": "Bevestig nog", "submit": "Doorgaan", "add": "U kunt meer dan één", "later": "Nu niet", "passkey": "Een toegangssleutel instellen", "make": "Toegangssleutel maken"},
	}
	for _, person := range []struct{ user, lang string }{{"alice", "en"}, {"bob", "nl"}} {
		look := &gallery{t: t, tab: w.chromium.Profile(t, person.lang), lang: person.lang, text: text[person.lang]}
		tab, say := look.tab, look.say
		tab.Authenticator()
		tab.Autofill(false)
		tab.Open(w.p.URL+"/a?b=c").Want(say("user")).Fill("username", person.user).Fill("password", lab.Password).Click(say("signin"))
		tab.Want(say("begin")).Click(say("begin")).Want(say("scan"))
		phone := &lab.Person{Name: person.user, Key: key(tab)}
		tab.Fill("code", phone.Code(t)).Click(say("confirm"))
		look.look("second-codes", say("lost"))
		tab.Click(say("second"))
		look.look("second-verify", say("fresh"))
		if person.user == "bob" {
			tab.Click(say("later"))
			landed(t, tab, "/a?b=c")
			continue
		}
		tab.Fill("code", phone.Code(t)).Click(say("submit"))
		look.look("second-choose", say("add"))
		tab.Click(say("passkey")).Want(say("make")).Click(say("make"))
		landed(t, tab, "/a?b=c")
		if shown := w.p.Command("user", "show", person.user); !strings.Contains(shown, "passkey") || !strings.Contains(shown, "totp") {
			t.Errorf("registered is:\n%s", shown)
		}
		tab.Open(w.p.URL + "/_mfa/account").Want("Where you are signed in").Click("Make new recovery codes")
		tab.Want("Use your passkey").Click("Use your passkey").Want("Make new recovery codes?").Click("Make new recovery codes").Want("Your new recovery codes")
		if tab.Says(say("lost")) {
			t.Errorf("who has two is asked what if he loses one:\n%s", tab)
		}
	}
}

// TestAfterAPhoneHasApproved offers a passkey, as after other ways, and boxes stay ticked when a number was wrong.
func TestAfterAPhoneHasApproved(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, application(""))
	p := lab.Start(t, up.Address, lab.Options{Global: asked + "factor push\n\t\tsession {\n\t\t\tremember 30d\n\t\t\tremember_browser 14d\n\t\t}"})
	w := &ways{up, p, lab.NewChromium(t)}
	tab := w.open(t, "/a?b=c")
	phone := w.connect(t, tab, "alice")
	landed(t, tab, "/a?b=c")
	signOut(tab, p)
	tab.Authenticator()
	tab.Autofill(false)
	tab.Open(p.URL + "/a?b=c").Want("User name")
	password(tab, "alice").Want("Ask my phone")
	ticked := func() string {
		return lab.Eval[string](tab, `[...document.querySelectorAll("input[type=checkbox]")].map((box) => box.name + "=" + box.checked).join(" ")`)
	}
	if got := ticked(); got != "remember=false stay=false" {
		t.Errorf("at first: %s", got)
	}
	lab.Eval[bool](tab, `document.querySelector("input[name=stay]").checked = true`)
	tab.Click("Ask my phone").Want("type this number there")
	phone.Want("Number on the other screen")
	answers(phone, another(number(tab)))
	tab.Want("Another number was typed on your phone.")
	if got := ticked(); got != "remember=false stay=true" {
		t.Errorf("after a wrong number: %s", got)
	}
	tab.Click("Ask my phone").Want("type this number there")
	phone.Want("Number on the other screen")
	answers(phone, number(tab))
	tab.Want("Sign in without your password next time?").Click("Not now")
	landed(t, tab, "/a?b=c")
	if len(p.Events("session_kept")) != 1 || len(p.Events("browser_remembered")) != 0 {
		t.Errorf("kept: %v, remembered: %v", p.Events("session_kept"), p.Events("browser_remembered"))
	}
	if icon := lab.Eval[string](phone, `fetch(document.querySelector("link[rel=apple-touch-icon]").href).then((r) => r.status + " " + r.headers.get("content-type"))`); icon != "200 image/png" {
		t.Errorf("the icon for the home screen: %s", icon)
	}
}
