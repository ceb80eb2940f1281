package integration

import (
	"slices"
	"strings"
	"testing"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

func newPush(t *testing.T) *ways {
	t.Helper()
	up := lab.NewUpstream(t, application(""))
	return &ways{up, lab.Start(t, up.Address, lab.Options{Global: "factor push"}), lab.NewChromium(t)}
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

// A person without a factor connects a phone, signs in with it, and takes it away again.
func TestAPhoneApproves(t *testing.T) {
	t.Parallel()
	w := newPush(t)
	tab := w.open(t, "/a?b=c")
	phone := w.connect(t, tab, "alice")
	landed(t, tab, "/a?b=c")
	signOut(tab, w.p)

	tab.Open(w.p.URL + "/a?b=c").Want("User name")
	password(tab, "alice").Want("Approve this sign-in on your phone.")
	if tab.Says("type this number") || phone.Says("Is it you") {
		t.Fatal("a phone is asked before anybody has pressed a button")
	}
	tab.Click("Ask my phone").Want("type this number there")
	phone.Want("Is it you who signs in?").Want("127.0.0.1")
	answers(phone, number(tab))
	phone.Want("Approved.")
	landed(t, tab, "/a?b=c")
	if got := w.up.Last(t).Header["Remote-User"]; !slices.Equal(got, []string{"alice"}) {
		t.Errorf("Remote-User = %q", got)
	}
	signOut(tab, w.p)

	// A wrong number ends it, also with the right one behind it.
	tab.Open(w.p.URL + "/a?b=c").Want("User name")
	password(tab, "alice").Want("Ask my phone").Click("Ask my phone").Want("type this number there")
	phone.Want("Number on the other screen")
	answers(phone, another(number(tab)))
	phone.Want("That was another number.")
	tab.Want("Another number was typed on your phone.").Click("Ask my phone").Want("type this number there")
	phone.Want("Number on the other screen").Click("No, it's not me")
	phone.Want("Refused and reported.")
	tab.Want("This was reported.")
	if !slices.ContainsFunc(w.p.Events("suspicious_activity_reported"), func(e map[string]any) bool { return e["user"] == "alice" && e["method"] == "push" }) {
		t.Error("the log does not tell of the report")
	}
	tab.Click("Ask my phone").Want("type this number there")
	phone.Want("Number on the other screen")
	answers(phone, number(tab))
	landed(t, tab, "/a?b=c")

	tab.Open(w.p.URL + "/_mfa/account").Want("Approval on a phone")
	if !tab.Says("Chrom") {
		t.Errorf("the phone has no name:\n%s", tab)
	}
}
