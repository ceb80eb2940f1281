package integration

import (
	"testing"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

// Every page of codes that are sent, without a script but the page's own, as everybody may need to read it.
func TestEveryPageOfCodesCanBeUsedByEverybody(t *testing.T) {
	t.Parallel()
	g, mails := lab.NewGateway(t), lab.NewMailServer(t)
	up := lab.NewUpstream(t, application(""))
	p := lab.Start(t, up.Address, lab.Options{Global: asked + g.Config("") + "\n" + mails.Config(), Users: withPhone})
	chromium := lab.NewChromium(t)
	text := map[string]map[string]string{
		"en": {
			"signin": "Sign in", "register": "Text message", "begin": "Set up text messages", "number": "Phone number, with its country", "send": "Send the code", "not": "That is not a phone number",
			"sent": "is on its way to", "confirm": "Confirm", "wrong": "is not right", "early": "You can ask for another one in", "again": "Send another code", "kept": "I have kept them", "account": "Phone: text messages",
			"ask": "A code can be sent to your phone", "to": "Send a code to", "submit": "Continue", "call": "Be called, and hear a code", "calls": "A voice reads out a code", "callto": "Call", "called": "You are being called",
			"add": "Add another second step", "fresh": "confirm once more", "mail": "Set up mail", "address": "Mail address", "notmail": "That is not a mail address", "failed": "could not be sent",
		},
		"nl": {
			"signin": "Aanmelden", "register": "Sms-bericht", "begin": "Sms-berichten instellen", "number": "Telefoonnummer, met het land", "send": "De code sturen", "not": "Dat is geen telefoonnummer",
			"sent": "is onderweg naar", "confirm": "Bevestigen", "wrong": "klopt niet", "early": "kunt u een nieuwe vragen", "again": "Nog een code sturen", "kept": "Ik heb ze bewaard", "account": "Telefoon: sms-berichten",
			"ask": "U kunt een code krijgen in een sms-bericht", "to": "Een code sturen naar", "submit": "Doorgaan", "call": "Gebeld worden en een code horen", "calls": "Een stem leest een code voor", "callto": "Bellen naar", "called": "U wordt gebeld",
			"add": "Nog een tweede stap toevoegen", "fresh": "Bevestig nog", "mail": "E-mail instellen", "address": "E-mailadres", "notmail": "Dat is geen e-mailadres", "failed": "kon niet gestuurd worden",
		},
	}
	for _, person := range []struct{ user, lang, number, shown, mail string }{
		{"bob", "en", bobNumber, "+31 •••• ••21", "bob@example.com"}, {"carol", "nl", "+31612121212", "+31 •••• ••12", "carol@example.com"},
	} {
		look := &gallery{t: t, tab: chromium.Profile(t, person.lang), lang: person.lang, text: text[person.lang]}
		tab, say := look.tab, look.say
		signIn := func(path string) {
			tab.Open(p.URL+path).Fill("username", person.user).Fill("password", lab.Password).Click(say("signin"))
		}
		signIn("/a?b=c")
		look.look("codes-register", say("register"))
		tab.Click(say("begin"))
		look.look("codes-number", say("number"))
		tab.Fill("to", "0612345678").Click(say("send"))
		look.look("codes-number-wrong", say("not"))
		tab.Fill("to", person.number).Click(say("send"))
		look.look("codes-sent", say("sent"))
		if !tab.Says(person.shown) || tab.Says(person.number) {
			t.Errorf("the number is not shown as %s:\n%s", person.shown, tab)
		}
		tab.Click(say("again"))
		look.look("codes-early", say("early"))
		code := g.Code(t, person.number)
		wrong := "000000"
		if code == wrong {
			wrong = "000001"
		}
		tab.Fill("code", wrong).Click(say("confirm"))
		look.look("codes-sent-wrong", say("wrong"))
		tab.Fill("code", code).Click(say("confirm")).Want(say("kept")).Click(say("kept"))
		landed(t, tab, "/a?b=c")
		tab.Open(p.URL + "/_mfa/account")
		look.look("codes-account", say("account"))

		tab.ForgetCookies()
		sent := len(g.Sent())
		signIn("/a?b=c")
		look.look("codes-verify", say("ask"))
		tab.Reload()
		if n := len(g.Sent()); n != sent {
			t.Errorf("%d messages were sent by looking at a page", n-sent)
		}
		tab.Click(say("to") + " " + person.shown)
		look.look("codes-verify-sent", say("sent"))
		tab.Reload()
		tab.Fill("code", wrong).Click(say("submit"))
		look.look("codes-verify-wrong", say("wrong"))
		tab.Click(say("call"))
		look.look("codes-call", say("calls"))
		g.Fails(429)
		tab.Click(say("callto") + " " + person.shown)
		look.look("codes-failed", say("failed"))
		g.Does(nil)
		p.Command("user", "unlock", person.user)
		tab.Open(p.URL + "/_mfa/verify?method=voice").Click(say("callto") + " " + person.shown)
		look.look("codes-called", say("called"))
		tab.Fill("code", g.Code(t, person.number)).Click(say("submit")).Want("secret report")

		t.Log("and a mail address, with the proof that was just given")
		tab.Open(p.URL + "/_mfa/account").Click(say("add")).Want(say("mail")).Click(say("mail"))
		look.look("codes-mail", say("address"))
		tab.Fill("to", "nobody@localhost").Click(say("send"))
		look.look("codes-mail-wrong", say("notmail"))
		tab.Fill("to", person.mail).Click(say("send")).Want(say("sent"))
		tab.Fill("code", mails.Code(t, person.mail)).Click(say("confirm")).Want(say("account"))
		if person.lang != "en" {
			continue
		}

		t.Log("the mail proves that she may remove the phone, and is then what she signs in with")
		remove := func(what string) {
			t.Helper()
			lab.Eval[bool](tab, `(() => { [...document.querySelectorAll(".list li")].find(e => e.textContent.includes("`+what+`")).querySelector("button.danger").click(); return true })()`)
		}
		prove := func(to string, code func() string) {
			t.Helper()
			p.Command("user", "unlock", person.user) // the pace too
			tab.Click(to).Want("is on its way to").Fill("code", code()).Click("Continue")
		}
		remove(person.shown)
		tab.Want("confirm once more").Want("Use a code in a mail").Click("Use a code in a mail") // that it was registered is no choice
		prove("Send a code to b••••@example.com", func() string { return mails.Code(t, person.mail) })
		look.look("confirm-remove", "Remove this second step?")
		tab.Want(person.shown).Click("Remove").Want("It was removed.").Want("This is your only second step")
		tab.ForgetCookies()
		p.Command("user", "unlock", person.user)
		signIn("/a?b=c")
		tab.Want("sent to you in a mail").Click("Send a code to b••••@example.com").Want("is on its way to").Fill("code", mails.Code(t, person.mail)).Click("Continue")
		landed(t, tab, "/a?b=c")

		t.Log("a phone that is only called, in place of the mail")
		tab.Open(p.URL + "/_mfa/account").Click("Add another second step").Want("Set up phone calls").Click("Set up phone calls").Want("you are called, and hear a code")
		p.Command("user", "unlock", person.user)
		tab.Fill("to", person.number).Click("Call me").Want("You are being called").Fill("code", g.Code(t, person.number)).Click("Confirm").Want("Phone: calls")
		remove("b••••@example.com")
		tab.Want("confirm once more").Want("A voice reads out")
		p.Command("user", "unlock", person.user)
		tab.Click("Call "+person.shown).Want("You are being called").Fill("code", g.Code(t, person.number)).Click("Continue").Want("Remove this second step?").Want("b••••@example.com")
		tab.Click("Remove").Want("It was removed.").Want("This is your only second step")
	}
}
