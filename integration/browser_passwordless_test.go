package integration

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

// makePasskey makes one on the page that asks for it.
func makePasskey(tab *lab.Tab) *lab.Tab {
	return tab.Want("keep the passkey").Click("Make a passkey")
}

// passwordless are the passkeys that somebody has signed in with alone, by our ids, in that order.
func passwordless(p *lab.Proxy) (ids []string) {
	for _, e := range p.Events("factor_accepted") {
		if e["reason"] == "passwordless" {
			ids = append(ids, e["credential"].(string))
		}
	}
	return ids
}

// Two passkeys, each as the second step and each alone, from the button and from the list in the field.
func TestTwoPasskeysEachAsTheSecondStepAndAlone(t *testing.T) {
	t.Parallel()
	w := newWays(t, "")
	tab := w.open(t, "/a?b=c")
	laptop := tab.Authenticator()
	password(tab, "alice").Want("Set up a passkey").Click("Set up a passkey")
	makePasskey(tab).Want("Keep your recovery codes").Click("I have kept them")
	landed(t, tab, "/a?b=c")

	key := tab.SecurityKey(true)
	key.Present(false)
	tab.Open(w.p.URL + "/_mfa/account").Want("Your second step").Click("Add another second step")
	tab.Want("Use your passkey").Click("Use your passkey").Want("Set up a passkey").Click("Set up a passkey")
	laptop.Present(false)
	key.Present(true)
	makePasskey(tab).Want("Where you are signed in")
	if len(laptop.Passkeys()) != 1 || len(key.Passkeys()) != 1 || !slices.Equal(laptop.Passkeys()[0].UserHandle, key.Passkeys()[0].UserHandle) {
		t.Fatalf("%+v %+v", laptop.Passkeys(), key.Passkeys())
	}

	for _, use := range []struct{ yes, no *lab.Authenticator }{{laptop, key}, {key, laptop}, {laptop, key}} {
		use.yes.Present(true)
		use.no.Present(false)

		signOut(tab, w.p)
		tab.Open(w.p.URL + "/a?b=c").Want("User name")
		password(tab, "alice").Want("Use your passkey").Click("Use your passkey")
		landed(t, tab, "/a?b=c")

		signOut(tab, w.p)
		tab.Open(w.p.URL + "/a?b=c").Want("User name").Click("Sign in with a passkey")
		landed(t, tab, "/a?b=c")
		if got := w.up.Last(t).Header["Remote-User"]; len(got) != 1 || got[0] != "alice" {
			t.Errorf("Remote-User = %q", got)
		}
	}
	ids := passwordless(w.p)
	if len(ids) != 3 || ids[0] == ids[1] || ids[0] != ids[2] {
		t.Errorf("signed in with %q", ids)
	}

	// In the list below the field of the user name, which the user of this browser chooses from at once.
	signOut(tab, w.p)
	tab.Autofill(true)
	tab.Open(w.p.URL + "/a?b=c")
	landed(t, tab, "/a?b=c")
	tab.Autofill(false)

	// A wrong one, and none at all.
	signOut(tab, w.p)
	laptop.Forges(true)
	tab.Open(w.p.URL + "/a?b=c").Want("User name").Click("Sign in with a passkey").Want("This passkey was not accepted.")
	laptop.Forges(false)
	if focus := tab.Focus(); focus != "error" {
		t.Errorf("the focus is on %q", focus)
	}
	laptop.Verifies(false)
	key.Unplug()
	tab.Click("Sign in with a passkey").Want("That did not work, or was cancelled.")
	laptop.Verifies(true)
	tab.Click("Sign in with a passkey")
	landed(t, tab, "/a?b=c")
}

// A security key that keeps nothing itself is good beside the password, and not in its place.
func TestASecurityKeyThatKeepsNothing(t *testing.T) {
	t.Parallel()
	w := newWays(t, "")
	tab := w.open(t, "/a")
	key := tab.SecurityKey(false)
	password(tab, "alice").Want("Set up a passkey").Click("Set up a passkey")
	makePasskey(tab).Want("Keep your recovery codes").Click("I have kept them")
	landed(t, tab, "/a")
	if kept := key.Passkeys(); len(kept) != 1 || kept[0].IsResidentCredential {
		t.Fatalf("%+v", kept)
	}
	signOut(tab, w.p)
	tab.Open(w.p.URL + "/a").Want("User name").Click("Sign in with a passkey").Want("That did not work, or was cancelled.")
	password(tab, "alice").Want("Use your passkey").Click("Use your passkey")
	landed(t, tab, "/a")
}

// A passkey that was removed is forgotten by the browser that removes it, and by another that still tries it.
func TestAPasskeyThatIsGoneIsForgotten(t *testing.T) {
	t.Parallel()
	w := newWays(t, "")
	tab := w.open(t, "/a")
	device := tab.Authenticator()
	password(tab, "alice").Want("Set up a passkey").Click("Set up a passkey")
	makePasskey(tab).Want("Keep your recovery codes").Click("I have kept them")
	landed(t, tab, "/a")
	kept := device.Passkeys()

	other := w.open(t, "/a")
	copied := other.Authenticator()
	copied.Copy(kept[0])
	tab.Open(w.p.URL + "/_mfa/account").Want("Your second step")
	if len(device.Passkeys()) != 1 {
		t.Fatal("the account page makes the browser forget a passkey that is good")
	}
	tab.Click("Add another second step").Want("Use your passkey").Click("Use your passkey").Want("Authenticator app").Click("Set up").Want("Scan this code")
	alice := &lab.Person{Name: "alice", Key: key(tab)}
	tab.Fill("code", alice.Code(t)).Click("Confirm").Want("Where you are signed in")

	remove := func() {
		lab.Eval[bool](tab, `(() => { [...document.querySelectorAll(".list li")].find(e => e.textContent.includes("Passkey")).querySelector("button").click(); return true })()`)
	}
	remove()
	// The app was registered in this browser, which is no choice.
	tab.Want("Use your passkey").Click("Use your passkey").Want("Remove this second step?").Click("Remove").Want("It was removed.")
	forgets := func(a *lab.Authenticator, who string) {
		t.Helper()
		for deadline := time.Now().Add(5 * time.Second); len(a.Passkeys()) > 0; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s still has %+v", who, a.Passkeys())
			}
		}
	}
	forgets(device, "the browser that has removed it")

	other.Open(w.p.URL + "/a").Want("User name").Click("Sign in with a passkey").Want("This passkey was not accepted.")
	forgets(copied, "another browser that has tried it")
}

// It is offered after a sign-in with something else, until somebody doesn't want it.
func TestAPasskeyIsOfferedAfterASignIn(t *testing.T) {
	t.Parallel()
	w := newWays(t, "")
	text := map[string]map[string]string{
		"en": {"signin": "Sign in", "app": "Scan this code", "begin": "Set up", "confirm": "Confirm", "codes": "Keep your recovery codes", "kept": "I have kept them", "code": "app shows now", "submit": "Continue", "offer": "without your password", "later": "Not now", "set": "Set up a passkey", "page": "keep the passkey", "make": "Make a passkey", "passkey": "Sign in with a passkey", "name": "User name", "failed": "did not work", "wrong": "was not accepted", "account": "Where you are signed in", "rename": "Rename", "save": "Save", "renamed": "The name was changed."},
		"nl": {"signin": "Aanmelden", "app": "Scan deze code", "begin": "Instellen", "confirm": "Bevestigen", "codes": "Bewaar uw herstelcodes", "kept": "Ik heb ze bewaard", "code": "nu toont", "submit": "Doorgaan", "offer": "zonder wachtwoord", "later": "Nu niet", "set": "Een toegangssleutel instellen", "page": "bewaard moet worden", "make": "Toegangssleutel maken", "passkey": "Aanmelden met een toegangssleutel", "name": "Gebruikersnaam", "failed": "niet gelukt", "wrong": "niet aanvaard", "account": "Waar u bent aangemeld", "rename": "Naam wijzigen", "save": "Opslaan", "renamed": "De naam is gewijzigd."},
	}
	for user, lang := range map[string]string{"alice": "en", "bob": "nl"} {
		g := &gallery{t: t, tab: w.chromium.Profile(t, lang), lang: lang, text: text[lang]}
		tab, say := g.tab, g.say
		device := tab.Authenticator()
		session := func() {
			t.Helper()
			tab.Open(w.p.URL + "/_mfa/nothing-here")
			tab.Forget("mfa_session")
			tab.Open(w.p.URL + "/a?b=c").Want(say("name"))
		}
		session()
		tab.Fill("username", user).Fill("password", lab.Password).Click(say("signin")).Want(say("begin")).Click(say("begin")).Want(say("app"))
		person := &lab.Person{Name: user, Key: key(tab)}
		tab.Fill("code", person.Code(t)).Click(say("confirm")).Want(say("codes")).Click(say("kept"))
		landed(t, tab, "/a?b=c")

		code := func() {
			t.Helper()
			session()
			tab.Fill("username", user).Fill("password", lab.Password).Click(say("signin")).Want(say("code"))
			tab.Fill("code", person.Code(t)).Click(say("submit"))
		}
		code()
		g.look("offer", say("offer"))
		tab.Click(say("later"))
		landed(t, tab, "/a?b=c")
		code()
		landed(t, tab, "/a?b=c") // it is not offered in this browser again
		tab.Forget("mfa_later")
		code()
		tab.Want(say("offer")).Click(say("set")).Want(say("page")).Click(say("make"))
		landed(t, tab, "/a?b=c")

		session()
		g.look("passwordless", say("passkey"))
		device.Verifies(false)
		tab.Click(say("passkey"))
		g.look("passwordless-failed", say("failed"))
		device.Verifies(true)
		device.Forges(true)
		tab.Click(say("passkey"))
		g.look("passwordless-wrong", say("wrong"))
		device.Forges(false)
		tab.Click(say("passkey"))
		landed(t, tab, "/a?b=c")

		tab.Open(w.p.URL + "/_mfa/account").Want(say("account"))
		lab.Eval[bool](tab, `(() => { document.querySelector(".rename").open = true; return true })()`)
		g.look("rename", say("account"))
		id := lab.Eval[string](tab, `document.querySelector(".rename input[type=text]").id`)
		tab.Fill(id, "  My <b>laptop</b> ").Click(say("save"))
		g.look("renamed", say("renamed"))
		tab.Want("My <b>laptop</b>")
	}
}

// A passkey of example.com is made on another domain, and used on both. The browser asks example.com whether that is so.
func TestAPasskeyOfARelatedOrigin(t *testing.T) {
	t.Parallel()
	const home, related = "example.com", "hr.example.net"
	port := lab.FreePort(t)
	at := func(host string) string { return fmt.Sprintf("https://%s:%d", host, port) }
	authority := newCertifier(t, "An authority")
	cert, key := authority.sign(&x509.Certificate{
		DNSNames: []string{home, related}, NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	file := write(t, filepath.Join(t.TempDir(), "cert.pem"), cert, key)
	up := lab.NewUpstream(t, application(""))
	lab.Start(t, up.Address, lab.Options{
		Port: port, Address: at(home) + ", " + at(related), Site: "tls " + file + " " + file + "\nmfa app\nreverse_proxy {upstream}",
		Global: "factor webauthn {\nrp_id " + home + "\nrelated_origins " + at(related) + "\n}",
	})
	trusted := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	// The browser asks for the list at the port of https.
	chromium := lab.NewChromium(t,
		chromedp.Flag("host-resolver-rules", fmt.Sprintf("MAP %s:443 127.0.0.1:%d, MAP * 127.0.0.1, EXCLUDE 127.0.0.1", home, port)),
		chromedp.Flag("ignore-certificate-errors-spki-list", base64.StdEncoding.EncodeToString(trusted[:])),
	)
	tab := chromium.Profile(t, "en")
	device := tab.Authenticator()
	tab.Open(at(related) + "/a").Want("User name")
	password(tab, "alice").Want("Set up a passkey").Click("Set up a passkey")
	makePasskey(tab).Want("Keep your recovery codes").Click("I have kept them")
	landed(t, tab, "/a")
	if kept := device.Passkeys(); len(kept) != 1 || kept[0].RpID != home {
		t.Fatalf("%+v", kept)
	}
	for _, host := range []string{home, related} {
		tab.ForgetCookies()
		tab.Open(at(host) + "/b").Want("User name").Click("Sign in with a passkey")
		landed(t, tab, "/b")
		if got := lab.Eval[string](tab, `location.origin`); got != at(host) {
			t.Errorf("landed at %s, want %s", got, at(host))
		}
	}
}

// Strangers get one answer, whatever is wrong with a passkey, and no session.
func TestAPasskeyThatIsNotAcceptedTellsNothing(t *testing.T) {
	t.Parallel()
	w := newWays(t, "")
	tab := w.open(t, "/a")
	device := tab.Authenticator()
	password(tab, "alice").Want("Set up a passkey").Click("Set up a passkey")
	makePasskey(tab).Want("Keep your recovery codes").Click("I have kept them")
	landed(t, tab, "/a")
	kept := device.Passkeys()[0]
	b64 := base64.RawURLEncoding.EncodeToString

	answer := func(id, handle []byte) string {
		raw, err := json.Marshal(map[string]any{"id": b64(id), "rawId": b64(id), "type": "public-key", "clientExtensionResults": map[string]any{}, "response": map[string]any{
			"clientDataJSON": b64([]byte(`{"type":"webauthn.get","challenge":"AAAA","origin":"` + w.p.URL + `"}`)), "authenticatorData": b64(make([]byte, 37)), "signature": b64([]byte("x")), "userHandle": b64(handle),
		}})
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	// What differs from one answer to the next whoever asks.
	changing := regexp.MustCompile(`value="[^"]{40,}"|data-options="[^"]*"|<code>[^<]*</code>|<time [^>]*>[^<]*</time>`)
	var first, firstHeader string
	for _, c := range []struct{ reason, answer string }{
		{"a passkey that nobody has", answer([]byte("nobody has such an id"), kept.UserHandle)},
		{"alice's, with a signature that is wrong", answer(kept.CredentialID, kept.UserHandle)},
		{"alice's, with another handle", answer(kept.CredentialID, make([]byte, 32))},
		{"no JSON", "x"},
		{"nothing", ""},
	} {
		browser := lab.NewBrowser(t, w.p.URL)
		page := browser.Get("/a").Want("Sign in with a passkey") // for the script
		if strings.Contains(page.Body, ">Sign in with a passkey<") {
			t.Errorf("without a script there is a button that does nothing:\n%s", page.Body)
		}
		if browser.Cookie("mfa_signin") == "" {
			t.Fatal("nothing ties an answer to the browser")
		}
		page = page.Submit("invitation", "code", c.answer)
		header := fmt.Sprint(page.Status)
		for _, name := range []string{"Content-Type", "Cache-Control", "Content-Security-Policy", "Set-Cookie", "Retry-After"} {
			header += fmt.Sprint(" ", page.Header[name])
		}
		body := changing.ReplaceAllString(page.Body, "")
		if first == "" {
			first, firstHeader = body, header
		}
		if page.Status != http.StatusUnprocessableEntity || !page.Has("This passkey was not accepted.") || body != first || header != firstHeader {
			t.Errorf("%s: %s\n%s\nand not %s\n%s", c.reason, header, body, firstHeader, first)
		}
		if browser.Cookie("mfa_session") != "" || strings.Contains(page.Body, "alice") {
			t.Errorf("%s: %s", c.reason, page.Body)
		}

		// In another browser, without what ties it to this one, it is not even judged.
		thief := lab.NewBrowser(t, w.p.URL)
		thief.Get("/a")
		thief.SetCookie("mfa_signin", b64(make([]byte, 16)))
		action, fields := page.Form("invitation")
		fields.Set("code", c.answer)
		if stolen := thief.Post(action, fields); !stolen.Has("That took too long.") {
			t.Errorf("%s, in another browser: %d\n%s", c.reason, stolen.Status, stolen.Body)
		}
	}
}
