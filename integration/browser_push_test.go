package integration

import (
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

func newPush(t *testing.T, options ...string) *ways {
	t.Helper()
	up := lab.NewUpstream(t, application(""))
	global := strings.Join(append([]string{"factor push {"}, append(options, "}")...), "\n")
	return &ways{up, lab.Start(t, up.Address, lab.Options{Global: global}), lab.NewChromium(t)}
}

// handset opens the link of a page that connects a phone with a browser of its own, as wide as a phone.
func (w *ways) handset(t *testing.T, tab *lab.Tab, language string) *lab.Tab {
	t.Helper()
	phone := w.chromium.Profile(t, language)
	phone.Viewport(360, 740)
	return phone.Open(lab.Eval[string](tab, `document.getElementById("pairing").href`))
}

// number is what the page of a sign-in shows.
func number(tab *lab.Tab) string {
	return strings.TrimSpace(lab.Eval[string](tab, `document.getElementById("number").textContent`))
}

// another is a number that it doesn't show.
func another(number string) string {
	if number == "42" {
		return "43"
	}
	return "42"
}

// answers types a number into the only prompt on a phone.
func answers(phone *lab.Tab, number string) {
	lab.Eval[bool](phone, `(() => { document.querySelector("#prompts input").value = "`+number+`"; return true })()`)
	phone.Click("Approve")
}

// connect registers a phone for somebody who has no factor yet.
func (w *ways) connect(t *testing.T, tab *lab.Tab, user string) *lab.Tab {
	t.Helper()
	password(tab, user).Want("Approval on your phone").Click("Connect a phone").Want("Scan this code")
	phone := w.handset(t, tab, "en").Want("Connect this phone").Click("Connect this phone").Want("Almost done")
	tab.Want("Type this number on")
	phone.Fill("number", number(tab)).Click("Confirm").Want("This phone is connected")
	tab.Want("Keep your recovery codes").Click("I have kept them")
	return phone
}

// listens keeps what the page of a phone says when it answers.
func listens(phone *lab.Tab) {
	lab.Eval[bool](phone, `(() => { const real = window.fetch; window.fetch = (to, what) => { if (String(to).endsWith("answer")) window.said = what.body; return real(to, what) }; return true })()`)
}

// said is what it has said last.
func said(t *testing.T, phone *lab.Tab) (answer map[string]any) {
	t.Helper()
	if err := json.Unmarshal([]byte(lab.Eval[string](phone, `window.said`)), &answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

// says has the page of a phone send an answer, and gives what it is told.
func says(t *testing.T, phone *lab.Tab, answer map[string]any) string {
	t.Helper()
	raw, err := json.Marshal(answer)
	if err != nil {
		t.Fatal(err)
	}
	return lab.Eval[string](phone, `fetch("/_mfa/push/answer", { method: "POST", credentials: "omit", headers: { "Content-Type": "application/json" }, body: `+strconv.Quote(string(raw))+` }).then((r) => r.json()).then((r) => r.state)`)
}

// A person without a factor connects a phone, signs in with it, and takes it away again. What is no approval lets nobody in, and is counted.
func TestAPhoneApproves(t *testing.T) {
	t.Parallel()
	w := newPush(t)
	tab := w.open(t, "/a?b=c")
	phone := w.connect(t, tab, "alice")
	listens(phone)
	landed(t, tab, "/a?b=c")
	signOut(tab, w.p)

	enter := func() *lab.Tab {
		t.Helper()
		tab.Open(w.p.URL + "/a?b=c").Want("User name")
		return password(tab, "alice").Want("Approve this sign-in on your phone.")
	}
	ask := func() {
		t.Helper()
		tab.Click("Ask my phone").Want("type this number there")
		phone.Want("Number on the other screen")
	}
	enter()
	if tab.Says("type this number") || phone.Says("Is it you") {
		t.Fatal("a phone is asked before anybody has pressed a button")
	}
	ask()
	phone.Want("Is it you who signs in?").Want("127.0.0.1")
	answers(phone, number(tab))
	phone.Want("Approved.")
	landed(t, tab, "/a?b=c")
	if got := w.up.Last(t).Header["Remote-User"]; !slices.Equal(got, []string{"alice"}) {
		t.Errorf("Remote-User = %q", got)
	}
	approval := said(t, phone)
	if state := says(t, phone, approval); state == "approved" {
		t.Error("an answer counts twice")
	}
	signOut(tab, w.p)
	w.up.Forget()

	// What approved one sign-in approves no other, under its own name or under that of the other.
	enter()
	ask()
	if state := says(t, phone, approval); state == "approved" {
		t.Error("an answer counts for another sign-in")
	}
	approval["prompt"] = lab.Eval[string](phone, `document.querySelector("[data-prompt]").dataset.prompt`)
	approval["number"] = number(tab)
	if state := says(t, phone, approval); state == "approved" {
		t.Error("a signature is good for another sign-in")
	}

	// A wrong number ends it, also with the right one behind it.
	right := number(tab)
	answers(phone, another(right))
	phone.Want("That was another number.")
	tab.Want("Another number was typed on your phone.")
	again := said(t, phone)
	again["number"] = right
	if state := says(t, phone, again); state == "approved" {
		t.Error("the right number is taken after a wrong one")
	}
	ask()
	phone.Click("No, it's not me")
	phone.Want("Refused and reported.")
	tab.Want("This was reported.")
	if !slices.ContainsFunc(w.p.Events("suspicious_activity_reported"), func(e map[string]any) bool { return e["user"] == "alice" && e["method"] == "push" }) {
		t.Error("the log does not tell of the report")
	}

	// Too late: whoever signed in has gone. It was the third in a row.
	ask()
	right = number(tab)
	tab.Click("Not you?").Want("User name")
	answers(phone, right)
	phone.Want("Too late: nobody asks that any more.")
	enter().Click("Ask my phone").Want("Too many tries. Try again in 15 minutes")
	w.up.WantNothing(t)
	w.p.Command("user", "unlock", "alice")
	tab.Open(w.p.URL + "/a?b=c")
	ask()
	answers(phone, number(tab))
	landed(t, tab, "/a?b=c")

	tab.Open(w.p.URL + "/_mfa/account").Want("Approval on a phone").Want("Chrom").Want("This is your only second step")
	tab.Click("Rename")
	tab.Fill(lab.Eval[string](tab, `document.querySelector(".rename input[type=text]").id`), "The old one").Click("Save").Want("The name was changed.").Want("The old one")
	tab.Click("Add another second step").Want("Authenticator app").Click("Set up").Want("Scan this code")
	alice := &lab.Person{Name: "alice", Key: key(tab)}
	tab.Fill("code", alice.Code(t)).Click("Confirm").Want("Authenticator app")
	remove := func() {
		lab.Eval[bool](tab, `(() => { [...document.querySelectorAll(".list li")].find(e => e.textContent.includes("The old one")).querySelector("button.danger").click(); return true })()`)
	}
	remove()
	// The app was registered in this browser, which is no choice.
	tab.Want("confirm once more").Want("Use a code from your authenticator app").Click("Use a code from your authenticator app").Want("app shows now")
	tab.Fill("code", alice.Code(t)).Click("Continue").Want("Remove this second step?").Want("The old one").Click("Remove").Want("It was removed.")
	signOut(tab, w.p)
	tab.Open(w.p.URL + "/a").Want("User name")
	if password(tab, "alice").Want("app shows now"); tab.Says("phone") {
		t.Errorf("a phone is asked that was taken away:\n%s", tab)
	}
}

// The pages of both screens, as everybody may need to read them.
func TestThePagesOfAPhoneCanBeUsedByEverybody(t *testing.T) {
	t.Parallel()
	w := newPush(t)
	for user, lang := range map[string]string{"alice": "en", "bob": "nl"} {
		text := map[string]map[string]string{
			"en": {
				"user": "User name", "signin": "Sign in", "register": "Connect a phone", "scan": "Scan this code", "cant": "Can't scan it?", "pair": "Connect this phone", "confirm": "Almost done",
				"confirm-submit": "Confirm", "number": "Type this number on", "connected": "This phone is connected", "codes": "Keep your recovery codes", "kept": "I have kept them", "none": "not connected to any account",
				"ask": "Ask my phone", "waits": "type this number there", "prompt": "Number on the other screen", "approve": "Approve", "deny": "No, it's not me", "denied": "Refused and reported", "reported": "This was reported",
				"wrong": "another number", "signout": "will be signed out", "signout-submit": "Sign out", "signedout": "You are signed out", "expired": "This code was used", "account": "Where you are signed in", "asked": "Is it you",
			},
			"nl": {
				"user": "Gebruikersnaam", "signin": "Aanmelden", "register": "Een telefoon koppelen", "scan": "Scan deze code", "cant": "Lukt scannen niet?", "pair": "Deze telefoon koppelen", "confirm": "Bijna klaar",
				"confirm-submit": "Bevestigen", "number": "Typ dit getal in op", "connected": "Deze telefoon is gekoppeld", "codes": "Bewaar uw herstelcodes", "kept": "Ik heb ze bewaard", "none": "aan geen enkel account gekoppeld",
				"ask": "Mijn telefoon vragen", "waits": "typ daar dit getal in", "prompt": "Getal op het andere scherm", "approve": "Goedkeuren", "deny": "Nee, dat ben ik niet", "denied": "Geweigerd en gemeld", "reported": "Dit is gemeld",
				"wrong": "ander getal", "signout": "in deze browser afgemeld", "signout-submit": "Afmelden", "signedout": "U bent afgemeld", "expired": "Deze code is al gebruikt", "account": "Waar u bent aangemeld", "asked": "Bent u het",
			},
		}
		g := &gallery{t: t, tab: w.chromium.Profile(t, lang), lang: lang, text: text[lang]}
		p := g.another(w.chromium)
		tab, phone, say := g.tab, p.tab, g.say

		phone.Open(w.p.URL + "/_mfa/push")
		p.look("phone-none", say("none"))
		tab.Open(w.p.URL+"/a").Want(say("user")).Fill("username", user).Fill("password", lab.Password).Click(say("signin"))
		g.look("push-register", say("register"))
		tab.Click(say("register")).Want(say("scan")).Click(say("cant"))
		g.look("push-pair", say("scan"))
		link := lab.Eval[string](tab, `document.getElementById("pairing").href`)
		phone.Open("about:blank").Open(link)
		p.look("phone-pair", say("pair"))
		if lab.Eval[string](phone, `location.hash`) != "" {
			t.Error("the link stays in the address")
		}
		phone.Click(say("pair"))
		p.look("phone-confirm", say("confirm"))
		g.look("push-number", say("number"))
		other := g.another(w.chromium)
		other.tab.Open(link).Want(say("pair")).Click(say("pair"))
		other.look("phone-expired", say("expired"))
		phone.Fill("number", number(tab)).Click(say("confirm-submit"))
		p.look("phone-connected", say("connected"))
		tab.Want(say("codes")).Click(say("kept"))
		landed(t, tab, "/a")
		tab.Open(w.p.URL + "/_mfa/account")
		g.look("push-account", say("account"))
		tab.Open(w.p.URL + "/_mfa/signout").Want(say("signout")).Click(say("signout-submit")).Want(say("signedout"))

		tab.Open(w.p.URL+"/a").Want(say("user")).Fill("username", user).Fill("password", lab.Password).Click(say("signin"))
		g.look("push-ask", say("ask"))
		tab.Click(say("ask")).Want(say("waits"))
		p.look("phone-prompt", say("prompt"))
		g.look("push-waits", say("waits"))
		phone.Click(say("deny"))
		p.look("phone-denied", say("denied"))
		g.look("push-reported", say("reported"))
	}
}

var shownNumber = regexp.MustCompile(`id="number"><bdi dir="ltr">([0-9]{2})<`)

// Who signs in needs no script; only his phone does.
func TestASignInWithoutJavaScriptWaitsForThePhone(t *testing.T) {
	t.Parallel()
	w := newPush(t)
	tab := w.open(t, "/a")
	phone := w.connect(t, tab, "alice")

	desktop := lab.NewBrowser(t, w.p.URL)
	page := desktop.Password("/a", "alice", lab.Password).Want("Approve this sign-in on your phone.").Submit("Ask my phone").Want("type this number there")
	if !page.Has(`<noscript><meta http-equiv="refresh" content="5"></noscript>`) {
		t.Errorf("the page is not loaded again by itself:\n%s", page)
	}
	found := shownNumber.FindStringSubmatch(page.Body)
	if found == nil {
		t.Fatalf("no number:\n%s", page)
	}
	page = page.Submit("Continue").Want(found[1]) // nobody has answered
	if again := desktop.Get(page.URL.String()).Want(found[1]); len(w.p.Events("push_asked")) != 1 {
		t.Errorf("the phone is asked again:\n%s", again)
	}
	phone.Want("Number on the other screen")
	answers(phone, found[1])
	phone.Want("Approved.")
	desktop.Get(page.URL.String()).Want("Your phone has answered.").Submit("Continue").Follow().Want("secret report")
}

// The only worker has the phone's page in its scope and nothing else, and the page goes on where no push service can be reached.
func TestTheServiceWorkerStandsBeforeThePhonesPageAlone(t *testing.T) {
	t.Parallel()
	w := newPush(t, "contact mailto:ops@example.com")
	tab := w.open(t, "/a")
	phone := w.connect(t, tab, "alice")
	phone.Accept("Push API in incognito mode") // which is what the profiles of these tests are
	phone.Want("Turn on notifications").Click("Turn on notifications")
	lab.Eventually(t, 10*time.Second, "the worker", func() bool {
		return lab.Eval[int](phone, `navigator.serviceWorker.getRegistrations().then((all) => all.length)`) == 1
	})
	if scope := lab.Eval[string](phone, `navigator.serviceWorker.getRegistrations().then((all) => all[0].scope)`); scope != w.p.URL+"/_mfa/push/" {
		t.Errorf("the worker's scope is %s", scope)
	}
	if controlled := lab.Eval[bool](phone.Another("en").Open(w.p.URL+"/_mfa/signin"), `navigator.serviceWorker.controller !== null`); controlled {
		t.Error("it stands before the sign-in page")
	}
	for _, scope := range []string{"/", "/_mfa/", "/_mfa/push"} {
		if wide := lab.Eval[bool](phone, `navigator.serviceWorker.register("/_mfa/push/worker.js", {scope: "`+scope+`"}).then(() => true, () => false)`); wide {
			t.Errorf("it may stand before %s", scope)
		}
	}
	for _, script := range []string{"/_mfa/script.js", "/_mfa/push/approve.js"} {
		phone.Accept(script)
		if other := lab.Eval[bool](phone, `navigator.serviceWorker.register("`+script+`").then(() => true, () => false)`); other {
			t.Errorf("%s is a worker", script)
		}
	}
}
