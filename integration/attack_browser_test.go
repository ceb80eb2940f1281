package integration

import (
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-mfa/caddy-mfa/integration/lab"
)

// leavesHost says whether a browser would take a reference to another host, or run it. Browsers read a backslash as a slash, and
// leave out tabs and line breaks (WHATWG URL, section 4.4).
func leavesHost(ref string) bool {
	ref = strings.NewReplacer("\\", "/", "\t", "", "\n", "", "\r", "").Replace(strings.TrimLeft(ref, "\x00\x01 \x1f"))
	return !strings.HasPrefix(ref, "/") || strings.HasPrefix(ref, "//")
}

func TestAttackRedirectsLeadNowhereElse(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{})
	host := strings.TrimPrefix(p.URL, "http://")
	b := lab.NewBrowser(t, p.URL)
	b.Register("alice")
	follow := func(token string) string {
		t.Helper()
		page := b.Get("/_mfa/signin?t=" + url.QueryEscape(token))
		if page.Next() == "" {
			t.Fatalf("it leads nowhere: %v", page)
		}
		return page.Next()
	}
	location := regexp.MustCompile(`(?m)^Location: (.*)\r$`)
	challenged := 0
	for _, target := range []string{
		"//evil.example/", "///evil.example/", "////evil.example", `/\evil.example`, `/\/evil.example`, `\\evil.example`, `/\\evil.example/x`, "/%5cevil.example", "/%2f/evil.example",
		"//evil.example@localhost/", "//localhost@evil.example/", "//evil.example:80/", "//evil.example%2f@localhost/", "/./" + "/evil.example", "/../" + "/evil.example", "/.//evil.example", "/..//evil.example",
		"/%2e//evil.example", "/;//evil.example", "/:@evil.example", "/?//evil.example", "/?url=//evil.example", "/#//evil.example", "/%09/evil.example", "/%0d%0aLocation:%20http://evil.example",
		"/javascript:alert(1)", "//javascript:alert(1)", "/%00//evil.example", "/%20//evil.example", "//%65vil.example", "//evil%E3%80%82example", "//[::1]/", "//0/", "/\x80//evil.example",
		`/"onload="alert(1)//evil.example`, "/'//evil.example", "/0;url=//evil.example", "/;url='//evil.example'",
		"http://" + host + "//evil.example/", "http://" + host + `/\evil.example`, "http://evil.example/", "https://evil.example/", "javascript:alert(1)", "data:text/html,x",
	} {
		for _, extra := range []string{"Accept: text/html\r\nSec-Fetch-Mode: navigate\r\n", "Accept: text/html\r\n"} {
			a := p.Raw(t, "GET "+target+" HTTP/1.1\r\nHost: "+host+"\r\n"+extra+"Connection: close\r\n\r\n")
			m := location.FindStringSubmatch(string(a))
			if m == nil {
				if codes := a.Statuses(); !strings.HasPrefix(target, "http://evil") && (len(codes) != 1 || codes[0] < 400) && len(a) > 0 && !strings.Contains(target, ":") {
					t.Errorf("%q: %v", target, codes)
				}
				continue
			}
			challenged++
			u, err := url.Parse(m[1])
			if err != nil || u.Path != "/_mfa/signin" || u.Host != "" {
				t.Errorf("%q: redirected to %q", target, m[1])
				continue
			}
			if next := follow(u.Query().Get("t")); leavesHost(next) {
				t.Errorf("%q: the browser ends at %q", target, next)
			}
		}
	}
	if challenged < 50 {
		t.Errorf("only %d targets were challenged", challenged)
	}

	// A form that was posted after the end goes back to where it stood, if that is here.
	token := regexp.MustCompile(`/_mfa/signin\?t=([^"]*)"`)
	for _, referer := range []string{"http://" + host + "//evil.example/", "http://evil.example/", "//evil.example/", "http://" + host + `/\evil.example`, "http://" + host + "@evil.example/", "http://evil.example@" + host + "//evil.example", "javascript:alert(1)", "http://" + host + ".evil.example/", "http://" + host + "/ok", "%zz", "http://" + host + "/<script>"} {
		for _, dest := range []string{"document", "iframe"} {
			a := p.Raw(t, "POST /x HTTP/1.1\r\nHost: "+host+"\r\nReferer: "+referer+"\r\nAccept: text/html\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: "+dest+"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			m := token.FindStringSubmatch(string(a))
			if m == nil {
				t.Errorf("Referer %q, %s: no way to sign in:\n%s", referer, dest, a)
				continue
			}
			if next := follow(html.UnescapeString(m[1])); leavesHost(next) || strings.Contains(referer, "/ok") != (next == "/ok") {
				t.Errorf("Referer %q: the browser ends at %q", referer, next)
			}
		}
	}

	// Nothing that anybody can write is a way on.
	b.NoRedirects()
	for _, token := range []string{"//evil.example", "http://evil.example/", "aHR0cDovL2V2aWwuZXhhbXBsZS8", strings.Repeat("A", 20_000), "javascript:alert(1)", "\"><script>alert(1)</script>"} {
		if page := b.Get("/_mfa/signin?t=" + url.QueryEscape(token)); page.Next() != "/" {
			t.Errorf("%.40q: %v, leads to %q", token, page.Status, page.Next())
		}
		query := "?" + url.Values{"t": {token}, "next": {token}, "rd": {token}, "url": {token}, "return": {token}, "return_to": {token}, "redirect": {token}, "redirect_uri": {token}, "goto": {token}, "back": {token}, "page": {token}, "for": {token}, "method": {token}}.Encode()
		for _, path := range []string{"signin", "signout", "verify", "register", "account", "language", "nothing", ""} {
			checkReferences(t, "GET "+path, b.Get("/_mfa/"+path+query), token)
		}
		anon := lab.NewBrowser(t, p.URL).NoRedirects()
		for _, path := range []string{"signin", "signout", "verify", "register", "account", "language", "nothing"} {
			form, err := url.ParseQuery(query[1:])
			if err != nil {
				t.Fatal(err)
			}
			checkReferences(t, "POST "+path, anon.Post("/_mfa/"+path, form), token)
		}
	}
}

var (
	reference = regexp.MustCompile(`(?i)\b(?:href|src|action|formaction|data|url)="([^"]*)"`)
	scripts   = regexp.MustCompile(`(?i)<script[^>]*>`)
)

// checkReferences looks at everything on a page that leads somewhere.
func checkReferences(t *testing.T, what string, p *lab.Page, written string) {
	t.Helper()
	refs := []string{}
	if location := p.Header.Get("Location"); location != "" {
		refs = append(refs, location)
	}
	for _, m := range reference.FindAllStringSubmatch(p.Body, -1) {
		if ref := html.UnescapeString(m[1]); !strings.HasPrefix(ref, "otpauth:") && !strings.HasPrefix(ref, "#") && ref != "data:," {
			refs = append(refs, ref)
		}
	}
	for _, ref := range refs {
		if leavesHost(ref) {
			t.Errorf("%s with %.40q: leads to %q", what, written, ref)
		}
	}
	for _, tag := range scripts.FindAllString(p.Body, -1) {
		if tag != `<script src="/_mfa/script.js" defer>` {
			t.Errorf("%s with %.40q: a script %s", what, written, tag)
		}
	}
}

func TestAttackFormsFromElsewhere(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{})
	host := strings.TrimPrefix(p.URL, "http://")
	b := lab.NewBrowser(t, p.URL)
	alice := b.Register("alice")
	_, form := b.Get("/_mfa/account").Form("recovery")
	session := form.Get("session")
	_, verify := b.Get("/_mfa/verify?for=change").Form("code")
	codeFor(b, verify, "totp", alice.Code(t)).Want("Your account") // a fresh proof, which pays for a change
	before := withoutTimes(show(t, p, "alice"))
	forms := map[string]string{
		"signout":  "",
		"account":  "action=recovery&session=" + session,
		"register": "action=begin&session=" + session,
		"signin":   url.Values{"username": {"bob"}, "password": {lab.Password}}.Encode(),
		"verify":   "method=totp&code=000000&session=" + session,
		"language": "language=nl",
	}
	for origin, lines := range map[string]string{
		"another site":                                        "Origin: https://evil.example\r\n",
		"another site, as browsers say":                       "Origin: https://evil.example\r\nSec-Fetch-Site: cross-site\r\n",
		"a sandboxed frame":                                   "Origin: null\r\n",
		"a sandboxed frame, as browsers say":                  "Origin: null\r\nSec-Fetch-Site: cross-site\r\n",
		"a sandboxed frame of ours":                           "Origin: null\r\nSec-Fetch-Site: same-site\r\n",
		"another port":                                        "Origin: http://localhost:1\r\n",
		"a host with ours in its name":                        "Origin: http://" + host + ".evil.example\r\n",
		"a user with our name":                                "Origin: http://" + host + "@evil.example\r\n",
		"a sibling":                                           "Origin: http://app.localhost\r\nSec-Fetch-Site: same-site\r\n",
		"only Sec-Fetch-Site":                                 "Sec-Fetch-Site: cross-site\r\n",
		"an origin that is none":                              "Origin: evil\r\n",
		"the right origin, and a browser that says otherwise": "Origin: http://" + host + "\r\nSec-Fetch-Site: cross-site\r\n",
	} {
		for page, body := range forms {
			for _, contentType := range []string{"application/x-www-form-urlencoded", "text/plain"} {
				a := p.Raw(t, fmt.Sprintf("POST /_mfa/%s HTTP/1.1\r\nHost: %s\r\n%s%sContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", page, host, lines, cookieHeader(b), contentType, len(body), body))
				if codes := a.Statuses(); len(codes) != 1 || codes[0] != http.StatusForbidden {
					t.Errorf("%s to %s: %v", origin, page, codes)
				}
				if strings.Contains(string(a), "\r\nSet-Cookie:") {
					t.Errorf("%s to %s: it changes a cookie:\n%s", origin, page, a)
				}
			}
		}
	}
	if !b.SignedIn() {
		t.Error("signed out from elsewhere")
	}
	if after := withoutTimes(show(t, p, "alice")); after != before {
		t.Errorf("changed from elsewhere:\n%s\n%s", before, after)
	}
	// It was the origin: the same form from here does what it says.
	if page := b.Post("/_mfa/account", url.Values{"action": {"recovery"}, "session": {session}}); !strings.Contains(page.Body, `id="codes"`) {
		t.Errorf("from here: %v", page)
	}
}

func TestAttackScriptInWhatPeopleWrite(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	const evil = `"><script>alert(1)</script><img src=x onerror=alert(1)>'{{.}}{env.HOME}`
	p := lab.Start(t, up.Address, lab.Options{
		Global: `help "Ask <b>us</b> <script>alert(2)</script>"`,
		Users: `
  alice:
    display_name: '` + strings.ReplaceAll(evil, "'", "''") + `'
    groups: ['` + strings.ReplaceAll(evil, "'", "''") + `']
` + strings.TrimPrefix(users("alice"), "  alice:\n") + `
  "o'b&c":
` + strings.TrimPrefix(users("x"), "  x:\n"),
	})
	check := func(what string, page *lab.Page) {
		t.Helper()
		for _, bad := range []string{"<script>alert", "<img src=x", "<b>us", "onerror=alert(1)>'", p.Dir} {
			if strings.Contains(page.Body, bad) {
				t.Errorf("%s: %q stands on the page:\n%s", what, bad, page.Body)
			}
		}
		checkReferences(t, what, page, evil)
	}
	odd := func() *lab.Browser {
		b := lab.NewBrowser(t, p.URL)
		b.Header.Set("User-Agent", evil+"/1.0 (X11; "+evil+")")
		b.Header.Set("Accept-Language", evil)
		b.Header.Set("Referer", p.URL+"/"+evil)
		b.SetCookie("mfa_language", "x'><script>")
		return b
	}
	b := odd()
	b.Header.Del("Referer")
	check("a user name", b.Password("/"+url.PathEscape(evil)+"?"+url.QueryEscape(evil), evil, "x"))
	check("a long user name", b.Password("/", strings.Repeat(evil, 100), "x"))
	check("a user name with line breaks", b.Password("/", "a\r\nb\x00c", "x"))
	page := b.Password("/"+url.PathEscape(evil), "alice", lab.Password)
	check("who is signed in", page)
	check("registration", page.Submit("begin"))
	check("sessions", b.Get("/_mfa/account"))
	check("a path of ours", b.Get("/_mfa/"+url.PathEscape(evil)+"?"+url.QueryEscape(evil)))
	check("signing out", b.Get("/_mfa/signout?t="+url.QueryEscape(evil)))
	anon := odd()
	post := anon.Request(http.MethodPost, "/x", url.Values{"a": {evil}})
	check("a form", anon.Do(post))
	frame := anon.Request(http.MethodGet, "/"+url.PathEscape(evil), nil)
	frame.Header.Set("Sec-Fetch-Dest", "iframe")
	check("a frame", anon.Do(frame))
	insecure := p.Raw(t, "GET /x HTTP/1.1\r\nHost: localhost<script>alert(1)</script>\r\nAccept: text/html\r\nConnection: close\r\n\r\n")
	if strings.Contains(string(insecure), "<script>alert") {
		t.Errorf("a host: %s", insecure)
	}
	o := odd()
	o.Header.Del("Referer")
	check("a name with signs", o.Password("/", "o'b&c", lab.Password))
}

// portalPages are all pages, and what is answered in their place.
var portalPages = []string{"signin", "verify", "verify?for=change", "register", "register?page=choose", "register?page=choose&for=change", "account", "confirm?change=recovery", "confirm", "signout", "language", "", "nothing"}

func TestAttackFramesAndCaches(t *testing.T) {
	t.Parallel()
	up := lab.NewUpstream(t, nil)
	p := lab.Start(t, up.Address, lab.Options{})
	alice := lab.NewBrowser(t, p.URL)
	alice.Register("alice")
	for who, b := range map[string]*lab.Browser{"nobody": lab.NewBrowser(t, p.URL), "half signed in": halfSignedIn(t, p, "alice"), "signed in": alice} {
		b.NoRedirects()
		for _, path := range portalPages {
			for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodOptions} {
				var form url.Values
				if method == http.MethodPost {
					form = url.Values{"action": {"none"}}
				}
				if method == http.MethodPost && path == "signout" {
					continue // it would do it
				}
				page := b.Do(b.Request(method, "/_mfa/"+path, form))
				what := fmt.Sprintf("%s: %s /_mfa/%s (%d)", who, method, path, page.Status)
				if got := page.Header.Get("Cache-Control"); got != "no-store" {
					t.Errorf("%s: Cache-Control is %q", what, got)
				}
				if got := page.Header.Get("Access-Control-Allow-Origin"); got != "" {
					t.Errorf("%s: %q may read it", what, got)
				}
				if !strings.HasPrefix(page.Header.Get("Content-Type"), "text/html") {
					continue
				}
				csp := page.Header.Get("Content-Security-Policy")
				for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "form-action 'self'", "base-uri 'none'", "script-src 'self'"} {
					if !strings.Contains(csp, want) {
						t.Errorf("%s: the policy %q lacks %q", what, csp, want)
					}
				}
				if strings.Contains(csp, "unsafe") {
					t.Errorf("%s: the policy is %q", what, csp)
				}
				for name, want := range map[string]string{"X-Frame-Options": "DENY", "Cross-Origin-Opener-Policy": "same-origin", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"} {
					if got := page.Header.Get(name); got != want {
						t.Errorf("%s: %s is %q, want %q", what, name, got, want)
					}
				}
			}
			// Where the browser says that it is no page of its own, there is none.
			for _, dest := range []string{"iframe", "frame", "embed", "object", "fencedframe", "image", "script", "empty", "worker", "serviceworker"} {
				req := b.Request(http.MethodGet, "/_mfa/"+path, nil)
				req.Header.Set("Sec-Fetch-Dest", dest)
				if page := b.Do(req); page.Status != http.StatusForbidden || strings.Contains(page.Body, "<") {
					t.Errorf("%s: /_mfa/%s as %s: %v", who, path, dest, page)
				}
			}
		}
		for _, path := range []string{"health", "health?ready", "style.css", "script.js"} {
			page := b.Get("/_mfa/" + path)
			if got := page.Header.Get("Cache-Control"); got != "no-store" {
				t.Errorf("%s: Cache-Control is %q", path, got)
			}
			req := b.Request(http.MethodGet, "/_mfa/"+path, nil)
			req.Header.Set("Service-Worker", "script")
			req.Header.Set("Sec-Fetch-Dest", "serviceworker")
			if page := b.Do(req); page.Status != http.StatusForbidden {
				t.Errorf("%s as a service worker: %d", path, page.Status)
			}
		}
	}
	// The one page that may be framed asks for nothing and says nothing of anybody.
	for who, b := range map[string]*lab.Browser{"nobody": lab.NewBrowser(t, p.URL), "half signed in": halfSignedIn(t, p, "alice")} {
		req := b.Request(http.MethodGet, "/x", nil)
		req.Header.Set("Sec-Fetch-Dest", "iframe")
		page := b.Do(req).WantStatus(http.StatusUnauthorized)
		if strings.Contains(page.Body, "<form") || strings.Contains(page.Body, "<input") || strings.Contains(page.Body, "alice") || strings.Contains(page.Header.Get("Content-Security-Policy"), "'none'; frame-ancestors 'none'") {
			t.Errorf("%s: %v", who, page)
		}
	}
}
