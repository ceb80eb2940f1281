package integration

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

// tick presses the box with this name.
func tick(t *testing.T, tab *lab.Tab, name string) {
	t.Helper()
	if !lab.Eval[bool](tab, `(() => { const box = document.querySelector("input[type=checkbox][name=`+name+`]"); if (!box || box.checked) return false; box.click(); return box.checked })()`) {
		t.Fatalf("there is no box %q that is not ticked:\n%s", name, tab)
	}
}

// A person ticks both boxes, comes back, and takes it back. The pages are looked at on the way, in both languages.
func TestInABrowserAPersonIsRemembered(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, application(""))
	countries, err := lab.CountryFile{Type: "GeoLite2-Country", IPVersion: 6, Countries: map[string]string{"127.0.0.0/8": "NL", "::1/128": "NL"}}.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "countries.mmdb")
	if err := os.WriteFile(file, countries, 0o600); err != nil {
		t.Fatal(err)
	}
	p := lab.Start(t, up.Address, lab.Options{Site: "mfa Payroll\nreverse_proxy {upstream}", Global: "geoip " + file + "\n\t\t" + remembers})
	chromium := lab.NewChromium(t)
	texts := map[string]map[string]string{
		"en": {
			"submit": "Sign in", "go": "Continue", "begin": "Set up", "scan": "Scan this code", "confirm": "Confirm", "codes": "Keep your recovery codes", "kept": "I have kept them",
			"verify": "authenticator app shows now", "remember": rememberBox, "stay": stayBox, "question": "Stay signed in?", "account": "Where you are signed in", "wrong": "That code is not right",
			"country": "Netherlands", "browsers": "Browsers that are not asked for the second step", "activity": "Your last 30 days", "name": "Rename", "until": "You stay signed in until",
			"forget": "Ask here again", "signout": "Sign out", "out": "You are signed out", "in": "Signed in", "notme": "This wasn't me", "reported": "Now change your password",
			"passkey": "Use your passkey", "add": "Add another second step", "make": "Set up a passkey", "pressed": "Make a passkey", "kept-passkey": "keep the passkey", "fresh": "confirm once more", "way": "Use a code from your authenticator app", "later": "Not now",
		},
		"nl": {
			"submit": "Aanmelden", "go": "Doorgaan", "begin": "Instellen", "scan": "Scan deze code", "confirm": "Bevestigen", "codes": "Bewaar uw herstelcodes", "kept": "Ik heb ze bewaard",
			"verify": "authenticator-app nu toont", "remember": "30 dagen lang niet om de tweede stap vragen in deze browser", "stay": "60 dagen aangemeld blijven", "question": "Aangemeld blijven?",
			"account": "Waar u bent aangemeld", "wrong": "Die code klopt niet",
			"country": "Nederland", "browsers": "Browsers waarin niet om de tweede stap wordt gevraagd", "activity": "Uw laatste 30 dagen", "name": "Naam wijzigen", "until": "U blijft aangemeld tot",
			"forget": "Daar weer vragen", "signout": "Afmelden", "out": "U bent afgemeld", "in": "Aangemeld", "notme": "Dit was ik niet", "reported": "Verander nu uw wachtwoord",
			"passkey": "Uw toegangssleutel gebruiken", "add": "Nog een tweede stap toevoegen", "make": "Een toegangssleutel instellen", "pressed": "Toegangssleutel maken", "kept-passkey": "bewaard moet worden", "fresh": "Bevestig nog één keer", "way": "Een code uit uw authenticator-app gebruiken", "later": "Nu niet",
		},
	}
	for user, lang := range map[string]string{"alice": "en", "bob": "nl"} {
		t.Run(lang, func(t *testing.T) {
			t.Parallel()
			g := &gallery{t: t, tab: chromium.Profile(t, lang), lang: lang, text: texts[lang]}
			tab, say := g.tab, g.say
			device := tab.Authenticator()
			enter := func(path string) {
				tab.Open(p.URL+path).Want(map[string]string{"en": "User name", "nl": "Gebruikersnaam"}[lang]).Fill("username", user).Fill("password", lab.Password).Click(say("submit"))
			}
			leave := func() { tab.Open(p.URL + "/_mfa/signout").Want(say("signout")).Click(say("signout")).Want(say("out")) }

			enter("/a")
			tab.Want(say("begin")).Click(say("begin")).Want(say("scan"))
			who := &lab.Person{Name: user, Key: key(tab)}
			tab.Fill("code", who.Code(t)).Click(say("confirm")).Want(say("codes")).Click(say("kept"))
			landed(t, tab, "/a")
			leave()

			enter("/a")
			tab.Want(say("remember"))
			g.look("boxes", say("stay"))
			tick(t, tab, "remember")
			tick(t, tab, "stay")
			tab.Fill("code", "000000").Click(say("go")).Want(say("wrong"))
			g.look("boxes-wrong", say("wrong"))
			if ticked := lab.Eval[int](tab, `document.querySelectorAll("input[type=checkbox]:checked").length`); ticked != 2 {
				t.Errorf("after a mistake %d boxes are ticked", ticked)
			}
			tab.Fill("code", who.Code(t)).Click(say("go")).Want(say("later")).Click(say("later")) // this device could keep a passkey
			landed(t, tab, "/a")
			now := float64(time.Now().Unix())
			for name, days := range map[string]float64{"mfa_session": 60, "mfa_remembered": 30} {
				if c := tab.Cookie(name); c == nil || c.Session || c.Expires-now < (days-1)*86400 || c.Expires-now > days*86400+2 || !c.HTTPOnly {
					t.Errorf("%s: %+v", name, c)
				}
			}
			tab.Open(p.URL + "/_mfa/account").Want(say("until")).Want(say("browsers")).Want(say("country"))
			g.look("account-remembered", say("account"))
			tab.Click(say("name"))
			g.look("account-name", say("name"))
			leave()

			enter("/b")
			g.look("stay", say("question"))
			tab.Click(say("go"))
			landed(t, tab, "/b")
			if c := tab.Cookie("mfa_session"); c == nil || !c.Session {
				t.Errorf("he didn't want to stay: %+v", c)
			}
			leave()
			enter("/b")
			landed(t, tab, "/b")

			// His session rests on it, and so is asked at once.
			tab.Open(p.URL + "/_mfa/account").Want(say("forget")).Click(say("forget")).Want(say("verify"))
			tab.Fill("code", who.Code(t)).Click(say("go")).Want(say("account"))
			if tab.Says(say("browsers")) {
				t.Errorf("it is still listed:\n%s", tab)
			}

			// With a passkey the boxes stand on the page before, and are kept.
			tab.Open(p.URL + "/_mfa/account").Click(say("add")).Want(say("make")).Click(say("make")).Want(say("kept-passkey")).Click(say("pressed"))
			tab.Want(say("account"))
			if len(device.Passkeys()) != 1 {
				t.Fatal("there is no passkey")
			}
			leave()
			enter("/c")
			tab.Want(say("passkey"))
			g.look("boxes-passkey", say("stay"))
			tick(t, tab, "remember")
			tab.Click(say("passkey"))
			landed(t, tab, "/c")
			leave()
			enter("/c") // where he is known anew, since his factors have changed
			tab.Want(say("question")).Click(say("go"))
			landed(t, tab, "/c")

			// The last choice comes first, and others behind it.
			leave()
			tab.ForgetCookies()
			enter("/d")
			tab.Want(say("passkey")).Click(say("way")).Want(say("verify")).Fill("code", who.Code(t)).Click(say("go"))
			landed(t, tab, "/d")
			tab.Open(p.URL + "/_mfa/account").Want(say("activity"))
			lab.Eval[bool](tab, `(() => { const d = [...document.querySelectorAll("details")].find(d => d.querySelector("h2")); d.open = true; return true })()`)
			g.look("account-activity", say("notme"))
			lab.Eval[bool](tab, `(() => { document.querySelector("button[value=report]").click(); return true })()`)
			tab.Want(say("reported"))
			g.look("reported", say("reported"))
			enter("/d")
			tab.Want(say("verify")) // and not the passkey
			if problems := tab.Problems(); len(problems) > 0 {
				t.Errorf("%q", problems)
			}
		})
	}
}
