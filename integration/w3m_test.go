package integration

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

// w3m is a browser in a terminal, which knows neither scripts nor style sheets.
type w3m struct {
	t    *testing.T
	tty  *os.File
	home string
}

// The keys that the test presses. w3m writes what it shows to a file, which spares the test a terminal's escapes.
const keymap = `keymap D SAVE_SCREEN "%s"
keymap Q ABORT
keymap / SEARCH
keymap ^I NEXT_LINK
keymap ^M GOTO_LINK
keymap U GOTO
keymap g BEGIN
`

func openW3M(t *testing.T, url string) *w3m {
	t.Helper()
	home := t.TempDir()
	w := &w3m{t: t, home: home}
	if err := os.Mkdir(filepath.Join(home, ".w3m"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, ".w3m", "keymap"), fmt.Appendf(nil, keymap, w.shown()), 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("w3m", "-4", "-cookie", "-o", "accept_language=en", url)
	c.Env = append(os.Environ(), "HOME="+home, "TERM=vt100", "LC_ALL=C.UTF-8", "http_proxy=", "no_proxy=*")
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	tty, err := pty.StartWithSize(c, &pty.Winsize{Rows: 50, Cols: 100})
	if err != nil {
		t.Fatal(err)
	}
	w.tty = tty
	done := make(chan struct{})
	go func() {
		io.Copy(io.Discard, tty) // until w3m has gone
		c.Wait()
		close(done)
	}()
	t.Cleanup(func() {
		io.WriteString(tty, "Q")
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			c.Process.Kill()
			<-done
		}
		tty.Close()
	})
	return w
}

func (w *w3m) shown() string { return filepath.Join(w.home, "shown.txt") }

func (w *w3m) keys(keys string) {
	w.t.Helper()
	if _, err := io.WriteString(w.tty, keys); err != nil {
		w.t.Fatal(err)
	}
}

// show gives what w3m shows.
func (w *w3m) show() string {
	w.t.Helper()
	os.Remove(w.shown()) // it may not be there yet
	w.keys("D")
	var text string
	lab.Eventually(w.t, 20*time.Second, "what w3m shows", func() bool {
		raw, err := os.ReadFile(w.shown())
		text = string(raw)
		return err == nil && strings.HasSuffix(text, "\n")
	})
	return text
}

// want waits until w3m shows a text.
func (w *w3m) want(text string) string {
	w.t.Helper()
	shown := ""
	for deadline := time.Now().Add(20 * time.Second); ; {
		if shown = w.show(); strings.Contains(shown, text) {
			return shown
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("w3m does not show %q:\n%s", text, shown)
		}
	}
}

// fill writes into the field after a label.
func (w *w3m) fill(label, text string) *w3m {
	w.t.Helper()
	w.keys("g/" + label + "\r\t\r\x15" + text + "\r")
	return w
}

// press follows the link or presses the button at the end of whose line stands this text, the next below the cursor.
func (w *w3m) press(text string) {
	w.t.Helper()
	w.keys("/" + text + "$\r\r")
}

// open goes to an address.
func (w *w3m) open(url string) {
	w.t.Helper()
	w.keys("U\x15" + url + "\r")
}

var shownCode = regexp.MustCompile(`[0-9a-z]{4}-[0-9a-z]{4}-[0-9a-z]{4}`)

var shownKey = regexp.MustCompile(`(?:[A-Z2-7]{4} ){7}[A-Z2-7]{4}`)

func TestW3MWalksTheWholeWay(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, "<!doctype html><title>Application</title><p>secret report for %s at %s", r.Header.Get("Remote-User"), r.RequestURI)
	})
	p := lab.Start(t, up.Address, lab.Options{})
	w := openW3M(t, p.URL+"/reports?x=1")
	w.want("User name")
	w.fill("User name", "alice").fill("Password", "wrong").press("Sign in")
	w.want("Your user name or password is not right.")
	w.fill("^ *Password$", lab.Password).press("Sign in")
	if shown := w.want("You can do this later"); !strings.Contains(shown, "Signed in as alice") {
		t.Errorf("w3m does not say who is signed in:\n%s", shown)
	}
	w.press("Set up")
	shown := w.want("Scan this code")
	for _, button := range []string{"Copy", "Show"} {
		if strings.Contains(shown, button) {
			t.Errorf("w3m shows the button %s, which does nothing without a script:\n%s", button, shown)
		}
	}
	alice := &lab.Person{Name: "alice", Key: strings.ReplaceAll(shownKey.FindString(shown), " ", "")}
	w.fill("6 digits", "000000").press("Confirm")
	w.want("That code is not right.")
	w.fill("6 digits", alice.Code(t)).press("Confirm")
	codes := shownCode.FindAllString(w.want("Keep your recovery codes"), -1)
	if len(codes) != 10 {
		t.Fatalf("w3m shows %d recovery codes", len(codes))
	}
	w.press("I have kept them")
	w.want("You are signed in")
	w.press("Continue")
	w.want("secret report for alice at /reports?x=1")

	w.open(p.URL + "/_mfa/account")
	w.want("You have 10 recovery codes left.")
	w.press("Sign out here")
	w.want("You are signed out")
	up.Forget()
	w.open(p.URL + "/again?y=2")
	w.want("User name")
	up.WantNothing(t)
	w.fill("User name", "alice").fill("Password", lab.Password).press("Sign in")
	w.want("Signing in as alice")
	w.fill("6 digits", "000000").press("Continue")
	w.want("That code is not right.")
	w.fill("6 digits", alice.Code(t)).press("Continue")
	w.want("You are signed in")
	w.press("Continue")
	w.want("secret report for alice at /again?y=2")

	w.open(p.URL + "/_mfa/signout")
	w.want("Sign out?")
	w.press("Sign out")
	w.want("You are signed out")
	w.open(p.URL + "/third")
	w.want("User name")
	w.fill("User name", "alice").fill("Password", lab.Password).press("Sign in")
	w.want("Other ways")
	w.press("Use a recovery code")
	w.want("Enter one of your recovery codes.")
	w.fill("^ *Recovery code ", codes[3]).press("Continue")
	w.want("You used a recovery code.")
	w.press("Set up")
	again := &lab.Person{Name: "alice", Key: strings.ReplaceAll(shownKey.FindString(w.want("Scan this code")), " ", "")}
	w.fill("6 digits", again.Code(t)).press("Confirm")
	w.want("Keep your recovery codes")
	w.press("I have kept them")
	w.want("You are signed in")
	w.press("Continue")
	w.want("secret report for alice at /third")
}

func TestW3MAcceptsTerms(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, "<!doctype html><title>Application</title><p>secret report for %s at %s", r.Header.Get("Remote-User"), r.RequestURI)
	})
	text := filepath.Join(t.TempDir(), "house-rules.md")
	if err := os.WriteFile(text, []byte("# Be kind\n\nDo not *copy*.\n\n1. Read.\n2. Write.\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := lab.Start(t, up.Address, lab.Options{Global: houseRulesPolicy(text, 1)})
	w := openW3M(t, p.URL+"/reports?x=1")
	w.want("User name")
	w.fill("User name", "alice").fill("Password", lab.Password).press("Sign in")
	shown := w.want("Terms of use")
	for _, part := range []string{"Be kind", "Do not copy.", "1. Read.", "2. Write."} {
		if !strings.Contains(shown, part) {
			t.Errorf("w3m does not show %q:\n%s", part, shown)
		}
	}
	w.press("sign me out")
	w.want("You are signed out")
	up.WantNothing(t)
	w.open(p.URL + "/reports?x=1")
	w.want("User name")
	w.fill("User name", "alice").fill("Password", lab.Password).press("Sign in")
	w.want("Terms of use")
	w.press("I accept")
	w.want("Set up your second step")
	w.press("Not now")
	w.want("You are signed in")
	w.press("Continue")
	w.want("secret report for alice at /reports?x=1")
}
