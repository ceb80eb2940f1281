package integration

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

const sessionCookie = "mfa_session"

// secretReport is what the application says to whoever reaches it.
const secretReport = "secret report"

// users makes the lines of a users file: people with these names, and lab.Password.
func users(names ...string) string {
	hash := regexp.MustCompile(`\$argon2id\S+`).FindString(lab.Users)
	var b strings.Builder
	for _, name := range names {
		fmt.Fprintf(&b, "  %s:\n    password: %s\n", name, hash)
	}
	return b.String()
}

// numbered gives as many names.
func numbered(name string, n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("%s%d", name, i)
	}
	return names
}

// halfSignedIn opens a browser in which a registered person has proven the password and nothing else.
func halfSignedIn(t testing.TB, p *lab.Proxy, user string) *lab.Browser {
	t.Helper()
	b := lab.NewBrowser(t, p.URL)
	b.Password("/", user, lab.Password).Want("Confirm that it is you")
	if b.Cookie(sessionCookie) == "" {
		t.Fatal("a right password begins no session")
	}
	return b
}

// cookieHeader is the session cookie of a browser as a line of a request.
func cookieHeader(b *lab.Browser) string {
	return "Cookie: " + sessionCookie + "=" + b.Cookie(sessionCookie) + "\r\n"
}

// verifyForm reads the form of the second step from its page.
func verifyForm(t testing.TB, b *lab.Browser) url.Values {
	t.Helper()
	_, form := b.Get("/_mfa/verify").Form("code")
	return form
}

// codeFor sends a code to the second step, as the browser has it open.
func codeFor(b *lab.Browser, form url.Values, method, code string) *lab.Page {
	sent := url.Values{}
	for name, values := range form {
		sent[name] = values
	}
	sent.Set("method", method)
	sent.Set("code", code)
	return b.Post("/_mfa/verify", sent)
}

// wrongCode is a code of six digits that a person's app shows neither now nor a step before or after.
func wrongCode(t testing.TB, p *lab.Person, n int) string {
	t.Helper()
	now := time.Now()
	for ; ; n++ {
		code := fmt.Sprintf("%06d", n%1_000_000)
		right := false
		for step := -2; step <= 2; step++ {
			right = right || code == lab.CodeAt(t, p.Key, now.Add(time.Duration(step)*30*time.Second))
		}
		if !right {
			return code
		}
	}
}

// atOnce calls f n times at the same moment, and waits for all.
func atOnce(n int, f func(i int)) {
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	wg.Wait()
}

// signedIn says whether a page is what follows a second step that was accepted.
func signedIn(p *lab.Page) bool { return p.Status == http.StatusOK && p.Next() != "" }

// show is what the administrator sees of a user, as JSON.
func show(t testing.TB, p *lab.Proxy, user string) string {
	t.Helper()
	status, body := p.API(http.MethodGet, "/mfa/users/"+user, nil)
	if status != http.StatusOK {
		t.Fatalf("%d: %s", status, body)
	}
	return body
}
