package integration

import (
	"bytes"
	"image"
	_ "image/png"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

// readQR reads the QR code on a picture, as a phone does.
func readQR(t *testing.T, png []byte) string {
	t.Helper()
	picture, _, err := image.Decode(bytes.NewReader(png))
	if err != nil {
		t.Fatal(err)
	}
	bitmap, err := gozxing.NewBinaryBitmapFromImage(picture)
	if err != nil {
		t.Fatal(err)
	}
	result, err := qrcode.NewQRCodeReader().Decode(bitmap, nil)
	if err != nil {
		t.Fatalf("the QR code can't be read: %v", err)
	}
	return result.GetText()
}

// scan reads the QR code on the page and gives the key that it holds, which the page shows too.
func scan(t *testing.T, tab *lab.Tab, user string) string {
	t.Helper()
	u, err := url.Parse(readQR(t, tab.Picture()))
	if err != nil {
		t.Fatal(err)
	}
	secret := u.Query().Get("secret")
	if u.Scheme != "otpauth" || u.Host != "totp" || !strings.HasSuffix(u.Path, ":"+user) || u.Query().Get("issuer") == "" || secret != key(tab) {
		t.Fatalf("the QR code holds %s, and the key is %s", u, key(tab))
	}
	return secret
}

// From the password to the application, and everything that goes wrong on the way.
func TestAPersonSignsInWithARealBrowser(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{})
	tab := lab.NewChromium(t).Profile(t, "en")
	tab.Accept("/favicon.ico") // of the application

	const there = "/reports?x=1&y=a%20b"
	tab.Open(p.URL + there).Want("User name")
	up.WantNothing(t)
	tab.Fill("username", "alice").Fill("password", "wrong").Click("Sign in").Want("Your user name or password is not right.")
	if title := tab.Title(); !strings.HasPrefix(title, "Error: ") {
		t.Errorf("title %q", title)
	}
	tab.Fill("password", lab.Password).Click("Sign in").Want("You can do this later for 14 more days.").Click("Set up").Want("Scan this code")
	alice := &lab.Person{Name: "alice", Key: scan(t, tab, "alice")}
	tab.Scheme("dark")
	scan(t, tab, "alice") // on white in dark mode too
	tab.Scheme("light")
	tab.Fill("code", "12").Click("Confirm").Want("That code is not right.")
	tab.Fill("code", alice.Code(t)).Click("Confirm").Want("Keep your recovery codes")
	alice.Codes = codes(tab)
	if len(alice.Codes) != 10 {
		t.Fatalf("%d recovery codes", len(alice.Codes))
	}
	// What was asked for so far, but for an icon, was asked for in vain.
	for _, r := range up.Requests() {
		if r.URI != "/favicon.ico" {
			t.Fatalf("%s %s has reached the application", r.Method, r.URI)
		}
	}
	tab.Click("I have kept them").Want("secret report")
	if got := tab.Path(); got != there {
		t.Fatalf("landed at %s, want %s", got, there)
	}

	tab.Open(p.URL + "/_mfa/account").Want("You have 10 recovery codes left.").Click("Sign out here").Want("You are signed out")
	tab.Open(p.URL + there).Want("User name")
	tab.Fill("username", "alice").Fill("password", lab.Password).Click("Sign in").Want("Signing in as alice")
	tab.Fill("code", "000000").Click("Continue").Want("That code is not right. Enter the newest code from your app.")
	if value := lab.Eval[string](tab, `document.getElementById("code").value`); value != "" {
		t.Errorf("the wrong code is still there: %q", value)
	}
	code := alice.CodeFor(t, time.Minute) // and for a second time below
	tab.Fill("code", code[:3]+" "+code[3:]).Click("Continue").Want("secret report")
	if got := tab.Path(); got != there {
		t.Fatalf("landed at %s, want %s", got, there)
	}

	// A recovery code replaces the app, and opens nothing before that.
	tab.Open(p.URL + "/_mfa/signout").Click("Sign out").Want("You are signed out")
	tab.Open(p.URL+there).Want("User name").Fill("username", "alice").Fill("password", lab.Password).Click("Sign in").Want("Signing in as alice")
	tab.Fill("code", code).Click("Continue").Want("That code was already used.")
	tab.Click("Use a recovery code").Want("Each works once").Fill("code", alice.Codes[0]).Click("Continue").Want("You used a recovery code.")
	up.Forget()
	tab.Open(p.URL + there).Want("You used a recovery code.")
	up.WantNothing(t)
	tab.Click("Set up").Want("Scan this code")
	again := &lab.Person{Name: "alice", Key: scan(t, tab, "alice")}
	if again.Key == alice.Key {
		t.Fatal("the new app has the old key")
	}
	tab.Fill("code", again.Code(t)).Click("Confirm").Want("Keep your recovery codes")
	for _, c := range codes(tab) {
		for _, old := range alice.Codes {
			if c == old {
				t.Fatalf("the recovery code %s is an old one", c)
			}
		}
	}
	tab.Click("I have kept them").Want("secret report")
	if got := up.Last(t).Header["Remote-User"]; len(got) != 1 || got[0] != "alice" {
		t.Fatalf("Remote-User = %q", got)
	}
	tab.Open(p.URL + "/_mfa/account").Want("This is your only second step")
	if tab.Says("Remove") {
		t.Error("the only app can be removed")
	}
}

// A test that sees no mistakes proves nothing if it can't see any.
func TestTheBrowserNoticesMistakes(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		switch r.URL.Path {
		case "/policy":
			h.Set("Content-Security-Policy", "default-src 'none'")
			w.Write([]byte(`<!doctype html><title>x</title><style>p{color:red}</style><p>x`))
		case "/throws":
			w.Write([]byte(`<!doctype html><title>x</title><p>x<script>throw new Error("it broke")</script>`))
		case "/console":
			w.Write([]byte(`<!doctype html><title>x</title><p>x<script>console.error("it said so")</script>`))
		case "/missing":
			w.Write([]byte(`<!doctype html><title>x</title><p>x<img src="/gone.png" alt="x">`))
		case "/unreadable":
			w.Write([]byte(`<!doctype html><html><title></title><p style="color:#ccc;background:#fff">x<img src="data:,">`))
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	})
	tab := lab.NewChromium(t).Profile(t, "en")
	tab.Accept("/favicon.ico")
	for path, want := range map[string]string{"/policy": "Content Security Policy", "/throws": "it broke", "/console": "it said so", "/missing": "404"} {
		tab.Open("http://" + up.Address + path).Want("x")
		found := strings.Join(tab.Problems(), "\n")
		if !strings.Contains(found, want) {
			t.Errorf("%s: %q does not say %q", path, found, want)
		}
	}
	tab.Open("http://" + up.Address + "/unreadable").Want("x")
	broken := strings.Join(tab.Axe(), "\n")
	for _, rule := range []string{"color-contrast", "image-alt", "html-has-lang", "document-title"} {
		if !strings.Contains(broken, rule+":") {
			t.Errorf("axe does not notice %s:\n%s", rule, broken)
		}
	}
	tab.Problems()
}
