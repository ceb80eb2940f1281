package integration

import (
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

// Everything that can be on is on, and one person uses it all. Her account page is looked at in both languages.
func TestInABrowserAPersonUsesEverything(t *testing.T) {
	t.Parallel()
	g := lab.NewGateway(t)
	up := lab.NewUpstream(t, application(""))
	p := lab.Start(t, up.Address, lab.Options{
		Site:   "mfa Calendar {\napp_passwords on\n}\nreverse_proxy {upstream}",
		Global: asked + g.Config("") + "\n\t\tfactor push {\n\t\t}\n\t\t" + remembers,
		Users:  strings.Replace(lab.Users, "    email: alice@example.com\n", "    email: alice@example.com\n    phone: \""+aliceNumber+"\"\n", 1),
	})
	w := &ways{up, p, lab.NewChromium(t)}
	look := &gallery{t: t, tab: w.chromium.Profile(t, "en"), lang: "en"}
	tab := look.tab
	tab.Authenticator()
	enter := func(tab *lab.Tab, path string) *lab.Tab { return password(tab.Open(p.URL+path), "alice") }
	approve := func(phone *lab.Tab, boxes ...string) {
		t.Helper()
		tab.Want("Confirm that it is you")
		if !tab.Says("Ask my phone") {
			tab.Click("Approve on your phone")
		}
		tab.Want("Ask my phone")
		for _, box := range boxes {
			tick(t, tab, box)
		}
		tab.Click("Ask my phone").Want("type this number there")
		phone.Want("Number on the other screen")
		answers(phone, number(tab))
	}

	enter(tab, "/a").Want("Send a code to").Click("Send a code to +31 •••• ••78").Want("is on its way to")
	tab.Fill("code", g.Code(t, aliceNumber)).Click("Continue").Want("Not now").Click("Not now")
	landed(t, tab, "/a")
	tab.Open(p.URL + "/_mfa/account").Click("Add another second step").Want("Connect a phone").Click("Connect a phone").Want("Scan this code")
	phone := w.handset(t, tab, "en").Want("Connect this phone").Click("Connect this phone").Want("Almost done")
	tab.Want("Type this number on")
	phone.Fill("number", number(tab)).Click("Confirm").Want("This phone is connected")
	tab.Want("I have kept them").Click("I have kept them").Want("Where you are signed in")

	t.Log("a proof by phone leads back to what it was asked for")
	tab.Open(p.URL + "/_mfa/app-password").Want("confirm once more")
	approve(phone)
	tab.Want("How long it works").Fill("name", "Mail on my phone").Click("Make it").Want("It is shown only now").Click("I have entered it")
	tab.Want("Works until").Click("Add another second step").Want("confirm once more")
	approve(phone)
	tab.Want("Set up a passkey").Click("Set up a passkey").Want("Make a passkey").Click("Make a passkey").Want("Where you are signed in")

	t.Log("and she stays signed in, in a browser that is remembered")
	tab.Open(p.URL + "/_mfa/signout").Want("Sign out").Click("Sign out").Want("You are signed out")
	enter(tab, "/b").Want("Signing in as alice")
	approve(phone, "stay", "remember")
	landed(t, tab, "/b")
	now := float64(time.Now().Unix())
	for name, days := range map[string]float64{"mfa_session": 60, "mfa_remembered": 30} {
		if c := tab.Cookie(name); c == nil || c.Session || c.Expires-now < (days-1)*86400 {
			t.Errorf("%s: %+v", name, c)
		}
	}
	tab.Open(p.URL + "/_mfa/account").Want("You stay signed in until").Want("Browsers that are not asked for the second step").Want("Mail on my phone")
	look.look("everything", "Where you are signed in")
	tab.Click("Your last 30 days")
	look.look("everything-open", "Your last 30 days")

	dutch := &gallery{t: t, tab: w.chromium.Profile(t, "nl"), lang: "nl"}
	dutch.tab.Open(p.URL+"/c").Fill("username", "alice").Fill("password", lab.Password).Click("Aanmelden")
	dutch.tab.Want("Een code in een sms-bericht gebruiken").Click("Een code in een sms-bericht gebruiken")
	dutch.tab.Want("Een code sturen naar").Click("Een code sturen naar +31 •••• ••78").Want("is onderweg naar").Fill("code", g.Code(t, aliceNumber)).Click("Doorgaan")
	landed(t, dutch.tab, "/c")
	dutch.tab.Open(p.URL + "/_mfa/account")
	dutch.look("everything", "Waar u bent aangemeld")
}
