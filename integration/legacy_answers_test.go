package integration

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

// upstreamBasic runs the command with a credential on standard input.
func upstreamBasic(t *testing.T, p *lab.Proxy, stdin string, args ...string) (string, error) {
	t.Helper()
	c := exec.Command(lab.Binary(t), append(append([]string{"mfa", "user", "upstream-basic"}, args...), "--address", p.Admin)...)
	c.Stdin = strings.NewReader(stdin)
	out, err := c.CombinedOutput()
	return string(out), err
}

func TestAUsersOwnCredentialOfAnApplication(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Site: "mfa app {\nupstream_basic per_user\n}\nreverse_proxy {upstream}"})
	b := lab.NewBrowser(t, p.URL)
	alice := b.Register("alice")
	sent := func() []string {
		t.Helper()
		up.Forget()
		b.Get("/").Want("secret report")
		return up.Last(t).Header.Values("Authorization")
	}
	basic := func(credential string) []string {
		return []string{"Basic " + base64.StdEncoding.EncodeToString([]byte(credential))}
	}
	if got := sent(); len(got) != 0 {
		t.Fatalf("before one is stored: %q", got)
	}

	// By herself. The form comes after the proof, so that what she types is not lost.
	b.Get("/_mfa/account").Want("Passwords in applications").Want("Nothing is stored.")
	page := b.Get("/_mfa/upstream?application=app").Submit("code", "code", alice.Code(t)).Want("Your password in app")
	page = page.Submit("secret", "user", "ali:ce", "secret", "hunter2").WantStatus(422).Want("can't have a colon")
	if page.Has("hunter2") {
		t.Error("the form shows the password")
	}
	page = page.Submit("secret", "user", "alice.e", "secret", "hunter2").Want("It is stored").Want("Stored since")
	if page.Has("hunter2") || page.Has("alice.e") || b.Get("/_mfa/upstream?application=app").Has("hunter2") {
		t.Error("the credential is shown again")
	}
	if got := sent(); !slices.Equal(got, basic("alice.e:hunter2")) {
		t.Fatalf("the application gets %q", got)
	}
	// Somebody else has none.
	bob := lab.NewBrowser(t, p.URL)
	bob.Register("bob")
	up.Forget()
	bob.Get("/").Want("secret report")
	if got := up.Last(t).Header.Values("Authorization"); len(got) != 0 {
		t.Errorf("for bob the application gets %q", got)
	}
	// A page for an application that wants none, and a form without a proof.
	if page := b.Get("/_mfa/upstream?application=other"); page.URL.Path != "/_mfa/account" {
		t.Errorf("for another application: %s", page)
	}

	// By an administrator, from standard input alone.
	want(t, p.Command("user", "show", "alice"), "Credentials of applications", "app")
	if out, err := upstreamBasic(t, p, "alice.e:hunter3\n", "alice", "app", "set"); err != nil || !strings.Contains(out, "stored") {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := sent(); !slices.Equal(got, basic("alice.e:hunter3")) {
		t.Errorf("the application gets %q", got)
	}
	for reason, c := range map[string]struct {
		stdin string
		args  []string
		says  string
	}{
		"another application":           {"alice:hunter4\n", []string{"alice", "other", "set"}, `"other" is no application with`},
		"nobody":                        {"alice:hunter4\n", []string{"nobody", "app", "set"}, "no directory knows"},
		"no colon":                      {"hunter4\n", []string{"alice", "app", "set"}, "no colon"},
		"nothing":                       {"", []string{"alice", "app", "set"}, "no user:password on standard input"},
		"the secret as a word":          {"", []string{"alice", "app", "alice:hunter4"}, "read from standard input"},
		"one word too few":              {"", []string{"alice", "app"}, "3 arg"},
		"nothing that is to be removed": {"", []string{"bob", "app", "remove"}, "no credential"},
	} {
		if out, err := upstreamBasic(t, p, c.stdin, c.args...); err == nil || !strings.Contains(out, c.says) {
			t.Errorf("%s: %v\n%s", reason, err, out)
		}
	}
	if _, config := p.API("GET", "/config/", nil); !strings.Contains(config, `"upstream_basic":"per_user"`) || strings.Contains(config, "hunter") {
		t.Errorf("the configuration is\n%s", config)
	}

	// Removed by herself, with a fresh proof.
	page = b.Get("/_mfa/account").Submit("forget-upstream")
	page = page.Submit("code", "code", alice.Code(t)).Want("Remove your password in")
	page.Submit("forget-upstream").Want("It was removed.")
	if got := sent(); len(got) != 0 {
		t.Errorf("removed, the application gets %q", got)
	}
	// Nor is it in a log, in whatever form, or in the metrics. The application's own answers are not logged.
	_, metrics := p.API("GET", "/metrics", nil)
	for _, secret := range []string{"hunter2", "hunter3", "hunter4", basic("alice.e:hunter2")[0], basic("alice.e:hunter3")[0]} {
		if strings.Contains(p.Log(), secret) || strings.Contains(metrics, secret) {
			t.Errorf("%q stands in the log or the metrics", secret)
		}
	}
	for event, n := range map[string]int{"upstream_credential_stored": 2, "upstream_credential_removed": 1} {
		if events := p.Events(event); len(events) != n || events[0]["application"] != "app" || events[0]["user"] != "alice" {
			t.Errorf("audit events %s: %v", event, events)
		}
	}
}

func TestOfficeSignsInInAWindow(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	// What the manual tells: without it, Caddy takes the header away.
	p := lab.Start(t, up.Address, lab.Options{Servers: "servers {\nexpected_underscore_headers X-FORMS_BASED_AUTH_ACCEPTED\n}"})
	b := lab.NewBrowser(t, p.URL)
	alice := b.Register("alice")
	up.Forget()
	probe := func(cookies []*http.Cookie, method string, header map[string]string) *http.Response {
		t.Helper()
		r, err := http.NewRequest(method, strings.Replace(p.URL, "localhost", "127.0.0.1", 1)+"/report.docx", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = strings.TrimPrefix(p.URL, "http://")
		for name, value := range header {
			r.Header.Set(name, value)
		}
		for _, c := range cookies {
			r.AddCookie(c)
		}
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp
	}
	for reason, c := range map[string]struct {
		method string
		header map[string]string
		opens  bool
	}{
		"Office":                     {"OPTIONS", map[string]string{"User-Agent": "Microsoft Office Word 2014", "X-FORMS_BASED_AUTH_ACCEPTED": "t"}, true},
		"Office, with a credential":  {"OPTIONS", map[string]string{"User-Agent": "Microsoft Office Word 2014", "X-FORMS_BASED_AUTH_ACCEPTED": "t", "Authorization": "Basic YTpi"}, true},
		"Office, that wants a page":  {"GET", map[string]string{"X-FORMS_BASED_AUTH_ACCEPTED": "t", "Accept": "text/html"}, true},
		"Windows":                    {"PROPFIND", map[string]string{"User-Agent": "Microsoft-WebDAV-MiniRedir/10.0.19045"}, true},
		"Office, that can't":         {"OPTIONS", map[string]string{"User-Agent": "Microsoft Office Word 2014", "X-FORMS_BASED_AUTH_ACCEPTED": "f"}, false},
		"another program":            {"PROPFIND", map[string]string{"User-Agent": "curl/8.0"}, false},
		"a script of the page's own": {"GET", map[string]string{"User-Agent": "Mozilla/5.0", "Accept": "application/json"}, false},
	} {
		resp := probe(nil, c.method, c.header)
		if opens := resp.Header.Get("X-FORMS_BASED_AUTH_REQUIRED") != ""; opens != c.opens || opens && resp.StatusCode != http.StatusForbidden || opens != (resp.Header.Get("X-FORMS_BASED_AUTH_RETURN_URL") != "") {
			t.Errorf("%s: %d, %v", reason, resp.StatusCode, resp.Header)
		}
	}
	up.WantNothing(t)

	resp := probe(nil, "OPTIONS", map[string]string{"User-Agent": "Microsoft Office Word 2014", "X-FORMS_BASED_AUTH_ACCEPTED": "t"})
	opened, end := resp.Header.Get("X-FORMS_BASED_AUTH_REQUIRED"), resp.Header.Get("X-FORMS_BASED_AUTH_RETURN_URL")
	// The window: somebody who must sign in, and somebody who is signed in already. The end isn't reached before that is done.
	window := lab.NewBrowser(t, p.URL)
	if page := window.Get(end); page.URL.String() == end || !page.Has(`name="password"`) {
		t.Fatalf("without a sign-in the end is %s", page)
	}
	for _, page := range []*lab.Page{window.SignIn(opened, alice), window.Get(opened).Follow()} {
		if page.URL.String() != end {
			t.Fatalf("the window ends at %s, not at %s", page, end)
		}
		page.WantStatus(http.StatusOK).Want("Go back to the program")
	}
	// A language that is chosen on the way leads there all the same.
	dutch := lab.NewBrowser(t, p.URL)
	page := dutch.Get(opened).Submit("nl").Submit("password", "username", "alice", "password", lab.Password)
	if page = page.Submit("code", "code", alice.Code(t)).Follow(); page.URL.String() != end {
		t.Errorf("in Dutch the window ends at %s", page)
	}
	page.Want("Ga terug naar het programma")
	// Office goes on with the cookies of its window.
	up.Forget()
	if resp := probe(window.Cookies(), "OPTIONS", map[string]string{"User-Agent": "Microsoft Office Word 2014", "X-FORMS_BASED_AUTH_ACCEPTED": "t"}); resp.StatusCode != http.StatusOK || up.Last(t).Header.Get("Remote-User") != "alice" {
		t.Errorf("with the cookies: %d, %v", resp.StatusCode, resp.Header)
	}
}

// TestARefusedUploadIsNotRead is for programs that send much to where they may not.
func TestARefusedUploadIsNotRead(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{})
	host := strings.TrimPrefix(p.URL, "http://")
	const gigabyte = 1 << 30
	head := func(rest string) string {
		return "PUT /file.bin HTTP/1.1\r\nHost: " + host + "\r\nAuthorization: Basic YTpi\r\nContent-Type: application/octet-stream\r\n" + rest + "\r\n"
	}
	// Who asks first gets the refusal, and no leave to send.
	begin := time.Now()
	a := p.Raw(t, head(fmt.Sprintf("Content-Length: %d\r\nExpect: 100-continue\r\n", gigabyte)))
	if !slices.Equal(a.Statuses(), []int{http.StatusForbidden}) || !strings.Contains(string(a), "Connection: close") {
		t.Errorf("with Expect: %s", a)
	}
	if took := time.Since(begin); took > p.Allowed(begin, time.Second) {
		t.Errorf("with Expect it takes %v", took)
	}
	// Who doesn't ask can't send it all.
	for _, rest := range []string{fmt.Sprintf("Content-Length: %d\r\n", gigabyte), "Transfer-Encoding: chunked\r\n"} {
		c := p.Dial(t)
		if _, err := io.WriteString(c, head(rest)); err != nil {
			t.Fatal(err)
		}
		answer := make(chan string, 1)
		go func() {
			all, _ := io.ReadAll(c) // until it is closed
			answer <- string(all)
		}()
		piece := bytes.Repeat([]byte("x"), 64<<10)
		if strings.HasPrefix(rest, "T") {
			piece = append(append([]byte("10000\r\n"), piece...), "\r\n"...)
		}
		sent := 0
		for sent < gigabyte {
			n, err := c.Write(piece)
			sent += n
			if err != nil {
				break
			}
		}
		c.Close()
		if sent > 64<<20 {
			t.Errorf("%s: %d bytes were taken", rest, sent)
		}
		if text := <-answer; text != "" && !strings.HasPrefix(text, "HTTP/1.1 403") { // a reset may take it away
			t.Errorf("%s: %s", rest, text)
		}
	}
	// A small body is read away, and the next request on the connection is judged alone.
	small := strings.Replace(head("Content-Length: 5\r\n"), "PUT", "POST", 1) + "12345"
	a = p.Raw(t, small+small+"HEAD /x HTTP/1.1\r\nHost: "+host+"\r\nAuthorization: Basic YTpi\r\nConnection: close\r\n\r\n")
	if !slices.Equal(a.Statuses(), []int{403, 403, 403}) {
		t.Errorf("three requests: %s", a)
	}
	_, last, _ := strings.Cut(string(a[strings.LastIndex(string(a), "HTTP/1.1 403"):]), "\r\n\r\n")
	if last != "" {
		t.Errorf("HEAD gets a body: %q", last)
	}
	up.WantNothing(t)
}

func TestUploadsWaitForTheApplication(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{})
	b := lab.NewBrowser(t, p.URL)
	b.Register("alice")
	c := p.Dial(t)
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(c, "PUT /file.txt HTTP/1.1\r\nHost: %s\r\n%sContent-Type: text/plain\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n", strings.TrimPrefix(p.URL, "http://"), cookieHeader(b))
	line := make([]byte, len("HTTP/1.1 100 Continue\r\n\r\n"))
	if _, err := io.ReadFull(c, line); err != nil || !strings.HasPrefix(string(line), "HTTP/1.1 100 ") {
		t.Fatalf("%q, %v", line, err)
	}
	io.WriteString(c, "12345")
	if all, err := io.ReadAll(c); err != nil || !strings.Contains(string(all), "HTTP/1.1 200 ") || up.Last(t).Body != "12345" {
		t.Fatalf("%s, %v", all, err)
	}
}

// TestNoQueryInOurLogs holds what the manual says of credentials in queries against what is logged.
func TestNoQueryInOurLogs(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/legacy.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, ok := strings.Cut(string(page), "```caddyfile global\nlog {")
	example, _, ok2 := strings.Cut(example, "```")
	if !ok || !ok2 {
		t.Fatal("the manual has no example of a filter")
	}
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{Site: "log\nmfa app\nreverse_proxy {upstream}"})
	caddyfile := lab.Caddyfile(p, up.Address, lab.Options{Site: "log\nmfa app\nreverse_proxy {upstream}"})
	_, rest, _ := strings.Cut(caddyfile, "exclude http.stdlib\n\t}")
	before, _, _ := strings.Cut(caddyfile, "log {")
	if err := p.Reload(before + "log {\n\tlevel DEBUG\n" + strings.TrimSpace(example) + rest); err != nil {
		t.Fatal(err)
	}
	b := lab.NewBrowser(t, p.URL)
	b.Register("alice")
	names := []string{"password", "Passwd", "user%5Bpassword%5D", "api_key", "access_token", "client-secret", "pwd", "pass"}
	for _, name := range names {
		query := "?x=visible&" + name + "=hunter2&y=too"
		r := b.Request(http.MethodGet, "/report"+query, nil)
		r.Header.Set("Referer", p.URL+"/page"+query)
		b.Do(r).WantStatus(http.StatusOK)
		lab.NewBrowser(t, p.URL).Get("/other" + query)
		p.Raw(t, "GET /third"+query+" HTTP/1.1\r\nHost: "+strings.TrimPrefix(p.URL, "http://")+"\r\nAuthorization: Basic YTpi\r\nConnection: close\r\n\r\n")
	}
	lab.Eventually(t, 10*time.Second, "requests are in the access log", func() bool { return strings.Count(p.Log(), "handled request") >= 3*len(names) })
	for line := range strings.Lines(p.Log()) {
		if strings.Contains(line, "hunter2") {
			t.Errorf("the log says %s", line)
		}
	}
	if !strings.Contains(p.Log(), "x=visible") || !strings.Contains(p.Log(), "y=too") || !strings.Contains(p.Log(), "REDACTED") {
		t.Error("what is no credential is missing too")
	}
}
