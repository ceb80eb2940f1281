package integration

import (
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

var appPasswordText = map[string]map[string]string{
	"en": {
		"signin-submit": "Sign in", "begin": "Set up", "app": "Scan this code", "cant": "Can't scan it?", "confirm": "Confirm", "kept": "I have kept them", "submit": "Continue",
		"section": "App passwords", "make": "Make an app password", "fresh": "confirm once more", "form": "How long it works", "send": "Make it", "wrong": "Give it a name",
		"made": "It is shown only now", "entered": "I have entered it", "until": "Works until", "revoke": "Revoke Mail on my phone", "revoked": "That app password no longer works",
		"copy": "Copy", "copied": "Copied",
	},
	"nl": {
		"signin-submit": "Aanmelden", "begin": "Instellen", "app": "Scan deze code", "cant": "Lukt scannen niet?", "confirm": "Bevestigen", "kept": "Ik heb ze bewaard", "submit": "Doorgaan",
		"section": "App-wachtwoorden", "make": "Een app-wachtwoord maken", "fresh": "Bevestig nog één keer", "form": "Hoe lang het werkt", "send": "Maken", "wrong": "Geef het een naam",
		"made": "Het wordt alleen nu getoond", "entered": "Ik heb het ingevoerd", "until": "Werkt tot", "revoke": "Intrekken Mail on my phone", "revoked": "Dat app-wachtwoord werkt niet meer",
		"copy": "Kopiëren", "copied": "Gekopieerd",
	},
}

// appPasswordShape is how an app password is shown.
var appPasswordShape = regexp.MustCompile(`^([0-9a-z]{4}-){6}[0-9a-z]{4}$`)

// A person makes an app password in a browser, sees it once, and revokes it, in every language and variant.
func TestAnAppPasswordIsMadeInTheBrowser(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, application(""))
	p := lab.Start(t, up.Address, lab.Options{Site: "mfa Calendar {\napp_passwords on\n}\nreverse_proxy {upstream}"})
	chromium := lab.NewChromium(t)
	for user, lang := range map[string]string{"alice": "en", "bob": "nl"} {
		g := &gallery{t: t, tab: chromium.Profile(t, lang), lang: lang, text: appPasswordText[lang]}
		tab, say := g.tab, g.say
		tab.Open(p.URL+"/").Fill("username", user).Fill("password", lab.Password).Click(say("signin-submit")).Want(say("begin"))
		tab.Click(say("begin")).Want(say("app")).Click(say("cant"))
		person := &lab.Person{Name: user, Key: key(tab)}
		tab.Fill("code", person.Code(t)).Click(say("confirm")).Want(say("kept")).Click(say("kept")).Want("secret report")
		tab.Open(p.URL + "/_mfa/account")
		g.look("account-no-app-passwords", say("section"))
		tab.Click(say("make")).Want(say("fresh")).Fill("code", person.Code(t)).Click(say("submit"))
		g.look("app-password", say("form"))
		tab.Fill("name", strings.Repeat("x", 100)).Click(say("send"))
		g.look("app-password-wrong", say("wrong"))
		if focus := tab.Focus(); focus != "error" {
			t.Errorf("the focus is on %q", focus)
		}
		tab.Fill("name", "Mail on my phone")
		lab.Eval[string](tab, `document.getElementById("lifetime").value = "2592000"`)
		tab.Click(say("send"))
		g.look("app-password-made", say("made"))
		secret := lab.Eval[string](tab, `document.getElementById("secret").textContent`)
		if !appPasswordShape.MatchString(secret) {
			t.Errorf("%q can't be read aloud", secret)
		}
		tab.Permit("clipboard-read")
		lab.Eval[bool](tab, `(() => { document.getElementById("secret").parentNode.querySelector("button").click(); return true })()`)
		tab.Want(say("copied"))
		if got := lab.Eval[string](tab, `navigator.clipboard.readText()`); got != secret {
			t.Errorf("copied %q, shown %q", got, secret)
		}
		tab.Click(say("entered"))
		g.look("account-app-passwords", say("until"))
		if tab.Says(secret) || strings.Contains(lab.Eval[string](tab, `document.documentElement.outerHTML`), secret) {
			t.Error("it is shown a second time")
		}
		if lab.Eval[string](tab, `document.querySelector("section time[datetime]").dateTime`) == "" {
			t.Error("no end is shown")
		}
		// One proof pays for one: the next form asks for another.
		tab.Open(p.URL + "/_mfa/app-password").Want(say("fresh"))
		if user == "alice" {
			p.Command("app-password", "add", "alice", "--application", "Calendar", "--name", "Printer", "--expires", "7d")
		}
		tab.Open(p.URL + "/_mfa/account").Want(say("until"))
		g.look("account-two-app-passwords", say("until"))
		tab.Click(say("revoke")).Want(say("revoked"))
		if tab.Says("Mail on my phone") {
			t.Error("what was revoked is shown still")
		}
	}
}
