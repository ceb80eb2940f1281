package integration

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

// application answers browsers the way that applications do.
func application(elsewhere string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		switch r.URL.Path {
		case "/favicon.ico":
			w.WriteHeader(http.StatusNoContent)
		case "/elsewhere":
			http.Redirect(w, r, elsewhere, http.StatusFound)
		case "/form":
			fmt.Fprint(w, `<!doctype html><link rel="icon" href="data:,"><title>Application</title><p>write here<form method="post" action="/save"><input name="text" value="long letter"><button>Save</button></form>`)
		case "/frames":
			fmt.Fprint(w, `<!doctype html><link rel="icon" href="data:,"><title>Application</title><p>secret report<div id="place"></div>`)
		default:
			fmt.Fprint(w, `<!doctype html><link rel="icon" href="data:,"><title>Application</title><p>secret report`)
		}
	}
}

// ways is a server with a browser in front.
type ways struct {
	up       *lab.Upstream
	p        *lab.Proxy
	chromium *lab.Chromium
}

func newWays(t *testing.T, elsewhere string) *ways {
	t.Helper()
	up := lab.NewUpstream(t, application(elsewhere))
	return &ways{up, lab.Start(t, up.Address, lab.Options{}), lab.NewChromium(t)}
}

// open goes to a page of the application with a browser that nobody has used, and is asked who it is.
func (w *ways) open(t *testing.T, path string) *lab.Tab {
	t.Helper()
	return w.chromium.Profile(t, "en").Open(w.p.URL + path).Want("User name")
}

func password(tab *lab.Tab, user string) *lab.Tab {
	return tab.Fill("username", user).Fill("password", lab.Password).Click("Sign in")
}

// postpone signs somebody in who registers nothing yet.
func postpone(tab *lab.Tab, user, want string) {
	password(tab, user).Want("Not now").Click("Not now").Want(want)
}

// begin gets to the code page of a registration and reads the key.
func begin(tab *lab.Tab, user string) *lab.Person {
	password(tab, user).Want("Set up your second step").Click("Set up").Want("Scan this code")
	return &lab.Person{Name: user, Key: key(tab)}
}

func landed(t *testing.T, tab *lab.Tab, path string) {
	t.Helper()
	tab.Want("secret report")
	if got := tab.Path(); got != path {
		t.Errorf("landed at %s, want %s", got, path)
	}
}

// reach presses Tab until the focus is on an element.
func reach(t *testing.T, tab *lab.Tab, element string) {
	t.Helper()
	for range 20 {
		if tab.Focus() == element {
			return
		}
		tab.Tabulator()
	}
	t.Fatalf("Tab does not lead to %q\n%s", element, tab)
}

func TestWaysThroughTheBrowser(t *testing.T) {
	t.Parallel()
	away := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, `<!doctype html><link rel="icon" href="data:,"><title>Away</title><p>another site`)
	}))
	defer away.Close()
	w := newWays(t, away.URL+"/there")

	t.Run("keyboard only", func(t *testing.T) {
		tab := w.open(t, "/a")
		if tab.Focus() != "username" {
			t.Errorf("the focus is on %q at first", tab.Focus())
		}
		var order []string
		for range 6 {
			if !lab.Eval[bool](tab, `(s => s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2)(getComputedStyle(document.activeElement))`) {
				t.Errorf("one can't see that the focus is on %q", tab.Focus())
			}
			order = append(order, tab.Focus())
			tab.Tabulator()
		}
		if want := []string{"username", "password", "Show", "Sign in", "Sign in with a passkey", "English"}; !slices.Equal(order, want) {
			t.Errorf("Tab goes to %q, want %q", order, want)
		}
		tab.Open(w.p.URL + "/a").Want("User name")
		tab.Type("alice")
		tab.Tabulator()
		tab.Type(lab.Password)
		tab.Enter()
		tab.Want("Not now")
		reach(t, tab, "Set up")
		tab.Enter()
		tab.Want("Scan this code")
		reach(t, tab, "Can't scan it?")
		tab.Enter()
		alice := &lab.Person{Name: "alice", Key: key(tab)}
		reach(t, tab, "code")
		tab.Type(alice.Code(t))
		tab.Enter()
		tab.Want("Keep your recovery codes")
		reach(t, tab, "I have kept them")
		tab.Enter()
		landed(t, tab, "/a")

		other := w.open(t, "/b")
		other.Type("alice")
		other.Tabulator()
		other.Type(lab.Password)
		other.Enter()
		other.Want("Signing in as alice")
		if other.Focus() != "code" {
			t.Errorf("the focus is on %q", other.Focus())
		}
		// The language is chosen in the middle, and the way is kept.
		other.Click("Use a recovery code").Want("one of your recovery codes").Click("Nederlands").Want("een van uw herstelcodes")
		other.Click("Een code uit uw authenticator-app gebruiken").Want("uw authenticator-app nu toont").Fill("code", alice.Code(t)).Click("Doorgaan")
		landed(t, other, "/b")
	})

	t.Run("after a mistake", func(t *testing.T) {
		tab := w.open(t, "/a")
		tab.Fill("username", "bob").Fill("password", "a secret that is mistyped").Click("Sign in").Want("There is a problem")
		if title := tab.Title(); !strings.HasPrefix(title, "Error: ") {
			t.Errorf("title %q", title)
		}
		if tab.Focus() != "error" {
			t.Errorf("the focus is on %q", tab.Focus())
		}
		if user := lab.Eval[string](tab, `document.getElementById("username").value`); user != "bob" {
			t.Errorf("user name %q", user)
		}
		if secret := lab.Eval[string](tab, `document.getElementById("password").value`); secret != "" || lab.Eval[bool](tab, `document.documentElement.outerHTML.includes("mistyped")`) {
			t.Errorf("the password is still there")
		}
		if beside := lab.Eval[string](tab, `document.getElementById(document.getElementById("username").getAttribute("aria-describedby")).textContent`); beside != "Your user name or password is not right." {
			t.Errorf("beside the field stands %q", beside)
		}
		tab.Tabulator()
		tab.Enter() // the link in the summary
		if tab.Focus() != "username" {
			t.Errorf("the summary leads to %q", tab.Focus())
		}
		tab.Fill("password", "secret").Click("Show")
		if kind := lab.Eval[string](tab, `document.getElementById("password").type`); kind != "text" || !tab.Says("Hide") {
			t.Errorf("the password is not shown: %s", kind)
		}
		tab.Click("Hide")
		if kind := lab.Eval[string](tab, `document.getElementById("password").type`); kind != "password" {
			t.Errorf("the password is not hidden: %s", kind)
		}
	})

	t.Run("reload at every step, and back", func(t *testing.T) {
		tab := w.open(t, "/a?b")
		tab.Reload()
		tab.Fill("username", "bob").Fill("password", "wrong").Click("Sign in").Want("is not right")
		tab.Reload()
		tab.Want("is not right").Fill("password", lab.Password).Click("Sign in").Want("Not now")
		tab.Reload()
		tab.Want("Not now").Click("Set up").Want("Scan this code")
		bob := &lab.Person{Name: "bob", Key: key(tab)}
		tab.Reload()
		tab.Want("Scan this code")
		if key(tab) != bob.Key {
			t.Error("a reload changes the key")
		}
		// The browser may show the page before as it was; that changes nothing.
		here := tab.Path()
		tab.Back()
		lab.Eventually(t, 10*time.Second, "the page before", func() bool { return tab.Path() != here })
		tab.Reload()
		tab.Want("Scan this code")
		if key(tab) != bob.Key {
			t.Error("going back changes the key")
		}
		tab.Fill("code", bob.Code(t)).Click("Confirm").Want("Keep your recovery codes")
		// They are shown once.
		tab.Reload()
		landed(t, tab, "/a?b")
		tab.Back()
		landed(t, tab, "/a?b")

		tab = w.open(t, "/c")
		password(tab, "bob").Want("Signing in as bob")
		tab.Reload()
		tab.Want("Signing in as bob")
		tab.Back()
		tab.Want("Signing in as bob").Fill("code", bob.Code(t)).Click("Continue")
		landed(t, tab, "/c")
	})

	t.Run("an application that leads to another site at once", func(t *testing.T) {
		tab := w.open(t, "/elsewhere")
		password(tab, "carol").Want("Not now").Click("Not now").Want("another site")
		if got := lab.Eval[string](tab, `location.href`); got != away.URL+"/there" {
			t.Errorf("landed at %s", got)
		}
	})

	t.Run("a form after the session has ended", func(t *testing.T) {
		tab := w.open(t, "/form?draft=1")
		postpone(tab, "carol", "write here")
		tab.ForgetCookies()
		w.up.Forget()
		tab.Click("Save").Want("What you typed was not sent.")
		w.up.WantNothing(t)
		postpone(tab.Click("Sign in").Want("User name"), "carol", "write here")
		if got := tab.Path(); got != "/form?draft=1" {
			t.Errorf("landed at %s", got)
		}
	})

	t.Run("a frame after the session has ended", func(t *testing.T) {
		tab := w.open(t, "/frames")
		postpone(tab, "carol", "secret report")
		tab.ForgetCookies()
		w.up.Forget()
		lab.Eval[bool](tab, `new Promise(done => { const f = document.createElement("iframe"); f.onload = () => done(true); f.src = "/part"; document.getElementById("place").append(f) })`)
		w.up.WantNothing(t)
		if said := lab.EvalInFrame[string](tab, `document.body.innerText`); !strings.Contains(said, "You are not signed in") {
			t.Fatalf("the frame says %q", said)
		}
		if links := lab.EvalInFrame[string](tab, `[...document.querySelectorAll("a, button, input")].map(e => e.tagName + " " + e.target).join()`); links != "A _top" {
			t.Errorf("the frame holds %q", links)
		}
		lab.EvalInFrame[bool](tab, `document.querySelector("a").click() || true`)
		postpone(tab.Want("User name"), "carol", "secret report")
		landed(t, tab, "/frames")
	})

	t.Run("scripts in what the browser sends", func(t *testing.T) {
		const script = `"'><script>window.broken=1</script><img src=x onerror=window.broken=1>`
		tab := w.open(t, "/")
		tab.Fill("username", script).Fill("password", script).Click("Sign in").Want("is not right")
		if user := lab.Eval[string](tab, `document.getElementById("username").value`); user != script {
			t.Errorf("user name %q", user)
		}
		if lab.Eval[bool](tab, `"broken" in window || document.querySelector("main img, main script") !== null`) {
			t.Error("what was typed has become a part of the page")
		}
		tab.Open(w.p.URL + "/_mfa/" + script).Want("There is nothing here")
		tab.Open(w.p.URL + "/_mfa/verify?t=" + script + "&method=" + script + "&for=" + script).Want("User name")
		if lab.Eval[bool](tab, `"broken" in window || document.querySelector("main img, main script") !== null`) {
			t.Error("what was asked for has become a part of the page")
		}
		const path = "/<script>window.broken=1</script>?x=\"><img src=x onerror=window.broken=1>&y=javascript:window.broken=1"
		tab.Open(w.p.URL + path).Want("User name")
		postpone(tab, "carol", "secret report")
		if at, want := tab.Path(), "/%3Cscript%3Ewindow.broken=1%3C/script%3E?x=%22%3E%3Cimg%20src=x%20onerror=window.broken=1%3E&y=javascript:window.broken=1"; at != want {
			t.Errorf("landed at %s, want %s", at, want)
		}
	})
}

func TestTwoTabsLandWhereEachWasGoing(t *testing.T) {
	t.Parallel()
	w := newWays(t, "")
	first := w.open(t, "/first")
	second := first.Another("en").Open(w.p.URL + "/second").Want("User name")
	third := first.Another("en").Open(w.p.URL + "/third").Want("User name")
	alice := begin(first, "alice")
	first.Fill("code", alice.Code(t)).Click("Confirm").Want("Keep your recovery codes").Click("I have kept them")
	landed(t, first, "/first")
	first.Open(w.p.URL + "/_mfa/signout").Click("Sign out").Want("You are signed out")

	// Both give the password, and each goes on where it stands.
	password(second, "alice").Want("Signing in as alice")
	password(third, "alice").Want("Signing in as alice")
	second.Fill("code", alice.Code(t)).Click("Continue")
	landedOrAsked(t, second, "Something has changed in another tab.", func() { second.Fill("code", alice.Code(t)).Click("Continue") })
	landed(t, second, "/second")
	third.Fill("code", "000000").Click("Continue")
	landed(t, third, "/third")
}

// landedOrAsked answers a question that is asked once more.
func landedOrAsked(t *testing.T, tab *lab.Tab, question string, answer func()) {
	t.Helper()
	lab.Eventually(t, 10*time.Second, "either the application or a question", func() bool {
		if strings.Contains(tab.String(), question) {
			answer()
			return true
		}
		return strings.Contains(tab.String(), "secret report")
	})
}

func TestRecoveryCodesAreCopiedDownloadedAndPrinted(t *testing.T) {
	t.Parallel()
	w := newWays(t, "")
	tab := w.open(t, "/a")
	bob := begin(tab, "bob")
	tab.Permit("clipboard-read")
	tab.Click("Can't scan it?").Click("Copy").Want("Copied")
	if text := lab.Eval[string](tab, `navigator.clipboard.readText()`); strings.ReplaceAll(text, " ", "") != bob.Key {
		t.Errorf("copied %q, want the key", text)
	}
	tab.Fill("code", bob.Code(t)).Click("Confirm").Want("Keep your recovery codes")
	want := codes(tab)
	if len(want) != 10 {
		t.Fatalf("%d recovery codes", len(want))
	}

	tab.Click("Copy").Want("Copied")
	if text := lab.Eval[string](tab, `navigator.clipboard.readText()`); !slices.Equal(strings.Fields(text), want) {
		t.Errorf("copied %q, want %q", text, want)
	}

	dir := t.TempDir()
	tab.Downloads(dir)
	tab.Click("Download")
	lab.Eventually(t, 10*time.Second, "a file with the codes", func() bool {
		raw, err := os.ReadFile(filepath.Join(dir, "recovery-codes.txt"))
		return err == nil && slices.Equal(strings.Fields(string(raw)), append([]string{"localhost" + tab.Port()}, want...))
	})

	lab.Eval[bool](tab, `window.print = () => { window.printed = true }; true`)
	tab.Click("Print")
	if !lab.Eval[bool](tab, `window.printed === true`) {
		t.Error("the page is not printed")
	}
	tab.Click("I have kept them")
	landed(t, tab, "/a")
}
